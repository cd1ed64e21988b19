"""Job files of all kinds: what is read out of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from runner.job import (
    Command,
    Data,
    DataType,
    Environment,
    Foreign,
    Graph,
    Mode,
    Objective,
    Output,
    Reference,
    Sampling,
    Sweep,
    SweepLimits,
)  # fmt: skip
from runner.model import Limits, Reason, RetryPolicy
from runner.spec.job import load
from tests.unit.job_files import Files

COMMAND = """\
type: command
name: here
display_name: Here
experiment_name: trials
description: what it is for
tags: {owner: me, stage: 1.10}
compute: azureml:cpu-cluster
command: python a.py --lr ${{inputs.lr}} $[[--depth ${{inputs.depth}}]] --out ${{outputs.model}}
code: ./src
environment: {image: "python:3.12"}
environment_variables: {A: 1.10, B: true, C: }
inputs:
  lr: 0.10
  flag: yes
  text: "007"
  depth: {type: integer, optional: true}
  data: {type: uri_file, path: ./data.csv, mode: download}
  far: {path: "https://a.example/x.csv"}
  whole: {value: 3}
outputs:
  model: {type: mlflow_model, mode: upload, path: "azureml://datastores/x/paths/${{name}}", name: m, version: 2}
  rest:
limits: {timeout: 90}
resources: {shm_size: 2g, instance_type: x, docker_args: "--ipc=host --ulimit memlock=-1:5 -m 3g --cpus 1.5"}
retry: {count: 2, on: [OutOfMemory, lost], memory: x2}
is_deterministic: false
"""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def command(files: Files, text: str, *sets: str) -> Command:
    made = files.load(text, *sets).component
    assert isinstance(made, Command)
    return made


def graph(files: Files, text: str, *sets: str) -> Graph:
    made = files.load(text, *sets).component
    assert isinstance(made, Graph)
    return made


# -- commands -------------------------------------------------------------------------------------------------------


def test_a_command_job_whole(files: Files) -> None:
    job = files.load(COMMAND)
    made = job.component
    assert isinstance(made, Command)
    assert (job.name, job.display_name, job.experiment, job.compute) == ("here", "Here", "trials", "cpu-cluster")
    assert job.tags == {"owner": "me", "stage": "1.10"}
    assert job.file == files.folder / "job.yml"
    assert job.problems == ()
    assert job.inputs == {
        "lr": "0.10",
        "flag": "True",
        "text": "007",
        "data": Data(str(files.folder / "data.csv"), DataType.URI_FILE, Mode.DOWNLOAD),
        "far": Data("https://a.example/x.csv"),
        "whole": "3",
    }
    kinds = {name: one.type.value for name, one in made.inputs.items()}
    assert kinds == {
        "lr": "number", "flag": "boolean", "text": "string", "depth": "integer", "data": "uri_file", "far": "uri_folder",
        "whole": "integer",
    }  # fmt: skip
    assert made.inputs["depth"].optional
    place = "azureml://datastores/x/paths/${{name}}"
    assert made.outputs == job.outputs
    assert made.outputs == {
        "model": Output(DataType.MLFLOW_MODEL, Mode.UPLOAD, place, asset=("m", "2")),
        "rest": Output(),
    }
    assert made.variables == {"A": "1.10", "B": "True", "C": ""}
    assert made.code is not None
    assert made.code.path == files.folder / "src"
    assert made.environment == Environment(image="python:3.12")
    assert made.limits == Limits(
        cpus=1.5, memory_bytes=3 << 30, shm_bytes=2 << 30, timeout_s=90.0, ulimits={"memlock": (-1, 5)}, host_ipc=True
    )
    assert made.retry == RetryPolicy(2, (Reason.OUT_OF_MEMORY, Reason.LOST), 2.0)
    passed = {"instance_type": "x", "docker_args": "--ipc=host --ulimit memlock=-1:5 -m 3g --cpus 1.5"}
    assert made.native == {"resources": passed}, "what Azure ML gets as it was written"
    assert not made.deterministic


def test_a_script_with_arguments_byte_for_byte(files: Files) -> None:
    made = command(files, "type: command\nscript: fit.R\nargs: [--n, 1.10, 'a b', yes]\nenvironment: {libs: l.yaml}\n")
    assert (made.script, made.args) == ("fit.R", ("--n", "1.10", "a b", "True"))
    assert made.environment == Environment(libs=files.folder / "l.yaml")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("command: echo\n", Command),
        ("$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json\ncommand: echo\n", Command),
        ("$schema: http://azureml/sdk-2-0/CommandComponent.json\nname: x\nversion: 1\ncommand: echo\n", Command),
        ("jobs: {a: {command: echo}}\n", Graph),
        ("type: Pipeline\njobs: {a: {command: echo}}\n", Graph),
        (
            (
                "trial: {command: echo}\nsearch_space: {x: {type: choice, values: [1]}}\n"
                "objective: {goal: Maximize, primary_metric: m}\n"
            ),
            Sweep,
        ),
        ("$schema: https://azuremlschemas.azureedge.net/latest/sparkJob.schema.json\nentry: {file: a.py}\n", Foreign),
    ],
)
def test_the_kind_is_told_without_a_type(files: Files, text: str, kind: type) -> None:
    assert isinstance(files.load(text).component, kind)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("azureml:sk@latest", Environment(reference="azureml:sk@latest")),
        ("azureml://registries/azureml/environments/x/versions/1",
         Environment(reference="azureml://registries/azureml/environments/x/versions/1")),
        ("{image: a, conda_file: ./conda.yml}", Environment(image="a", conda=Path("F/conda.yml"))),
        ("{image: a, conda_file: {dependencies: [pip]}}", Environment(image="a", conda={"dependencies": ["pip"]})),
        ("{build: {path: ctx, dockerfile_path: D}}", Environment(context=Path("F/ctx"), dockerfile="D")),
        ("{name: x, version: 1.10}", Environment(reference="azureml:x:1.10")),
        ("file:./sub/env.yml", Environment(image="from-file", conda=Path("F/sub/c.yml"))),
        ("sub/env.yml", Environment(image="from-file", conda=Path("F/sub/c.yml"))),
    ],
)  # fmt: skip
def test_environments(files: Files, given: str, expected: Environment) -> None:
    files.write("name: e\nimage: from-file\nconda_file: c.yml\n", "sub/env.yml")
    made = command(files, f"command: echo\nenvironment: {given}\n").environment
    assert made is not None
    texts = [str(one).replace(str(files.folder), "F") for one in (made.image, made.conda, made.context, made.reference)]
    assert texts == [str(one) for one in (expected.image, expected.conda, expected.context, expected.reference)]
    assert made.dockerfile == expected.dockerfile


def test_code_of_git_and_includes(files: Files) -> None:
    git = command(files, "command: echo\ncode: git+https://a.example/r.git@v1\n").code
    assert git is not None
    assert (git.git, git.path) == ("git+https://a.example/r.git@v1", None)
    files.write("# what else\n../lib\n\n", "c/train.additional_includes")
    files.write("type: command\nname: x\ncommand: echo\ncode: .\nadditional_includes: [a.txt]\n", "c/train.yml")
    inner = graph(files, "jobs: {a: {component: c/train.yml}}\n").nodes["a"].component
    assert isinstance(inner, Command)
    assert inner.code is not None
    assert inner.code.path == files.folder / "c"
    assert inner.code.includes == (files.folder / "c" / "a.txt", files.folder / "lib")


def test_a_component_by_itself_takes_defaults_and_sets(files: Files) -> None:
    text = """\
