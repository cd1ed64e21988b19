"""Which images of runner nothing needs any more, and their removal. `plan` is pure: it says what would go, and why the rest
stays; `remove` does it, in an order in which nothing is taken from under anything.

Never an image that runner did not make, nor one that a container or a run that has not ended uses. The engine itself refuses
what something stands on.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from runner.builder import cache
from runner.builder.stock import images
from runner.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from runner.builder.stock.images import Made
    from runner.docker_api.stock import Stock, Stocked

KEEP = 3
_JUST_MADE_S = 60.0
"""A build of another user, whose lock we do not see, goes on from the layer that it has just committed."""
_CACHES = "runner-cache-"

Kind = Literal["image", "layer", "leftover", "volume", "download"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What may go. name: only images of this name and their layers. keep: the newest so many of each name stay. older_than:
    seconds; what is younger stays. layers: also those that only a later build would go on from. caches: apt's, uv's and
    downloads. all: also images that have a tag of the user's or were pushed, and the caches of other cache folders."""

    name: str | None = None
    keep: int = KEEP
    older_than: float | None = None
    layers: bool = False
    caches: bool = False
    all: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing to remove. refs: what the engine, or the file system, is told to remove. bytes: what comes free by it, at
    most; None where nobody has counted."""

    kind: Kind
    shown: str
    refs: tuple[str, ...]
    why: str
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """removals: in the order of removal. kept: why → how many finished images stay for it."""

    removals: tuple[Removal, ...]
    kept: dict[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What comes free, as far as it is known."""
        return sum(each.bytes or 0 for each in self.removals)


@dataclass(frozen=True, slots=True)
class World:
    """What is there. used: ids and names of images that containers and runs use. leftovers: see `images.leftovers`."""

    every: Sequence[Stocked]
    finished: Sequence[Made]
    leftovers: Sequence[Stocked]
    used: frozenset[str]
    now: float


def look(stock: Stock, in_use: Iterable[str]) -> World:
    """The world as the engine has it; `in_use`: images (ids or names) that runs of the store need."""
    every = stock.images()
    used = stock.used() | frozenset(in_use)
    return World(every, images.finished(stock, every), images.leftovers(stock, every), used, time.time())


def plan(world: World, rules: Rules) -> Plan:
    """What of the engine's images would go.

    Raises:
        NotFoundError: no image of the name that was asked for.
    """
    chosen = [made for made in world.finished if rules.name in (None, made.name)]
    if rules.name is not None and not chosen:
        from runner.spec.yamldoc import nearest

        near = nearest(rules.name, {made.name for made in world.finished})
        guess = [f"did you mean {near}?"] if near else []
        raise NotFoundError(f"no image named {rules.name!r}", *guess, "see them: runner image list")
    kept: dict[str, int] = {}
    going: list[Made] = []
    counts: dict[str, int] = {}
    for made in chosen:
        counts[made.name] = counts.get(made.name, 0) + 1
        if why := _stays(made, counts[made.name], world, rules):
            kept[why] = kept.get(why, 0) + 1
        else:
            going.append(made)
    sizes = images.own_sizes(world.every)
    removals = [
        Removal("image", made.shown, made.image.tags or (made.id,), _age(world, made.image), sizes[made.id])
        for made in going
    ]
    gone = {made.id for made in going}
    if rules.name is None:
        for each in world.leftovers:
            if each.id not in gone and not _in_use(each, world.used) and world.now - each.created > _JUST_MADE_S:
                removals.append(
                    Removal("leftover", images.short(each.id), (each.id,), "left by a build", sizes[each.id])
                )
                gone.add(each.id)
    removals += [
        Removal(
            "layer", images.layer_name(each).removeprefix("localhost/"), each.tags, "no image needs it", sizes[each.id]
        )
        for each in _layers(world, rules, gone)
    ]
    return Plan(tuple(removals), kept)


