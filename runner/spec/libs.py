"""The libraries that a script needs, checked, with the place of each in the file that asks for it. Cheap to import."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from runner.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.spec import rversion

Kind = Literal["apt", "conda", "pip", "cran", "bioconductor", "github"]
R_KINDS: tuple[Kind, ...] = ("cran", "bioconductor", "github")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where an R package is had that no repository offers.

    kind: `github` (target `owner/repo`, ref: tag, branch or commit, subdir: folder in it), `url` (of a source archive) or
    `path` (absolute, of a source archive or folder).
    """

    kind: Literal["github", "url", "path"]
    target: str
    ref: str | None = None
    subdir: str | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """One declared library. `spec` is the text as declared, `name` as its package manager calls it."""

    kind: Kind
    name: str
    spec: str
    file: str
    line: int
    key: str | None
    constraints: tuple[rversion.Constraint, ...] = ()
    version: str | None = None
    """apt: the version or pattern asked for."""
    marker: str | None = None
    """pip: the environment marker, when there is one."""
    remote: Remote | None = None
    """github: where its source is. Then `name` is a guess until its DESCRIPTION has been read."""

    def error(self, message: str, *hints: str) -> SpecError:
        """A SpecError at the place where the package is declared."""
        return SpecError(message, *hints, file=self.file, line=self.line, key=self.key)


@dataclass(frozen=True, slots=True)
class Libs:
    """A checked libs file.

    pip_lines: the items of `pip` as uv takes them in a requirements file of the libs file's folder. pip_rest: options and
    constraints that bear on all of them. pip_variables: names of the `${NAME}` in them, which stay as they are; uv is to
    have their values. pip_hashes: name → `sha256:…` of the files that requirements files allow. files: what the pip items
    name, absolute (`runner.spec.named` tells all files).
    r: R is wanted, even with no package. repos: CRAN-like repositories in the order of preference. snapshot: the day
    (YYYY-MM-DD) whose binary repository is asked. sysreqs: install the system libraries that source packages need.
    r_version_wanted, bioconductor_version: what a renv.lock was made with. python: the version asked for, `3.11`.
    conda_channels: addresses or names, local folders as absolute `file://`; conda wanted and none named: conda-forge.
    run: shell commands, in order; run_lines: where each stands. user: the run-time user, a name or `uid[:gid]`.
    registry: where the image is pushed to.
    """

    path: Path
    name: str
    base: str | None
    base_line: int | None
    apt: tuple[Package, ...]
    pip: tuple[Package, ...]
    pip_lines: tuple[str, ...]
    pip_rest: tuple[str, ...]
    files: tuple[Path, ...]
    r: bool
    r_packages: tuple[Package, ...]
    repos: tuple[str, ...]
    snapshot: str | None = None
    sysreqs: bool = True
    r_version_wanted: str | None = None
    bioconductor_version: str | None = None
    python: str | None = None
    python_line: int | None = None
    conda: tuple[Package, ...] = ()
    conda_channels: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    run_lines: tuple[int, ...] = ()
    user: str | None = None
    registry: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    imports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ca_bundle: Path | None = None
    pip_variables: frozenset[str] = frozenset()
    pip_hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def declared(self) -> tuple[Package, ...]:
        """Every library that the finished image must contain."""
        return (*self.apt, *self.conda, *self.r_packages, *self.pip)

    def error(self, key: str, line: int | None, message: str, *hints: str) -> SpecError:
        """A SpecError at a key of the file."""
        return SpecError(message, *hints, file=str(self.path), line=line, key=key)


def load(path: Path) -> Libs:
    """Read and check a libs file and all the files that it names.

    Args:
        path: a libs.yaml, or a requirements.txt, environment.yml or renv.lock alone: as if a libs.yaml named it.

    Raises:
        SpecError: anything wrong in them, with file, line, key, what was expected and the nearest right word.
    """
    from runner.spec.loading import load_libs

    return load_libs(path)
