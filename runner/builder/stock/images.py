"""The images that runner made, as the engine has them: found, listed, described. Changes nothing.

Which image is runner's is told by its tag, which holds the hash in its label, or by the comment of its commit: labels
alone are inherited by whatever somebody builds on it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.builder.recipe import LAYER_NAME
from runner.errors import ImageError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.docker_api.stock import Details, Stock, Stocked

_LIBS_LABEL = "runner.libs"
_NAME_LABEL = "runner.name"
_BASE_LABEL = "runner.base"
_CONTENT_LABEL = "runner.content"
_COMMENT = "runner: "
"""What the comment of every commit of runner begins with; `runner: verified` is a finished image."""
_SHORTEST_ID = 4


@dataclass(frozen=True, slots=True)
class Made:
    """A finished image. shown: what to call it: its own tag, else another, else the id's beginning.

    tag: its own, `localhost/NAME:HASH`; None where only other names are left. others: further tags. added_bytes: beyond its
    base; None where the engine does not have the base any more.
    """

    image: Stocked
    name: str
    tag: str | None
    others: tuple[str, ...]
    base: str
    added_bytes: int | None
    libraries: tuple[tuple[str, str, str], ...]

    @property
    def id(self) -> str:
        """`sha256:…`."""
        return self.image.id

    @property
    def shown(self) -> str:
        """What to call it."""
        return (self.tag or next(iter(self.others), "") or short(self.id)).removeprefix("localhost/")

    def to_json(self) -> dict[str, Any]:
        """As documented in docs/json.md, without what only `show` has."""
        return {
            "id": self.id, "name": self.name, "tag": self.tag, "tags": [*self.image.tags], "digests": [*self.image.digests],
            "base": self.base, "size_bytes": self.image.size_bytes, "added_bytes": self.added_bytes,
            "created": self.image.created,
            "libraries": [dict(zip(("kind", "name", "version"), each, strict=True)) for each in self.libraries],
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """An intermediate image. stage: what it added. own_bytes: beyond the image that it stands on. images: how many finished
    ones were made of it."""

    image: Stocked
    tag: str
    stage: str
    own_bytes: int
    images: int

    def to_json(self) -> dict[str, Any]:
        """As documented in docs/json.md."""
        return {
            "id": self.image.id, "tag": self.tag, "stage": self.stage, "size_bytes": self.image.size_bytes,
            "own_bytes": self.own_bytes, "images": self.images, "created": self.image.created,
        }  # fmt: skip


def short(identifier: str) -> str:
    """The beginning of an id that people use."""
    return identifier.removeprefix("sha256:")[:12]


def own_tag(image: Stocked) -> str | None:
    """The tag that a build gave it, if it still has it."""
    name, content = image.labels.get(_NAME_LABEL), image.labels.get(_LIBS_LABEL)
    wanted = f"localhost/{name}:{content}"
    return wanted if content and wanted in image.tags else None


def is_layer(image: Stocked) -> bool:
    """Whether it is an intermediate image of the builder."""
    return any(tag.startswith(LAYER_NAME) for tag in image.tags)


def content(image: Stocked) -> frozenset[str]:
    """The keys that it holds (see builder/stages.py)."""
    return frozenset(image.labels.get(_CONTENT_LABEL, "").split())


def base_of(image: Stocked) -> str:
    """The id of its base, "" where it does not tell."""
    return image.labels.get(_BASE_LABEL, "")


def is_compilers(image: Stocked) -> bool:
    """Whether it is a layer beside the chain, in which R packages are compiled: of no base, and holding nothing."""
    return image.labels.get(_CONTENT_LABEL) == "" and not base_of(image)


def finished(stock: Stock, images: Sequence[Stocked]) -> tuple[Made, ...]:
    """The finished images among all of an engine, newest first."""
    by_id = {each.id: each for each in images}
    found = []
    for image in images:
        if not image.labels.get(_LIBS_LABEL) or is_layer(image):
            continue
        if own_tag(image) is None and _comment(stock, image) != f"{_COMMENT}verified":
            continue
        found.append(_made(image, by_id))
    return tuple(sorted(found, key=lambda each: each.image.created, reverse=True))


def layers(stock: Stock, images: Sequence[Stocked]) -> tuple[Layer, ...]:
    """The layers among all images of an engine, newest first."""
    by_id = {each.id: each for each in images}
    sizes = own_sizes(images)
    below = [ancestors(made.image, by_id) for made in finished(stock, images)]
    found = [
        Layer(each, layer_name(each), _comment(stock, each).removeprefix(_COMMENT), sizes[each.id],
              sum(each.id in ids for ids in below))
        for each in images
        if is_layer(each)
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: each.image.created, reverse=True))


def layer_name(image: Stocked) -> str:
    """The tag by which builds find a layer."""
    return next(tag for tag in image.tags if tag.startswith(LAYER_NAME))


def ancestors(image: Stocked, by_id: Mapping[str, Stocked]) -> frozenset[str]:
    """The ids of all images that an image was made of, as far as the engine knows."""
    found: set[str] = set()
    current = by_id.get(image.parent)
    while current is not None and current.id not in found:
        found.add(current.id)
        current = by_id.get(current.parent)
    return frozenset(found)


def own_sizes(every: Iterable[Stocked]) -> dict[str, int]:
    """id → the bytes of its own layers: beyond its parent's, or its base's where the parent is not known."""
    by_id = {each.id: each for each in every}
    sizes = {}
    for each in by_id.values():
        below = by_id.get(each.parent) or by_id.get(base_of(each))
        sizes[each.id] = max(0, each.size_bytes - (below.size_bytes if below else 0))
    return sizes


def leftovers(stock: Stock, images: Sequence[Stocked]) -> tuple[Stocked, ...]:
    """Layers of runner without a name that nothing stands on: what a replaced or broken build left."""
    parents = {each.parent for each in images}
    return tuple(
        each
        for each in images
        if not each.tags and not each.digests and each.id not in parents and "runner.build" in each.labels
        and _comment(stock, each).startswith(_COMMENT)
    )  # fmt: skip


def _comment(stock: Stock, image: Stocked) -> str:
    found = stock.details(image.id)
    return found.comment if found else ""


def _made(image: Stocked, by_id: Mapping[str, Stocked]) -> Made:
    tag = own_tag(image)
    base = by_id.get(base_of(image))
    try:
        libraries = tuple((str(kind), str(name), str(version)) for kind, name, version in
                          json.loads(image.labels.get("runner.libraries", "[]")))  # fmt: skip
    except ValueError:
        libraries = ()
    return Made(
        image,
        image.labels.get(_NAME_LABEL, ""),
        tag,
        tuple(sorted(each for each in image.tags if each != tag)),
        image.labels.get("runner.base.name", ""),
        max(0, image.size_bytes - base.size_bytes) if base else None,
        libraries,
    )


def find(stock: Stock, reference: str) -> Made | None:
    """The finished image that a user means: a tag or digest, a name (its newest), or a unique beginning of id or hash.

    Raises:
        NotFoundError: the beginning of more than one.
    """
    every = finished(stock, stock.images())
    for made in every:
        if {reference, f"localhost/{reference}"} & {*made.image.tags, *made.image.digests, made.id}:
            return made
    for made in every:  # the newest goes first
        if reference.removeprefix("localhost/") == made.name:
            return made
    fitting = [made for made in every if _begins(made, reference)]
    if len(fitting) > 1:
        names = ", ".join(made.shown for made in fitting[:5])
        raise NotFoundError(f"{reference!r} is the beginning of more than one image: {names}", "type more of it")
    return fitting[0] if fitting else None


def _begins(made: Made, reference: str) -> bool:
    identifier = reference.removeprefix("sha256:")
    if len(identifier) >= _SHORTEST_ID and made.id.removeprefix("sha256:").startswith(identifier):
        return True
    name, colon, beginning = reference.removeprefix("localhost/").rpartition(":")
    tag = (made.tag or "").rpartition(":")[2]
    return bool(colon and beginning) and name == made.name and tag.startswith(beginning)


def need(stock: Stock, reference: str) -> Made:
    """As `find`.

    Raises:
        NotFoundError: there is none. ImageError: there is, but runner did not make it.
    """
    if made := find(stock, reference):
        return made
    if details(stock, reference) is None:
        raise no_such(stock, reference)
    raise ImageError(
        f"{reference} was not made by runner, so it has no record of what it holds",
        f"to look into it: runner libs diff {reference} local",
        retryable=False,
    )


def details(stock: Stock, reference: str) -> Details | None:
    """What the engine tells of any image; `localhost/` may be left out, as everywhere."""
    return stock.details(reference) or stock.details(f"localhost/{reference}")


def no_such(stock: Stock, reference: str) -> NotFoundError:
    """The error for an image that is not there, with the nearest name."""
    from runner.spec.yamldoc import nearest

    near = nearest(reference, _names(finished(stock, stock.images())))
    hints = [f"did you mean {near}?"] if near else []
    return NotFoundError(f"no image {reference!r} on the engine", *hints, "see them: runner image list")


def _names(every: Iterable[Made]) -> list[str]:
    return [name for made in every for name in (made.name, made.shown)]