type: command
name: c
version: 1
inputs:
  lr: {type: number, default: 1.10, min: 0, max: 2}
  data: {type: uri_folder}
  how: {type: string, enum: [a, b], optional: true}
command: run ${{inputs.lr}} ${{inputs.data}} $[[${{inputs.how}}]]
"""
    job = files.load(text, "inputs.data=./here", "inputs.how=b")
    assert job.inputs == {"data": Data(str(files.folder / "here"), DataType.URI_FOLDER), "how": "b"}
    assert isinstance(job.component, Command)
    assert job.component.inputs["lr"].default == "1.10"
    assert (job.component.name, job.component.version) == ("c", "1")
    assert "job.yml: the input 'data' is missing\n  --set inputs.data=VALUE" in files.error(text)
    assert "--set: inputs.lr: expected 2 or less, found 3" in files.error(text, "inputs.data=a", "inputs.lr=3")
    assert "--set: inputs.how: 'c' is none of a, b" in files.error(text, "inputs.data=a", "inputs.how=c")
    assert "there is no 'dta'\n  did you mean data?" in files.error(text, "inputs.dta=a")


# -- pipelines ------------------------------------------------------------------------------------------------------

STEP = """\
type: command
name: step
inputs:
  data: {type: uri_file}
  lr: {type: number, default: 0.5}
