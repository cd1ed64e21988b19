"""The last step: the bootstrapper goes in, every declared library is loaded as the run-time user, and only then is the
image committed under its name. What does not load is named, and nothing is tagged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs

from runner.builder.failures import explain
from runner.builder.recipe import bootstrap_files, contract
from runner.docker_api.images import Config
from runner.errors import BuildError
from runner.spec import rversion
from runner.spec.libs import R_KINDS
from runner.spec.lock import DEBIAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.builder.session import Session
    from runner.docker_api.images import Image
    from runner.spec.libs import Libs, Package
    from runner.spec.lock import Lock

LIBRARIES_LABEL = "runner.libraries"
_WORKDIR = "/home/runner"
_TMPFS = ("/mnt", "/tmp", "/var/tmp", _WORKDIR)  # noqa: S108 - folders inside a container


class Library(NamedTuple):
    """A declared library that was loaded in the finished image."""

    kind: str
    name: str
    version: str


def finish(
    session: Session, libs: Libs, lock: Lock, image: Image, tag: str, *, before_commit: Callable[[], None]
) -> Image:
    """Finish, verify, commit under `tag`. before_commit: raises when the image is not what its name says any more.

    Raises:
        BuildError: a library does not load, or what is installed is not what the lock says; nothing was tagged.
    """
    user = image.labels["runner.user"]
    wanted = tuple(named(package, libs, lock) for package in libs.declared)
    of = {kind: [each.name for each in wanted if _loader(each) == kind] for kind in ("apt", "conda", "r", "pip")}
    declared = {
        "user": user,
        "env": dict(libs.env),
        "apt": of["apt"],
        "conda": {name: libs.imports.get(name) for name in of["conda"]},
        "r": of["r"],
        "r_installed": bool(of["r"] or lock.of("r")),
        "pip": {name: libs.imports.get(name) for name in of["pip"]},
        "manifest": {"name": libs.name, "image": tag, "lock": json.loads(lock.to_text())},
    }
    inputs = {f"bootstrap/{name}": raw for name, raw in bootstrap_files().items()}
    inputs["declared.json"] = json.dumps(declared).encode()
    if wanted:
        session.report("verify", f"loading {len(wanted)} declared libraries …")
    argv = (image.labels["runner.python"], "-I", "-S", "/mnt/in/finish.py")
    with session.step("verify", image.id, argv, inputs, tmpfs=_TMPFS, quiet=True) as done:
        if done.ran.exit_code:
            raise explain("verify", libs, done.lines, done.ran.exit_code, oom=done.ran.oom, log=session.log_path)
        verified = json.loads(done.read("verified.json") or b"{}")
        loaded = _judge(session, wanted, verified)
        _compare(session, lock, image, verified["installed"])
        before_commit()
        config = _config(libs, lock, user, tag, loaded)
        identifier = session.replacing(tag, lambda: done.ran.commit(config, tag))
    if loaded:
        session.report("verify", f"{len(loaded)} declared libraries load")
    final = session.engine.inspect(identifier)
    if final is None:
        raise BuildError(f"the engine committed {tag}, but does not have it", "build again")
    return final


def _loader(package: Package) -> str:
    return "r" if package.kind in R_KINDS else package.kind


def named(package: Package, libs: Libs, lock: Lock) -> Package:
    """A declared package by its real name: what an R package of GitHub, an address or a folder is called, its DESCRIPTION
    says, and the lock."""
    if package.remote is None:
        return package
    remote, folder = package.remote, libs.path.resolve().parent
    for each in lock.of("r"):
        address, _, fragment = each.source.partition("#")
        match remote.kind:
            case "github":
                asked = parse_qs(fragment)
                same = f"/repos/{remote.target}/tarball/" in address and asked.get("subdir", [None])[0] == remote.subdir
            case "path":
                same = (
                    address.startswith(("./", "../")) and (folder / address).resolve() == Path(remote.target).resolve()
                )
            case "url":
                same = address == remote.target.partition("#")[0]
        if same:
            return replace(package, name=each.name)
    return package


def libraries_of(image: Image) -> tuple[Library, ...]:
    """The libraries that an image was verified to hold, from its label."""
    return tuple(Library(*item) for item in json.loads(image.labels.get(LIBRARIES_LABEL, "[]")))


def _config(libs: Libs, lock: Lock, user: str, tag: str, loaded: tuple[Library, ...]) -> Config:
    labels = {
        "runner.base.name": lock.base.reference,
        "runner.contract": str(contract()),
        "runner.libs": tag.rsplit(":", 1)[-1],
        "runner.name": libs.name,
        LIBRARIES_LABEL: json.dumps([[each.kind, each.name, each.version] for each in loaded]),
    }
    return Config(libs.env, labels, user=user, workdir=_WORKDIR, cmd=("/bin/bash",), comment="runner: verified")


def _compare(session: Session, lock: Lock, image: Image, installed: Mapping[str, Mapping[str, str]]) -> None:
    """That what is installed is what the lock says, version for version.

    Raises:
        BuildError: it is not.
    """
    labels = image.labels
    python = labels.get("runner.conda.python.version") or labels["runner.python.version"]
    there = {"platform": f"linux/{image.architecture}", "python": python, "r": labels.get("runner.r.version", "")}
    wanted = {"platform": lock.platform, "python": lock.python, "r": lock.r}
    differs = [f"{key}: {wanted[key] or 'none'} in the lock, {there[key] or 'none'} in the image"
               for key in wanted if wanted[key] != there[key]]  # fmt: skip
    for each in lock.packages:
        if each.kind == "r" and each.source == DEBIAN:
            continue  # told by apt's own entry
        found = installed[each.kind].get(each.name)
        # Of a source repository the version is not known before it is built.
        if found is None or (each.version and _plain(found) != _plain(each.version)):
            differs.append(f"{each.kind}: {each.name}: {each.version} in the lock, {found or 'nothing'} in the image")
    if differs:
        raise BuildError("the image does not hold what the lock says", *differs[:10], f"full log: {session.log_path}")


def _plain(version: str) -> str:
    """Versions that only differ in how they are written: R's `1.7-9` and `1.7.9`."""
    return version.replace("-", ".")


