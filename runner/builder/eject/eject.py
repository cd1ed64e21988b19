"""Eject: a lock as a plain Dockerfile with its context, which `docker build` alone turns into the same image.

Nothing is built and no engine is asked. What the build needs and cannot fetch by itself goes into the folder; no login,
proxy address or CA bundle of this machine does.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.assets import asset
from runner.builder import pip
from runner.builder.eject import syntax
from runner.builder.eject.blocks import CONDA
from runner.builder.eject.folder import write
from runner.builder.eject.material import gather
from runner.builder.eject.text import Image, dockerfile
from runner.builder.recipe import STEPS, bootstrap_files, content_tag, contract
from runner.errors import BuildError, SpecError, UsageError
from runner.spec import rversion
from runner.spec.libs import R_KINDS
from runner.spec.lock import DEBIAN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.builder.eject.folder import Content
    from runner.builder.eject.material import Material
    from runner.spec.libs import Kind, Libs, Package
    from runner.spec.lock import Lock, Locked, LockedKind

_OWN = Path(__file__).parent / "files"
_VERIFY = ("finish.py", "verify.R", "verify_pip.py", "verify_conda.py")
_ONLY_HERE = "runner builds it; only --dockerfile cannot"
_MANAGERS: Mapping[Kind, LockedKind] = {"apt": "apt", "conda": "conda", "pip": "pip"}
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_LOGIN = re.compile(r"(?<!ssh)://([^/?#\s@]*)@")
_VARIABLES_ONLY = re.compile(r"\$\{\w+\}(?::\$\{\w+\})?")


@dataclass(frozen=True, slots=True)
class System:
    """What runner found out about the base when it made the first layer: that image's labels.

    user: `uid:gid` of the run-time user. python: path of the Python that the bootstrapper runs under, and its version.
    conda_env: variables that the conda packages' activation sets, where they are known; the build compares.
    """

    user: str
    python: str
    python_version: str
    conda_env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> System:
        """From the labels of an image that has the layer `python`."""
        return cls(labels["runner.user"], labels["runner.python"], labels["runner.python.version"])


def eject(
    libs: Libs,
    lock: Lock,
    folder: Path,
    *,
    system: System,
    declared: Iterable[Package] | None = None,
    secrets: tuple[str, ...] = (),
    ca_bundle: Path | None = None,
) -> tuple[Path, ...]:
    """Write the Dockerfile of a lock and its context. The same lock gives the same bytes.

    Args:
        folder: a new or empty one, or one that this function wrote.
        system: of the base, see System.
        declared: the declared libraries by their real names, where those in `libs` are guesses (see Package.remote).
        secrets: names of the secrets that `run` commands are given.
        ca_bundle: PEM file to trust while fetching sources; it does not go into the folder.

    Returns:
        The files that are there now, absolute and sorted.

    Raises:
        SpecError: a value cannot be written into a Dockerfile.
        UsageError: a secret's name is no name of a variable.
        ConflictError: the folder holds something else, or was changed since.
        BuildError: a source cannot be had, or the folder cannot be written to.
    """
    for name in secrets:
        if not _SECRET.fullmatch(name):
            raise UsageError(f"{name!r} is not the name of a secret", "expected letters, digits and _")
    packages = tuple(libs.declared if declared is None else declared)
    files = render(libs, lock, gather(libs, lock, ca_bundle), system, declared=packages, secrets=secrets)
    try:
        return write(folder, files)
    except OSError as error:
        raise BuildError(f"{folder} cannot be written: {error.strerror}", "name another folder") from None


def render(
    libs: Libs,
    lock: Lock,
    material: Material,
    system: System,
    *,
    declared: Iterable[Package],
    secrets: tuple[str, ...] = (),
) -> dict[str, Content]:
    """The folder: path below it → content. Fetches nothing.

    Args:
        declared: those whose marker leaves them out of this image are left out: nothing is locked for them.

    Raises:
        SpecError: a value cannot be written into a Dockerfile, or holds a login.
    """
    _check(libs)
    packages = [each for each in declared if each.kind != "pip" or lock.find("pip", each.name) is not None]
    hashed = [each for each in lock.of("pip") if each.hashes]
    unhashed = [each for each in lock.of("pip") if not each.hashes]
    image = Image(
        name=libs.name,
        tag=content_tag(libs.path),
        lock=lock,
        user=system.user,
        user_name=_user_name(libs),
        python=system.python,
        env=libs.env,
        labels=_labels(libs, lock, system, packages),
        run=libs.run,
        secrets=secrets if libs.run else (),
        variables=tuple(sorted(libs.pip_variables)),
        hashed=bool(hashed),
        unhashed=bool(unhashed),
        r_tools=material.r_tools,
        conda=bool(material.conda),
        conda_env=system.conda_env,
        conda_python=any(each.name == "python" for each in lock.of("conda")),
    )
    try:
        text = dockerfile(image)
    except ValueError as error:
        raise SpecError(str(error), _ONLY_HERE, file=str(libs.path)) from None
    files: dict[str, Content] = {"Dockerfile": text.encode()}
    if hashed:
        files["pip/requirements.txt"] = _requirements(libs, hashed)
    if unhashed:
        files["pip/requirements-unhashed.txt"] = _requirements(libs, unhashed)
    files |= {f"pip/{name}": raw for name, raw in _archives(libs, lock).items()}
    if material.tools:
        files["tools/requirements.txt"] = material.tools.encode()
    if image.pip:
        files["tools/bytecode.py"] = (STEPS / "bytecode.py").read_bytes()
    files |= {f"r/{name}": content for name, content in material.r.items()}
    files |= {f"conda/{name}": content for name, content in material.conda.items()}
    if material.conda:
        files["conda/in/environment"] = f"conda.env={json.dumps(dict(system.conda_env), sort_keys=True)}\n".encode()
    files |= {f"verify/{name}": raw for name, raw in _verification(libs, lock, system, packages).items()}
    taken = sorted({name.partition("/")[0] for name in files if "/" in name})
    files[".dockerignore"] = "".join(
        ["# Only what the Dockerfile copies.\n*\n", *(f"!{each}\n" for each in taken)]
    ).encode()
    if lock.base.recipe:
        scripts = asset("images") / "debian"
        files |= {f"base/{name}": (scripts / name).read_bytes() for name in ("make.sh", "slim.sh")}
    return files


def _check(libs: Libs) -> None:
    """What a Dockerfile has no way for, told by its key; and logins, which must not get into a folder that is given away."""
    for name, value in libs.env.items():
        if wrong := syntax.fault(value):
            raise libs.error(f"env.{name}", None, wrong, _ONLY_HERE)
    for line in libs.pip_rest:
        if any(not _VARIABLES_ONLY.fullmatch(match[1]) for match in _LOGIN.finditer(line)):
            what = "an index address holds a login, which would get into the folder"
            raise libs.error("pip", None, what, "write ${USER}:${PASSWORD}@ and give both to the build")


def _user_name(libs: Libs) -> str:
    head = (libs.user or "").partition(":")[0]
    name = head if head and not head.isdigit() else "runner"
    if not _USER.fullmatch(name):
        raise libs.error("user", None, f"{name!r} is not a user's name")
    return name


def _labels(libs: Libs, lock: Lock, system: System, packages: Iterable[Package]) -> dict[str, str]:
    """As runner's own build sets them; it alone has those by which it finds its layers."""
    libraries = [[each.kind, each.name, _version(lock, each)] for each in packages]
    labels = {
        "runner.base.name": lock.base.reference,
        "runner.contract": str(contract()),
        "runner.libraries": json.dumps(libraries),
        "runner.libs": content_tag(libs.path).rsplit(":", 1)[-1],
        "runner.name": libs.name,
        "runner.python": system.python,
        "runner.python.version": system.python_version,
        "runner.user": system.user,
    }
    if python := lock.find("conda", "python"):
        labels |= {"runner.conda.python": f"{CONDA}/bin/python", "runner.conda.python.version": python.version}
    return labels | ({"runner.r.version": lock.r} if lock.r else {})


