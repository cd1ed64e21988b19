"""Pipelines by themselves: order, bindings, failures, cancels, nesting, reuse, a restart in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.azureml import names
from tests.emulators.azureml.tests.bench import Bench

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, image: str) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("emu"), image).start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _default_profile(bench: Bench) -> Iterator[None]:
    yield
    bench.profile.reset()


def node(component: str, **members: Any) -> dict[str, Any]:
    return {"type": "command", "componentId": component, **members}


def lit(value: str) -> dict[str, str]:
    return {"value": value, "job_input_type": "literal"}


def children(bench: Bench, run_id: str) -> dict[str, dict[str, Any]]:
    return {run["_node"]: run for run in bench.state.list("run", parentRunId=run_id)}


FOLDER = {"type": "uri_folder"}


def test_data_passes_between_steps_in_order(bench: Bench) -> None:
    made = bench.component(
        "make",
        "echo ${{inputs.word}} > ${{outputs.out}}/w",
        inputs={"word": {"type": "string"}},
        outputs={"out": FOLDER},
    )
    used = bench.component(
        "use",
        "cat ${{inputs.data}}/w > ${{outputs.final}}/f; echo ${{inputs.n}}$[[ ${{inputs.opt}}]]; echo $AZUREML_ROOT_RUN_ID",
        inputs={
            "data": FOLDER,
            "n": {"type": "integer", "default": 7},
            "opt": {"type": "string", "optional": True},
        },
        outputs={"final": FOLDER},
    )
    name = bench.begin(
        bench.pipeline(
            {
                "b": node(
                    used,
                    inputs={"data": lit("${{parent.jobs.a.outputs.out}}")},
                    outputs={"final": {"value": "${{parent.outputs.all}}", "type": "literal"}},
                ),
                "a": node(made, inputs={"word": lit("${{parent.inputs.text}}")}, display_name="first"),
            },
            inputs={"text": {"jobInputType": "literal", "value": "hello"}},
            outputs={
                "all": {
                    "jobOutputType": "uri_folder",
                    "uri": "azureml://datastores/workspaceblobstore/paths/p/${{name}}/",
                }
            },
        )
    )
    run = bench.ended(name)
    assert (run["status"], run["error"]) == ("Completed", None)
    steps = children(bench, name)
    assert (steps["a"]["displayName"], steps["b"]["displayName"]) == ("first", "b")
    assert steps["a"]["endTimeUtc"] <= steps["b"]["startTimeUtc"]
    assert steps["a"]["rootRunId"] == name
    assert bench.log(steps["b"]["runId"]) == f"7\n{name}\n".encode()
    assert bench.output(name, "all", "f") == b"hello\n"
    assert bench.blobs.read(names.CONTAINERS["workspaceblobstore"], f"p/{name}/f") == b"hello\n"
    assert steps["a"]["runId"].encode() in bench.log(name, "logs/azureml/executionlogs.txt")


def test_what_needs_the_failed_step_is_not_run(bench: Bench) -> None:
    fails = bench.component("fails", "exit 3", outputs={"out": FOLDER})
    needs = bench.component("needs", "true", inputs={"x": FOLDER})
    alone = bench.component("alone", "true")
    nodes = {
        "bad": node(fails),
        "after": node(needs, inputs={"x": lit("${{parent.jobs.bad.outputs.out}}")}),
        "alone": node(alone),
    }
    name = bench.begin(
        bench.pipeline(nodes, settings={"default_compute": "cpu-cluster", "continue_on_step_failure": True})
    )
    run = bench.ended(name)
    assert run["status"] == "Failed"
    assert "Failed nodes: /bad." in run["error"]["error"]["message"]
    assert {key: one["status"] for key, one in children(bench, name).items()} == {"bad": "Failed", "alone": "Completed"}


def test_a_failure_ends_the_others_unless_they_may_go_on(bench: Bench) -> None:
    slow = bench.component("slow", "echo on; sleep 100")
    fails = bench.component("fails-later", "while [ ! -e go ]; do sleep 0.05; done; exit 1")
    bench.profile.change({"cancel_grace_s": 1})
    name = bench.begin(bench.pipeline({"slow": node(slow), "bad": node(fails)}))
    bench.until(lambda: [one["status"] for one in children(bench, name).values()] == ["Running"] * 2, "both run")
    (bench.folder / "work" / children(bench, name)["bad"]["runId"] / "wd" / "go").touch()
    assert bench.ended(name)["status"] == "Failed"
    assert {key: one["status"] for key, one in children(bench, name).items()} == {"slow": "Canceled", "bad": "Failed"}


def test_a_cancel_reaches_every_step(bench: Bench) -> None:
    bench.profile.change({"cancel_grace_s": 1})
    slow = bench.component("slow-out", "echo on; sleep 100", outputs={"o": FOLDER})
    needs = bench.component("needs", "true", inputs={"x": FOLDER})
    nodes = {"s": node(slow), "t": node(needs, inputs={"x": lit("${{parent.jobs.s.outputs.o}}")})}
    name = bench.begin(bench.pipeline(nodes))
    bench.until(lambda: children(bench, name) and bench.log(children(bench, name)["s"]["runId"]), "it runs")
    bench.execution.cancel(name)
    assert bench.run(name)["status"] == "CancelRequested"
    assert bench.ended(name)["status"] == "Canceled"
    assert {key: one["status"] for key, one in children(bench, name).items()} == {"s": "Canceled"}


def test_a_pipeline_within_a_pipeline(bench: Bench) -> None:
    made = bench.component(
        "make",
        "echo ${{inputs.word}} > ${{outputs.out}}/w",
        inputs={"word": {"type": "string"}},
        outputs={"out": FOLDER},
    )
    shown = bench.component("show", "cat ${{inputs.x}}/w", inputs={"x": FOLDER})
    inner = bench.registered(
        "inner",
        {
            "type": "pipeline",
            "inputs": {"p": {"type": "string"}},
            "outputs": {"res": FOLDER},
            "jobs": {
                "one": node(
                    made,
                    inputs={"word": lit("${{parent.inputs.p}}")},
                    outputs={"out": {"value": "${{parent.outputs.res}}", "type": "literal"}},
                )
            },
        },
    )
    nodes = {
        "n": {"type": "pipeline", "componentId": inner, "inputs": {"p": lit("deep")}},
        "s": node(shown, inputs={"x": lit("${{parent.jobs.n.outputs.res}}")}),
    }
    name = bench.begin(bench.pipeline(nodes))
    assert bench.ended(name)["status"] == "Completed", bench.run(name)["error"]
    steps = children(bench, name)
    assert bench.log(steps["s"]["runId"]) == b"deep\n"
    assert children(bench, steps["n"]["runId"])["one"]["rootRunId"] == name


def test_a_step_that_ran_before_is_reused_if_the_service_does_that(bench: Bench) -> None:
    bench.profile.change({"reuse": True})
    once = bench.component("once", "date +%N > ${{outputs.o}}/t", outputs={"o": FOLDER})
    always = bench.component("always", "cat ${{inputs.x}}/t", inputs={"x": FOLDER}, is_deterministic=False)
    nodes = {"o": node(once), "a": node(always, inputs={"x": lit("${{parent.jobs.o.outputs.o}}")})}
    first = bench.begin(bench.pipeline(nodes))
    assert bench.ended(first)["status"] == "Completed"
    second = bench.begin(bench.pipeline(nodes))
    assert bench.ended(second)["status"] == "Completed"
    before, after = children(bench, first), children(bench, second)
    assert after["o"]["properties"]["azureml.isreused"] == "true"
    assert after["o"]["properties"]["azureml.reusedrunid"] == before["o"]["runId"]
    assert "azureml.isreused" not in after["a"]["properties"]
    assert bench.log(after["a"]["runId"]) == bench.log(before["a"]["runId"]) != b""


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ({"x": {"type": "spark", "componentId": "c"}}, "spark"),
        ({"x": {"type": "command"}}, "no component"),
        ({"x": {"type": "command", "componentId": names.arm("components", "nope", "versions", "1")}}, "nope"),
        ({"x": node("NEEDS", inputs={})}, "required inputs x"),
        ({"x": node("NEEDS", inputs={"x": lit("${{parent.inputs.gone}}")})}, "parent.inputs.gone"),
        ({"x": node("NEEDS", inputs={"x": lit("${{parent.jobs.y.outputs.o}}")})}, "no node y"),
        (
            {
                "x": node("BOTH", inputs={"x": lit("${{parent.jobs.y.outputs.o}}")}),
                "y": node("BOTH", inputs={"x": lit("${{parent.jobs.x.outputs.o}}")}),
            },
            "each other",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(bench: Bench, nodes: dict[str, Any], said: str) -> None:
    there = {
        "NEEDS": bench.component("needs", "true", inputs={"x": FOLDER}),
        "BOTH": bench.component("both", "true", inputs={"x": FOLDER}, outputs={"o": FOLDER}),
    }
    for one in nodes.values():
        if "componentId" in one:
            one["componentId"] = there.get(one["componentId"], one["componentId"])
    error = bench.execution.check(bench.pipeline(nodes))
    assert error is not None
    assert said in error.message


def test_a_pipeline_outlives_the_emulator(tmp_path: Path, image: str) -> None:
    first = Bench(tmp_path, image).start()
    waits = "while [ ! -e go ]; do sleep 0.05; done; echo w > ${{outputs.o}}/w"
    a = first.component("a", "echo a > ${{outputs.o}}/w", outputs={"o": FOLDER})
    b = first.component("b", waits, inputs={"x": FOLDER}, outputs={"o": FOLDER})
    c = first.component("c", "cat ${{inputs.x}}/w ${{inputs.y}}/w", inputs={"x": FOLDER, "y": FOLDER})
    of_a, of_b = lit("${{parent.jobs.a.outputs.o}}"), lit("${{parent.jobs.b.outputs.o}}")
    nodes = {"a": node(a), "b": node(b, inputs={"x": of_a}), "c": node(c, inputs={"x": of_a, "y": of_b})}
    name = first.begin(first.pipeline(nodes))
    first.until(lambda: children(first, name).get("b", {}).get("status") == "Running", "the second step runs")
    first.stop(keep=True)
    second = Bench(tmp_path, image).start()
    try:
        second.execution.resume()
        step = children(second, name)["b"]["runId"]
        (tmp_path / "work" / step / "wd" / "go").touch()
        assert second.ended(name)["status"] == "Completed", second.run(name)["error"]
        steps = children(second, name)
        assert steps["b"]["runId"] == step
        assert second.log(steps["c"]["runId"]) == b"a\nw\n"
    finally:
        second.stop()
