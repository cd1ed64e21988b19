"""`runner image`: the images that runner made. list, show, prune."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner import console
from runner.spec import values
from runner.spec.values import human_age, human_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.builder.stock.images import Layer, Made
    from runner.builder.stock.prune import Plan, Removal, Rules
    from runner.docker_api.stock import Details, Stock

_JSON = typer.Option("--json", help="Print JSON.")
_LAYERS = 5
"""More layers than this are shown as one row by `prune`."""
_IMAGE = typer.Argument(metavar="IMAGE", help="NAME:TAG, a name (its newest), or the unique beginning of an id.")


def list_(
    layers: Annotated[bool, typer.Option("--layers", help="Also the layers that builds go on from.")] = False,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """The images that runner made, newest first."""
    from runner.builder.stock import images
    from runner.docker_api import stock

    with stock.opened() as opened:
        every = opened.images()
        found = images.finished(opened, every)
        below = images.layers(opened, every) if layers else ()
    if json:
        console.result_json({"images": [_with_time(made) for made in found],
                             "layers": [_with_time(layer) for layer in below]})  # fmt: skip
        return
    if found:
        _print_images(found)
    else:
        console.say("", "no images yet; make one: runner build --libs libs.yaml")
    if below:
        console.result()
        console.table(
            ("LAYER", "STAGE", "SIZE", "OWN", "IMAGES", "AGE"),
            [(layer.tag.removeprefix("localhost/"), layer.stage, human_size(layer.image.size_bytes),
              f"+{human_size(layer.own_bytes)}", str(layer.images), _age(layer.image.created)) for layer in below],
        )  # fmt: skip


def _print_images(found: Sequence[Made]) -> None:
    header = ["IMAGE", "LIBRARIES", "SIZE", "BEYOND BASE", "AGE", "BASE", "ALSO"]
    rows = [
        [
            made.shown, str(len(made.libraries)), human_size(made.image.size_bytes),
            "" if made.added_bytes is None else f"+{human_size(made.added_bytes)}", _age(made.image.created),
            made.base.removeprefix("localhost/"), ", ".join(_also(made)),
        ]
        for made in found
    ]  # fmt: skip
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    console.table(header, rows)


def _also(made: Made) -> list[str]:
    """Its other tags, and where it was pushed to or pulled from; of a repository in both, the tag tells enough."""
    others = [tag for tag in made.others if tag.removeprefix("localhost/") != made.shown]
    tagged = {tag.rpartition(":")[0] for tag in made.others}
    return others + [f"{name}@…" for digest in made.image.digests if (name := digest.partition("@")[0]) not in tagged]


def _age(created: float) -> str:
    return human_age(time.time() - created)


def _with_time(found: Made | Layer) -> dict[str, Any]:
    from runner.store import iso

    return {**found.to_json(), "created": iso(found.image.created)}


def show(
    image: Annotated[str, _IMAGE],
    lock: Annotated[bool, typer.Option("--lock", help="Print its lock, as it stood in libs.lock.")] = False,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """What an image holds: versions, libraries, base, lock, and where it was pushed."""
    from runner.builder.stock import images, sides
    from runner.docker_api import stock
    from runner.errors import ImageError

    with stock.opened() as opened:
        made = images.need(opened, image)
        details = opened.details(made.id)
        recorded = sides.manifest(opened, made)
    if lock:
        if recorded is None:
            raise ImageError(f"{made.shown} has no lock: an older runner made it", "build it again", retryable=False)
        console.result(sides.lock_of(recorded, made.shown).to_text().rstrip("\n"))
    elif json:
        console.result_json(_all_of(made, details, recorded))
    else:
        _print_facts(made, details, recorded)
        _print_libraries(made, recorded)


def _all_of(made: Made, details: Details | None, recorded: Mapping[str, Any] | None) -> dict[str, Any]:
    labels = made.image.labels
    return {
        **_with_time(made),
        **_versions(made, recorded),
        "user": details.user if details else None,
        "platform": details.platform if details else None,
        "contract": _number(labels.get("runner.contract")),
        "labels": dict(labels),
        "installed": recorded["installed"] if recorded else None,
        "lock": recorded["lock"] if recorded else None,
    }


def _versions(made: Made, recorded: Mapping[str, Any] | None) -> dict[str, str | None]:
    """Of the interpreters that scripts get: with conda its Python, not the base's."""
    lock = recorded["lock"] if recorded else {}
    labels = made.image.labels
    return {
        "python": lock.get("python") or labels.get("runner.python.version"),
        "r": lock.get("r") or labels.get("runner.r.version"),
    }


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _print_facts(made: Made, details: Details | None, recorded: Mapping[str, Any] | None) -> None:
    labels = made.image.labels
    added = "" if made.added_bytes is None else f", {human_size(made.added_bytes)} beyond its base"
    versions = _versions(made, recorded)
    facts = [
        ("id", made.id),
        ("size", f"{human_size(made.image.size_bytes)}{added}"),
        ("created", f"{console.local_time(made.image.created)}  ({_age(made.image.created)} ago)"),
        ("base", f"{made.base.removeprefix('localhost/')}  {labels.get('runner.base', '')[:19]}".strip()),
        ("python", versions["python"]),
        ("r", versions["r"]),
        ("platform", details.platform if details else ""),
        ("user", details.user if details else ""),
        ("contract", labels.get("runner.contract", "")),
        *(("also", tag) for tag in made.others),
        *(("pushed", digest) for digest in made.image.digests),
    ]
    console.result(console.paint(console.printable(made.shown), "bold"))
    for name, value in facts:
        if value:
            console.result(f"  {name:<10}{console.printable(value)}")