def _version(lock: Lock, package: Package) -> str:
    """As the package itself calls it; "" where the lock does not say: of what the base has already."""
    if package.kind not in R_KINDS:
        found = next((each for each in lock.of(_MANAGERS[package.kind]) if each.name == package.name), None)
        return found.version if found else ""
    debian = f"r-{'bioc' if package.kind == 'bioconductor' else 'cran'}-{package.name.lower()}"
    r = lock.find("r", package.name) or lock.find("r", debian) or lock.find("apt", debian)
    if r is None:
        return ""
    version = rversion.from_debian(r.version) if r.source == DEBIAN or r.kind == "apt" else r.version
    return version.replace("-", ".")


def _requirements(libs: Libs, packages: list[Locked]) -> bytes:
    """Readable: one hash a line, as pip and uv themselves write it."""
    return pip.requirements(libs, packages).replace(b" --hash=", b" \\\n    --hash=")


def _archives(libs: Libs, lock: Lock) -> dict[str, bytes]:
    """The local wheels and archives that are installed: path relative to libs.yaml → bytes.

    Raises:
        SpecError: one has a name that cannot be listed.
    """
    wanted = {os.path.normpath(each.source) for each in lock.of("pip") if each.source.startswith("./")}
    found = {name: raw for name, raw in pip.sources(libs).items() if name in wanted}
    for name in found:
        if not name.isprintable():
            raise SpecError(f"{name!r} holds control characters", "give the file another name", file=str(libs.path))
    return found