outputs:
  model: {type: uri_folder}
command: fit ${{inputs.data}} ${{inputs.lr}} ${{outputs.model}}
environment: azureml:e@latest
environment_variables: {A: a, B: b}
resources: {shm_size: 1g}
"""
PIPELINE = """\
type: pipeline
inputs: {raw: {type: uri_file, path: x.csv}, rate: 0.10}
outputs: {final: , table: {type: uri_file}}
settings: {default_compute: azureml:cpu, default_datastore: azureml:store, continue_on_step_failure: true, force_rerun: True}
jobs:
  fit:
    type: command
    component: ./step.yml
    display_name: Fit
    compute: azureml:big
    inputs: {data: "${{parent.inputs.raw}}", lr: "${{parent.inputs.rate}}"}
    outputs: {model: "${{parent.outputs.final}}"}
    environment: {image: own}
    environment_variables: {B: c}
    limits: {timeout: 5}
  look:
    command: look ${{inputs.m}} ${{inputs.r}} ${{inputs.t}} > ${{outputs.t}}
    inputs:
      m: {type: uri_folder, path: "${{parent.jobs.fit.outputs.model}}", mode: download}
      r: ${{parent.inputs.rate}}
      t: rate-${{parent.inputs.rate}}
      raw: ${{parent.inputs.raw}}
    outputs:
      t: ${{parent.outputs.table}}
"""


def test_a_pipeline_whole(files: Files) -> None:
    files.write(STEP, "step.yml")
    job = files.load(PIPELINE)
    made = job.component
    assert isinstance(made, Graph)
    assert job.problems == ()
    assert job.inputs == {"raw": Data(str(files.folder / "x.csv"), DataType.URI_FILE), "rate": "0.10"}
    assert made.settings.default_compute == "cpu"
    assert made.settings.default_datastore == "store"
    assert made.settings.continue_on_step_failure is made.settings.force_rerun is True
    assert {name: one.type.value for name, one in made.outputs.items()} == {"final": "uri_folder", "table": "uri_file"}
    fit, look = made.nodes["fit"], made.nodes["look"]
    assert (fit.compute, fit.display_name) == ("big", "Fit")
    assert fit.inputs == {"data": Reference("raw"), "lr": Reference("rate")}
    assert fit.outputs["model"].parent == "final"
    inner = fit.component
    assert isinstance(inner, Command)
    assert inner.environment == Environment(image="own")
    assert inner.variables == {"A": "a", "B": "c"}
    assert (inner.limits.shm_bytes, inner.limits.timeout_s) == (1 << 30, 5.0)
    assert inner.name == "step"
    assert look.inputs["m"] == Reference("model", "fit", DataType.URI_FOLDER, Mode.DOWNLOAD)
    assert look.inputs["t"] == "rate-${{parent.inputs.rate}}"
    kinds = {name: one.type.value for name, one in look.component.inputs.items()}
    assert kinds == {"m": "uri_folder", "r": "number", "t": "string", "raw": "uri_file"}
    assert look.component.outputs["t"].type is DataType.URI_FILE


def test_nested_pipelines_and_inline_components(files: Files) -> None:
    files.write(STEP, "parts/step.yml")
    files.write(
        "type: pipeline\nname: inner\ninputs: {d: {type: uri_file}}\noutputs: {m: {type: uri_folder}}\njobs:\n"
        "  one: {component: step.yml, inputs: {data: '${{parent.inputs.d}}'}, outputs: {model: '${{parent.outputs.m}}'}}\n",
        "parts/inner.yml",
    )
    made = graph(files, """\
