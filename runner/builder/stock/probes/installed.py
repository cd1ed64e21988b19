"""Says which Python this is and what is installed for it. Given to any python3 with -c; Python 3.8, standard library only.

One line for each fact: `runner:KIND|NAME|VERSION`; `runner:all|KIND|` when all of a kind was told.
"""  # noqa: INP001 - never imported

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def python_packages() -> Iterator[tuple[str, str]]:
    """Every distribution that an import would find, the first of a name only; broken ones are left out."""
    from importlib import metadata

    # The folder that it was started in, which -c puts first, is no part of the environment.
    sys.path[:] = [path for path in sys.path if path]
    for distribution in metadata.distributions():
        try:
            name, version = distribution.metadata["Name"], distribution.version
        except Exception:  # noqa: BLE001, S112 - the record of a half removed package
            continue
        if name and version:
            yield name, version


def main() -> None:
    """Tell."""
    print("runner:version|python|{}.{}.{}".format(*sys.version_info[:3]))
    print(f"runner:prefix|{sys.prefix}|")
    records = sorted(Path(sys.prefix, "conda-meta").glob("*.json"))
    for record in records:
        found = json.loads(record.read_text(encoding="utf-8"))
        print("runner:conda|{}|{}".format(found["name"], found["version"]))
    print("runner:all|conda|")
    for name, version in python_packages():
        print(f"runner:pip|{name}|{version}")
    print("runner:all|pip|")


main()
