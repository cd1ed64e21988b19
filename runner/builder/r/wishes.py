"""What is asked of a package and by whom, and the errors that say so. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import BuildError
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.builder.r.source import Source
    from runner.errors import SpecError
    from runner.spec import rversion
    from runner.spec.libs import Package

_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Wish:
    """A package is asked for. by: `NAME VERSION` of the package that needs it, None where it is declared. origin: the
    declared package that it comes from, whose line errors name."""

    name: str
    constraints: tuple[rversion.Constraint, ...]
    by: str | None
    origin: Package


def joined(asked: Iterable[Wish]) -> tuple[rversion.Constraint, ...]:
    """All constraints, each once."""
    return tuple(dict.fromkeys(one for wish in asked for one in wish.constraints))


def unique(asked: Iterable[Wish]) -> list[Wish]:
    """Each wish once."""
    return list({(wish.constraints, wish.by): wish for wish in asked}.values())


def shown(constraints: Iterable[rversion.Constraint]) -> str:
    """`>= 1.0, < 2`."""
    return ", ".join(f"{op} {version}" for op, version in constraints)


def unfit(name: str, asked: Sequence[Wish], there: Iterable[str], searched: Sequence[str]) -> SpecError:
    """No version fits all that is asked: with both sides, where there is more than one."""
    asking = unique(wish for wish in asked if wish.constraints)
    versions = list(dict.fromkeys(there))
    more = f" and {len(versions) - _SHOWN} more" if len(versions) > _SHOWN else ""
    hints = [f"there is: {', '.join(versions[:_SHOWN])}{more}", *searched]
    place = _place(asking or asked)
    if len(asking) > 1:
        sides = "; ".join(f"{shown(wish.constraints)} ({_who(wish)})" for wish in asking)
        return place.error(f"no version of {name} fits all that is asked for: {sides}", *hints)
    if not asking:
        gone = f"{name} was removed from the repositories{_needed(asked[0])}"
        return place.error(gone, f"their archives have it: ask for {name}=={versions[0]}", *hints)
    by = _needed(asking[0])
    return place.error(f"no version of {name} fits {shown(joined(asking))}{by}", *hints)


def missing(
    name: str, asked: Sequence[Wish], known: Iterable[str], searched: Sequence[str], *, reached: bool
) -> SpecError:
    """No repository has it in any version. reached: all of them could be asked."""
    wish = asked[0]
    where = "" if reached else " that can be reached"
    near = nearest(name, known)
    guess = [f"did you mean {near}?"] if near else []
    return _place(asked).error(
        f"no package named {name!r} in the repositories{where}{_needed(wish)}", *guess, *searched
    )


def needs_r(name: str, version: str, newer: str, r_version: str, asked: Sequence[Wish]) -> SpecError:
    """Every version that fits needs another R than the image's."""
    return _place(asked).error(
        f"{name} {version} needs R {newer}; the image has R {r_version}{_needed(asked[0])}",
        f"ask for an older version ({name}==…), or choose a base with a newer R",
    )


def remote_unfit(source: Source, package: Package, asked: Sequence[Wish]) -> SpecError:
    """A declared commit, address or path has a version that another package cannot use."""
    against = "; ".join(f"{shown(wish.constraints)} ({_who(wish)})" for wish in asked if wish.constraints)
    return package.error(
        f"{source.name} {source.version} is had from {source.url.split('#')[0]}, but asked for is {against}"
    )


def not_downloaded(failed: Mapping[str, str], asked: Mapping[str, Sequence[Wish]]) -> BuildError:
    """Files that an index names cannot be had. failed: package → what failed."""
    name, *others = sorted(failed)
    wish = asked[name][0]
    also = [failed[other] for other in others]
    return at(wish.origin, f"{failed[name]}{_needed(wish)}", *also, "build again, or name another mirror under r.repos")


def at(package: Package, message: str, *hints: str) -> BuildError:
    """An error at the line of a declared package that is not the file's fault."""
    return BuildError(f"{package.file}:{package.line}: {package.key}: {message}", *hints)


def _place(asked: Sequence[Wish]) -> Package:
    """Where the error is shown: at the package itself if it is declared."""
    return next((wish for wish in asked if wish.by is None), asked[0]).origin


def _who(wish: Wish) -> str:
    if wish.by is None:
        return f"declared in {wish.origin.file}:{wish.origin.line}"
    if wish.by.split(" ")[0] == wish.origin.name:
        return f"needed by {wish.by}, {wish.origin.file}:{wish.origin.line}"
    return f"needed by {wish.by} for {wish.origin.name}, {wish.origin.file}:{wish.origin.line}"


def _needed(wish: Wish) -> str:
    if wish.by is None:
        return ""
    return f" (needed by {wish.by})"
