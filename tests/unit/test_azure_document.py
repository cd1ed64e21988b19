"""What is sent to Azure ML: that azure-ai-ml itself reads it, and that it says what the task says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.backends.azureml import sdk, snapshot
from runner.backends.azureml.document import document, node_names
from runner.backends.azureml.names import job_name
from runner.backends.base import Member, Task, Whole
from runner.errors import CodeFolderError, SpecError
from runner.job import Distribution, EarlyTermination, Objective, Sampling, SweepLimits
from runner.model import Limits, Remote
from runner.plan import SweepPlan, Upstream
from tests.azure_node import make_task

pytestmark = pytest.mark.filterwarnings("ignore")  # azure-ai-ml's own

IMAGE = {"image": "debian:stable"}


def loaded(task: Task) -> tuple[dict[str, Any], Any]:
    """(the document, the job that azure-ai-ml makes of it)."""
    snapshot.make(task)
    made = document(task)
    return made, sdk.load(made)


def test_a_command(tmp_path: Path) -> None:
    remote = Remote(
        environment="azureml:AzureML-sklearn@latest", compute="cpu-cluster",
        inputs={"data": {"type": "uri_file", "path": "azureml:d:1", "mode": "download"}, "rate": {"value": 0.5}},
        outputs={"model": {"type": "uri_folder", "path": "azureml://datastores/x/paths/y"}},
        members={"resources": {"instance_count": 2}, "distribution": {"type": "mpi", "process_count_per_instance": 1}},
    )  # fmt: skip
    task = make_task(
        tmp_path, ["a.py"], remote=remote, outputs={"model": None}, limits=Limits(timeout_s=60.2, shm_bytes=1 << 30)
    )
    made, job = loaded(task)
    assert (job.type, job.name, job.display_name, job.experiment_name) == (
        "command", job_name(task.key), "calm-otter", "trials",
    )  # fmt: skip
    assert job.tags["runner.key"] == task.key
    assert job.tags["runner.run"] == "calm-otter"
    assert job.command == made["command"]
    assert (made["compute"], job.compute) == ("azureml:cpu-cluster", "cpu-cluster")
    assert (job.limits.timeout, job.resources.shm_size, job.resources.instance_count) == (101, "1073741824b", 2)
    assert job.inputs["data"].mode == "download"
    assert job.outputs["model"].path == "azureml://datastores/x/paths/y"
    assert job.environment_variables["RUNNER_KEY"] == task.key


def test_names_that_azure_does_not_take_are_others_there(tmp_path: Path) -> None:
    remote = Remote(environment=IMAGE, inputs={"in-1.x": {"type": "uri_file", "path": "azureml:d:1"}})
    task = make_task(
        tmp_path, ["a.py", "--in=${{inputs.in-1.x}}", "${{ outputs.the-model }}", "${{inputs.in-2}}"], remote=remote,
        outputs={"the-model": None}, env={"RUNNER_INPUT_IN_1_X": "${{inputs.in-1.x}}"},
    )  # fmt: skip
    made, job = loaded(task)
    assert (set(job.inputs), set(job.outputs)) == ({"in_1_x"}, {"the_model"})
    assert "${{inputs.in_1_x}}" in made["command"]
    assert "${{outputs.the_model}}" in made["command"]
    assert "in-1.x" not in made["command"]
    first = Member("first", replace(task, remote=Remote(environment=IMAGE)))
    second = Member("second", replace(task, argv=("b.py", "${{inputs.a-b}}"), remote=Remote(environment=IMAGE)),
                    {"a-b": Upstream("first", "the-model")})  # fmt: skip
    whole = Whole((first, second), {"the-end": Upstream("second", "the-model")})
    made, job = loaded(replace(task, argv=(), whole=whole, outputs={}, remote=Remote()))
    assert set(job.outputs) == {"the_end"}
    assert made["jobs"]["second"]["inputs"]["a_b"] == "${{parent.jobs.first.outputs.the_model}}"
    assert made["jobs"]["second"]["outputs"]["the_model"] == "${{parent.outputs.the_end}}"


def test_every_text_arrives_in_the_job(tmp_path: Path) -> None:
    text = "".join(map(chr, (*range(1, 0x180), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0x1F642))) + "\\u0041 \\n '\"${{x}}"
    made, job = loaded(make_task(tmp_path, ["bash", "-c", text.replace("\x00", "")], env={"A": text}))
    assert job.command == made["command"]
    assert dict(job.environment_variables) == made["environment_variables"]


def test_serverless_has_no_compute(tmp_path: Path) -> None:
    made, job = loaded(make_task(tmp_path, ["a.py"], remote=Remote(environment=IMAGE)))
    assert "compute" not in made
    assert job.compute is None


def test_an_experiment_gets_a_name_that_azure_takes(tmp_path: Path) -> None:
    assert (
        document(make_task(tmp_path, ["a.py"], env={"RUNNER_EXPERIMENT": "größe 1/2"}))["experiment_name"]
        == "gr__e_1_2"
    )


def member(folder: Path, name: str, argv: list[str], **given: Any) -> Member:
    upstream = given.pop("upstream", {})
    sweep = given.pop("sweep", None)
    env = {"RUNNER_RUN": f"calm-otter.{name}"}
    return Member(name, make_task(folder / name, argv, key=f"k-{name}", env=env, **given), upstream, sweep)


def whole(folder: Path, members: list[Member], **given: Any) -> Task:
    return make_task(folder, [], whole=Whole(tuple(members), **given), remote=None)


SWEEP = SweepPlan(
    {"lr": Distribution("uniform", low=0.1, high=0.9), "kind": Distribution("choice", values=("a", "b")),
     "n": Distribution("randint", high=9), "m": Distribution("qnormal", mu=1, sigma=2, q=3)},
    Objective("maximize", "score"), Sampling("random", seed=3), SweepLimits(4, 2, 600, 60),
    EarlyTermination("bandit", 2, 1, slack_factor=0.2),
)  # fmt: skip


def pipeline(folder: Path) -> Task:
    code = folder / "code"
    code.mkdir(parents=True, exist_ok=True)
    (code / "a.py").write_text("1")
    made = Remote(
        IMAGE, "cpu", outputs={"out": {"type": "uri_file"}, "model": {"type": "uri_folder", "mode": "upload"}}
    )
    used = Remote(
        IMAGE,
        inputs={"data": {"type": "uri_file", "mode": "download"}, "raw": {"type": "uri_folder", "path": "azureml:r:1"}},
    )
    first = Upstream("prepare", "out")
    return whole(
        folder,
        [
            member(folder, "prepare", ["a.py", "${{outputs.out}}"], remote=made, code=code,
                   outputs={"out": None, "model": "m"}),
            member(folder, "Outer.use it", ["a.py", "${{inputs.data}}", "${{inputs.raw}}"], remote=used, code=code,
                   inputs={"data": "", "raw": ""}, upstream={"data": first}, limits=Limits(timeout_s=5)),
            member(folder, "outer_use_it", ["a.py", "${{search_space.lr}}"], remote=used, code=code, sweep=SWEEP,
                   upstream={"data": first}),
        ],
        outputs={"best": Upstream("prepare", "model")}, continue_on_step_failure=True, force_rerun=True,
    )  # fmt: skip


def test_a_pipeline(tmp_path: Path) -> None:
    task = pipeline(tmp_path)
    made, job = loaded(task)
    assert (job.type, job.name) == ("pipeline", job_name(task.key))
    assert (job.settings.continue_on_step_failure, job.settings.force_rerun) == (True, True)
    assert list(made["jobs"]) == ["prepare", "outer_use_it", "outer_use_it_2"]
    assert [each["display_name"] for each in made["jobs"].values()] == ["prepare", "Outer.use it", "outer_use_it"]
    use = made["jobs"]["outer_use_it"]
    assert use["inputs"]["data"] == {"path": "${{parent.jobs.prepare.outputs.out}}", "mode": "download"}
    assert made["jobs"]["prepare"]["outputs"]["model"] == "${{parent.outputs.best}}"
    assert made["outputs"] == {"best": {"type": "uri_folder", "mode": "upload"}}
    assert use["component"]["inputs"] == {"data": {"type": "uri_file"}, "raw": {"type": "uri_folder"}}
    assert use["environment_variables"]["RUNNER_RUN"] == "calm-otter.Outer.use it"  # since nothing may be reused
    assert use["environment_variables"]["RUNNER_KEY"] == "k-Outer.use it"
    assert job.jobs["outer_use_it"].component.command == use["component"]["command"]
    assert job._validate().passed, job._validate()


def test_a_literal_input_is_told_and_changes_no_text(tmp_path: Path) -> None:
    remote = Remote(IMAGE, inputs={"n": {"value": "1.10"}, "data": {"type": "uri_file", "path": "azureml:d:1"}})
    one = member(tmp_path, "a", ["a.py", "1.10", "${{inputs.n}}"], remote=remote)
    native = {"description": "a try", "tags": {"team": "a"}, "settings": {"default_datastore": "azureml:blob"}}
    made, job = loaded(whole(tmp_path, [one], native=native))
    node = made["jobs"]["a"]
    assert node["inputs"]["n"] == "1.10"
    assert node["component"]["inputs"] == {"n": {"type": "string"}, "data": {"type": "uri_file"}}
    assert "\n${{inputs.n}}\n" not in node["component"]["command"], "a text that only looks like an expression"
    assert (job.description, job.tags["team"]) == ("a try", "a")
    assert job.tags["runner.key"]
    assert made["settings"]["default_datastore"] == "azureml:blob"


def test_a_step_that_azure_may_reuse_is_the_same_in_every_run(tmp_path: Path) -> None:
    def node(run: str, **given: Any) -> dict[str, Any]:
        env = {"RUNNER_RUN": f"{run}.a"}
        step = Member("a", make_task(tmp_path / "box", ["a.py"], key=f"key-{run}", env=env, **given))
        made = document(make_task(tmp_path, [], key=run, whole=Whole((step,)), remote=None))
        found: dict[str, Any] = made["jobs"]["a"]
        return found

    assert node("one") == node("two")
    lasting = Remote(IMAGE, members={"is_deterministic": False})
    assert node("one", remote=lasting) != node("two", remote=lasting)
    assert node("one", remote=lasting)["component"]["is_deterministic"] is False
    assert "is_deterministic" not in document(make_task(tmp_path, ["a.py"], remote=lasting))


def test_an_input_has_the_type_of_the_output_that_it_is(tmp_path: Path) -> None:
    table = Remote(IMAGE, outputs={"t": {"type": "mltable"}})
    made = document(whole(tmp_path, [
        member(tmp_path, "a", ["a.py"], remote=table, outputs={"t": None}),
        member(tmp_path, "b", ["a.py"], remote=Remote(IMAGE, inputs={"x": {}}), upstream={"x": Upstream("a", "t")}),
    ]))  # fmt: skip
    assert made["jobs"]["b"]["component"]["inputs"] == {"x": {"type": "mltable"}}


def test_steps_with_the_same_code_share_a_snapshot(tmp_path: Path) -> None:
    made = document(pipeline(tmp_path))["jobs"]
    assert made["prepare"]["component"]["code"] == made["outer_use_it"]["component"]["code"]
    assert len(snapshot.make(pipeline(tmp_path))) == 1


def test_a_sweep_in_a_pipeline_gives_its_inputs(tmp_path: Path) -> None:
    made, job = loaded(pipeline(tmp_path))
    node = made["jobs"]["outer_use_it_2"]
    assert node["trial"]["inputs"]["lr"] == {"type": "number"}
    assert node["trial"]["inputs"]["kind"] == {"type": "string"}
    assert "\n${{inputs.lr}}\n" in node["trial"]["command"]
    assert '"RUNNER_ATTEMPT":"1"' in node["trial"]["command"]
    assert "calm-otter" not in node["trial"]["command"], "trials are many runs"
    assert node["trial"]["inputs"]["data"] == {"type": "uri_file"}
    assert "search_space." not in node["trial"]["command"]
    assert job.jobs["outer_use_it_2"].search_space["lr"].max_value == 0.9


@pytest.mark.parametrize(
    "sampling", [Sampling("grid"), Sampling("bayesian"), Sampling("sobol", seed=1), Sampling("random")]
)
def test_a_sweep(tmp_path: Path, sampling: Sampling) -> None:
    plan = replace(SWEEP, sampling=sampling)
    if sampling.kind in {"grid", "bayesian"}:
        plan = replace(plan, search_space={"lr": Distribution("choice", values=(0.1, 0.2))}, early_termination=None)
    remote = Remote(IMAGE, "cpu", inputs={"data": {"type": "uri_folder", "path": "azureml:r:1"}})
    each = member(
        tmp_path, "sweep", ["a.py", "--lr=${{search_space.lr}}", "${{inputs.data}}"], remote=remote, sweep=plan
    )
    made, job = loaded(whole(tmp_path, [each], single_sweep=True))
    assert job.type == "sweep"
    assert "\n${{search_space.lr}}\n" in made["trial"]["command"]
    assert (job.limits.max_total_trials, job.limits.max_concurrent_trials, job.limits.trial_timeout) == (4, 2, 100)
    assert (job.objective.goal, job.objective.primary_metric) == ("maximize", "score")
    assert job.tags["runner.key"] == "store-calm-otter-1"
    assert getattr(job.sampling_algorithm, "type", job.sampling_algorithm) in {sampling.kind, "random"}


@pytest.mark.parametrize("kind", ["bandit", "median_stopping", "truncation_selection"])
def test_early_termination(tmp_path: Path, kind: str) -> None:
    stop = EarlyTermination(kind, 2, 1, slack_amount=0.2, truncation_percentage=10)
    each = member(tmp_path, "sweep", ["a.py"], sweep=replace(SWEEP, early_termination=stop))
    _, job = loaded(whole(tmp_path, [each], single_sweep=True))
    assert job.early_termination.evaluation_interval == 2


def test_what_only_azure_knows_is_passed_on(tmp_path: Path) -> None:
    raw = {
        "type": "parallel", "mini_batch_size": "3", "inputs": {"limit": 5},
        "input_data": "${{inputs.files}}", "max_concurrency_per_instance": 2,
        "task": {"type": "run_function", "code": str(tmp_path), "entry_script": "score.py", "environment": "azureml:e:1"},
    }  # fmt: skip
    remote = Remote(foreign=raw, inputs={"files": {"mode": "ro_mount"}}, outputs={"done": {"type": "uri_file"}})
    (tmp_path / "score.py").write_text("def run(batch): return batch")
    made, job = loaded(
        whole(tmp_path, [
            member(tmp_path, "first", ["a.py"], remote=Remote(IMAGE, outputs={"x": {}}), outputs={"x": None}),
            member(tmp_path, "score", [], remote=remote, upstream={"files": Upstream("first", "x")}),
        ], outputs={"all": Upstream("score", "done")})
    )  # fmt: skip
    node = made["jobs"]["score"]
    assert node["inputs"] == {"limit": 5, "files": {"path": "${{parent.jobs.first.outputs.x}}", "mode": "ro_mount"}}
    assert node["outputs"] == {"done": "${{parent.outputs.all}}"}
    assert (node["mini_batch_size"], node["display_name"]) == ("3", "score")
    assert job.jobs["score"].type == "parallel"


def test_a_registered_pipeline_runs_on_the_compute_of_the_whole(tmp_path: Path) -> None:
    remote = Remote(foreign={"type": "pipeline", "component": "azureml:say:1"}, compute="gpu")
    made = document(whole(tmp_path, [member(tmp_path, "say", [], remote=remote)]))
    assert "compute" not in made["jobs"]["say"], "azure-ai-ml takes none there"
    assert made["settings"]["default_compute"] == "azureml:gpu"


def test_names_of_nodes_are_azures_and_differ(tmp_path: Path) -> None:
    names = ["a", "A", "a.b", "a_b", "1x", "größe", "-"]
    found = node_names(Whole(tuple(member(tmp_path, name, ["a.py"]) for name in names)))
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    assert all(each.replace("_", "").isalnum() and each.isascii() and each[0].isalpha() for each in found.values())


def test_a_job_that_azure_does_not_take_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="instance_count"):
        loaded(make_task(tmp_path, ["a.py"], remote=Remote(IMAGE, members={"resources": {"instance_count": "many"}})))


# -- snapshots ------------------------------------------------------------------------------------------------------


def test_the_sdk_uploads_all_of_it_and_nothing_else(tmp_path: Path) -> None:
    from azure.ai.ml._utils._asset_utils import get_ignore_file, get_upload_files_from_folder

    code = tmp_path / "code"
    (code / "sub").mkdir(parents=True)
    for name in (".amlignore", ".gitignore", "sub/.gitignore", "a.py", "sub/b.csv", "__init__.py", "outputs.txt"):
        (code / name).write_text("*\n")
    (code / "link").symlink_to("a.py")
    place = snapshot.make(make_task(tmp_path, ["a.py"], code=code))[code]
    uploaded = {each[1] for each in get_upload_files_from_folder(place, ignore_file=get_ignore_file(place))}
    ours = {"a.py", "sub/b.csv", "sub/.gitignore", "__init__.py", "outputs.txt"}
    assert {each for each in uploaded if not each.startswith(".runner/")} == ours
    assert uploaded >= {".runner/restore.sh", ".runner/launch.py"}
    assert len([each for each in uploaded if each.startswith(".runner/kept-")]) == 2  # the ignore files


def test_the_same_content_is_the_same_snapshot_and_takes_no_room(tmp_path: Path) -> None:
    from azure.ai.ml._utils._asset_utils import get_content_hash

    code = tmp_path / "code"
    code.mkdir()
    (code / "a.py").write_text("1")
    hashes = set()
    for name in ("one", "two"):
        place = snapshot.make(make_task(tmp_path / name, ["a.py"], code=code))[code]
        assert (place / "a.py").samefile(code / "a.py")
        hashes.add(get_content_hash(place))
    assert len(hashes) == 1


def test_a_folder_of_our_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "code" / ".runner").mkdir(parents=True)
    with pytest.raises(CodeFolderError, match=r"\.runner"):
        snapshot.make(make_task(tmp_path, ["a.py"], code=tmp_path / "code"))
