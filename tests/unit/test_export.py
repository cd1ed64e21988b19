"""`runner export --to azureml`: azure-ai-ml itself reads what is written, and it says what our file says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner.drafts import Draft, drafts
from runner.errors import SpecError, UsageError
from runner.export import component, to_azureml
from runner.job import Environment, Job
from runner.plan import Upstream
from runner.quoting import compiled
from runner.spec import config as settings
from runner.spec.config import Config
from runner.spec.job import load
from tests.azure_node import BASH, substituted
from tests.unit.job_files import Files

pytestmark = pytest.mark.filterwarnings("ignore")  # azure-ai-ml's own

SAMPLES = Path(__file__).resolve().parents[2] / "pipelines"
REGISTRY = Config(registry="team.azurecr.io/images")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def exported(job: Job, config: Config = REGISTRY) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(to_azureml(job, config))
    return found


def read_by_azure(text: str, folder: Path) -> Any:
    """The job that azure-ai-ml reads, its own validation passed."""
    import logging
    from io import StringIO

    from azure.ai.ml import load_job

    logging.disable(logging.CRITICAL)
    try:
        job: Any = load_job(StringIO(text), relative_origin=str(folder / "exported.yml"))
        if job.type == "pipeline":
            assert job._validate().passed, job._validate()
    finally:
        logging.disable(logging.NOTSET)
    return job


@pytest.mark.parametrize(
    "path", sorted(SAMPLES.glob("*/*.yml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)  # fmt: skip
def test_every_sample(path: Path) -> None:
    if "Component.schema" in path.read_text():
        pytest.skip("a component, not a job")
    config = settings.load(path.parent, {"RUNNER_REGISTRY": ""})
    job = load(path)
    if "retry:" in path.read_text():
        with pytest.raises(SpecError, match="tries nothing again"):
            to_azureml(job, config, registry="team.azurecr.io/images")
        return
    text = to_azureml(job, config, registry="team.azurecr.io/images")
    read = read_by_azure(text, path.parent)
    assert read.display_name == job.display_name
    assert not re.search(r"\b(libs|script|args|retry):", text)


def test_what_azure_knows_stays(files: Files) -> None:
    job = files.load(
        "type: command\ncommand: >-\n  echo ${{inputs.a}} $[[--b ${{inputs.b}}]] $HOME > ${{outputs.o}}\ncode: .\n"
        "environment: azureml:sklearn@latest\ncompute: azureml:cpu\n"
        "inputs:\n  a: {type: uri_file, path: data.csv, mode: download}\n  b: {type: integer, optional: true, value: 3}\n"
        "outputs:\n  o: {type: uri_file, path: 'azureml://datastores/x/paths/${{name}}', mode: upload}\n"
        "environment_variables: {A: b}\nlimits: {timeout: 60}\n"
        "resources: {instance_count: 2, shm_size: 2g, docker_args: --gpus all}\n"
        "distribution: {type: mpi, process_count_per_instance: 1}\nidentity: {type: managed}\ntags: {x: y}\n"
    )
    (files.folder / "data.csv").write_text("1")
    found = exported(job)
    assert found["command"] == "echo ${{inputs.a}} $[[--b ${{inputs.b}}]] $HOME > ${{outputs.o}}"
    assert found["environment"] == "azureml:sklearn@latest"
    assert found["inputs"] == {"a": {"type": "uri_file", "path": "./data.csv", "mode": "download"}, "b": 3}
    assert found["outputs"]["o"]["path"] == "azureml://datastores/x/paths/${{name}}"
    assert found["resources"] == {"instance_count": 2, "docker_args": "--gpus all", "shm_size": "2147483648b"}
    assert (found["compute"], found["code"], found["limits"]) == ("azureml:cpu", ".", {"timeout": 60})
    assert (found["distribution"]["type"], found["identity"]["type"]) == ("mpi", "managed")
    read_by_azure(to_azureml(job, REGISTRY), files.folder)


def test_libs_are_the_image_that_is_pushed(files: Files) -> None:
    files.write("pip: [requests]\n", "libs.yaml")
    job = files.load("type: command\ncommand: echo\nenvironment: {libs: libs.yaml}\n")
    image = exported(job)["environment"]["image"]
    assert re.fullmatch(r"team\.azurecr\.io/images/\S+:[0-9a-f]{16}", image)
    with pytest.raises(SpecError, match=r"which registry its image is in\n.*--registry"):
        to_azureml(job, Config())


def test_all_that_cannot_be_said_is_told_at_once(files: Files) -> None:
    with pytest.raises(SpecError) as caught:
        to_azureml(
            files.load(
                "type: pipeline\njobs:\n  a: {type: command, command: echo, retry: {count: 2}}\n"
                "  b: {type: command, command: echo, environment: {image: x}, retry: {count: 1}}\n"
            ),
            Config(),
        )
    text = str(caught.value)
    assert text.startswith("3 things cannot be said")
    assert "job.yml:3" in text
    assert "job.yml:4" in text
    assert "registry" in text


def test_a_pipeline_with_everything(files: Files) -> None:
    files.write(
        "type: command\nname: part\nversion: 1\ncommand: echo ${{inputs.x}} ${{inputs.n}} > ${{outputs.o}}\n"
        "inputs:\n  x: {type: uri_folder}\n  n: {type: number, default: 1.5, min: 1, max: 2}\n"
        "  t: {type: string, optional: true, default: ''}\noutputs:\n  o: {type: uri_file}\nis_deterministic: false\n"
        "environment: {image: x}\n",
        "part.yml",
    )
    (files.folder / "data").mkdir()
    text = to_azureml(
        files.load(
            "type: pipeline\nsettings: {default_compute: azureml:cpu, force_rerun: true}\n"
            "inputs: {data: {type: uri_folder, path: data}, n: 2}\noutputs: {r: {type: uri_file, mode: upload}}\n"
            "jobs:\n  one: {type: command, component: ./part.yml, inputs: {x: '${{parent.inputs.data}}', n: 1.25},"
            " compute: azureml:gpu, limits: {timeout: 5}, environment_variables: {A: b}}\n"
            "  two:\n    type: command\n    script: a b.sh\n    args: ['${{inputs.f}}', \"it's\", '$[[x]]']\n"
            "    environment: {image: y}\n"
            "    inputs: {f: {path: '${{parent.jobs.one.outputs.o}}', mode: download}}\n"
            "    outputs: {r: '${{parent.outputs.r}}'}\n"
            "  three: {type: parallel, component: azureml:p:1, inputs: {d: '${{parent.jobs.one.outputs.o}}'}}\n"
        ),
        REGISTRY,
    )
    found = yaml.safe_load(text)
    one, two = found["jobs"]["one"], found["jobs"]["two"]
    assert one["component"]["inputs"]["n"] == {"type": "number", "default": 1.5, "min": 1.0, "max": 2.0}
    assert one["component"]["is_deterministic"] is False
    assert one["component"]["inputs"]["t"]["optional"] is True
    assert (one["inputs"]["n"], one["compute"], one["limits"]) == (1.25, "azureml:gpu", {"timeout": 5})
    assert one["environment_variables"] == {"A": "b"}
    assert two["component"]["command"] == "bash 'a b.sh' '${{inputs.f}}' 'it'\"'\"'s' '$''[[x]]'"
    assert two["inputs"]["f"] == {"path": "${{parent.jobs.one.outputs.o}}", "mode": "download"}
    assert two["outputs"] == {"r": "${{parent.outputs.r}}"}
    assert found["settings"] == {"default_compute": "azureml:cpu", "force_rerun": True}
    read_by_azure(text, files.folder)


def test_an_exported_job_is_one_of_ours_again(files: Files) -> None:
    """What it means has not changed: our own reader gets the same steps from both."""
    for sample in ("nested/pipeline.yml", "mixed/pipeline.yml", "sweep/pipeline.yml"):
        job = load(SAMPLES / sample)
        place = files.folder / sample.partition("/")[0]
        text = to_azureml(job, REGISTRY, folder=place)
        again = load(files.write(text, f"{place.name}/exported.yml"))
        before, after = drafts(job), drafts(again)
        assert [_said(each) for each in after.steps] == [_said(each) for each in before.steps]
        assert {name: _flat(each) for name, each in after.outputs.items()} == {
            name: _flat(each) for name, each in before.outputs.items()
        }


def _said(step: Draft) -> tuple[Any, ...]:
    upstream = {name: _flat(each) for name, each in step.upstream.items()}
    parameters = {name: _number(text) for name, text in step.parameters.items()}
    return step.name.replace(".", "_"), step.argv, upstream, parameters, step.data


def _flat(each: Upstream) -> Upstream:
    """A step of a nested pipeline is one of the pipeline itself after the export."""
    return Upstream(each.step.replace(".", "_"), each.output)


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
_ODD = st.lists(
    st.sampled_from(["$", "{{", "}}", "[[", "]]", "'", '"', "\\", "`", " ", "\n", "x", "inputs.a", "$("]), max_size=8
).map("".join)


@given(st.lists((_TEXT | _ODD).filter(lambda text: "{{inputs.a}}" not in text), min_size=1, max_size=5))
def test_arguments_arrive_through_azure_and_bash(tmp_path: Path, words: list[str]) -> None:
    script = tmp_path / "show.py"
    script.write_text("import os, sys\nos.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))\n")
    text = compiled(str(script), (*words, "--in=${{inputs.a}}"))
    ran = subprocess.run(
        [BASH, "-c", substituted(text, {"inputs.a": "/mnt/a b"})], capture_output=True, check=True, timeout=30
    )
    assert ran.stdout == b"\0".join([word.encode() for word in words] + [b"--in=/mnt/a b"])


def test_what_was_made_in_python(tmp_path: Path) -> None:
    from runner import Pipeline, step

    code = tmp_path / "src"
    code.mkdir()
    (code / "a.py").write_text("1")
    with Pipeline("made") as pipeline:
        step(code / "a.py", name="first", args=["--to", "${{outputs.o}}"], image="x", outputs=["o"], memory="1g", cpus=2,
             shm_size="1g")  # fmt: skip
    found = exported(pipeline.to_job())
    first = found["jobs"]["first"]
    assert first["resources"] == {"shm_size": "1073741824b", "docker_args": "--cpus=2 --memory=1g"}
    assert first["component"]["command"] == "python3 a.py --to '${{outputs.o}}'"
    assert found["settings"]["default_compute"] == "serverless"


_EXAMPLES = os.environ.get("RUNNER_AZUREML_EXAMPLES")


@pytest.mark.skipif(not _EXAMPLES, reason="RUNNER_AZUREML_EXAMPLES names no folder with Azure's examples (cli/jobs)")
def test_azures_own_examples_are_read_by_azure_after_the_export() -> None:
    """Wherever azure-ai-ml reads the original. Both are read, so that a fault of the example is not taken for ours."""
    read = 0
    wrong = []
    for path in sorted([*Path(_EXAMPLES or "").rglob("*.yml"), *Path(_EXAMPLES or "").rglob("*.yaml")]):
        if "Component.schema" in path.read_text("utf-8"):
            continue
        try:
            job = load(path)
            read_by_azure(path.read_text("utf-8"), path.parent)
        except Exception:
            continue
        try:
            read_by_azure(to_azureml(job, REGISTRY), path.parent)
            read += 1
        except Exception as error:
            wrong.append(f"{path}: {error}")
    assert wrong == []
    assert read > 10


def test_a_value_that_would_end_its_quotes_is_refused(files: Files) -> None:
    text = """
