"""Put the bootstrapper into place and load every declared library as the run-time user. Run by the image's python3 as
root; Python 3.8, standard library only.

/mnt/in/declared.json: {"user": "uid:gid", "env": {...}, "apt": [...], "r": [...], "r_installed": bool,
    "pip": {name: [module, ...] | null}, "conda": the same, "manifest": {...}}
/mnt/out/verified.json: {kind: {name: {"version": ...} | {"error": ...}}, "markers": {...},
    "installed": {kind: {name: version}}}

What the libraries write (HOME, /tmp, /var/tmp) goes to tmpfs and is gone before the image is committed.
"""  # noqa: INP001 - never imported: it runs inside a build container

from __future__ import annotations

import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time Python 3.8 could not make sense of these
    from collections.abc import Callable, Iterable

    Results = dict[str, dict[str, str]]

MARK = "\x1erunner "
HOME = "/home/runner"
TARGET = Path("/opt/runner")


def install() -> None:
    """The bootstrapper and what stands beside it, readable by all, compiled."""
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree("/mnt/in/bootstrap", TARGET)
    for path in [TARGET, *TARGET.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    # A hash-based file that is never checked: the same bytes in every build, and no stat of the source at each start.
    source = str(TARGET / "bootstrap.py")
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(source, cfile=f"{source}c", dfile=source, doraise=True, invalidation_mode=unchecked)


def become(user: str) -> Callable[[], None]:
    """What a child does to be the run-time user."""
    uid, gid = map(int, user.split(":"))

    def change() -> None:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)

    return change


def start(argv: list[str], declared: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A loader as the run-time user, in the environment that scripts will have."""
    env = {**os.environ, **declared["env"], "HOME": HOME, "USER": "runner", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=become(declared["user"]),  # noqa: PLW1509 - one thread; `user=` needs Python 3.9
        env=env,
        cwd=HOME,
    )


def gather(process: subprocess.Popen[bytes], names: Iterable[str]) -> tuple[Results, dict[str, Any]]:
    """({name: result}, facts) out of the marked lines. A loader that dies names the library that it was loading."""
    found: Results = {}
    facts: dict[str, Any] = {}
    current = None
    tail: list[str] = []
    for raw in process.stdout or ():
        line = raw.decode("utf-8", "replace").rstrip("\n")
        # A library may print without a newline before our mark.
        _, mark, rest = line.rpartition(MARK)
        if not mark:
            os.write(1, raw)
            tail = [*tail[-5:], line]
            continue
        item = json.loads(rest)
        if "loading" in item:
            current, tail = item["loading"], []
        elif "name" not in item:
            facts.update(item)
        else:
            found[item.pop("name")] = item
            current = None
    code = process.wait()
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    for name in names:
        died = f"the interpreter ended ({how}) while loading it: {' '.join(tail)}"
        found.setdefault(name, {"error": died if name == current else "not tried"})
    return found, facts


def debian() -> tuple[dict[str, str], dict[str, str]]:
    """(installed packages, with those that they provide; installed packages), name → version."""
    fields = "${db:Status-Status}|${Package}|${Version}|${Provides}\\n"
    query = ["dpkg-query", "-W", "-f", fields]
    own: dict[str, str] = {}
    provided: dict[str, str] = {}
    for line in subprocess.run(query, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines():
        status, package, version, provides = line.split("|", 3)
        if status == "installed":
            own[package] = version
            for each in provides.split(","):
                provided.setdefault(each.split("(")[0].strip(), version)
    return {**provided, **own}, own


def main() -> None:
    """Install, load, report."""
    declared = json.loads(Path("/mnt/in/declared.json").read_text(encoding="utf-8"))
    install()
    # All at once: each uses one core.
    loaders: dict[str, subprocess.Popen[bytes]] = {}
    if declared["r_installed"]:
        loaders["r"] = start(["Rscript", "--vanilla", "/mnt/in/verify.R", *declared["r"]], declared)
    if declared["pip"]:
        loaders["pip"] = start(["python3", "/mnt/in/verify_pip.py", json.dumps(declared["pip"])], declared)
    if declared["conda"]:
        loaders["conda"] = start([sys.executable, "/mnt/in/verify_conda.py", json.dumps(declared["conda"])], declared)
    every, own = debian()
    result: dict[str, Any] = {"r": {}, "pip": {}, "conda": {}, "markers": {}, "installed": {"apt": own}}
    result["apt"] = {
        name: {"version": every[name]} if name in every else {"error": "not installed"} for name in declared["apt"]
    }
    for kind, process in loaders.items():
        result[kind], facts = gather(process, declared[kind])
        result["markers"] = facts.get("markers", result["markers"])
        result["installed"][kind] = facts.get("installed", {})
    Path("/mnt/out/verified.json").write_text(json.dumps(result), encoding="utf-8")
    manifest = {**declared["manifest"], "installed": result["installed"]}
    (TARGET / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (TARGET / "manifest.json").chmod(0o644)


main()
