"""System libraries of R packages: which Debian packages to build with, and which to run with. Pure; the rules are data."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.builder.r.source import Source

_RULES = Path(__file__).parent / "sysreqs.txt"
_ADDRESS = re.compile(r"<?\b\w+://[^\s,>)]+>?")
_LIBRARY = re.compile(r"(?:^|-)z?lib[a-z0-9]")
_NO_LIBRARY = re.compile(
    r"-(?:dev|doc|bin|tools?|utils|common|perl|java|data|dbg|headers|dev-[a-z]+)$|-dev:|^lib(?:js|c6)-"
)
_LEVELS = 3


class Needs(NamedTuple):
    """Debian packages, sorted. build: to compile against (-dev) or with. run: what its use needs beside run-time
    libraries, which `runtime_of` finds for `build`."""

    build: tuple[str, ...] = ()
    run: tuple[str, ...] = ()


class _Rule(NamedTuple):
    pattern: re.Pattern[str]
    needs: Needs


def needs_of(sources: Iterable[Source]) -> Needs:
    """What these packages need together. One that was built already needs the same libraries at run time."""
    found = [_needs(source.name, source.fields.get("SystemRequirements", "")) for source in sources]
    build = {package for needs in found for package in needs.build}
    run = {package for needs in found for package in needs.run}
    return Needs(tuple(sorted(build)), tuple(sorted(run)))


def runtime_of(dev: Iterable[str], depends: str) -> tuple[str, ...]:
    """The libraries that what was built with these -dev packages is linked to.

    depends: what `apt-cache depends` prints of them and of the -dev packages that they depend on (with `--recurse`). Those
    are looked into only where a package has no library of its own: `libjpeg-dev` is another name of
    `libjpeg62-turbo-dev`, but `libgdal-dev` depends on thirty others that nothing of ours is linked to.
    """
    tree = _depends(depends)
    found: set[str] = set()
    for package in dev:
        level = [package]
        for _ in range(_LEVELS):
            below = [each for one in level for each in tree.get(one, ())]
            libraries = {each for each in below if _is_library(each)}
            found |= libraries
            level = [each for each in below if each.endswith("-dev")]
            if libraries:
                break
    return tuple(sorted(found))


def debian_packages() -> tuple[str, ...]:
    """Every Debian package that the rules name."""
    by_text, by_name = _rules()
    needs = [*(rule.needs for rule in by_text), *by_name.values()]
    return tuple(sorted({package for each in needs for package in (*each.build, *each.run)}))


def _needs(name: str, text: str) -> Needs:
    by_text, by_name = _rules()
    plain = _ADDRESS.sub(" ", text)  # `https://git.…/openssl` asks for nothing
    hits = [rule.needs for rule in by_text if rule.pattern.search(plain)]
    if name in by_name:
        hits.append(by_name[name])
    return Needs(tuple(one for hit in hits for one in hit.build), tuple(one for hit in hits for one in hit.run))


@cache
def _rules() -> tuple[tuple[_Rule, ...], Mapping[str, Needs]]:
    """(rules for the text of SystemRequirements, needs by R package)."""
    by_text: list[_Rule] = []
    by_name: dict[str, Needs] = {}
    named = False
    for line in _RULES.read_text(encoding="utf-8").splitlines():
        if line.strip() == "[packages]":
            named = True
        left, arrow, right = line.partition("=>")
        if not arrow or line.startswith("#"):
            continue
        build, _, run = right.partition(";")
        needs = Needs(tuple(build.split()), tuple(run.split()))
        if named:
            by_name[left.strip()] = needs
        else:
            by_text.append(_Rule(re.compile(rf"(?<![\w-])(?:{left.strip()})(?!\w)", re.IGNORECASE), needs))
    return tuple(by_text), by_name


def _depends(text: str) -> dict[str, list[str]]:
    """package → its direct Depends; of alternatives the first, and none that is only virtual."""
    tree: dict[str, list[str]] = {}
    package, alternative = "", False
    for line in text.splitlines():
        if line and not line[0].isspace():
            package = line.strip()
            tree.setdefault(package, [])
            continue
        match = re.fullmatch(r" ([ |])Depends: (\S+)", line.rstrip())
        if match is None:
            continue
        if not alternative and not match[2].startswith("<"):
            tree[package].append(match[2])
        # `|` joins a line with the next; where the first is virtual, a later one counts.
        alternative = match[1] == "|" and (alternative or not match[2].startswith("<"))
    return tree


def _is_library(package: str) -> bool:
    return bool(_LIBRARY.search(package)) and not _NO_LIBRARY.search(package)