type: pipeline
inputs: {word: "it's"}
jobs:
  one:
    script: a.py
    args: ["--word", "${{inputs.w}}", "--n", "${{inputs.n}}"]
    code: .
    environment: {image: "python:3.12"}
    inputs: {w: "${{parent.inputs.word}}", n: 1}
"""
    files.write("", "a.py")
    with pytest.raises(SpecError, match="the input w holds a single quote"):
        to_azureml(files.load(text), REGISTRY)
    with pytest.raises(SpecError, match="the input w holds a single quote"):
        component(files.load(text), REGISTRY, "c", built=lambda _: {})
    assert "'${{inputs.w}}'" in to_azureml(files.load(text, "inputs.word=its"), REGISTRY)
    mixed = text.replace('w: "${{parent', 'w: "x ${{parent')
    with pytest.raises(SpecError, match="the input w holds"):
        to_azureml(files.load(mixed), REGISTRY)
    job = "script: a.py\nargs: ['${{inputs.w}}']\ncode: .\nenvironment: {image: 'python:3.12'}\ninputs: {w: \"'\"}\n"
    with pytest.raises(SpecError, match="the input w holds"):
        to_azureml(files.load(job), REGISTRY)
    assert "echo ${{inputs.w}}" in to_azureml(files.load('command: echo ${{inputs.w}}\ninputs: {w: "\'"}\n'), REGISTRY)


def test_an_image_that_only_the_engine_has(files: Files) -> None:
    """By its name it is what `runner push` makes of it; an id says nothing to anybody else."""
    text = "command: echo\nenvironment: {image: 'localhost/churn:1'}\n"
    assert exported(files.load(text))["environment"] == {"image": "team.azurecr.io/images/churn:1"}
    with pytest.raises(SpecError, match="is an id, by which only this machine knows it"):
        to_azureml(files.load(text, f"environment.image=sha256:{'0' * 64}"), REGISTRY)


def test_each_thing_is_told_once_and_its_way_out_below_it(files: Files) -> None:
    text = """