def _stays(made: Made, nth: int, world: World, rules: Rules) -> str | None:
    """Why a finished image stays, or None. nth: which of its name it is, the newest being 1."""
    if _in_use(made.image, world.used):
        return "used by a container or run"
    if any(each.parent == made.id for each in world.every):
        return "with another image made of it"
    if nth <= rules.keep:
        return "the newest of their name" if rules.keep > 1 else "the newest of its name"
    if rules.older_than is not None and world.now - made.image.created < rules.older_than:
        return "too young"
    if not rules.all and (made.others or made.image.digests):
        return "pushed or with a tag of yours (--all takes them too)"
    return None


def _in_use(image: Stocked, used: frozenset[str]) -> bool:
    return bool(used & {image.id, *image.tags, *image.digests})


def _layers(world: World, rules: Rules, gone: set[str]) -> list[Stocked]:
    """The layers that may go, those that stand on others first.

    A layer stays where something that stays was made of it, and, without `layers`, where the next build of a finished image
    that stays could go on from it: it holds nothing but what that image holds.
    """
    by_id = {each.id: each for each in world.every}
    layers = [each for each in world.every if images.is_layer(each)]
    if rules.name is not None:
        below = {found for identifier in gone for found in images.ancestors(by_id[identifier], by_id)}
        layers = [each for each in layers if each.id in below]
    else:
        layers = [each for each in layers if world.now - each.created > _JUST_MADE_S]
    candidates = {each.id for each in layers if not _in_use(each, world.used)}
    kept_images = [made.image for made in world.finished if made.id not in gone]
    if not rules.layers:
        useful = {each.id for each in layers if _could_be_added_to(each, kept_images)}
        # The compilers' images hold nothing of an image; they serve all that stand on the same parent.
        useful |= {each.id for each in layers if images.is_compilers(each) and each.parent not in candidates - useful}
        candidates -= useful
    needed: set[str] = set()
    for each in world.every:
        if each.id not in gone and each.id not in candidates:
            needed |= images.ancestors(each, by_id)
    going = [each for each in layers if each.id in candidates - needed]
    return sorted(going, key=lambda each: -len(images.ancestors(each, by_id)))


def _could_be_added_to(layer: Stocked, kept: Iterable[Stocked]) -> bool:
    base, held = images.base_of(layer), images.content(layer)
    return bool(base) and any(base == images.base_of(each) and held <= images.content(each) for each in kept)


def _age(world: World, image: Stocked) -> str:
    from runner.spec.values import human_age

    return f"{human_age(world.now - image.created)} old"


def caches(stock: Stock, rules: Rules) -> list[Removal]:
    """The caches that may go: the volumes and downloads of this cache folder; with `all` the volumes of others too."""
    prefix = _CACHES if rules.all else cache.volume("")
    sizes = stock.volume_sizes()
    found = [
        Removal("volume", name, (name,), f"{name.rsplit('-', 1)[-1]}'s downloads", sizes.get(name))
        for name in stock.volumes(prefix)
    ]
    return found + [
        Removal("download", folder.name, (str(folder),), f"in {folder.parent}", _size(folder))
        for folder in cache.downloads()
    ]


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def remove(stock: Stock, plan: Plan, done: Callable[[Removal, bool], None]) -> None:
    """Carry out a plan; `done` hears of each removal whether it went, or something has come to use it meanwhile."""
    for each in plan.removals:
        match each.kind:
            case "volume":
                gone = stock.remove_volume(each.refs[0])
            case "download":
                shutil.rmtree(each.refs[0], ignore_errors=True)
                gone = True
            case _:
                gone = min([stock.remove_image(ref) for ref in each.refs])
        done(each, gone)


def space(stock: Stock) -> tuple[int, int]:
    """(finished images and layers, their bytes beyond the bases): for a glance, without looking at each."""
    every = stock.images()
    own = [each for each in every if images.is_layer(each) or images.own_tag(each)]
    sizes = images.own_sizes(every)
    return len(own), sum(sizes[each.id] for each in own)
