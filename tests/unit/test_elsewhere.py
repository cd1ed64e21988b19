"""Preparing for a backend elsewhere: what is passed on as it is, what is refused, where images go; nothing runs anywhere."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import CapabilityError, SpecError, UnavailableError, UsageError
from runner.job import Environment
from runner.model import Limits, Outcome, Reason, Remote, RetryPolicy, Status, Step
from runner.plan import Plan, PlanStep
from runner.run import Run
from runner.spec import config as configuration
from runner.store import Store
from runner.submission import accepting, choices, images
from runner.submission.accepting import preview
from runner.submission.job import JobRequest, loaded
from runner.submission.job import prepare as prepare_job
from runner.submission.resuming import resumed
from runner.submission.script import Request, prepare
from tests.plans import PlanMemoryBackend, accept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.store import RunRow
    from runner.submission.accepting import Prepared

BACKEND = "elsewhere"
SCHEMA = "$schema: https://azuremlschemas.azureedge.net/latest/{}Job.schema.json\n"


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    backend = PlanMemoryBackend()
    for module in (choices, accepting):
        monkeypatch.setattr(module, "open_backend", lambda *_: backend)
    return Store(home)


@pytest.fixture
def said() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def prepared(store: Store, work: Path, said: list[tuple[str, str]]) -> Callable[..., Prepared]:
    """Prepare a job file of this text; build: else it is looked at only."""

    def make(text: str, *, build: bool = False, **values: Any) -> Prepared:
        (work / "job.yml").write_text(text)
        job, config = loaded(work / "job.yml", (), store, {})
        request = JobRequest(job, config, **{"backend": BACKEND, **values})
        return prepare_job(request, store, lambda kind, line: said.append((kind, line)), build=build)

    return make


def remote_of(prepared: Prepared, name: str | None = None) -> Remote:
    step = prepared.step
    if name is not None:
        assert prepared.plan is not None
        step = next(each.step for each in prepared.plan.steps if each.name == name)
    assert step.remote is not None
    return step.remote


COMMAND = """
type: command
code: src
command: python a.py ${{inputs.data}} ${{inputs.asset}} ${{inputs.n}} > ${{outputs.out}}/x
environment: azureml:AzureML-sklearn@latest
compute: azureml:gpu-cluster
inputs:
  data: {type: uri_file, path: data/a.csv}
  asset: {type: mltable, path: "azureml:iris:2", mode: eval_mount}
  n: 1.10
outputs:
  out: {type: uri_folder, mode: upload, path: "azureml://datastores/blob/paths/x/${{name}}"}
  one: {type: uri_file, name: table, version: "3"}
distribution: {type: pytorch, process_count_per_instance: 2}
identity: {type: managed}
queue_settings: {job_tier: spot}
resources: {instance_count: 4, instance_type: big, docker_args: "--ipc=host --gpus all --memory 4g", shm_size: 2g}
limits: {timeout: 90}
"""


@pytest.fixture
def project(work: Path) -> Path:
    (work / "src").mkdir()
    (work / "src" / "a.py").write_text("print(1)\n")
    (work / "data").mkdir()
    (work / "data" / "a.csv").write_text("1\n")
    return work


def test_a_command_is_passed_on_whole(prepared: Callable[..., Prepared], project: Path) -> None:
    made = prepared(COMMAND)
    remote, step = remote_of(made), made.step
    assert remote.environment == "azureml:AzureML-sklearn@latest"
    assert remote.compute == "gpu-cluster"
    assert remote.inputs == {
        "data": {"type": "uri_file", "path": str(project / "data" / "a.csv")},
        "asset": {"type": "mltable", "path": "azureml:iris:2", "mode": "eval_mount"},
        "n": {"value": "1.10"},
    }
    assert remote.outputs == {
        "out": {"type": "uri_folder", "mode": "upload", "path": "azureml://datastores/blob/paths/x/${{name}}"},
        "one": {"type": "uri_file", "name": "table", "version": "3"},
    }
    assert remote.members == {
        "distribution": {"type": "pytorch", "process_count_per_instance": 2},
        "identity": {"type": "managed"},
        "queue_settings": {"job_tier": "spot"},
        "resources": {"instance_count": 4, "instance_type": "big", "docker_args": "--ipc=host --gpus all --memory 4g"},
    }
    assert step.limits == Limits(timeout_s=90.0, shm_bytes=2 << 30), "docker_args go as they are written"
    assert step.parameters == {"n": "1.10"}
    assert (step.publish, step.files) == ({}, ("one",))
    assert step.inputs == {name: remote.inputs[name]["path"] for name in ("data", "asset")}


def test_what_people_see_with_a_job_goes_along(prepared: Callable[..., Prepared], project: Path) -> None:
    head = "description: a try\ntags: {team: a, kind: small}\n"
    made = prepared(head + COMMAND, tags={"kind": "big"})
    assert remote_of(made).members["description"] == "a try"
    assert remote_of(made).members["tags"] == {"team": "a", "kind": "big"}


def test_the_members_of_a_pipeline_go_along(prepared: Callable[..., Prepared], said: list[tuple[str, str]]) -> None:
    head = """
