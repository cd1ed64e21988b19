"""Plans as drawings: complete, in order, and with no way for a name to leave its label."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import graph
from runner.job import Distribution, Objective, Sampling, SweepLimits
from runner.model import Step
from runner.plan import Plan, PlanStep, SweepPlan, Upstream

HOSTILE = (
    'a"]; click s0 "javascript:alert(1)"',
    "x\\",
    "`**b**`",
    "<script>",
    "a\nb",
    "end",
    "#quot;",
    "&lt;",
    "\x1b[2J",
)


def one(
    name: str,
    upstream: dict[str, tuple[str, str]] | None = None,
    *,
    inputs: dict[str, str] | None = None,
    outputs: tuple[str, ...] = ("out",),
    sweep: SweepPlan | None = None,
    reusable: bool = True,
) -> PlanStep:
    step = Step(name, ("true",), inputs=inputs or {}, outputs=dict.fromkeys(outputs))
    links = {key: Upstream(*source) for key, source in (upstream or {}).items()}
    return PlanStep(name, step, links, sweep=sweep, reusable=reusable)


def sweep() -> SweepPlan:
    space = {"lr": Distribution("uniform", low=0.0, high=1.0)}
    return SweepPlan(space, Objective("maximize", "accuracy"), Sampling("random"), SweepLimits(max_total_trials=20))


def sample() -> Plan:
    return Plan(
        steps=(
            one("prepare", inputs={"raw": "/data/raw.csv"}, outputs=("clean", "stats")),
            one("fit.scale", {"data": ("prepare", "clean")}),
            one("report", {"stats": ("prepare", "stats")}, reusable=False, outputs=()),
            one("fit.deep.train", {"start": ("fit.scale", "out"), "stats": ("prepare", "stats")}, sweep=sweep()),
        ),
        outputs={"model": Upstream("fit.deep.train", "out")},
    )


def test_the_tree_names_everything_in_order() -> None:
    assert graph.draw(sample(), "text").splitlines() == [
        "prepare    ← raw: /data/raw.csv  → clean, stats",
        "fit/",
        "  scale    ← data: prepare.clean  → out",
        "  deep/",
        "    train  ← start: fit.scale.out, stats: prepare.stats  → out  [sweep: 20 trials, random, maximize accuracy]",
        "report     ← stats: prepare.stats  [not deterministic]",
        "",
        "output model ← fit.deep.train.out",
    ]


def test_the_tree_of_a_run_says_where_each_step_stands() -> None:
    drawn = graph.draw(sample(), "text", {"prepare": "Completed", "fit.scale": "Failed · OutOfMemory"}).splitlines()
    assert re.fullmatch(r"prepare +Completed +← raw.*", drawn[0])
    assert re.fullmatch(r"  scale +Failed · OutOfMemory  ← data.*", drawn[2])


def test_a_nested_pipeline_stands_after_what_it_needs_though_its_steps_lie_apart() -> None:
    plan = Plan((one("n.a"), one("x"), one("n.b", {"x": ("x", "out")}), one("y", {"b": ("n.b", "out")})))
    names = [line.split()[0] for line in graph.draw(plan, "text").splitlines()]
    assert names == ["x", "n/", "a", "b", "y"]


def test_200_steps_that_meet_in_one_stay_readable() -> None:
    fan = [one(f"part_{n}") for n in range(200)]
    join = one("join", {f"in_{n}": (f"part_{n}", "out") for n in range(200)})
    lines = graph.draw(Plan((*fan, join)), "text").splitlines()
    assert len(lines) == 201
    assert max(map(len, lines)) < 120
    assert lines[-1].endswith("in_3: part_3.out and 196 more  → out")


@pytest.mark.parametrize("form", graph.FORMATS)
def test_ten_thousand_steps_are_drawn(form: str) -> None:
    chain = [one("s0"), *(one(f"s{n}", {"x": (f"s{n - 1}", "out")}) for n in range(1, 10_000))]
    assert len(graph.draw(Plan(tuple(chain)), form).splitlines()) >= 10_000


# -- diagrams ---------------------------------------------------------------------------------------------------------

_LABEL = r'"(?:[^"\\\n]|\\["\\n])*"'
_DOT_LINES = (
    r"digraph plan \{",
    r"node \[shape=box, style=filled, fillcolor=white, fontname=sans\]",
    r"edge \[fontname=sans, fontsize=10\]",
    rf"subgraph cluster_g[0-9_]+ \{{ label={_LABEL}",
    rf"[sdo]\d+ \[label={_LABEL}(, shape=cylinder|, peripheries=2)?\]",
    rf"[sd]\d+ -> [so]\d+ \[label={_LABEL}\]",
    r's\d+ \[fillcolor="#[0-9a-f]{6}"\]',
    r"\}",
)
_QUOTED = r'"(?:[^"#<>`&\\\n]|#\d+;|<br/>)*"'
_MERMAID_LINES = (
    r"flowchart TD",
    rf"s\d+\[{_QUOTED}\]",
    rf"s\d+\[\[{_QUOTED}\]\]",
    rf"[do]\d+\[\({_QUOTED}\)\]",
    rf"[sd]\d+ -->\|{_QUOTED}\| [so]\d+",
    rf"subgraph g[0-9_]+\[{_QUOTED}\]",
    r"end",
    r"classDef [A-Za-z]+ fill:#[0-9a-f]{6},stroke:#555,color:#111",
    r"class s\d+(,s\d+)* [A-Za-z]+",
)


def well_formed(drawn: str, kinds: tuple[str, ...]) -> None:
    """Every line is one of those that we write; a name that left its label would make another."""
    for line in drawn.splitlines():
        assert any(re.fullmatch(kind, line.strip()) for kind in kinds), line


def test_dot_of_the_sample() -> None:
    drawn = graph.draw(sample(), "dot", {"prepare": "Completed"})
    well_formed(drawn, _DOT_LINES)
    assert drawn.count("{") == drawn.count("}") == 3
    for line in (
        's0 -> s1 [label="clean as data"]',
        's0 [label="prepare\\nCompleted"]',
        's3 [label="train\\nsweep: 20 trials, random, maximize accuracy", peripheries=2]',
        'd0 -> s0 [label="raw"]',
        's3 -> o0 [label="out"]',
        's0 [fillcolor="#d7f0dd"]',
    ):
        assert f"  {line}\n" in f"{drawn}\n", line


def test_mermaid_of_the_sample() -> None:
    drawn = graph.draw(sample(), "mermaid", {"prepare": "Completed"})
    well_formed(drawn, _MERMAID_LINES)
    for line in ('s0 -->|"clean as data"| s1', 's0["prepare<br/>Completed"]', 'd0[("raw.csv")]', "class s0 Completed"):
        assert f"  {line}\n" in f"{drawn}\n", line
    assert drawn.count("subgraph ") == drawn.count("\n  end\n") + drawn.count("\n    end\n") == 2


@settings(max_examples=200)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1)), st.text(min_size=1))
def test_no_name_leaves_its_label(name: str, other: str) -> None:
    step = PlanStep(name, Step(name, ("true",), inputs={other: f"/d/{name}"}, outputs={other: None}))
    plan = Plan((step,), outputs={other: Upstream(name, other)})
    well_formed(graph.draw(plan, "dot", {name: other}), _DOT_LINES)
    well_formed(graph.draw(plan, "mermaid", {name: other}), _MERMAID_LINES)
    assert graph.draw(plan, "text", {name: other}).replace("\n", "").isprintable()
