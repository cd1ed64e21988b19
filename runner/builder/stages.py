"""Lock → the stages of an image, from stable to volatile, each with the packages that it installs. Pure; no engine.

Every stage, and every package in it, has a key: the hash of all that decides what it puts into the image. An image of layers
is found again, and added to, by the set of keys that it holds; no clock, mirror, proxy or CA bundle is part of one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

from runner.builder.recipe import STEPS
from runner.spec.lock import DEBIAN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.spec.libs import Libs
    from runner.spec.lock import Lock, Locked

StageName = Literal["python", "r", "apt", "r-binary", "r-source", "conda", "pip", "run"]
_SCRIPTS: Mapping[StageName, tuple[str, ...]] = {
    "python": ("system.sh",),
    "r": ("r_core.sh",),
    "apt": ("apt.sh",),
    "r-binary": ("apt.sh",),
    "r-source": ("r_source.sh", "r_build.sh", "install.R"),
    "conda": ("conda.sh", "conda_install.py", "bytecode.py"),
    "pip": ("pip.sh", "bytecode.py"),
    "run": ("run.sh",),
}
"""Stage → the scripts that make it, the one that runs in the image first; in the order of the layers."""
APT_STAGES: tuple[StageName, ...] = ("python", "r", "apt", "r-binary")
"""Those that apt installs, in this order."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One layer to be. items: key → package. own: the key of what it does besides, "" when it only installs packages."""

    name: StageName
    script: str
    own: str = ""
    items: Mapping[str, Locked] = field(default_factory=dict)

    @property
    def keys(self) -> frozenset[str]:
        """All that it puts into the image."""
        return frozenset([*self.items, *([self.own] if self.own else [])])


def stages(libs: Libs, lock: Lock) -> tuple[Stage, ...]:
    """The stages of an image; those that have nothing to do are left out."""
    found = [
        *apt_stages(libs, lock.of("apt"), with_r=bool(lock.r)),
        _stage("r-source", (each for each in lock.of("r") if each.source != DEBIAN)),
        _stage("conda", lock.of("conda")),
        _stage("pip", lock.of("pip")),
    ]
    if libs.run:
        # Commands see all that is there, so that what they leave holds for exactly this content.
        before = sorted(key for stage in found for key in stage.keys)
        found.append(_stage("run", (), json.dumps([libs.run, dict(libs.env), before])))
    return tuple(stage for stage in found if stage.keys)


def apt_stages(libs: Libs, packages: Sequence[Locked], *, with_r: bool = False) -> tuple[Stage, ...]:
    """Those that apt installs, which are known before the others."""
    of = {name: [each for each in packages if each.stage == name] for name in APT_STAGES}
    own = {"python": json.dumps([libs.user, libs.python]), "r": "R" if with_r else ""}
    found = (_stage(name, of[name], own.get(name, "")) for name in APT_STAGES)
    return tuple(stage for stage in found if stage.keys)


def content(stages: Iterable[Stage]) -> frozenset[str]:
    """The keys of all stages."""
    return frozenset(key for stage in stages for key in stage.keys)


def _stage(name: StageName, packages: Iterable[Locked], own: str = "") -> Stage:
    scripts = _SCRIPTS[name]
    salt = _script_hash("common.sh", "apt.conf", *scripts)
    items = {_key(salt, _identity(each)): each for each in packages}
    return Stage(name, scripts[0], _key(salt, [name, own]) if own else "", items)


def _identity(package: Locked) -> list[object]:
    """What makes it the same package: two indexes may have other files of the same version."""
    return [package.kind, package.name, package.version, package.build, package.source, *package.hashes]


def _key(salt: str, what: object) -> str:
    return hashlib.sha256(json.dumps([salt, what]).encode()).hexdigest()[:12]


@cache
def _script_hash(*names: str) -> str:
    """Of the scripts only those that a stage runs: a change to the last one must not build the first anew."""
    digest = hashlib.sha256()
    for name in names:
        path = STEPS / name
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()
