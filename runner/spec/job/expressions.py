"""The expressions of Azure ML's YAML: `${{ … }}`, which stands for a value, and `$[[ … ]]`, which is dropped whole where an
optional input in it is not given. Pure: found and checked here; values are put in by the composer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from collections.abc import Set as AbstractSet

_EXPRESSION = re.compile(r"\$\{\{([^{}]*)\}\}")
_OPENED = re.compile(r"\$\{\{")
_INPUT = re.compile(r"inputs\.([A-Za-z0-9_.-]+)")
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*"
_PARENT_INPUT = re.compile(rf"parent\.inputs\.({_NAME})")
_PARENT_JOB = re.compile(rf"parent\.jobs\.([A-Za-z0-9_-]+)\.outputs\.({_NAME})")
_PARENT_OUTPUT = re.compile(rf"parent\.outputs\.({_NAME})")
PLACES = ("name", "output_name", "default_datastore", "run_id", "output")
"""What may stand in the path of an output."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with an expression."""

    message: str
    hints: tuple[str, ...] = ()


def find(text: str) -> tuple[str, ...]:
    """The content of each `${{ … }}` in a text, in order."""
    return tuple(body.strip() for body in _EXPRESSION.findall(text)) if "${{" in text else ()


def alone(text: str) -> str | None:
    """The content of a text that is one expression and nothing else; None for any other."""
    found = _EXPRESSION.fullmatch(text.strip()) if "${{" in text else None
    return found[1].strip() if found else None


def replaced(text: str, value: Callable[[str], str | None]) -> str:
    """The text with each `${{ … }}` replaced by what `value` gives for its content; None leaves it as it is."""
    if "${{" not in text:
        return text
    return _EXPRESSION.sub(lambda found: found[0] if (new := value(found[1].strip())) is None else new, text)


def parent_input(expression: str) -> str | None:
    """NAME of `parent.inputs.NAME`."""
    found = _PARENT_INPUT.fullmatch(expression)
    return found[1] if found else None


def parent_job(expression: str) -> tuple[str, str] | None:
    """(JOB, NAME) of `parent.jobs.JOB.outputs.NAME`."""
    found = _PARENT_JOB.fullmatch(expression)
    return (found[1], found[2]) if found else None


def parent_output(expression: str) -> str | None:
    """NAME of `parent.outputs.NAME`."""
    found = _PARENT_OUTPUT.fullmatch(expression)
    return found[1] if found else None


def optional(text: str, given: frozenset[str] | set[str]) -> str:
    """Resolve the `$[[ … ]]`: each keeps its content where all inputs in it are given, and is dropped where one is not."""
    return "".join(part for part, block in _parts(text) if not block or given.issuperset(_inputs(part)))


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """(text, whether it is the content of a `$[[ … ]]`), in order. A loop: a pattern takes the square of the length where
    many are opened and none is closed."""
    start = 0
    while (opened := text.find("$[[", start)) >= 0 and (closed := text.find("]]", opened)) >= 0:
        yield text[start:opened], False
        yield text[opened + 3 : closed], True
        start = closed + 2
    yield text[start:], False


def unclosed(text: str) -> Iterator[Wrong]:
    """Expressions that are opened and not closed, and `$[[` likewise."""
    if len(_OPENED.findall(text)) > len(_EXPRESSION.findall(text)):
        yield Wrong("a ${{ is not closed", ("expected ${{…}}, without braces in it",))
    if any("$[[" in part for part, block in _parts(text) if not block):
        yield Wrong("a $[[ is not closed", ("expected $[[…]]",))


def check_command(text: str, known: Mapping[str, Collection[str]], optionals: AbstractSet[str]) -> Iterator[Wrong]:
    """What is wrong with the expressions in a command or argument.

    Args:
        known: `inputs`, `outputs` and `search_space` → their names.
        optionals: those inputs that need not be given, which alone make a `$[[ … ]]` sensible.
    """
    if "$" not in text:
        return
    yield from unclosed(text)
    for body in find(text):
        yield from _check_one(body, known)
    for part, block in _parts(text):
        for name in _inputs(part) if block else ():
            if name in known["inputs"] and name not in optionals:
                message = f"$[[…]] holds ${{{{inputs.{name}}}}}, which is not optional"
                yield Wrong(message, (f"write `optional: true` at the input {name}, or leave out the $[[ ]]",))


def _inputs(text: str) -> tuple[str, ...]:
    """The inputs that a text names."""
    return tuple(name[1] for body in find(text) if (name := _INPUT.fullmatch(body)))


def needed(text: str) -> AbstractSet[str]:
    """The inputs that a command cannot do without: those outside of `$[[ … ]]`."""
    return frozenset(name for part, block in _parts(text) if not block for name in _inputs(part))


def named(text: str) -> AbstractSet[str]:
    """The inputs that a text names, wherever."""
    return frozenset(_inputs(text))


def _check_one(body: str, known: Mapping[str, Collection[str]]) -> Iterator[Wrong]:
    kind, dot, name = body.partition(".")
    if kind not in known or not dot:
        yield _unknown(body, [f"{each}.{one}" for each, names in known.items() for one in names] or ["inputs.NAME"])
    elif name not in known[kind]:
        have = ", ".join(known[kind]) or "none"
        near = nearest(name, known[kind])
        hint = f"did you mean ${{{{{kind}.{near}}}}}?" if near else f"there are: {have}"
        yield Wrong(f"${{{{{body}}}}} names no {_SINGULAR[kind]}", (hint,))


_SINGULAR = {"inputs": "input", "outputs": "output", "search_space": "entry of search_space"}


def _unknown(body: str, candidates: Collection[str]) -> Wrong:
    bare = body.removeprefix("parent.")
    near = bare if bare in candidates else nearest(body, candidates)
    hint = f"did you mean ${{{{{near}}}}}?" if near else "expected ${{inputs.NAME}} or ${{outputs.NAME}}"
    return Wrong(f"${{{{{body}}}}} is not known here", (hint,))


def check_place(text: str) -> Iterator[Wrong]:
    """What is wrong with the expressions in the path of an output."""
    yield from unclosed(text)
    for body in find(text):
        if body in PLACES or body.startswith(("parent.", "inputs.", "outputs.")):
            continue
        near = nearest(body, PLACES)
        hint = f"did you mean ${{{{{near}}}}}?" if near else f"known: {', '.join(PLACES[:3])}"
        yield Wrong(f"${{{{{body}}}}} is not known in a path", (hint,))


def check_binding(body: str) -> Wrong | None:
    """What is wrong with an expression in the inputs of a step; None: it has the right form."""
    if parent_input(body) or parent_job(body):
        return None
    forms = "expected ${{parent.inputs.NAME}} or ${{parent.jobs.STEP.outputs.NAME}}"
    words = body.split(".")
    if words[0] in {"inputs", "jobs", "outputs"}:
        return Wrong(f"${{{{{body}}}}} is not known here", (f"did you mean ${{{{parent.{body}}}}}?", forms))
    right = ("parent", "inputs", "jobs", "outputs")
    guess = ".".join(nearest(word, right) or word if place != 2 else word for place, word in enumerate(words))
    near = (f"did you mean ${{{{{guess}}}}}?",) if guess != body else ()
    return Wrong(f"${{{{{body}}}}} is not known here", (*near, forms))