jobs:
  all: {type: pipeline, component: parts/inner.yml, inputs: {d: {type: uri_file, path: x}}}
  use:
    type: command
    inputs: {m: "${{parent.jobs.all.outputs.m}}"}
    component: {type: command, inputs: {m: {type: uri_folder}}, command: "ls ${{inputs.m}}"}
""")  # fmt: skip
    inner = made.nodes["all"].component
    assert isinstance(inner, Graph)
    assert (inner.name, {*inner.nodes}) == ("inner", {"one"})
    assert made.nodes["use"].inputs == {"m": Reference("m", "all")}


def test_a_pipeline_job_of_a_component(files: Files) -> None:
    files.write("type: pipeline\nname: p\ninputs: {n: {type: integer}}\njobs: {a: {command: echo}}\n", "p.yml")
    job = files.load("type: pipeline\ncomponent: ./p.yml\ninputs: {n: 3}\nsettings: {force_rerun: true}\n")
    assert isinstance(job.component, Graph)
    assert job.inputs == {"n": "3"}
    assert job.component.settings.force_rerun is True
    wrong = files.error("type: pipeline\ncomponent: ./p.yml\ninputs: {n: x}\n")
    assert wrong == "job.yml:3: inputs.n: expected an integer, found 'x'"


def test_a_named_component_is_a_problem_or_the_file_that_it_is_mapped_to(files: Files) -> None:
    text = "type: pipeline\njobs: {a: {component: 'azureml:s:1', inputs: {data: {type: uri_file, path: x}}}}\n"
    assert [one.feature for one in files.load(text).problems] == ["component.named"]
    mapped = files.write(STEP, "step.yml")
    job = load(files.folder / "job.yml", components={"azureml:s:1": mapped}.get)
    assert job.problems == ()
    assert isinstance(job.component, Graph)
    assert isinstance(job.component.nodes["a"].component, Command)


def test_a_component_file_is_read_once_and_its_problems_are_told_once(files: Files) -> None:
    files.write("type: command\ncommand: echo\ndistribution: {type: pytorch}\n", "d.yml")
    job = files.load("jobs: {a: {component: d.yml}, b: {component: d.yml}}\n")
    assert [(one.feature, one.where.line) for one in job.problems] == [("distribution", 3)]


def test_problems_are_in_the_order_of_the_file(files: Files) -> None:
    job = files.load(
        "type: pipeline\njobs:\n  a: {command: echo, distribution: {type: mpi}}\n  b: {type: spark, entry: {file: x}}\n"
        "  c: {command: echo, resources: {instance_count: 3, docker_args: [--gpus, all]}}\nsettings: {on_init: a}\n"
    )
    assert [(one.feature, one.where.line) for one in job.problems] == [
        ("distribution", 3), ("spark", 4), ("docker_args.other", 5), ("resources.instance_count", 5), ("settings.hooks", 6),
    ]  # fmt: skip


def test_what_azure_takes_and_drops_is_a_warning(files: Files) -> None:
    files.write(STEP, "step.yml")
    job = files.load(
        "type: pipeline\nsettings: {default_datestore: x}\njobs:\n  a:\n    component: step.yml\n"
        "    inputs: {data: {type: uri_file, path: x}, other: 3}\n"
    )
    assert [warning.replace(str(files.folder), "") for warning in job.warnings] == [
        "/job.yml:2: settings.default_datestore: unknown key in settings, did you mean default_datastore?; it has no effect",
        "/job.yml:6: jobs.a.inputs.other: its component has no input 'other'; it has no effect",
    ]


# -- sweeps ---------------------------------------------------------------------------------------------------------

SPACE = """\
search_space:
  c: {type: choice, values: [a, 1, 2.5, true]}
  u: {type: Uniform, min_value: 0.1, max_value: 1e-0}
  qu: {type: quniform, min_value: 1, max_value: 9, q: 2}
  lu: {type: loguniform, min_value: -6, max_value: -1}
  qlu: {type: qloguniform, min_value: -6, max_value: -1, q: 1}
  n: {type: normal, mu: 0, sigma: 1}
  qn: {type: qnormal, mu: 0, sigma: 1, q: 1}
  ln: {type: lognormal, mu: 0, sigma: 1}
  qln: {type: qlognormal, mu: 0, sigma: 1, q: 1}
  r: {type: randint, upper: 7}