description: a try
tags: {team: a}
identity: {type: user_identity}
properties: {p: "1"}
notification_setting: {emails: [a@b.c]}
"""
    settings = "settings: {default_datastore: blob, skip_validation: true, "
    made = prepared(head + PIPELINE.replace("settings: {", settings), description="another")
    assert made.plan is not None
    assert made.plan.native == {
        "description": "another", "tags": {"team": "a"}, "properties": {"p": "1"}, "identity": {"type": "user_identity"},
        "settings": {"default_datastore": "azureml:blob", "skip_validation": True},
    }  # fmt: skip
    assert Plan.from_json(made.plan.to_json()) == made.plan
    assert any("notification_setting: is not passed on to Azure ML" in text for _, text in said)
    assert remote_of(made, "first").inputs == {"word": {"value": "hi"}}
    assert "tags" not in remote_of(made, "first").members


PIPELINE = """
type: pipeline
settings: {default_compute: azureml:cpu, continue_on_step_failure: true}
inputs: {word: hi}
outputs: {best: {type: uri_folder, mode: rw_mount, path: "azureml://datastores/blob/paths/best"}}
jobs:
  first:
    type: command
    command: echo ${{inputs.word}} > ${{outputs.out}}
    environment: {image: "docker.io/library/python:3.12"}
    inputs: {word: "${{parent.inputs.word}}"}
    outputs: {out: {type: uri_file}}
  many:
    type: parallel
    compute: azureml:big
    inputs: {job_data: "${{parent.jobs.first.outputs.out}}", seed: 7}
    outputs: {scored: {type: uri_folder}}
    mini_batch_size: "3"
    input_data: ${{inputs.job_data}}
    task: {type: run_function, code: ./src, entry_script: a.py, environment: "azureml:x:1"}
  last:
    type: command
    command: ls ${{inputs.all}} > ${{outputs.best}}/x
    environment: {image: base, conda_file: {dependencies: [pip]}}
    inputs: {all: {type: uri_folder, path: "${{parent.jobs.many.outputs.scored}}", mode: download}}
    outputs: {best: "${{parent.outputs.best}}"}
"""


def test_a_pipeline_s_steps_of_any_kind_are_passed_on(prepared: Callable[..., Prepared], project: Path) -> None:
    made = prepared(PIPELINE)
    assert made.plan is not None
    first, many, last = made.plan.steps
    assert remote_of(made, "first").compute == "cpu"
    assert first.step.parameters == {"word": "hi"}
    foreign = remote_of(made, "many")
    assert foreign.foreign == {
        "type": "parallel", "mini_batch_size": "3", "input_data": "${{inputs.job_data}}", "inputs": {"seed": "7"},
        "task": {"type": "run_function", "code": str(project / "src"), "entry_script": "a.py", "environment": "azureml:x:1"},
    }  # fmt: skip
    assert foreign.compute == "big"
    assert foreign.outputs == {"scored": {"type": "uri_folder"}}
    assert {name: (up.step, up.output) for name, up in many.upstream.items()} == {"job_data": ("first", "out")}
    assert foreign.environment is None
    end = remote_of(made, "last")
    assert end.environment == {"image": "base", "conda_file": {"dependencies": ["pip"]}}
    assert end.outputs["best"]["path"] == "azureml://datastores/blob/paths/best"
    assert {name: (up.step, up.output) for name, up in last.upstream.items()} == {"all": ("many", "scored")}
    assert last.step.inputs == {}
    assert made.plan.continue_on_step_failure


def test_everything_that_cannot_be_had_there_is_told_at_once(prepared: Callable[..., Prepared], project: Path) -> None:
    text = f"""
type: pipeline
jobs:
  a:
    type: command
    command: "true"
    retry: {{count: 2}}
    inputs: {{gone: {{type: uri_file, path: nowhere.csv}}, mine: {{type: uri_folder, path: data, mode: rw_mount}},
              sas: {{type: uri_file, path: "https://x.blob.core.windows.net/c/a?sig=abc&se=1"}}}}
    outputs: {{out: {{type: uri_folder, path: {project}/here}}}}
  b:
    type: command
    code: azureml:code:1
    command: "true"
