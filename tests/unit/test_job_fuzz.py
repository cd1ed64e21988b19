"""Whatever stands in a job file, reading it ends in a Job or in a SpecError, soon: never in a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.errors import SpecError
from runner.job import Graph
from runner.spec.job import load
from runner.spec.job.kinds import COMPONENTS, JOBS, KINDS, NODES
from runner.spec.yamldoc import LARGE_BYTES

RECORDS = (*JOBS.values(), *COMPONENTS.values(), *NODES.values())
KEYS = sorted(
    {key for record in RECORDS for key in record.members} | {"a", "b", "values", "path", "timeout", "libs", "on"}
)
WORDS = [
    *KINDS, "${{parent.inputs.a}}", "${{parent.jobs.a.outputs.b}}", "${{parent.outputs.a}}", "${{inputs.a}}", "${{",
    "$[[", "$[[${{inputs.a}}]]", "uri_file", "integer", "./job.yml", "../x", "azureml:a@b", "azureml://x", "file:",
    "file:a", "x2", "random", "choice", "bandit", "minimize", "--ipc", "1e999", "nan", "-1", "\x00", "é", "\ud800",
    "git+https://a/b",
]  # fmt: skip
words = st.sampled_from(WORDS) | st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | words
names = st.sampled_from(KEYS) | words
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5), max_leaves=25
)


def known(record: object) -> st.SearchStrategy[dict[str, object]]:
    """Mappings that have the members of a record, so that the check of names does not end everything at once."""
    members = sorted(record.members)  # type: ignore[attr-defined]
    return st.dictionaries(st.sampled_from(members), values, max_size=7)


nodes = st.sampled_from([*NODES.values()]).flatmap(known)
pipelines = st.fixed_dictionaries(
    {"type": st.just("pipeline"), "jobs": st.dictionaries(st.sampled_from(["a", "b", "c"]), nodes, max_size=3)},
    optional={
        "inputs": st.dictionaries(st.sampled_from(["a", "b"]), values),
        "outputs": st.dictionaries(words, values),
    },
)
jobs = st.sampled_from([*JOBS.values(), *COMPONENTS.values()]).flatmap(known)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(raw: bytes, *sets: tuple[str, str]) -> None:
    Path("job.yml").write_bytes(raw)
    try:
        done: object = load(Path("job.yml"), sets)
    except SpecError as error:
        done = error
    assert repr(done)


def dumped(data: object) -> bytes:
    return yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass")


fuzz = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


@fuzz
@given(st.text(max_size=100))
def test_any_text(text: str) -> None:
    read(text.encode("utf-8", "surrogatepass"))


@fuzz
@given(st.binary(max_size=60))
def test_any_bytes(raw: bytes) -> None:
    read(raw)


@fuzz
@given(jobs)
@example({"command": "a", "resources": {"docker_args": ["--cpus", "nan"]}})
@example({"command": "a", "inputs": {"a": {"type": "integer", "value": float("inf")}}})
def test_any_job(data: object) -> None:
    read(dumped(data))


@fuzz
@given(pipelines)
def test_any_pipeline(data: object) -> None:
    read(dumped(data))


@fuzz
@given(values)
def test_any_yaml(data: object) -> None:
    read(dumped(data))


@fuzz
@given(pipelines | jobs, st.lists(st.tuples(st.lists(names, max_size=4).map(".".join), words), max_size=3))
def test_any_set(data: object, sets: list[tuple[str, str]]) -> None:
    read(dumped(data), *sets)


# -- hostile and large ----------------------------------------------------------------------------------------------

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{below}'] * 9)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "values once its aliases are expanded"),
        ("a: " + "[" * 100_000, "nested deeper than 50 levels"),
        ("a: " + "{b: " * 300_000, "nested deeper than 50 levels"),
        ("jobs:\n\ta: {}\n", "a tab is used for indentation"),
        ("type: command\ncommand: a\ncommand: b\n", "the key is given twice (first in line 2)"),
        ("x: " + "y" * LARGE_BYTES, "larger than 16 MiB"),
        ("command: '" + "${{" * 100_000 + "'", "a ${{ is not closed"),
        ("command: '" + "$[[" * 100_000 + "'", "a $[[ is not closed"),
        ("command: a\nunknown: " + "- " * 200 + "x\n", "line"),
    ],
)
@pytest.mark.timeout(60)
def test_hostile_files_are_refused_soon(text: str, message: str) -> None:
    Path("job.yml").write_text(text)
    with pytest.raises(SpecError) as caught:
        load(Path("job.yml"))
    assert message in str(caught.value) or message == "line"


def steps(count: int) -> str:
    """A chain, each step with what steps usually have."""
    text = ["type: pipeline\ninputs: {lr: 0.1}\njobs:\n"]
    for number in range(count):
        before = f"${{{{parent.jobs.s{number - 1}.outputs.m}}}}" if number else "{type: uri_folder, path: x}"
        text.append(
            f"  s{number}:\n    command: fit ${{{{inputs.lr}}}} ${{{{outputs.m}}}}\n    environment: azureml:e@latest\n"
            f"    code: ./src\n    inputs:\n      lr: ${{{{parent.inputs.lr}}}}\n      d: {before}\n"
            "    outputs:\n      m: {type: uri_folder}\n    resources: {shm_size: 1g}\n"
        )
    return "".join(text)


def test_steps_load_in_linear_work() -> None:
    """Counted, not timed: what Python calls for a step is the same in a chain ten times as long."""
    calls = {}
    for count in (100, 1_000):
        Path("job.yml").write_text(steps(count))
        with counted() as seen:
            job = load(Path("job.yml"))
        calls[count] = seen["calls"] / count
        assert isinstance(job.component, Graph)
        assert len(job.component.nodes) == count
    assert calls[1_000] < 1.1 * calls[100]


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """How many functions are called in here, C's among them."""
    seen = {"calls": 0}

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        seen["calls"] += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        yield seen
    finally:
        sys.setprofile(None)
