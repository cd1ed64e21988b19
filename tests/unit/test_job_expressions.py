"""Expressions in job files: found, checked, and the optional blocks resolved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.spec.job.expressions import (
    alone,
    check_binding,
    check_command,
    check_place,
    find,
    needed,
    optional,
    parent_input,
    parent_job,
    parent_output,
)

KNOWN = {"inputs": ["data", "depth"], "outputs": ["model"]}


def wrong(text: str) -> list[tuple[str, ...]]:
    return [(each.message, *each.hints) for each in check_command(text, KNOWN, {"depth"})]


def test_found_in_order_with_or_without_spaces() -> None:
    assert find("a ${{ inputs.x }} $b ${{outputs.y}}") == ("inputs.x", "outputs.y")
    assert alone(" ${{parent.inputs.x}}\n") == "parent.inputs.x"
    assert alone("x${{parent.inputs.x}}") is None
    assert alone("${{a}}${{b}}") is None


@pytest.mark.parametrize(
    ("text", "given_", "left"),
    [
        ("run $[[--depth ${{inputs.depth}}]] end", set(), "run  end"),
        ("run $[[--depth ${{inputs.depth}}]] end", {"depth"}, "run --depth ${{inputs.depth}} end"),
        ("$[[${{inputs.a}} ${{inputs.b}}]]", {"a"}, ""),
        ("$[[a\nb ${{inputs.a}}]]", {"a"}, "a\nb ${{inputs.a}}"),
        ("[[ $x ]] && $[[inputs.x]]", set(), "[[ $x ]] && inputs.x"),
    ],
)
def test_optional_blocks(text: str, given_: set[str], left: str) -> None:
    assert optional(text, given_) == left


@given(st.text(alphabet="$[]{}ab. inputs", max_size=60), st.sets(st.sampled_from(["a", "b"])))
def test_a_text_without_blocks_stays_and_blocks_go(text: str, names: set[str]) -> None:
    done = optional(text, names)
    assert done == text if "$[[" not in text else len(done) <= len(text)


def test_what_a_command_cannot_do_without() -> None:
    assert needed("${{inputs.a}} $[[${{inputs.b}}]] ${{outputs.c}}") == {"a"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("${{inputs.dta}}", "${{inputs.dta}} names no input", "did you mean ${{inputs.data}}?"),
        ("${{outputs.x}}", "${{outputs.x}} names no output", "there are: model"),
        ("${{input.data}}", "${{input.data}} is not known here", "did you mean ${{inputs.data}}?"),
        ("${{parent.inputs.data}}", "${{parent.inputs.data}} is not known here", "did you mean ${{inputs.data}}?"),
        (
            "${{search_space.z}}",
            "${{search_space.z}} is not known here",
            "expected ${{inputs.NAME}} or ${{outputs.NAME}}",
        ),
        ("${{inputs.data}", "a ${{ is not closed", "expected ${{…}}, without braces in it"),
        ("$[[${{inputs.depth}}", "a $[[ is not closed", "expected $[[…]]"),
        (
            "$[[${{inputs.data}}]]",
            "$[[…]] holds ${{inputs.data}}, which is not optional",
            "write `optional: true` at the input data, or leave out the $[[ ]]",
        ),
    ],
)
def test_slips_in_a_command(text: str, message: str, hint: str) -> None:
    assert wrong(text) == [(message, hint)]


def test_what_bash_means_is_left_alone() -> None:
    assert wrong("echo ${HOME} $(date) ${x:-{}} [[ $a ]] ${{inputs.data}} $[[${{inputs.depth}}]]") == []


def test_bindings() -> None:
    assert parent_input("parent.inputs.group.x") == "group.x"
    assert parent_job("parent.jobs.a-1.outputs.b") == ("a-1", "b")
    assert parent_output("parent.outputs.y") == "y"
    assert check_binding("parent.jobs.a.outputs.b") is None
    slip = check_binding("inputs.x")
    assert slip is not None
    assert slip.hints[0] == "did you mean ${{parent.inputs.x}}?"
    slip = check_binding("parent.job.a.output.b")
    assert slip is not None
    assert slip.hints[0] == "did you mean ${{parent.jobs.a.outputs.b}}?"


def test_places() -> None:
    assert list(check_place("azureml://datastores/${{default_datastore}}/paths/${{name}}/${{output_name}}")) == []
    assert [each.hints for each in check_place("${{nme}}")] == [("did you mean ${{name}}?",)]
