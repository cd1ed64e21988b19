"""R packages compiled beside the image, each once: what was built is kept in the cache folder under a key of all that it
depends on. Only the result is copied into the image: no compiler, source or cache gets there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import TYPE_CHECKING

from runner.builder.cache import cache_dir
from runner.builder.failures import explain
from runner.builder.pip import lines
from runner.builder.r import services
from runner.builder.r.repository import make_repository, sources_from_lock
from runner.builder.r.sysreqs import needs_of
from runner.builder.stages import APT_STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from runner.builder.r.source import Source
    from runner.builder.session import Session
    from runner.docker_api.images import Image
    from runner.spec.libs import Libs
    from runner.spec.lock import Lock, Locked

_COMPILERS = ("r-base-dev",)


class Compiler:
    """Builds the source packages of one lock.

    Args:
        core: gives the image with R and nothing else of the lock. extend: gives an image with some more Debian packages on
            another, found again by their names.
    """

    def __init__(
        self,
        session: Session,
        libs: Libs,
        lock: Lock,
        core: Callable[[], Image],
        extend: Callable[[str, Sequence[str], Image], Image],
    ) -> None:
        self._session = session
        self._libs = libs
        self._lock = lock
        self._core = core
        self._extend = extend

    def library(self, wanted: Iterable[Locked]) -> bytes:
        """The installed packages as a tar, to be unpacked in R's library folder.

        Raises:
            GoneError: a source cannot be had any more.
            BuildError: one does not compile.
        """
        found = sources_from_lock(
            self._lock.of("r"),
            libs_folder=self._libs.path.resolve().parent,
            ca_bundle=self._session.ca_bundle,
            r_version=self._lock.r,
            machine=services.machine(self._lock.platform.rpartition("/")[2]),
            repos=services.repositories(self._libs.repos),
            report=lambda text: self._session.report("r", text),
        )
        sources = {source.name: source for source in found}
        files = {name: self._file(name, sources) for name in sources}
        missing = [name for name, file in files.items() if not file.exists()]
        if missing:
            self._build(missing, sources, files)
        return _joined([files[each.name] for each in wanted])

    def _build(self, names: Sequence[str], sources: Mapping[str, Source], files: Mapping[str, Path]) -> None:
        session = self._session
        todo = [sources[name] for name in names]
        packages = make_repository(todo)
        inputs = {f"cran/{path}": raw for path, raw in packages.items()}
        inputs["packages"] = lines(names)
        inputs["built.tar"] = _joined([file for name, file in files.items() if name not in names])
        image = self._core()
        if any(source.compiled for source in todo):
            image = self._extend("r-tools", _COMPILERS, image)
            if self._libs.sysreqs and (needed := needs_of(todo).build):
                image = self._extend("r-sysreqs", needed, image)
        debian = [each for each in self._lock.of("apt") if each.stage in APT_STAGES[2:]]
        inputs["binary"] = lines(f"{each.name}={each.version}" for each in debian)
        session.report("r", f"building {len(todo)} packages from source …")
        with session.step("r-build", image.id, ("/bin/sh", "/mnt/in/r_build.sh"), inputs) as done:
            for name in names:
                # What was built is good, also when another package fails: the next build goes on from it.
                if (built := done.read(f"{name}.tar")) is not None:
                    _keep(built, files[name])
            if done.ran.exit_code:
                log = session.log_path
                raise explain("r-build", self._libs, done.lines, done.ran.exit_code, oom=done.ran.oom, log=log)

    def _file(self, name: str, sources: Mapping[str, Source], seen: tuple[str, ...] = ()) -> Path:
        return cache_dir() / "r-built" / f"{name}-{self._key(name, sources, seen)}.tar"

    def _key(self, name: str, sources: Mapping[str, Source], seen: tuple[str, ...]) -> str:
        """Of the source, of R, of the base, and of everything that is compiled or linked into it."""
        source = sources[name]
        needs: list[str] = []
        for need, _ in source.dependencies:
            if need in sources and need not in seen:
                needs.append(self._key(need, sources, (*seen, name)))
            elif debian := self._lock.find("r", need):
                needs.append(f"{debian.name} {debian.version}")
        base = self._lock.base
        parts = [source.name, source.version, source.sha256, self._lock.r, base.id, self._lock.platform, sorted(needs)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _keep(raw: bytes, file: Path) -> None:
    file.parent.mkdir(exist_ok=True, mode=0o700)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_bytes(raw)
    aside.rename(file)


def _joined(files: Iterable[Path]) -> bytes:
    """Several tars as one."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as joined:
        for file in files:
            with tarfile.open(file) as tar:
                for member in tar:
                    joined.addfile(member, tar.extractfile(member) if member.isreg() else None)
    return out.getvalue()