type: pipeline
jobs:
  one: {command: echo, environment: {image: IMAGE}}
  two: {command: echo, environment: {image: IMAGE}, retry: {count: 1}}
""".replace("IMAGE", f"sha256:{'0' * 64}")
    with pytest.raises(SpecError) as caught:
        to_azureml(files.load(text), REGISTRY)
    assert caught.value.message == "3 things cannot be said in Azure ML's YAML"
    assert [line[:4] for line in caught.value.hints].count("  → ") == 2


def test_lines_stay_lines(files: Files) -> None:
    text = to_azureml(files.load("command: |\n  echo 'a:  b'\n\n  echo ü # c\n"), REGISTRY)
    assert "command: |\n  echo 'a:  b'\n\n  echo ü # c\n" in text


def _by_digest(environment: Environment | None) -> dict[str, str]:
    assert environment is not None
    assert environment.image == "docker.io/library/python:3.12"
    return {"image": "r.io/pushed@sha256:0"}


def test_a_pipeline_as_a_component(tmp_path: Path) -> None:
    file = tmp_path / "pipe.yml"
    file.write_text("""
type: pipeline
description: of the job
settings: {default_compute: azureml:cpu}
inputs:
  lr: 0.5
  data: {type: uri_folder, path: ./d}
outputs: {model: {type: uri_folder}}
jobs:
  fit:
    command: fit ${{inputs.lr}} ${{inputs.data}} ${{outputs.o}}
    code: ./src
    environment: {image: "docker.io/library/python:3.12"}
    inputs: {lr: "${{parent.inputs.lr}}", data: "${{parent.inputs.data}}"}
    outputs: {o: "${{parent.outputs.model}}"}
""")
    made = component(load(file), Config(), "fit_it", built=_by_digest)
    assert made["jobs"]["fit"]["component"]["environment"] == {"image": "r.io/pushed@sha256:0"}
    assert (made["type"], made["name"], made["description"]) == ("pipeline", "fit_it", "of the job")
    assert made["inputs"] == {"lr": {"type": "number", "default": 0.5}, "data": {"type": "uri_folder"}}
    assert made["outputs"] == {"model": {"type": "uri_folder"}}
    assert "settings" not in made
    assert made["jobs"]["fit"]["component"]["code"] == f".{tmp_path}/src", "from the root, wherever it is read"
    file.write_text("command: echo\nenvironment: {image: x}\n")
    with pytest.raises(UsageError, match="only a pipeline"):
        component(load(file), Config(), "fit_it", built=_by_digest)
