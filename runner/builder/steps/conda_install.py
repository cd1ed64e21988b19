"""Install conda packages from files. Run as root by the image's python3 (3.10 or newer); py-rattler is mounted.

/mnt/in/conda.json: {"packages": [{"file": name below /mnt/conda, "url": where it is from}], "specs": {package: declared}}
/mnt/out/answers: `conda.env`: JSON of the variables that activating the environment sets.

A package that is installed already, the same build of the same version, stays as it is and needs no file.
"""  # noqa: INP001 - never imported: it runs inside a build container

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

sys.path.insert(0, "/mnt/rattler")

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rattler import InstallerReporter, RepoDataRecord

PREFIX = Path("/opt/conda")
META = PREFIX / "conda-meta"
FILES = Path("/mnt/conda")
COMPILER = Path(__file__).with_name("bytecode.py")
CACHE = PREFIX / ".packages"
"""Unpacked packages: beside their target, so that files are linked and not copied. Gone at the end."""
EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "1686355200"))
OURS = {"PWD", "OLDPWD", "SHLVL", "_", "PATH", "PS1", "HOME", "CONDA_PREFIX", "CONDA_SHLVL"}


def listener(failed: list[str]) -> InstallerReporter:
    """Puts post-link scripts that fail into `failed`; rattler itself goes on."""
    from rattler import InstallerReporter

    class Scripts(InstallerReporter):
        def __init__(self) -> None:
            self.started: list[str] = []

        def on_post_link_start(self, package_name: str, script_path: str) -> int:
            self.started.append(f"{package_name}: {script_path}")
            return len(self.started) - 1

        def on_post_link_complete(self, index: int, success: bool) -> None:
            if not success:
                failed.append(self.started[index])

    return Scripts()  # type: ignore[abstract]  # its methods have empty bodies on purpose


def fail(text: str) -> NoReturn:
    """End with one line of ours, as `fail` of common.sh."""
    sys.exit(f"runner: {text}")


def record_file(package: dict[str, str]) -> Path:
    """Where an installed package's record is: `a-1.0-h0_0.conda` → `conda-meta/a-1.0-h0_0.json`."""
    return META / f"{package['file'].removesuffix('.conda').removesuffix('.tar.bz2')}.json"


async def records(packages: Iterable[dict[str, str]]) -> list[RepoDataRecord]:
    """What the folder is to hold: records of the installed, and of the files of the others."""
    from rattler import PrefixRecord, RepoDataRecord

    found: list[RepoDataRecord] = []
    for package in packages:
        installed = record_file(package)
        if installed.exists():
            found.append(PrefixRecord.from_path(installed))
        else:
            found.append(await RepoDataRecord.from_package_archive(FILES / package["file"]))
    return found


def check_libc(found: Iterable[RepoDataRecord]) -> None:
    """Refuse a package that needs a newer C library than this image has."""
    from rattler import BuildString, MatchSpec, PackageRecord, VersionWithSource

    version = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 0").split()[-1]
    libc = PackageRecord("__glibc", VersionWithSource(version), BuildString("0"), 0, "linux-64")
    for record in found:
        for needed in record.depends:
            if needed.split()[0] == "__glibc" and not MatchSpec(needed).matches(libc):
                name = record.name.normalized
                fail(f"{name} needs {needed[2:]}, and the base has glibc {version}: choose a newer base")


async def install(found: Sequence[RepoDataRecord]) -> None:
    """Unpack and link."""
    import rattler

    failed: list[str] = []
    await rattler.install(
        list(found),
        PREFIX,
        cache_dir=CACHE,
        execute_link_scripts=True,
        show_progress=False,
        reporter=listener(failed),
    )
    if failed:
        fail(f"post-link script failed: {', '.join(failed)}")