"""
    with pytest.raises(CapabilityError) as caught:
        prepared(text, secrets={"TOKEN": "x"}, begin_at="a")
    told = str(caught.value)
    for part in (
        "retry of the step a", "there is no ", "cannot write to it", "holds a login", "the output out cannot be written",
        "secret TOKEN", "keyvault:", "--from", "code that is stored in Azure ML", "give the folder, or submit",
    ):  # fmt: skip
        assert part in told, part
    assert "abc" not in told


def test_runner_yaml_is_for_local_backends_but_for_libs(
    prepared: Callable[..., Prepared], project: Path, said: list[tuple[str, str]]
) -> None:
    (project / "runner.yaml").write_text(
        "registry: reg.example.com/team\n"
        "environments:\n  AzureML-a: {image: local-image}\n  AzureML-b: {libs: libs.yaml}\n"
        "datastores: {blob: ./data}\ndata: {iris: ./data}\n"
    )
    (project / "libs.yaml").write_text("name: mine\npip: [numpy]\n")
    job = (
        "type: command\ncommand: cat ${{{{inputs.d}}}}\nenvironment: azureml:{}@latest\n"
        "inputs: {{d: {{path: 'azureml:iris:1'}}}}\n"
    )
    made = remote_of(prepared(job.format("AzureML-a")))
    assert (made.environment, made.inputs["d"]["path"]) == ("azureml:AzureML-a@latest", "azureml:iris:1")
    assert any("AzureML-a@latest is the workspace's own" in text for _, text in said)
    built = remote_of(prepared(job.format("AzureML-b"))).environment
    assert isinstance(built, dict)
    assert built["image"].startswith("reg.example.com/team/mine:")


def test_a_script_is_passed_on_with_uris(store: Store, project: Path, said: list[tuple[str, str]]) -> None:
    request = Request(
        script=project / "src" / "a.py", backend=BACKEND, compute="cpu", image="azureml:env@latest",
        inputs={"far": "azureml://datastores/d/paths/x", "near": project / "data"}, outputs={"out": None},
        vaulted={"TOKEN": "keyvault:token"},
    )  # fmt: skip
    made = prepare(request, store, lambda kind, line: said.append((kind, line)))
    remote = remote_of(made)
    assert remote.environment == "azureml:env@latest"
    assert remote.inputs == {
        "far": {"type": "uri_folder", "path": "azureml://datastores/d/paths/x"},
        "near": {"type": "uri_folder", "path": str(project / "data")},
    }
    assert remote.secrets == {"TOKEN": "keyvault:token"}
    shown = preview(made, store)
    assert shown["step"]["remote"]["compute"] == "cpu"
    assert shown["request"] == {"argv": ["a.py"]}


@pytest.mark.parametrize(
    "asked",
    [
        {"limits": Limits(memory_bytes=1 << 30)}, {"limits": Limits(cpus=2)}, {"limits": Limits(gpus=1)},
        {"limits": Limits(ulimits={"nofile": (1, 1)})}, {"secrets": {"TOKEN": "x"}},
    ],
)  # fmt: skip
def test_what_a_compute_decides_is_refused_of_a_script(store: Store, project: Path, asked: dict[str, Any]) -> None:
    request = Request(script=project / "src" / "a.py", backend=BACKEND, image="x", **asked)
    with pytest.raises(CapabilityError, match="nothing was started"):
        prepare(request, store, lambda _kind, _line: None)


def test_a_retry_of_a_single_job_is_ours(store: Store, project: Path) -> None:
    request = Request(script=project / "src" / "a.py", backend=BACKEND, image="x", retry=RetryPolicy(2))
    assert prepare(request, store, lambda _kind, _line: None).step.retry.count == 2


def test_keys_and_the_system_are_never_uploaded(
    store: Store, project: Path, prepared: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project))
    (project / ".ssh").mkdir()
    (project / ".ssh" / "id").write_text("key")
    with pytest.raises(SpecError, match="keys"):
        prepare(
            Request(script=project / "src" / "a.py", backend=BACKEND, image="x", inputs={"k": project / ".ssh"}),
            store, lambda _kind, _line: None,
        )  # fmt: skip
    with pytest.raises(CapabilityError, match="keys"):
        prepared("type: command\ncommand: 'true'\ninputs: {k: {type: uri_file, path: 'file:.ssh/id'}}\n")
    with pytest.raises(CapabilityError, match="keys"):
        prepared(PIPELINE.replace("./src", "./.ssh"))


def test_local_backends_take_no_reference_and_no_uri_of_a_script(
    home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    store = Store(home)
    script = project / "src" / "a.py"
    with pytest.raises(CapabilityError, match="keyvault"):
        prepare(Request(script=script, backend="process", vaulted={"A": "keyvault:a"}), store, lambda *_: None)
    with pytest.raises(UsageError, match="job file"):
        prepare(
            Request(script=script, backend="process", inputs={"x": "https://example.com/a"}), store, lambda *_: None
        )


@pytest.mark.parametrize(
    ("registry", "environ", "written", "expected"),
    [
        ("asked.example.com/p", "env.example.com", "yaml.example.com", "asked.example.com/p/mine:"),
        (None, "env.example.com", "yaml.example.com", "env.example.com/mine:"),
        (None, None, "yaml.example.com/q", "yaml.example.com/q/mine:"),
        (None, None, None, "REGISTRY-OF-THE-WORKSPACE/mine:"),
    ],
)
def test_who_says_where_images_go(
    work: Path, monkeypatch: pytest.MonkeyPatch, registry: str | None, environ: str | None, written: str | None,
    expected: str,
) -> None:  # fmt: skip
    (work / "libs.yaml").write_text("name: mine\npip: [numpy]\n")
    monkeypatch.delenv("RUNNER_REGISTRY", raising=False)
    if environ:
        monkeypatch.setenv("RUNNER_REGISTRY", environ)
    if written:
        (work / "runner.yaml").write_text(f"registry: {written}\n")

    def asked() -> str | None:
        raise AssertionError("a preview asks nobody")

    config = configuration.load(work, {})
    pushing = images.Pushing(registry, asked, config, work / "contexts", lambda _kind, _text: None, build=False)
    found = images.resolve_all([Environment(libs=work / "libs.yaml")], pushing)[0].member
    assert isinstance(found, dict)
    assert found["image"].startswith(expected)


LOCK = """{
  "version": 1, "platform": "linux/amd64", "python": "3.11.2", "r": "",
  "base": {"reference": "localhost/runner-debian:bookworm", "id": "sha256:{id}", "recipe": "5c81f4cb14316642"},
  "declared": {"apt": ["jq"]},
  "packages": [
    {"kind": "apt", "name": "bash", "version": "5.2.15-2+b13", "stage": "base"},
    {"kind": "apt", "name": "python3", "version": "3.11.2-1+b1", "stage": "python"},
    {"kind": "apt", "name": "jq", "version": "1.6-2.1", "stage": "apt"}
  ]
}
"""


def test_without_an_engine_the_service_builds_what_the_lock_says(
    work: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is all that is needed, where its base is Debian's own; without a lock every way out is told."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{work}/nobody.sock")
    said: list[tuple[str, str]] = []
    config = configuration.load(work, {})
    pushing = images.Pushing(
        "r.example.com", lambda: None, config, work / "ctx", lambda *line: said.append(line), build=True
    )
    (work / "libs.yaml").write_text("name: mine\napt: [jq]\n")
    wanted = [Environment(libs=work / "libs.yaml")]
    with pytest.raises(UnavailableError, match="none answers") as caught:
        images.resolve_all(wanted, pushing)
    assert "there is no lock yet" in str(caught.value)
    assert "--image" in str(caught.value)
    (work / "libs.lock").write_text(LOCK.replace("{id}", "e9" * 32))
    member = images.resolve_all(wanted, pushing)[0].member
    assert isinstance(member, dict)
    context = Path(member["build"]["path"])
    assert "jq=1.6-2.1" in (context / "Dockerfile").read_text()
    assert (context / "base" / "make.sh").is_file()
    assert "itself builds the image of libs.yaml" in said[-1][1]
    assert images.resolve_all(wanted, pushing)[0].member == member, "once more into the same folder"


# -- accepted there -------------------------------------------------------------------------------------------------


@pytest.fixture
def gone() -> Iterator[tuple[int, int]]:
    """(what tells a supervisor's end, what it holds)."""
    read, held = os.pipe()
    yield read, held
    os.close(read)
    with suppress(OSError):
        os.close(held)


def away(store: Store) -> RunRow:
    """A run of a service elsewhere, which no supervisor drives."""
    step = PlanStep("a", Step("a", ("true",), remote=Remote()))
    row, lock = accept(store, Plan((step,)), backend="elsewhere")
    os.close(lock)
    store.folder(row.name).target.write_text("{}")
    return row


def test_submit_returns_once_the_service_has_the_run(home: Path, gone: tuple[int, int]) -> None:
    store, said = Store(home), list[tuple[str, str]]()
    row = away(store)
    looked = threading.Event()

    def service() -> None:
        looked.wait(10)
        other = Store(home)
        other.begin_attempt(row, 1)
        other.set_handle(row, 1, "job-1")
        other.close()

    def say(kind: str, text: str) -> None:
        said.append((kind, text))
        looked.set()

    thread = threading.Thread(target=service)
    thread.start()
    accepting.handed_over(store, row, gone[0], say)
    thread.join()
    assert said[-1] == ("submit", "accepted as job-1")


def test_a_supervisor_that_dies_while_it_submits_is_replaced(
    home: Path, gone: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(home)
    row = away(store)
    os.close(gone[1])

    def ended(store: Store, run: RunRow) -> None:
        store.end(run, Outcome(Reason.START_FAILED, 125), attempts=0)

    monkeypatch.setattr(accepting, "ensure", ended)
    assert accepting.handed_over(store, row, gone[0], lambda *_: None).status is Status.FAILED


def test_ctrl_c_while_it_is_on_its_way_leaves_a_run_that_goes_on(
    home: Path, gone: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    store = Store(home)
    row = away(store)
    monkeypatch.setattr("runner.submission.accepting.select.select", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        accepting.handed_over(store, row, gone[0], lambda *_: None)
    assert caught.value.args == (row.name,)
    assert not store.get(row.name).status.terminal


def test_a_step_elsewhere_is_neither_canceled_alone_nor_taken_over(home: Path) -> None:
    store = Store(home)
    row = away(store)
    with pytest.raises(CapabilityError, match=f"runner cancel {row.name}"):
        Run(store, f"{row.name}.a").cancel()
    assert store.cancels(row) == {}
    store.end_children(row, Outcome(Reason.COMPLETED, 0))
    store.end(row, Outcome(Reason.COMPLETED, 0), attempts=0)
    with pytest.raises(CapabilityError, match="submit it again"):
        resumed(store, store.get(row.name), None, {})


SHOWN = "display_name: Churn, weekly\ncompute: c\n"


def test_people_see_the_display_name_of_the_file_unless_the_run_is_given_one(prepared: Callable[..., Prepared]) -> None:
    text = "type: command\ncommand: echo\nenvironment: azureml:e@latest\n" + SHOWN
    assert remote_of(prepared(text)).members["display_name"] == "Churn, weekly"
    assert "display_name" not in remote_of(prepared(text, name="mine")).members
    pipeline = "type: pipeline\njobs: {a: {type: command, command: echo, environment: azureml:e@latest}}\n" + SHOWN
    plan, named = prepared(pipeline).plan, prepared(pipeline, name="mine").plan
    assert plan is not None
    assert named is not None
    assert (plan.native.get("display_name"), named.native.get("display_name")) == ("Churn, weekly", None)


def test_what_goes_nowhere_is_said_wherever_it_stands(
    prepared: Callable[..., Prepared], said: list[tuple[str, str]], work: Path
) -> None:
    (work / "inner.yml").write_text(
        "type: pipeline\njobs:\n  b: {type: command, command: echo, environment: {image: x, name: n, tags: {a: b}}}\n"
    )
    prepared(
        "type: pipeline\njobs:\n  a: {type: pipeline, component: ./inner.yml, comment: c, tags: {a: b}}\n  c:\n"
        "    type: command\n    command: echo ${{inputs.x}}\n    environment: {image: x}\n"
        "    inputs: {x: {type: uri_file, path: azureml:d:1, path_on_compute: /d}}\n"
    )
    lost = [
        text.partition(": is not passed on")[0].partition("  ")[2] for _, text in said if "is not passed on" in text
    ]
    assert sorted(lost) == [
        "jobs.a.comment", "jobs.a.tags", "jobs.b.environment.name", "jobs.b.environment.tags",
        "jobs.c.inputs.x.path_on_compute",
    ]  # fmt: skip


def test_how_a_step_wants_what_another_writes_is_passed_on(prepared: Callable[..., Prepared]) -> None:
    found = prepared(
        "type: pipeline\njobs:\n  a: {type: command, command: echo, environment: {image: x}, outputs: {o: {}}}\n"
        "  b:\n    type: command\n    component: {type: command, command: 'echo ${{inputs.x}}', environment: {image: x},"
        " inputs: {x: {type: uri_folder}}}\n"
        "    inputs: {x: {path: '${{parent.jobs.a.outputs.o}}', mode: download}}\n"
    )
    assert remote_of(found, "b").inputs["x"] == {"type": "uri_folder", "mode": "download"}
