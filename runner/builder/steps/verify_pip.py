"""Import every declared Python library, by the names that its distribution installs. Run by the image's python3 as the
run-time user; Python 3.8, standard library only. argv[1]: {distribution: [module, ...] | null}."""  # noqa: INP001

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import sys
from importlib import metadata

MARK = "\x1erunner "
NOT_CODE = {"tests", "test", "testing", "docs", "doc", "examples", "example", "benchmarks", "scripts", "tools"}


def say(**item: object) -> None:
    """One marked line."""
    sys.stdout.write(f"\n{MARK}{json.dumps(item)}\n")
    sys.stdout.flush()


def modules(distribution: metadata.Distribution) -> list[str]:
    """Top-level names that a distribution installs; [] for one that is only scripts, data or type stubs."""
    text = distribution.read_text("top_level.txt")
    names = set(text.split()) if text else set()
    if not names:
        for path in distribution.files or ():
            first = path.parts[0]
            if path.suffix in {".py", ".so"}:
                names.add(first.split(".")[0] if len(path.parts) == 1 else first)
    names = {name for name in names if name.isidentifier() and not name.startswith("_") and name not in NOT_CODE}
    own = re.sub(r"[-_.]+", "_", distribution.metadata["Name"]).lower()
    same = {name for name in names if name.lower() == own}
    return sorted(same or names)


def check(name: str, wanted: list[str] | None) -> dict[str, str]:
    """The version, and the error when one of its modules cannot be imported."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return {"error": "not installed"}
    version = distribution.version
    for module in wanted or modules(distribution):
        try:
            importlib.import_module(module)
        except BaseException as error:  # noqa: BLE001 - a library may do anything while it is imported, also exit
            return {"error": f"import {module}: {type(error).__name__}: {error}", "version": version}
    return {"version": version}


def markers() -> dict[str, str]:
    """The environment for PEP 508 markers, of this interpreter."""
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": platform.python_version(),
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def installed() -> dict[str, str]:
    """Every distribution of this environment itself, by its normalized name → version."""
    found = {}
    own = [path for path in sys.path if path.startswith(sys.prefix)]
    for distribution in metadata.distributions(path=own):
        name = distribution.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = distribution.version
    return found


say(markers=markers(), installed=installed())
for declared, imports in json.loads(sys.argv[1]).items():
    say(loading=declared)
    say(name=declared, **check(declared, imports))