def _judge(session: Session, declared: Iterable[Package], verified: Mapping[str, Any]) -> tuple[Library, ...]:
    loaded, failed = [], []
    for package in declared:
        result = verified[_loader(package)][package.name]
        if error := _wrong(package, result):
            if package.marker and error == "not installed" and not _applies(package.marker, verified["markers"]):
                continue
            failed.append((package, error))
        else:
            loaded.append(Library(package.kind, package.name, result["version"]))
    if failed:
        first, why = failed[0]
        others = [f"{package.file}:{package.line}: {package.name}: {error}" for package, error in failed[1:]]
        where = ":".join(map(str, (first.file, first.line)))
        raise BuildError(
            f"{where}: {first.key or first.kind}: {first.name} was installed, but does not load in the image: {why}",
            *others,
            *_remedies(failed[0][0], why),
            f"full log: {session.log_path}",
        )
    return tuple(loaded)


def _wrong(package: Package, result: Mapping[str, str]) -> str | None:
    if "error" in result:
        return result["error"]
    if package.kind in R_KINDS and not rversion.satisfies(result["version"], package.constraints):
        return f"version {result['version']} does not fit {package.spec}"
    return None


def _remedies(package: Package, why: str) -> list[str]:
    if "cannot open shared object file" in why:
        library = why.split(": cannot open", maxsplit=1)[0].rsplit(" ", 1)[-1].strip("'\"")
        return [f"a system library is missing: add the Debian package that holds {library} under apt"]
    if package.kind in {"pip", "conda"}:
        return [f"if its import name is another: imports: {{{package.name}: NAME}}"]
    return []


def _applies(marker: str, environment: Mapping[str, str]) -> bool:
    from packaging.markers import Marker

    return Marker(marker).evaluate(dict(environment))