def _print_libraries(made: Made, recorded: Mapping[str, Any] | None) -> None:
    if made.libraries:
        console.result()
        console.table(("  KIND", "LIBRARY", "VERSION"), [(f"  {kind}", *rest) for kind, *rest in made.libraries])
    if recorded is None:
        return
    counts = [f"{len(found)} {kind}" for kind, found in sorted(recorded["installed"].items()) if found]
    console.result()
    console.result(f"  in all {', '.join(counts)} packages: runner image show {made.shown} --lock")


def prune(  # noqa: PLR0917 - the signature is the command line
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only images of this name, and their layers.")
    ] = None,
    keep: Annotated[int, typer.Option(min=0, metavar="N", help="The newest so many of each name stay.")] = 3,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Only images made longer ago: 30d.")
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also layers that only a later build would go on from.")
    ] = False,
    caches: Annotated[bool, typer.Option("--caches", help="Also downloads, and apt's and uv's caches.")] = False,
    all_: Annotated[
        bool,
        typer.Option("--all", help="Also images that were pushed or have a tag of yours; caches of other folders."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[bool, _JSON] = False,
) -> int:
    """Remove images of runner that nothing needs, and their layers. What a run or container uses stays."""
    from runner.builder import cache
    from runner.builder.stock import prune
    from runner.docker_api import stock

    age = None if older_than is None else values.duration(older_than, "--older-than", zero=True)
    rules = prune.Rules(name, keep, age, layers, caches, all_)
    with stock.opened() as opened:
        plan = _planned(opened, rules)
        if not json:
            _print_plan(plan)
        if dry_run or not plan.removals:
            removed = list(plan.removals)
        elif not yes and sys.stdin.isatty() and not _agreed(plan):
            console.say("", "nothing was removed")
            return 1
        else:
            # No build of ours meanwhile. What is needed since the question was asked stays.
            with cache.building(lambda: console.say("prune", "waiting for a build …")):
                still = {each.refs for each in _planned(opened, rules).removals}
                agreed = tuple(each for each in plan.removals if each.refs in still)
                removed = _carried_out(opened, prune.Plan(agreed, plan.kept))
    if json:
        console.result_json(_json_of_prune(removed, plan, dry_run=dry_run))
    elif removed and not dry_run:
        freed = sum(each.bytes or 0 for each in removed)
        console.say("", f"{len(removed)} removed, about {human_size(freed)} free again")
    return 0


def _planned(stock: Stock, rules: Rules) -> Plan:
    from runner.builder.stock import prune
    from runner.store import Store

    store = Store()
    needed = [name for run in store.live() for name in (run.image, run.image_name) if name]
    plan = prune.plan(prune.look(stock, needed), rules)
    return prune.Plan((*plan.removals, *prune.caches(stock, rules)), plan.kept) if rules.caches else plan


def _print_plan(plan: Plan) -> None:
    if plan.removals:
        console.table(("KIND", "NAME", "FREES", "WHY"), _rows(plan.removals))
        console.result(f"{_counted(plan.removals)}, about {human_size(plan.bytes)}")
    else:
        console.say("", "nothing to remove")
    kept = ", ".join(f"{count} {why}" for why, count in plan.kept.items())
    if kept:
        console.say("", f"images that stay: {kept}")


def _rows(removals: Sequence[Removal]) -> list[tuple[str, str, str, str]]:
    """One for each, but only one for many layers, whose names tell nobody anything."""
    rows: list[tuple[str, str, str, str]] = []
    layers = [each for each in removals if each.kind in {"layer", "leftover"}]
    folded = len(layers) > _LAYERS
    for each in removals:
        if not folded or each not in layers:
            rows.append((each.kind, each.shown, "" if each.bytes is None else human_size(each.bytes), each.why))
        elif each is layers[0]:
            size = human_size(sum(one.bytes or 0 for one in layers))
            rows.append(("layers", f"{len(layers)} (--json names them)", size, "no image needs them"))
    return rows


def _counted(removals: Sequence[Removal]) -> str:
    kinds = dict.fromkeys(each.kind for each in removals)
    counts = {kind: sum(1 for each in removals if each.kind == kind) for kind in kinds}
    return ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in counts.items())


def _agreed(plan: Plan) -> bool:
    print(f"remove {_counted(plan.removals)}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _carried_out(stock: Stock, plan: Plan) -> list[Removal]:
    from runner.builder.stock import prune

    removed: list[Removal] = []

    def done(each: Removal, gone: bool) -> None:
        if gone:
            removed.append(each)
            console.say("prune", f"{each.shown} …")
        else:
            console.say("", f"{each.kind} {each.shown} stays: something uses it")

    prune.remove(stock, plan, done)
    return removed


def _json_of_prune(removed: Sequence[Removal], plan: Plan, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "removed": [{"kind": each.kind, "name": each.shown, "refs": [*each.refs], "why": each.why, "bytes": each.bytes}
                    for each in removed],
        "bytes": sum(each.bytes or 0 for each in removed),
        "kept": plan.kept,
    }  # fmt: skip
