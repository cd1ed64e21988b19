"""Which lock a build goes by: the one that there is, the one that it is made into, or exactly it and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.builder import apt, base, resolve
from runner.builder.recipe import lock_path
from runner.errors import BuildError, SpecError
from runner.spec import lock as locks

if TYPE_CHECKING:
    from pathlib import Path

    from runner.builder.build import Options
    from runner.builder.session import Session
    from runner.docker_api.images import Image
    from runner.spec.libs import Libs
    from runner.spec.lock import Lock


@dataclass(frozen=True, slots=True)
class Start:
    """What a build starts from: the base, and the lock with the bytes of its file."""

    image: Image
    lock: Lock
    raw: bytes


def settle(session: Session, libs: Libs, options: Options, *, again: bool = False) -> Start:
    """The base and the lock, which is written where it is new. again: trust nothing that is locked to be there still.

    Raises:
        SpecError: with `locked`, where there is no lock or the libs file has moved on from it.
        BuildError: the lock cannot be written; with `locked`, the base of the lock cannot be had.
    """

    path = lock_path(libs.path)
    raw = locks.read_bytes(path)
    old = None if raw is None else locks.parse(raw, str(path))
    if options.locked:
        return Start(*_exactly(session, libs, path, old, options.platform), raw or b"")
    if old is not None and (lacking := resolve.lacking(old, libs)):
        session.report("resolve", f"{path.name} lacks {', '.join(lacking)}, resolving anew")
        again = True
    anew = resolve.EVERYTHING in options.upgrade
    image, of_base = base.ensure(session, libs, old.base if old and not anew else None, options.platform, newest=anew)
    new = resolve.resolve(session, libs, image, of_base, old=old, upgrade=options.upgrade, again=again)
    if old is None or new.to_text() != old.to_text():
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            locks.write(path, new)
        except OSError as error:
            raise BuildError(
                f"{path} cannot be written: {error.strerror}", "free some space, or mend the folder"
            ) from None
        session.report("lock", f"{path.name}  {_changes(old, new)}")
        raw = new.to_text().encode()
    return Start(image, new, raw or b"")


def _exactly(session: Session, libs: Libs, path: Path, lock: Lock | None, platform: str | None) -> tuple[Image, Lock]:

    if lock is None:
        raise SpecError("there is no lock yet", f"make it: runner build --libs {libs.path}", file=str(path))
    if moved := resolve.moved_on(lock, libs):
        raise SpecError(
            f"{libs.path.name} has moved on from it", *moved, "runner build without --locked", file=str(path)
        )
    if lacking := resolve.lacking(lock, libs):
        what = f"it lacks {', '.join(lacking)}, which {libs.path.name} asks for"
        raise SpecError(what, "bring back the last good one, or: runner build without --locked", file=str(path))
    image, of_base = base.ensure(session, libs, lock.base, platform)
    if lock.platform != f"linux/{image.architecture}":
        what = f"it is for {lock.platform}, and the base here is for linux/{image.architecture}"
        raise SpecError(what, "runner build without --locked", file=str(path))
    if image.id == lock.base.id:
        return image, lock
    differs = [f"{lock.base.reference}: {lock.base.id[:19]} in the lock, {image.id[:19]} here"]
    if lock.base.recipe and of_base.recipe == lock.base.recipe:
        # Made on two machines, or twice: the same packages are the same base.
        differs = resolve.same_base(lock, apt.ask(session, libs, image.id, ()).installed)
    if differs:
        raise BuildError("the base of the lock cannot be had any more", *differs[:10], "runner build without --locked")
    return image, resolve.rebased(lock, of_base)


def _changes(old: Lock | None, new: Lock) -> str:
    """`written, 214 packages`, else what was added, changed and removed."""
    if old is None:
        return f"written: {len(new.packages)} packages"
    before = {(each.kind, each.name): each.version for each in old.packages}
    after = {(each.kind, each.name): each.version for each in new.packages}
    changed = [f"{name} {before[kind, name]} → {version}" for (kind, name), version in after.items()
               if (kind, name) in before and before[kind, name] != version]  # fmt: skip
    added, gone = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    counts = [
        f"{count} {what}" for count, what in ((added, "added"), (len(changed), "changed"), (gone, "removed")) if count
    ]
    named = f" ({', '.join(changed[:4])}{' …' if len(changed) > 4 else ''})" if changed else ""
    return f"rewritten: {', '.join(counts) or 'what is asked for'}{named}"
