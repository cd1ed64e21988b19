"""What is wrong in a job file: where, what, and the nearest right word; all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.job_files import Files

STEP = "type: command\nname: s\ninputs: {d: {type: uri_file}, n: {type: number, default: 1, max: 5}, "
STEP += "depth: {type: integer, default: 2}}\n"
STEP += "outputs: {m: {type: uri_folder}}\ncommand: fit ${{inputs.d}} ${{inputs.n}} ${{outputs.m}}\n"
SWEEP = "type: sweep\ntrial: {command: echo}\nobjective: {goal: minimize, primary_metric: m}\nsearch_space:\n  x: "


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.write(STEP, "s.yml")
    return files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "job.yml: the file is empty"),
        ("a: 1\n", "job.yml: type is missing\n  expected `type:` with one of command, pipeline, sweep"),
        ("type: comand\ncommand: echo\n", "job.yml:1: type: 'comand' is no kind of job\n  did you mean command?"),
        (
            "$schema: https://a.example/latest/environment.schema.json\nname: x\n",
            "it describes a environment, not a job",
        ),
        ("command: echo\ncomand: x\n", "job.yml:2: comand: unknown key in a command job\n  did you mean command?"),
        (
            "command: echo\nlimits:\n  timout: 3\n",
            "job.yml:3: limits.timout: unknown key in limits\n  did you mean timeout?",
        ),
        ("command: echo\nlimits: {timeout: 0}\n", "job.yml:2: limits.timeout: expected 1 or more, found 0"),
        ("command: echo\nlimits: {timeout: 5m}\n", "expected a whole number, found '5m'"),
        ("command: [a]\n", "job.yml:1: command: expected text, found a list"),
        ("type: command\n", "job.yml: command is missing"),
        ("command: ' '\n", "job.yml:1: command: is empty"),
        ("command: a\nscript: b\n", "job.yml:2: script: command and script are both given"),
        ("command: a\nargs: [b]\n", "job.yml:2: args: args go with a script"),
        ("command: a\nenvironment: python:3.12\n", "for an image: environment: {image: python:3.12}"),
        ("command: a\nenvironment: {image: a, build: {path: b}}\n", "image and build are both given"),
        ("command: a\nenvironment: file:./no.yml\n", "job.yml:2: environment: the environment cannot be read: "),
        ("command: a\nenvironment: {conda_file: x}\n", "job.yml:2: environment: names no image"),
        ("command: a\nresources: {shm_size: 2x}\n", "job.yml:2: resources.shm_size: '2x' is not a size"),
        ("command: a\nresources: {docker_args: '--ulimit x'}\n", "--ulimit x is not a limit"),
        ("command: a\nresources: {docker_args: '--memory'}\n", "--memory has no value"),
        ('command: a\nresources: {docker_args: "--ipc \'a"}\n', "cannot be split into arguments"),
        (
            "command: a\nretry: {count: 1, on: OutOfMemry}\n",
            "'OutOfMemry' is not a reason\n  did you mean OutOfMemory?",
        ),
        ("command: a\nretry: {memory: x99}\n", "'x99' is not a factor\n  expected x2 (from x1 to x16)"),
        ("command: a ${{inputs.x}}\n", "job.yml:1: command: ${{inputs.x}} names no input\n  there are: none"),
        ("command: a\ninputs: {'a b': 1}\n", "job.yml:2: inputs.a b: 'a b' is not a name"),
        ("command: a\ninputs: {x: ${{parent.inputs.y}}}\n", "not valid YAML"),
        ("command: a\ninputs: {x: '${{parent.inputs.y}}'}\n", "${{parent.inputs.y}} has no pipeline around it"),
        ("command: a\ninputs: {x: }\n", "job.yml:2: inputs.x: has no value"),
        ("command: a\ncompute: b\ninputs: {x: {type: uri_file}}\n", "inputs.x: has no value\n  --set inputs.x=VALUE"),
        ("command: a\ninputs: {x: {type: uri_fil, path: a}}\n", "did you mean uri_file?"),
        ("command: a\ninputs: {x: {type: integer, value: 1.5}}\n", "expected an integer, found '1.5'"),
        ("command: a\noutputs: {x: {path: 'azureml://datastores/a/${{nam}}'}}\n", "did you mean ${{name}}?"),
        (
            "script: a.py\nargs: ['$[[${{inputs.x}}]]']\ninputs: {x: {type: string, optional: true}}\n",
            "the optional input 'x' is not given, and the arguments name it",
        ),
        (
            "command: a ${{inputs.x}}\ninputs: {x: {type: string, optional: true}}\n",
            "'x' is not given, and the command names",
        ),
        ("type: pipeline\njobs: {}\n", "job.yml:2: jobs: has no steps"),
        ("jobs:\n  a.b: {command: echo}\n", "'a.b' cannot be a step's name"),
        ("jobs:\n  a: {type: comand}\n", "jobs.a.type: 'comand' is no kind of step\n  did you mean command?"),
        ("jobs:\n  a: {inputs: {}}\n", "job.yml:2: jobs.a: type is missing"),
        ("jobs:\n  a: 3\n", "job.yml:2: jobs.a: expected a mapping (`key: value` lines), found 3"),
        (
            "jobs:\n  a: {type: command, component: ./no.yml}\n",
            "jobs.a.component: the component cannot be read: no.yml: no such file",
        ),
        ("jobs:\n  a: {type: sweep, component: ./s.yml}\n", "unknown key in a sweep step"),
        ("jobs:\n  a: {type: pipeline, component: ./s.yml}\n", "it says pipeline, but its component is a command"),
        (
            "jobs:\n  a: {component: ./s.yml}\n",
            "the input 'd' is missing\n  its component declares it: s.yml:3  inputs.d",
        ),
        (
            "jobs:\n  a: {component: ./s.yml, inputs: {d: 'x', dpth: 3}}\n",
            "job.yml:2: jobs.a.inputs.dpth: its component has no input 'dpth'\n  did you mean depth?",
        ),
        (
            "jobs:\n  a: {component: ./s.yml, inputs: {d: x, n: six}}\n",
            "jobs.a.inputs.n: expected a number, found 'six'",
        ),
        ("jobs:\n  a: {component: s.yml, inputs: {d: x, n: 6}}\n", "jobs.a.inputs.n: expected 5 or less, found 6"),
        (
            "inputs: {bg: 7}\njobs:\n  a:\n    component: s.yml\n    inputs:\n      d: x\n      n: ${{parent.inputs.bg}}\n",
            "job.yml:7: jobs.a.inputs.n: ${{parent.inputs.bg}}: expected 5 or less, found 7\n  given at job.yml:1  inputs",
        ),
        ("jobs:\n  a: {component: s.yml, inputs: {d: x}, outputs: {mm: }}\n", "no output 'mm'\n  known: m"),
        ("jobs:\n  a: {component: s.yml, inputs: {d: x}, command: b}\n", "command is the component's"),
        ("jobs:\n  a: {command: b, inputs: {x: '${{inputs.y}}'}}\n", "did you mean ${{parent.inputs.y}}?"),
        ("jobs:\n  a: {command: b, inputs: {x: '${{parent.inputs.y}}'}}\n", "the pipeline has no input 'y'"),
        (
            "jobs:\n  alpha: {command: b}\n  d: {command: b, inputs: {x: '${{parent.jobs.alpah.outputs.y}}'}}\n",
            "did you mean alpha?",
        ),
        (
            "jobs:\n  a: {component: s.yml, inputs: {d: x}}\n  b: {command: b, inputs: {x: '${{parent.jobs.a.outputs.n}}'}}",
            "job.yml:3: jobs.b.inputs.x: the step 'a' has no output 'n'\n  known: m",
        ),
        (
            (
                "jobs:\n  a: {command: b, outputs: {t: {type: uri_file}}}\n"
                "  b: {component: ./s.yml, inputs: {d: x, n: '${{parent.jobs.a.outputs.t}}'}}\n"
            ),
            "job.yml:3: jobs.b.inputs.n: the output 't' of a is a uri_file, but the step takes a number",
        ),
        (
            "inputs: {x: {type: uri_file, path: a}}\njobs:\n  a: {command: b, inputs: {t: 'y-${{parent.inputs.x}}'}}\n",
            "the uri_file 'x' stands among other text",
        ),
        ("jobs:\n  a: {command: b, outputs: {x: '${{parent.outputs.y}}'}}\n", "the pipeline has no output 'y'"),
        (
            (
                "outputs: {y: }\njobs:\n  a: {command: b, outputs: {o: '${{parent.outputs.y}}'}}\n"
                "  b: {command: b, outputs: {o: '${{parent.outputs.y}}'}}\n"
            ),
            "the output 'y' of the pipeline is that of a.o already",
        ),
        (SWEEP + "{type: choise}\n", "did you mean choice?"),
        (SWEEP + "{type: uniform, min_value: 1}\n", "max_value is missing\n  uniform has: min_value, max_value"),
        (SWEEP + "{type: uniform, min_value: 2, max_value: 1}\n", "min_value 2 is above max_value 1"),
        (SWEEP + "{type: choice, values: []}\n", "search_space.x.values: is empty"),
        (
            SWEEP + "{type: uniform, min_value: 0, max_value: 1}\nsampling_algorithm: grid\n",
            "grid sampling takes choice only",
        ),
        (SWEEP + "{type: randint, upper: 2}\nearly_termination: {type: bandit}\n", "expected either slack_factor or"),
        ("type: sweep\ntrial: {command: echo}\nsearch_space: {}\n", "objective is missing"),
    ],
)
def test_messages(files: Files, text: str, expected: str) -> None:
    assert expected in files.error(text)


def test_a_circle_of_steps_is_named_with_its_lines(files: Files) -> None:
    text = "jobs:\n"
    for name, need in (("c", "a"), ("a", "b"), ("b", "c"), ("d", "a")):
        text += f"  {name}:\n    command: x\n    outputs: {{o: }}\n"
        text += f"    inputs:\n      i: ${{{{parent.jobs.{need}.outputs.o}}}}\n"
    assert files.error(text) == (
        "job.yml:6: jobs.c.inputs.i: steps need each other in a circle: c -> a -> b -> c\n"
        "  c needs a: job.yml:6  jobs.c.inputs.i\n"
        "  a needs b: job.yml:11  jobs.a.inputs.i\n"
        "  b needs c: job.yml:16  jobs.b.inputs.i"
    )


def test_components_that_use_each_other_are_refused(files: Files) -> None:
    files.write("type: pipeline\njobs: {x: {component: ./q.yml}}\n", "p.yml")
    files.write("type: pipeline\njobs: {x: {component: ./p.yml}}\n", "q.yml")
    error = files.error("jobs: {a: {component: ./p.yml}}\n")
    assert "components use each other in a circle: p.yml -> q.yml -> p.yml" in error
    assert "job.yml -> job.yml" in files.error("type: pipeline\ncomponent: ./job.yml\n")


def test_everything_wrong_is_told_at_once_in_all_files(files: Files) -> None:
    files.write("type: command\nname: t\ncommand: echo ${{inputs.no}}\n", "t.yml")
    error = files.error(
        "type: pipeline\ninputs: {lr: 1}\njobs:\n  a:\n    command: x\n    inputs: {x: '${{parent.inputs.lrr}}'}\n"
        "  b: {component: ./t.yml, inputs: {y: 1}}\n  c: {command: 'x ${{inputs.z}}'}\n"
    )
    assert error == (
        "job.yml:6: jobs.a.inputs.x: the pipeline has no input 'lrr'\n"
        "  did you mean lr?\n"
        "  also: job.yml:8: jobs.c.command: ${{inputs.z}} names no input\n"
        "  also: t.yml:3: command: ${{inputs.no}} names no input"
    )


def test_docker_args_are_refused_by_name_without_their_values(files: Files) -> None:
    job = files.load("command: a\nresources: {docker_args: '--privileged -v /:/host -e TOKEN=secret --shm-size=1g'}\n")
    assert [one.reason.split()[0] for one in job.problems] == ["--privileged", "-v", "-e"]
    assert "secret" not in repr(job.problems)
    assert "secret" not in repr(job.component)


# -- --set ----------------------------------------------------------------------------------------------------------

PIPELINE = """\
type: pipeline
inputs: {lr: 0.1, data: {type: uri_file, path: a.csv}, n: {type: integer, value: 3}}
jobs:
  train:
    component: ./s.yml
    inputs: {d: "${{parent.inputs.data}}", n: "${{parent.inputs.lr}}"}
