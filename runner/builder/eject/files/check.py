"""End 1 when a declared library does not load, or when what is installed is not what the lock says. Run after finish.py by
the image's python3; Python 3.8, standard library only.

/mnt/in/expected.json: {"declared": {kind: {name: as declared}}, "locked": {kind: {name: version, "" for any}}}
/mnt/out/verified.json: see finish.py.
"""  # noqa: INP001 - never imported: it runs inside a build container

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read(path: str) -> Any:
    """A JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def plain(version: str) -> str:
    """Versions that only differ in how they are written: R's `1.7-9` and `1.7.9`."""
    return version.replace("-", ".")


def main() -> None:
    """See the module."""
    expected, verified = read("/mnt/in/expected.json"), read("/mnt/out/verified.json")
    wrong = []
    loaded = 0
    for kind, names in expected["declared"].items():
        for name, declared in names.items():
            result = verified[kind].get(name, {"error": "not tried"})
            if "error" in result:
                wrong.append(f"{declared}: was installed, but does not load in the image: {result['error']}")
            loaded += "error" not in result
    for kind, versions in expected["locked"].items():
        for name, version in versions.items():
            found = verified["installed"].get(kind, {}).get(name)
            if found is None or (version and plain(found) != plain(version)):
                wrong.append(f"{kind}: {name}: {version} in the lock, {found or 'nothing'} in the image")
    for line in wrong:
        print(f"runner: {line}", file=sys.stderr)
    print(f"runner: {loaded} declared libraries load, {len(wrong)} faults")
    sys.exit(bool(wrong))


main()
