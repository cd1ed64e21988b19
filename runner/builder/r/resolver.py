"""Which R packages are needed, in which version, from where: Debian's binaries first, then dated binaries, then source.

Versions follow from what everything asks for together: when a package asks for more of another than was known, all is
chosen once more. There is no search through older versions of the asking one: R's repositories offer one version each.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.builder.r import archive, services, wishes
from runner.builder.r.cranlike import Offer
from runner.builder.r.description import BASE_PACKAGES, dependencies
from runner.builder.r.fetch import Fetcher, reason
from runner.builder.r.places import Places
from runner.builder.r.remotes import Remotes
from runner.builder.r.resolved import Binary, Choice, Present, Resolved
from runner.builder.r.source import Source, kind_of, obtain
from runner.builder.r.wishes import Wish
from runner.spec import rversion
from runner.spec.lock import DEBIAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from runner.spec.libs import Package
    from runner.spec.lock import Locked

_ROUNDS = 25


class Resolver:
    """See the module.

    debian: Debian package (`r-cran-dbi`, `r-bioc-limma`) → its versions, newest first; empty where R is not Debian's.
    snapshot: day (YYYY-MM-DD) whose repository is asked before `repos`; debian_suite: the suite whose binaries fit.
    Debian's binary is then taken only where its version is the snapshot's, or is asked for by `==`.
    installed: R package → version, of those that the base image brings (its own R has the recommended ones).
    """

    def __init__(
        self,
        debian: Mapping[str, tuple[str, ...]],
        repos: Sequence[str],
        r_version: str,
        ca_bundle: Path | None,
        *,
        snapshot: str | None,
        debian_suite: str | None,
        libs_folder: Path,
        machine: str = "x86_64",
        installed: Mapping[str, str] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._debian = debian
        self._target = services.Target(r_version, machine)
        self._folder = libs_folder
        self._installed = installed or {}
        self._report = report
        self._fetch = Fetcher(ca_bundle, services.logins(repos))
        self._places = Places(self._fetch, repos, self._target, snapshot=snapshot, debian_suite=debian_suite)
        self._preferred: Mapping[str, Locked] = {}
        self._restored: dict[str, Source | None] = {}
        self._remotes: dict[str, tuple[Source, Package]] = {}

    def resolve(self, packages: Iterable[Package], preferred: Mapping[str, Locked]) -> Resolved:
        """Everything that the declared packages need. preferred: R package → what the last lock held.

        Raises:
            SpecError: a package is in no repository, in no version that fits, or needs a newer R.
            BuildError: the snapshot or a chosen file cannot be reached.
        """
        self._preferred = preferred
        self._restored, self._remotes = {}, {}
        declared = self._read_remotes(packages)
        chosen, asked = self._settle([Wish(each.name, each.constraints, None, each) for each in declared])
        resolved = Resolved(declared)
        offers: list[Offer] = []
        for name, choice in sorted(chosen.items()):
            match choice:
                case Binary():
                    resolved.binary[name] = choice
                case Source():
                    resolved.source[name] = choice
                case Offer():
                    offers.append(choice)
                case Present():
                    pass
        resolved.source |= self._download(offers, asked)
        return resolved

    def _read_remotes(self, packages: Iterable[Package]) -> tuple[Package, ...]:
        """The declared packages with their real names. What `Remotes:` names comes after, so that a declaration wins."""
        remotes = Remotes(self._fetch, self._folder, self._target, locked=self._preferred, report=self._report)
        declared: dict[str, Package] = {}
        for package in packages:
            named, source = package, None
            if package.remote is not None:
                source = remotes.source(package)
                named = replace(package, name=source.name)
            if twice := declared.get(named.name):
                raise named.error(f"{named.name} is listed twice (first in line {twice.line})")
            declared[named.name] = named
            if source is not None:
                self._remotes[named.name] = (source, named)
        self._follow(remotes, declared)
        return tuple(declared.values())

    def _follow(self, remotes: Remotes, declared: Mapping[str, Package]) -> None:
        """Add what `Remotes:` of the remotes names, and of those in turn."""
        follow = deque(self._remotes.values())
        seen = set()
        while follow:
            source, origin = follow.popleft()
            for package in remotes.named_by(source, origin):
                if package.name in self._remotes or package.remote in seen:
                    continue
                seen.add(package.remote)
                found = remotes.source(package)
                if found.name not in declared and found.name not in self._remotes:
                    self._remotes[found.name] = (found, package)
                    follow.append((found, package))

    def _settle(self, declared: Sequence[Wish]) -> tuple[dict[str, Choice], dict[str, list[Wish]]]:
        """Choose until every choice fits all that is asked of it: (choices, wishes), both by package."""
        known: dict[str, list[Wish]] = {}
        for number in range(_ROUNDS):
            chosen, asked = self._round(declared, known)
            if all(rversion.satisfies(choice.version, wishes.joined(asked[name])) for name, choice in chosen.items()):
                return chosen, asked
            # A wish of a version that is no longer chosen is forgotten, unless that would go in a circle.
            known = asked if number < _ROUNDS // 2 else {name: [*known.get(name, ()), *asked[name]] for name in asked}
        name, choice = next(
            (name, choice)
            for name, choice in chosen.items()
            if not rversion.satisfies(choice.version, wishes.joined(asked[name]))
        )
        raise wishes.unfit(name, asked[name], [choice.version], self._places.searched())

    def _round(
        self, declared: Sequence[Wish], known: Mapping[str, Sequence[Wish]]
    ) -> tuple[dict[str, Choice], dict[str, list[Wish]]]:
        chosen: dict[str, Choice] = {}
        asked: dict[str, list[Wish]] = {}
        waiting = deque(declared)
        while waiting:
            wish = waiting.popleft()
            if wish.name in BASE_PACKAGES:
                continue
            asked.setdefault(wish.name, []).append(wish)
            if wish.name in chosen:
                continue
            choice = self._choose(wish.name, wishes.unique([wish, *known.get(wish.name, ())]))
            chosen[wish.name] = choice
            by = f"{choice.name} {choice.version}"
            waiting += [Wish(need, wanted, by, wish.origin) for need, wanted in dependencies(choice.fields)]
        return chosen, asked

    def _choose(self, name: str, asked: Sequence[Wish]) -> Choice:
        """The first candidate that fits.

        Raises:
            SpecError: none does.
        """
        constraints = wishes.joined(asked)
        there: list[str] = []
        needs_newer: list[tuple[Choice, str]] = []
        for choice in self._candidates(name, asked, constraints, needs_newer):
            if not rversion.satisfies(choice.version, constraints):
                there.append(choice.version)
            elif newer := self._newer_r(choice):
                needs_newer.append((choice, newer))
            else:
                return choice
        if needs_newer:
            choice, newer = needs_newer[0]
            raise wishes.needs_r(choice.name, choice.version, newer, self._target.version, asked)
        if name in self._remotes:
            source, package = self._remotes[name]
            raise wishes.remote_unfit(source, package, asked)
        there += self._places.listed(name)
        if there:
            older = any(op in {"<=", "<", "!="} for op, _ in constraints)
            unseen = self._places.archives(name) if older else []
            raise wishes.unfit(name, asked, there, [*self._places.searched(), *unseen])
        searched = self._places.searched()
        if f"r-bioc-{name.lower()}" in self._debian:
            searched.append(f"{name} is a package of Bioconductor: put it under r.bioconductor")
        known = {*self._debian_names(), *self._places.names}
        raise wishes.missing(name, asked, known, searched, reached=self._places.reached)

    def _candidates(
        self,
        name: str,
        asked: Sequence[Wish],
        constraints: Sequence[rversion.Constraint],
        needs_newer: Sequence[object],
    ) -> Iterator[Choice]:
        """In order of preference. An Archive is looked into only where what is current does not do."""
        if name in self._remotes:
            yield self._remotes[name][0]
            return
        if (kept := self._kept(name)) is not None:
            yield kept
        if name in self._installed:
            yield Present(name, self._installed[name])
        bioconductor = any(wish.origin.kind == "bioconductor" and wish.by is None for wish in asked)
        own = all(wish.by is None for wish in asked) and not bioconductor
        for package in self._debian_packages(name, bioconductor=bioconductor, cran_only=own):
            for version in self._debian.get(package, ()):
                binary = Binary(name, package, version)
                if self._places.allows(name, binary.version, constraints):
                    yield binary
        repositories = self._places.repositories(name, bioconductor=bioconductor, cran_only=own, asked=asked)
        for repository in repositories:
            yield from repository.offers(name)
        if constraints or needs_newer:
            for repository in repositories:
                yield from repository.archived(name, constraints)

    def _kept(self, name: str) -> Choice | None:
        """What the last lock held, if it can still be had."""
        locked = self._preferred.get(name)
        if locked is None:
            return None
        if locked.source == DEBIAN:
            for package in self._debian_packages(name, bioconductor=False, cran_only=False):
                if locked.version in self._debian.get(package, ()):
                    return Binary(name, package, locked.version)
            return None
        if name not in self._restored:
            self._restored[name] = self._restore(locked)
        return self._restored[name]

    def _restore(self, locked: Locked) -> Source | None:
        """None also for what was a remote, which is no longer declared, and for a binary of another R or another day."""
        if kind_of(locked.source) not in {"cran", "bioconductor"} or not self._places.still_offers(locked.source):
            return None
        try:
            source = obtain(self._fetch, locked, self._folder, self._target)
        except OSError:
            return None
        return source if self._target.takes(source.fields) else None

    def _newer_r(self, choice: Choice) -> str | None:
        """The R that it needs, where the image's is another."""
        for name, constraints in dependencies(choice.fields):
            if name == "R" and not rversion.satisfies(self._target.version, constraints):
                return wishes.shown(constraints)
        return None

    @staticmethod
    def _debian_packages(name: str, *, bioconductor: bool, cran_only: bool) -> tuple[str, ...]:
        cran, bioc = f"r-cran-{name.lower()}", f"r-bioc-{name.lower()}"
        if cran_only:
            return (cran,)
        return (bioc, cran) if bioconductor else (cran, bioc)

    def _debian_names(self) -> set[str]:
        return {package.split("-", 2)[2] for package in self._debian if package.startswith(("r-cran-", "r-bioc-"))}

    def _download(self, offers: Sequence[Offer], asked: Mapping[str, Sequence[Wish]]) -> dict[str, Source]:
        """Everything that was chosen, or an error for all that cannot be had."""
        found: dict[str, Source] = {}
        failed: dict[str, str] = {}

        def work(offer: Offer) -> Source | str:
            try:
                return self._places.source(offer)
            except OSError as error:
                return reason(error)
            except archive.BadArchiveError as error:
                return str(error)

        for done, (offer, source) in enumerate(self._fetch.each(work, offers), 1):
            if isinstance(source, str):
                failed[offer.name] = f"{offer.name} {offer.version}: {offer.url} cannot be had: {source}"
            else:
                self._report(f"{offer.name} {offer.version} ({done}/{len(offers)}) …")
                found[offer.name] = source
        if failed:
            raise wishes.not_downloaded(failed, asked)
        return found
