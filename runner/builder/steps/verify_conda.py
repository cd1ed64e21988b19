"""Check every declared conda package in the finished image: its files are there, its modules load. Run by the image's
python3 as the run-time user; Python 3.8, standard library only. argv[1]: {package: [module, ...] | null}.

Modules are imported by conda's own Python, R packages loaded by conda's own R; of other shared libraries every library that
they need must be found.
"""  # noqa: INP001 - never imported: it runs inside a build container

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "\x1erunner "
PREFIX = Path("/opt/conda")
PYTHON, RSCRIPT = PREFIX / "bin" / "python", PREFIX / "bin" / "Rscript"
NOT_CODE = {"tests", "test", "testing", "docs", "doc", "examples", "example", "benchmarks", "scripts", "tools"}
MODULE = re.compile(r"lib/python[\d.]+/site-packages/([A-Za-z]\w*)(?:/.*\.(?:py|so)|\.py|(?:\.[\w-]+)?\.so)$")
LIBRARY_OF_R = re.compile(r"lib/R/library/([\w.]+)/DESCRIPTION$")
SHARED = re.compile(r"lib/[^/]+\.so(\.\d+)*$")

LOAD_R = """
tryCatch(invisible(loadNamespace(commandArgs(trailingOnly = TRUE)[1])), error = function(e) {
  message(gsub("[[:cntrl:]]+", " ", conditionMessage(e)))
  quit(status = 1)
})
"""


def say(**item: object) -> None:
    """One marked line."""
    sys.stdout.write(f"\n{MARK}{json.dumps(item)}\n")
    sys.stdout.flush()


def record_of(name: str) -> dict[str, Any] | None:
    """The record of an installed package."""
    for path in sorted((PREFIX / "conda-meta").glob(f"{name}-*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["name"] == name:
            return dict(found)
    return None


def installed() -> dict[str, str]:
    """Every package of the prefix, name → version."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in (PREFIX / "conda-meta").glob("*.json"))
    return {each["name"]: each["version"] for each in found}


def modules(name: str, files: Iterable[str]) -> list[str]:
    """Top-level names that a package installs; the one of its own name alone where it has that."""
    found = {match.group(1) for match in map(MODULE.match, files) if match}
    found = {module for module in found if module not in NOT_CODE}
    own = re.sub(r"[-_.]+", "_", name).lower()
    return sorted({module for module in found if module.lower() == own} or found)


def run(argv: list[str]) -> str | None:
    """None where a program ends with 0, else the last thing that it said."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        return None
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), f"the interpreter ended ({how})")


def unresolved(files: Iterable[str]) -> str | None:
    """The first library that a shared library needs and that is nowhere."""
    for file in filter(SHARED.match, files):
        path = PREFIX / file
        if path.is_symlink() or path.read_bytes()[:4] != b"\x7fELF":
            continue
        done = subprocess.run(["ldd", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        for line in done.stdout.decode("utf-8", "replace").splitlines():
            if "not found" in line:
                return f"{file}: {line.strip().split(' (')[0]}"
    return None


def loaded(program: Path, what: str, argv: list[str]) -> dict[str, str]:
    """The error when conda's own interpreter is not there or does not load something."""
    if not program.exists():
        return {"error": f"it has the {what}, and conda has no {program.name} here"}
    error = run([str(program), *argv])
    return {"error": f"{what}: {error}"} if error else {}


def load(name: str, files: list[str], wanted: list[str] | None) -> dict[str, str]:
    """The first thing that does not load, or what was not checked and why."""
    names = wanted or modules(name, files)
    libraries = [match.group(1) for match in map(LIBRARY_OF_R.match, files) if match]
    for module in names:
        if error := loaded(PYTHON, f"module {module}", ["-c", f"import {module}"]):
            return error
    for library in libraries:
        if error := loaded(RSCRIPT, f"R package {library}", ["--vanilla", "-e", LOAD_R, library]):
            return error
    # What R and Python load needs what they have loaded before, which ldd knows nothing of.
    if names or libraries or not any(map(SHARED.match, files)):
        return {}
    if shutil.which("ldd") is None:
        return {"skipped": "the image has no ldd to look at shared libraries with"}
    lacking = unresolved(files)
    return {"error": lacking} if lacking else {}


def check(name: str, wanted: list[str] | None) -> dict[str, str]:
    """The version, and the error when something is missing or does not load."""
    record = record_of(name)
    if record is None:
        return {"error": "not installed"}
    missing = [file for file in record["files"] if not os.path.lexists(PREFIX / file)]
    if missing:
        return {"error": f"{missing[0]} is missing", "version": record["version"]}
    return {**load(name, record["files"], wanted), "version": record["version"]}


say(installed=installed())
for declared, imports in json.loads(sys.argv[1]).items():
    say(loading=declared)
    say(name=declared, **check(declared, imports))