"""


def test_set_puts_values_in_before_anything_is_checked(files: Files) -> None:
    job = files.load(PIPELINE, "inputs.lr=1.10", "inputs.data=b.csv", "inputs.n=5", "jobs.train.resources.shm_size=2g",
                     "settings.force_rerun=true", "jobs.train.inputs.n=4", "tags.who=me")  # fmt: skip
    assert job.inputs["lr"] == "1.10"
    assert job.inputs["n"] == "5"
    assert job.inputs["data"].uri == str(files.folder / "b.csv")  # type: ignore[union-attr]
    assert job.component.settings.force_rerun is True  # type: ignore[union-attr]
    node = job.component.nodes["train"]  # type: ignore[union-attr]
    assert node.inputs["n"] == "4"
    assert node.component.limits.shm_bytes == 2 << 30  # type: ignore[union-attr]
    assert job.tags == {"who": "me"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("inputs.lrr=1", "--set inputs.lrr: there is no 'lrr'\n  did you mean lr?"),
        ("jobs.trian.compute=x", "there is no 'trian'\n  did you mean train?"),
        ("inputs.lr.x=1", "inputs.lr is a value (0.1), so nothing can be set below it"),
        ("jobs.train=1", "it is a mapping; set what is in it\n  such as --set jobs.train.component=VALUE"),
        (
            "jobs.train.resorces.shm_size=1g",
            "--set: jobs.train.resorces: unknown key in a step\n  did you mean resources?",
        ),
        ("jobs.train.resources.shm_size=x", "--set: jobs.train.resources.shm_size: 'x' is not a size"),
        ("jobs.train.inputs.m=1", "--set: jobs.train.inputs.m"),
        ("inputs.lr=9", "expected 5 or less, found 9\n  given at --set  inputs.lr"),
        ("settings.force_rerun=maybe", "--set: settings.force_rerun: expected true or false"),
        ("a..b=1", "'a..b' is not a key"),
    ],
)
def test_set_names_itself_in_errors(files: Files, given: str, expected: str) -> None:
    if given.startswith("jobs.train.inputs.m"):
        job = files.load(PIPELINE, given)
        assert [expected in one for one in job.warnings] == [True]
    else:
        assert expected in files.error(PIPELINE, given)
