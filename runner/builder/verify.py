"""The last step: the bootstrapper goes in, every declared library is loaded as the run-time user, and only then is the
image committed under its name. What does not load is named, and nothing is tagged."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.builder.failures import explain
from runner.builder.recipe import bootstrap_files, contract
from runner.docker_api.images import Config
from runner.errors import BuildError
from runner.spec import rversion

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.builder.session import Session
    from runner.docker_api.images import Image
    from runner.spec.libs import Libs, Package

LIBRARIES_LABEL = "runner.libraries"
_WORKDIR = "/home/runner"
_TMPFS = ("/mnt", "/tmp", "/var/tmp", _WORKDIR)  # noqa: S108 - folders inside a container


class Library(NamedTuple):
    """A declared library that was loaded in the finished image."""

    kind: str
    name: str
    version: str


def finish(session: Session, libs: Libs, image: Image, tag: str) -> Image:
    """Finish, verify, commit under `tag`.

    Raises:
        BuildError: a library does not load; nothing was tagged.
    """
    user = image.labels["runner.user"]
    declared = {
        "user": user,
        "env": dict(libs.env),
        "apt": [package.name for package in libs.apt],
        "cran": [package.name for package in libs.r_packages],
        "pip": {package.name: libs.imports.get(package.name) for package in libs.pip},
    }
    inputs = {f"bootstrap/{name}": raw for name, raw in bootstrap_files().items()}
    inputs["declared.json"] = json.dumps(declared).encode()
    if libs.declared:
        session.report("verify", f"loading {len(libs.declared)} declared libraries …")
    argv = (image.labels["runner.python"], "-I", "-S", "/mnt/in/finish.py")
    with session.step("verify", image.id, argv, inputs, tmpfs=_TMPFS, quiet=True) as done:
        if done.ran.exit_code:
            raise explain("verify", libs, done.lines, done.ran.exit_code, oom=done.ran.oom, log=session.log_path)
        loaded = _judge(session, libs, json.loads((done.out / "verified.json").read_bytes()))
        replaced = session.engine.inspect(tag)
        identifier = done.ran.commit(_config(libs, user, tag, loaded), tag)
    if replaced is not None and replaced.id != identifier:
        with suppress(BuildError):  # a container may still use it
            session.engine.remove(replaced.id)
    if loaded:
        session.report("verify", f"{len(loaded)} declared libraries load")
    final = session.engine.inspect(identifier)
    if final is None:
        raise BuildError(f"the engine committed {tag}, but does not have it", "build again")
    return final


def libraries_of(image: Image) -> tuple[Library, ...]:
    """The libraries that an image was verified to hold, from its label."""
    return tuple(Library(*item) for item in json.loads(image.labels.get(LIBRARIES_LABEL, "[]")))


def _config(libs: Libs, user: str, tag: str, loaded: tuple[Library, ...]) -> Config:
    labels = {
        "runner.contract": str(contract()),
        "runner.libs": tag.rsplit(":", 1)[-1],
        "runner.name": libs.name,
        LIBRARIES_LABEL: json.dumps([[each.kind, each.name, each.version] for each in loaded]),
    }
    return Config(libs.env, labels, user=user, workdir=_WORKDIR, cmd=("/bin/bash",), comment="runner: verified")


def _judge(session: Session, libs: Libs, verified: Mapping[str, Any]) -> tuple[Library, ...]:
    loaded, failed = [], []
    for package in libs.declared:
        result = verified[package.kind][package.name]
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
    if package.kind == "cran" and not rversion.satisfies(result["version"], package.constraints):
        return f"version {result['version']} does not fit {package.spec}"
    return None


def _remedies(package: Package, why: str) -> list[str]:
    if "cannot open shared object file" in why:
        library = why.split(": cannot open", maxsplit=1)[0].rsplit(" ", 1)[-1].strip("'\"")
        return [f"a system library is missing: add the Debian package that holds {library} under apt"]
    if package.kind == "pip":
        return [f"if its import name is another: imports: {{{package.name}: NAME}}"]
    return []


def _applies(marker: str, environment: Mapping[str, str]) -> bool:
    from packaging.markers import Marker

    return Marker(marker).evaluate(dict(environment))
