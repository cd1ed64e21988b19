"""The small CRAN-like repository that R installs from: exactly the locked packages, which R itself orders by need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.builder.failures import GoneError
from runner.builder.r.description import built_for
from runner.builder.r.fetch import Fetcher, reason, without_login
from runner.builder.r.services import Target, logins
from runner.builder.r.source import Source, obtain
from runner.spec.lock import DEBIAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from runner.spec.lock import Locked

_INDEXED = ("Depends", "Imports", "LinkingTo")


def sources_from_lock(
    locked: Iterable[Locked],
    *,
    libs_folder: Path,
    ca_bundle: Path | None,
    r_version: str,
    machine: str = "x86_64",
    repos: Iterable[str] = (),
    report: Callable[[str], None] = lambda _: None,
) -> list[Source]:
    """Every R package of a lock that is no Debian binary, by name: from the cache, else fetched, and checked.

    repos: addresses that may bring logins. Nothing is looked up in them.

    Raises:
        GoneError: some cannot be had or have changed; each is named.
    """
    fetch = Fetcher(ca_bundle, logins(repos))
    target = Target(r_version, machine)
    wanted = [each for each in locked if each.kind == "r" and each.source != DEBIAN]

    def work(each: Locked) -> Source | str:
        try:
            source = obtain(fetch, each, libs_folder, target)
        except OSError as error:
            return reason(error)
        if not target.takes(source.fields):
            return f"it was built for R {built_for(source.fields)}; the image has R {r_version}"
        return source

    found: list[Source] = []
    failed: list[tuple[Locked, str]] = []
    for done, (each, result) in enumerate(fetch.each(work, wanted), 1):
        if isinstance(result, Source):
            report(f"{each.name} {each.version} ({done}/{len(wanted)}) …")
            found.append(result)
        else:
            failed.append((each, result))
    if failed:
        raise _not_had(sorted(failed, key=lambda item: item[0].name))
    return sorted(found, key=lambda source: source.name)


def make_repository(sources: Iterable[Source]) -> dict[str, bytes]:
    """A repository of exactly these packages: path below it → bytes."""
    files: dict[str, bytes] = {}
    entries = []
    for source in sources:
        files[f"src/contrib/{source.file}"] = source.path.read_bytes()
        entry = {"Package": source.name, "Version": source.version}
        entry |= {key: source.fields[key] for key in _INDEXED if source.fields.get(key)}
        entry["NeedsCompilation"] = "yes" if source.compiled else "no"
        entries.append("".join(f"{key}: {value}\n" for key, value in entry.items()))
    files["src/contrib/PACKAGES"] = "\n".join(entries).encode()
    return files


def _not_had(failed: list[tuple[Locked, str]]) -> GoneError:
    lines = [f"{each.name} {each.version} is locked, but {without_login(each.source)}: {why}" for each, why in failed]
    names = " ".join(f"--upgrade {each.name}" for each, _ in failed[:3])
    return GoneError(
        failed[0][0].name, lines[0], *lines[1:], f"bring it back, or have it resolved anew: runner build {names}"
    )
