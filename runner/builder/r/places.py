"""Where R packages are looked for, in which order: the snapshot, the named repositories, Bioconductor's."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from runner.builder.r import services
from runner.builder.r.cranlike import Offer, Repository
from runner.builder.r.description import built_for
from runner.builder.r.fetch import DamagedError, Fetcher, without_login
from runner.builder.r.source import Source, source_of
from runner.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.builder.r.services import Target
    from runner.builder.r.wishes import Wish
    from runner.spec.rversion import Constraint


class Places:
    """The repositories of one resolution; each is asked for its index once, and only if something is looked up there."""

    def __init__(
        self,
        fetch: Fetcher,
        repos: Sequence[str],
        target: Target,
        *,
        snapshot: str | None,
        debian_suite: str | None,
    ) -> None:
        self._target = target
        self._date = snapshot
        self._snapshot: Repository | None = None
        self._dated_source: Repository | None = None
        if snapshot is not None:
            self._dated_source = self._snapshot = Repository(fetch, services.snapshot(snapshot))
            if debian_suite is not None:
                address = services.snapshot_binaries(snapshot, debian_suite)
                self._snapshot = Repository(fetch, address, target.agent(address))
        self._named = [Repository(fetch, address) for address in repos]
        release = services.bioconductor(target.version)
        self._no_release = release is None
        self._bioconductor = [Repository(fetch, address) for address in release or ()]
        self._asked: list[Repository] = []

    @property
    def names(self) -> Iterable[str]:
        """Every package of the repositories that were asked."""
        return chain.from_iterable(repository.names for repository in self._asked)

    def allows(self, name: str, version: str, constraints: Sequence[Constraint]) -> bool:
        """Whether Debian's binary of that version may be taken. A snapshot means the versions of its day: then only where
        it has the same one, has none, or `==` asks for it.

        Raises:
            BuildError: the snapshot cannot be reached.
        """
        if self._snapshot is None or any(op == "==" for op, _ in constraints):
            return True
        offers = [offer.version for offer in self._reached(self._snapshot).offers(name)]
        return not offers or version in offers

    def repositories(
        self, name: str, *, bioconductor: bool, cran_only: bool, asked: Sequence[Wish]
    ) -> list[Repository]:
        """In order of preference. Bioconductor's are asked for its own packages, and for what no other has.

        Raises:
            SpecError: no Bioconductor release is known for this R.
            BuildError: the snapshot cannot be reached.
        """
        first = [self._reached(self._snapshot)] if self._snapshot is not None else []
        cran = [*first, *self._named]
        if bioconductor and self._no_release:
            raise asked[0].origin.error(
                f"no release of Bioconductor is known for R {self._target.version}",
                "name one in RUNNER_BIOCONDUCTOR, such as https://bioconductor.org/packages/3.22",
            )
        if bioconductor:
            found = [*self._bioconductor, *cran]
        elif cran_only or any(True for each in cran for _ in each.offers(name)):
            found = cran
        else:
            found = [*cran, *self._bioconductor]
        self._asked += [each for each in found if each not in self._asked]
        return found

    def listed(self, name: str) -> list[str]:
        """The versions in the Archives of the repositories that were asked: what was removed still stands there."""
        return list(dict.fromkeys(version for each in self._asked for version in each.listing(name) or ()))

    @property
    def reached(self) -> bool:
        """Whether every repository that was asked has answered."""
        return not any(each.failure for each in self._asked)

    def searched(self) -> list[str]:
        """Lines for an error: what was searched, and why some could not be."""
        texts = [
            f"{each.address} (not reachable: {each.failure})" if each.failure else each.address for each in self._asked
        ]
        lines = [", ".join(["searched: Debian r-cran-*, r-bioc-*", *texts])]
        if not self.reached:
            lines.append("name a repository that can be reached under r.repos, or in RUNNER_CRAN")
        return lines

    def archives(self, name: str) -> list[str]:
        """A line for an error where older versions may exist that cannot be seen."""
        if not self._asked or any(each.failure or each.listing(name) for each in self._asked):
            return []
        return ["no Archive of them lists versions: an older one must be asked for exactly, by =="]

    def still_offers(self, url: str) -> bool:
        """False for what came from the snapshot of another day."""
        base = without_login(services.snapshot_base())
        if not url.startswith(f"{base}/"):
            return True
        return self._date is not None and f"/{self._date}/" in url

    def source(self, offer: Offer) -> Source:
        """Download what was chosen. A binary for another R is left, and its source taken.

        Raises:
            OSError: it cannot be had, or is something else.
            archive.BadArchiveError: it is no package.
        """
        place = self._of(offer)
        found = source_of(place.download(offer.url, offer.fields.get("MD5sum")), offer.url)
        if not self._target.takes(found.fields):
            if self._dated_source is None or self._dated_source is place:
                built = built_for(found.fields)
                raise DamagedError(f"it was built for R {built}; the image has R {self._target.version}")
            url = offer.url.replace(place.address, self._dated_source.address, 1)
            found = source_of(self._dated_source.download(url), url)
        if (found.name, found.version) != (offer.name, offer.version):
            raise DamagedError(f"it holds {found.name} {found.version}, not {offer.name} {offer.version}")
        return found

    def _of(self, offer: Offer) -> Repository:
        every = [*([self._snapshot] if self._snapshot else []), *self._named, *self._bioconductor]
        return next(each for each in every if offer.url.startswith(f"{each.address}/"))

    def _reached(self, snapshot: Repository) -> Repository:
        """A snapshot that does not answer is no reason to take the versions of another day."""
        if not snapshot.names and snapshot.failure:
            raise BuildError(
                f"the snapshot {snapshot.address} cannot be had: {snapshot.failure}",
                "choose another day under r.snapshot, or name another server in RUNNER_PPM",
            )
        return snapshot