objective: {goal: maximize, primary_metric: acc}
sampling_algorithm: {type: random, seed: 3, rule: sobol, logbase: e}
limits: {max_total_trials: 4, max_concurrent_trials: 2, timeout: 60, trial_timeout: 9}
early_termination: {type: bandit, slack_factor: 0.2, evaluation_interval: 2, delay_evaluation: 5}
"""


def test_a_sweep_job_whole(files: Files) -> None:
    job = files.load(
        "type: sweep\ninputs: {d: {type: uri_folder, path: d}}\noutputs: {m: }\n"
        "trial: {command: 't ${{inputs.d}} ${{search_space.c}} ${{inputs.u}} ${{outputs.m}}', environment: {image: a}}\n"
        "resources: {shm_size: 1g}\n" + SPACE
    )
    made = job.component
    assert isinstance(made, Sweep)
    kinds = [one.kind for one in made.search_space.values()]
    assert kinds == ["choice", "uniform", "quniform", "loguniform", "qloguniform", "normal", "qnormal", "lognormal",
                     "qlognormal", "randint"]  # fmt: skip
    assert made.search_space["c"].values == ("a", 1, 2.5, True)
    assert (made.search_space["u"].low, made.search_space["u"].high) == (0.1, 1.0)
    assert made.search_space["qn"].q == 1
    assert made.search_space["r"].high == 7
    assert made.objective == Objective("maximize", "acc")
    assert made.sampling == Sampling("sobol", 3, math.e)
    assert made.limits == SweepLimits(4, 2, 60, 9)
    assert made.early_termination is not None
    assert (made.early_termination.kind, made.early_termination.slack_factor) == ("bandit", 0.2)
    assert made.trial.limits.shm_bytes == 1 << 30
    assert {*made.inputs} == {"d"}
    assert {*made.outputs} == {"m"}


def test_a_sweep_in_a_pipeline_of_a_component_and_inline(files: Files) -> None:
    files.write(STEP, "step.yml")
    made = graph(files, """\
type: pipeline
jobs:
  a:
    type: sweep
    trial: ./step.yml
    inputs: {data: {type: uri_file, path: x}}
    search_space: {lr: {type: uniform, min_value: 0, max_value: 1}}
    objective: {goal: minimize, primary_metric: m}
    sampling_algorithm: bayesian
  b:
    type: sweep
    trial: {command: "t ${{inputs.lr}} ${{inputs.m}} ${{outputs.o}}"}
    inputs: {m: "${{parent.jobs.a.outputs.model}}"}
    outputs: {o: {type: uri_file}}
    search_space: {lr: {type: uniform, min_value: 0, max_value: 1}}
    objective: {goal: minimize, primary_metric: m}
""")  # fmt: skip
    first, second = made.nodes["a"].component, made.nodes["b"].component
    assert isinstance(first, Sweep)
    assert isinstance(second, Sweep)
    assert first.sampling == Sampling("bayesian")
    assert second.trial.inputs["m"].type is DataType.URI_FOLDER
    assert second.outputs["o"].type is DataType.URI_FILE