def rewrite(packages: Iterable[dict[str, str]], specs: dict[str, str]) -> list[dict[str, Any]]:
    """The new records as if installed from their channel, with what was declared; nothing of this build's folders."""
    new = []
    for package in packages:
        path = record_file(package)
        record = json.loads(path.read_text(encoding="utf-8"))
        record["url"], record["fn"] = package["url"], package["file"]
        record["channel"] = package["url"].rsplit("/", 2)[0]
        record["requested_specs"] = [specs[record["name"]]] if record["name"] in specs else []
        for key in ("extracted_package_dir", "package_tarball_full_path", "link"):
            record.pop(key, None)
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        new.append(record)
    return new


def compile_modules(new: Iterable[dict[str, Any]]) -> None:
    """Bytecode of packages that come without it. Unchecked: the same bytes in every build, no stat at each import."""
    python = PREFIX / "bin" / "python"
    sources = [str(PREFIX / file) for record in new if record.get("noarch") == "python" for file in record["files"]]
    if not sources or not python.exists():
        return
    argv = [str(python), "-I", str(COMPILER), "unchecked-hash"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(argv, input="\n".join(sources).encode(), stdout=subprocess.DEVNULL, env=environment, check=False)


def settle(since: float) -> None:
    """What was written now gets the build's own time, and is written to by root only."""
    for folder, folders, files in os.walk(PREFIX, topdown=False):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)  # noqa: PTH118 - a hundred thousand files: Path is five times slower
            state = os.lstat(path)
            if state.st_mtime >= since:
                if not os.path.islink(path):  # noqa: PTH114
                    os.chmod(path, (state.st_mode & 0o7755) | 0o444)  # noqa: PTH101
                os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    for top in (PREFIX, PREFIX.parent):
        os.utime(top, (EPOCH, EPOCH))


def activated() -> dict[str, str]:
    """The variables that the packages' activation scripts set; an image has no `conda activate`."""
    folder = PREFIX / "etc" / "conda"
    variables: dict[str, str] = {}
    for path in sorted((folder / "env_vars.d").glob("*.json")):
        variables.update(json.loads(path.read_text(encoding="utf-8")))
    if sorted((folder / "activate.d").glob("*.sh")):
        script = 'for file in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do . "$file" >&2; done; env -0'
        base = {"PATH": f"{PREFIX}/bin:/usr/local/bin:/usr/bin:/bin", "HOME": "/root", "CONDA_PREFIX": str(PREFIX)}
        done = subprocess.run(["bash", "-c", script], env={**base, **variables}, stdout=subprocess.PIPE, check=False)
        pairs = (item.partition("=") for item in done.stdout.decode("utf-8", "replace").split("\0") if item)
        variables.update({key: value for key, _, value in pairs if "\n" not in value})
    return {key: value for key, value in variables.items() if key not in OURS and not key.startswith("CONDA_BACKUP_")}


def main() -> None:
    """See the module."""
    plan = json.loads(Path("/mnt/in/conda.json").read_text(encoding="utf-8"))
    started = time.time() - 1
    missing = [package for package in plan["packages"] if not record_file(package).exists()]
    try:
        found = asyncio.run(records(plan["packages"]))
        check_libc(found)
        asyncio.run(install(found))
    except Exception as error:  # noqa: BLE001 - rattler has an exception for each of its parts, and no base of them
        fail(f"conda: {error}")
    new = rewrite(missing, plan["specs"])
    compile_modules(new)
    with Path("/mnt/out/answers").open("a", encoding="utf-8") as answers:
        answers.write(f"conda.env={json.dumps(activated(), sort_keys=True)}\n")
    shutil.rmtree(CACHE, ignore_errors=True)
    settle(started)
    print(f"runner: {len(new)} of {len(found)} conda packages installed")


def leave(code: int) -> NoReturn:
    """End without Python's own end: rattler's threads may still run then, and have crashed it (SIGSEGV, SIGABRT)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


try:
    main()
except SystemExit as stop:
    if isinstance(stop.code, str):
        print(stop.code, file=sys.stderr)
    leave(stop.code if isinstance(stop.code, int) else int(stop.code is not None))
except Exception:  # noqa: BLE001 - as Python would show it
    import traceback

    traceback.print_exc()
    leave(1)
leave(0)