def _verification(libs: Libs, lock: Lock, system: System, packages: Sequence[Package]) -> dict[str, bytes]:
    """What the last but one stage is given, see verify.py: the scripts and inputs of runner's own verification."""
    imports = {each.name: libs.imports.get(each.name) for each in packages}
    of = {kind: [each.name for each in packages if each.kind == kind] for kind in ("apt", "conda", "pip")}
    r = [each.name for each in packages if each.kind in R_KINDS]
    declared = {
        "user": system.user,
        "env": dict(libs.env),
        "apt": of["apt"],
        "conda": {name: imports[name] for name in of["conda"]},
        "r": r,
        "r_installed": bool(r or lock.of("r")),
        "pip": {name: imports[name] for name in of["pip"]},
        "manifest": {"name": libs.name, "image": content_tag(libs.path), "lock": json.loads(lock.to_text())},
    }
    files = {f"bootstrap/{name}": raw for name, raw in bootstrap_files().items()}
    files |= {name: (STEPS / name).read_bytes() for name in _VERIFY if (STEPS / name).exists()}
    files["declared.json"] = _json(declared)
    files["check.py"] = (_OWN / "check.py").read_bytes()
    files["expected.json"] = _json({"declared": _expected(libs, packages), "locked": _locked(lock)})
    return files


def _expected(libs: Libs, packages: Iterable[Package]) -> dict[str, dict[str, str]]:
    """kind → name → where it is declared, by paths that say nothing of this machine."""
    found: dict[str, dict[str, str]] = {}
    folder = libs.path.resolve().parent
    for each in packages:
        kind = "r" if each.kind in R_KINDS else each.kind
        path = (folder / each.file).resolve()
        file = path.relative_to(folder) if path.is_relative_to(folder) else path.name
        found.setdefault(kind, {})[each.name] = f"{file}:{each.line}: {each.name}"
    return found


def _locked(lock: Lock) -> dict[str, dict[str, str]]:
    """kind → name → version. Of R packages that apt installs its own entry tells."""
    found: dict[str, dict[str, str]] = {}
    for each in lock.packages:
        if each.kind != "r" or each.source != DEBIAN:
            found.setdefault(each.kind, {})[each.name] = each.version
    return found


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
