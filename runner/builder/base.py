"""The image that a build starts from: on the engine, else pulled, else (the default one) made from Debian's packages."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

from runner.assets import asset
from runner.errors import BuildError, ImageError
from runner.spec.lock import Base

if TYPE_CHECKING:
    from pathlib import Path

    from runner.builder.session import Session
    from runner.docker_api.images import Image
    from runner.spec.libs import Libs

DEFAULT = "debian:bookworm-slim"
SUITE = "bookworm"
MADE = f"localhost/runner-debian:{SUITE}"
"""The name of the default base where it was made here."""

USER, PYTHON = "1000:1000", "/usr/bin/python3"
"""Whom scripts run as on the default base, and the Python that is added to it."""
_CREATED = "2023-06-10T00:00:00Z"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def ensure(
    session: Session, libs: Libs, locked: Base | None = None, platform: str | None = None, *, newest: bool = False
) -> tuple[Image, Base]:
    """The base image, on the engine when this returns, and how a lock names it.

    Args:
        locked: the base of the lock; that very image is taken where it can be had, else what its name stands for now.
        platform: that it must be for, `linux/amd64`; None: the engine's own.
        newest: ask the registry, also where the engine has an image of that name.

    Raises:
        SpecError: the registry knows no such image.
        ImageError: it cannot be pulled.
        BuildError: the default base can be neither pulled nor made.
    """
    reference = libs.base or DEFAULT
    names = {reference, MADE} if reference == DEFAULT else {reference}
    same = locked if locked is not None and locked.reference in names else None
    image = _locked(session, same) if same is not None else None
    if image is not None and same is not None and image.fits(platform):
        session.report("base", f"{same.reference}  {image.id[:19]}")
        return image, same
    if newest:
        _renew(session, reference, platform)
    image, name = _current(session, libs, reference, platform)
    digest = next((each.partition("@")[2] for each in image.digests if _repository(each) == _repository(reference)), "")
    return image, Base(name, image.id, digest, recipe_hash() if name == MADE else "")


def _renew(session: Session, reference: str, platform: str | None) -> None:
    """What the registry has under that name now. Where it cannot be asked, what is there will do."""
    try:
        _pull(session, reference, platform)
    except ImageError as error:
        session.note(str(error))
        session.report("base", f"{reference} could not be renewed: {error.message}")


def _locked(session: Session, base: Base) -> Image | None:
    """The very image of a lock, where the engine has it or the registry gives it."""
    image = session.engine.inspect(base.id)
    if image is not None and _known_as(image, base):
        return image
    if not base.digest:
        return None
    try:
        return _pull(session, f"{_repository(base.reference)}@{base.digest}")
    except ImageError as error:
        session.note(str(error))
        return None


def _known_as(image: Image, base: Base) -> bool:
    """Whether an image is what the lock calls it: a lock comes with a checkout, and could name any image of this engine."""
    names = {*image.names, *(name.removeprefix("docker.io/library/") for name in image.names)}
    wanted = base.reference if ":" in base.reference.rpartition("/")[2] else f"{base.reference}:latest"
    digests = {each.partition("@")[2] for each in image.digests if _repository(each) == _repository(base.reference)}
    return (
        wanted in names or base.reference in {image.id, *image.digests} or bool(base.digest and base.digest in digests)
    )


def _current(session: Session, libs: Libs, reference: str, platform: str | None) -> tuple[Image, str]:
    """The image that a name stands for now, and the name."""
    for candidate in (reference, MADE) if reference == DEFAULT else (reference,):
        image = session.engine.inspect(candidate)
        if image is not None and image.fits(platform):
            session.report("base", f"{candidate}  {image.id[:19]}")
            return image, candidate
    try:
        image = _pull(session, reference, platform)
    except ImageError as error:
        session.note(str(error))
        if reference == DEFAULT:
            image = _make(session, error)
            if not image.fits(platform):
                raise _other_platform(MADE, image, platform) from None
            return image, MADE
        if error.retryable:
            raise
        raise libs.error("base", libs.base_line, error.message, *error.hints) from None
    if not image.fits(platform):
        raise _other_platform(reference, image, platform)
    session.report("base", f"{reference}  {image.id[:19]}  pulled")
    return image, reference


def _other_platform(reference: str, image: Image, platform: str | None) -> BuildError:
    return BuildError(
        f"the base {reference} is for linux/{image.architecture}, and the target runs {platform}",
        f"name a base that there is for {platform}, or build on a machine of that kind",
    )


def _pull(session: Session, reference: str, platform: str | None = None) -> Image:
    session.report("base", f"pulling {reference} …")
    return session.engine.pull(reference, lambda text: session.report("base", f"{text} …"), platform=platform)


def _repository(reference: str) -> str:
    """`host:5000/name:tag` → `host:5000/name`."""
    head, slash, last = reference.partition("@")[0].rpartition("/")
    return head + slash + last.partition(":")[0]


def recipe_hash() -> str:
    """The hash of the scripts that make the default base."""
    digest = hashlib.sha256()
    for script in sorted((asset("images") / "debian").glob("*.sh")):
        digest.update(script.read_bytes())
    return digest.hexdigest()[:16]


def _make(session: Session, why: ImageError) -> Image:
    if shutil.which("mmdebstrap") is None:
        raise BuildError(
            f"the base {DEFAULT} can be neither pulled nor made here",
            why.message,
            "to make it from Debian's packages: apt-get install mmdebstrap",
            "or bring it from elsewhere: docker save, docker load",
        )
    session.report("base", f"no registry answers; making {SUITE} from Debian's packages …")
    session.work.mkdir(exist_ok=True, mode=0o700)
    rootfs, archive = session.work / "rootfs.tar", session.work / "image.tar"
    _run(session, ["/bin/sh", str(asset("images") / "debian" / "make.sh"), str(rootfs), SUITE])
    architecture = _output(["dpkg", "--print-architecture"]) or "amd64"
    _write_archive(rootfs, archive, architecture)
    session.engine.load(archive)
    rootfs.unlink()
    archive.unlink()
    image = session.engine.inspect(MADE)
    if image is None:
        raise BuildError(f"the engine took {MADE}, but does not have it")
    session.report("base", f"{MADE}  {image.id[:19]}  made from Debian's packages")
    return image


def _run(session: Session, argv: list[str]) -> None:
    last: list[str] = []
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None  # noqa: S101 - PIPE was asked for
        try:
            for raw in process.stdout:
                line = raw.decode("utf-8", "replace").rstrip()
                session.note(line)
                last = [*last[-9:], line]
                if line.startswith("I: "):
                    session.report("base", f"{line[3:].removesuffix('...')} …")
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        failing = [line for line in last if line.startswith("E: ")] or last
        raise BuildError(f"{SUITE} could not be made from Debian's packages", *failing, f"log: {session.log_path}")


def _output(argv: list[str]) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _write_archive(rootfs: Path, archive: Path, architecture: str) -> None:
    """A docker archive by hand: unlike `docker import`, the same root file system gives the same image id."""
    with rootfs.open("rb") as stream:
        layer = hashlib.file_digest(stream, "sha256").hexdigest()
    config = json.dumps(
        {
            "architecture": architecture,
            "config": {"Cmd": ["bash"], "Env": [_PATH]},
            "created": _CREATED,
            "history": [{"created": _CREATED, "created_by": f"mmdebstrap --variant=minbase {SUITE}"}],
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        },
        sort_keys=True,
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [MADE], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(archive, "w") as tar:
        for member, raw in ((name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
        tar.add(rootfs, "layer.tar")
