"""What `runner image prune` would remove, by what an engine holds: the plan alone, no engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runner.builder.stock import images
from runner.builder.stock.images import Made
from runner.builder.stock.prune import Rules, World, plan
from runner.docker_api.stock import Stocked
from runner.errors import NotFoundError

NOW = 1_000_000.0
HOUR = 3600.0


def layer(
    identifier: str, parent: str, content: str, *, base: str = "debian", age: float = HOUR, **more: Any
) -> Stocked:
    labels = {"runner.base": base, "runner.content": content, "runner.build": ""}
    return Stocked(
        identifier,
        parent,
        (f"localhost/runner-layer:{identifier}",),
        (),
        labels,
        100 + 10 * len(content.split()),
        NOW - age,
        **more,
    )


def image(
    identifier: str, parent: str, content: str, *, name: str = "churn", age: float = HOUR, tags: tuple[str, ...] = ()
) -> Stocked:
    labels = {
        "runner.base": "debian",
        "runner.content": content,
        "runner.name": name,
        "runner.libs": identifier,
        "runner.build": "",
    }
    own = f"localhost/{name}:{identifier}"
    return Stocked(identifier, parent, (own, *tags), (), labels, 101 + 10 * len(content.split()), NOW - age)


DEBIAN = Stocked("debian", "", ("debian:bookworm-slim",), (), {}, 100, 0.0)
TOOLS = replace(layer("tools", "python", "", base=""), size_bytes=500)


def stock(*more: Stocked) -> list[Stocked]:
    """Four images of one name, each with its own last layer on the same first one; `d` is the newest."""
    found = [DEBIAN, layer("python", "debian", "py"), TOOLS]
    for number, each in enumerate("abcd"):
        found.append(layer(f"layer-{each}", "python", f"py {each}", age=10 * HOUR - number * HOUR))
        found.append(image(each, f"layer-{each}", f"py {each}", age=10 * HOUR - number * HOUR))
    return [*found, *more]


def world(every: list[Stocked], *used: str, leftovers: tuple[Stocked, ...] = ()) -> World:
    finished = [
        Made(each, each.labels["runner.name"], images.own_tag(each),
             tuple(tag for tag in each.tags if tag != images.own_tag(each)), "debian", None, ())
        for each in every if "runner.libs" in each.labels
    ]  # fmt: skip
    finished.sort(key=lambda made: -made.image.created)
    return World(every, finished, leftovers, frozenset(used), NOW)


def going(world: World, **rules: Any) -> list[str]:
    return [each.shown for each in plan(world, Rules(**rules)).removals]


def test_beyond_the_newest_of_a_name_and_the_layers_that_only_they_needed() -> None:
    assert going(world(stock())) == ["churn:a", "runner-layer:layer-a"]
    assert going(world(stock()), keep=1) == [
        "churn:c", "churn:b", "churn:a", "runner-layer:layer-a", "runner-layer:layer-b", "runner-layer:layer-c",
    ]  # fmt: skip


def test_images_go_before_layers_and_layers_before_those_that_they_stand_on() -> None:
    found = going(world(stock()), keep=0)
    assert found[:4] == ["churn:d", "churn:c", "churn:b", "churn:a"]
    assert len(found) == 10
    assert found[-1] == "runner-layer:python"  # the compilers' image and all the others stand on it


def test_each_name_keeps_its_own() -> None:
    assert going(world(stock(image("e", "layer-a", "py a", name="other")))) == ["churn:a"]


def test_what_comes_free_is_counted_once() -> None:
    found = plan(world(stock()), Rules())
    assert [each.bytes for each in found.removals] == [1, 10]
    assert found.bytes == 11
    assert found.kept == {"the newest of their name": 3}


@pytest.mark.parametrize("used", ["a", "localhost/churn:a"])
def test_what_a_container_or_run_uses_stays_with_its_layers(used: str) -> None:
    found = plan(world(stock(), used), Rules(keep=0, all=True, layers=True))
    assert found.kept == {"used by a container or run": 1}
    assert {"churn:a", "runner-layer:layer-a", "runner-layer:python"}.isdisjoint(each.shown for each in found.removals)


def test_a_layer_that_a_build_container_runs_on_stays() -> None:
    assert "runner-layer:layer-a" not in going(world(stock(), "layer-a"), keep=0)


def test_age() -> None:
    assert going(world(stock()), keep=0, older_than=8.5 * HOUR)[:2] == ["churn:b", "churn:a"]
    assert going(world(stock()), keep=0, older_than=30 * HOUR) == []


@pytest.mark.parametrize("tags", [("mine/churn:good",), ("registry.example.org/team/churn:a",)])
def test_an_image_with_a_tag_of_the_users_stays_unless_all(tags: tuple[str, ...]) -> None:
    every = [replace(each, tags=(*each.tags, *tags)) if each.id == "a" else each for each in stock()]
    assert going(world(every)) == []
    removal = plan(world(every), Rules(all=True)).removals[0]
    assert removal.refs == ("localhost/churn:a", *tags)


def test_an_image_that_was_pushed_stays_unless_all() -> None:
    every = [replace(each, digests=("r.example.org/a@sha256:1",)) if each.id == "a" else each for each in stock()]
    assert going(world(every)) == []
    assert going(world(every), all=True) == ["churn:a", "runner-layer:layer-a"]


def test_an_image_that_something_was_made_of_stays() -> None:
    """The engine would take its name only."""
    derived = Stocked("derived", "a", ("mine:1",), (), {}, 200, NOW)
    assert going(world(stock(derived)), keep=0, all=True)[:3] == ["churn:d", "churn:c", "churn:b"]


def test_layers_that_a_later_build_could_go_on_from_stay_unless_asked() -> None:
    side = layer("side", "python", "d")  # holds nothing but what `churn:d` holds
    foreign = layer("foreign", "", "py d", base="ubuntu")
    assert going(world(stock(side, foreign)), keep=4) == ["runner-layer:foreign"]
    assert sorted(going(world(stock(side, foreign)), keep=4, layers=True)) == [
        "runner-layer:foreign", "runner-layer:side", "runner-layer:tools",
    ]  # fmt: skip


def test_a_layer_that_was_just_made_stays() -> None:
    """A build of somebody else is about to go on from it."""
    assert going(world(stock(layer("new", "python", "py x", age=5)))) == ["churn:a", "runner-layer:layer-a"]
    assert "runner-layer:new" in going(world(stock(layer("new", "python", "py x", age=120))))


def test_by_name_only_that_name_and_what_it_was_made_of() -> None:
    stray = layer("stray", "python", "py x")
    left = Stocked("left", "python", (), (), {"runner.build": ""}, 150, NOW - HOUR)
    here = world(stock(stray, left, image("e", "stray", "py x", name="other")), leftovers=(left,))
    assert going(here, keep=0, name="other") == ["other:e", "runner-layer:stray"]
    assert going(world(stock(stray, left), leftovers=(left,)), name="churn") == ["churn:a", "runner-layer:layer-a"]
    assert going(world(stock(stray, left), leftovers=(left,)), keep=4) == ["left", "runner-layer:stray"]


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(NotFoundError, match="no image named 'chrun'") as failed:
        plan(world(stock()), Rules(name="chrun"))
    assert failed.value.hints[0] == "did you mean churn?"


def test_nothing_of_others_is_ever_touched() -> None:
    """An image built on one of runner's inherits its labels, but not its tag."""
    derived = Stocked(
        "derived", "", ("mine:1",), (), {"runner.build": "", "runner.content": "py", "runner.base": "debian"}, 9, 0
    )
    removals = plan(world(stock(derived)), Rules(keep=0, all=True, layers=True)).removals
    assert {"derived", "debian"}.isdisjoint(ref for each in removals for ref in each.refs)
    assert not any(ref in {"mine:1", "debian:bookworm-slim"} for each in removals for ref in each.refs)
