"""The command line on Azure ML: what is asked of the workspace, what users see of it, and what each command imports."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.conftest import Cli

if TYPE_CHECKING:
    from pathlib import Path

    from tests.azureml.conftest import Emulator

HERE = ("--backend", "azureml")
_DUMP = """
import sys
from runner.cli import main
sys.argv = ["runner", *sys.argv[1:]]
try:
    main()
finally:
    sys.stderr.write("\\nMODULES " + " ".join(sys.modules))
"""


@pytest.fixture
def azure(emulator: Emulator, cli: Cli, pulled: str) -> Cli:
    """The command where the emulator is Azure, and a script that runs in an image of this machine's engine."""
    cli.env |= dict(emulator.service.env)
    (cli.cwd / "hello.sh").write_text("echo hello $1\nmkdir -p outputs && echo 1 > outputs/one\n")
    (cli.cwd / "job.yml").write_text(
        f"command: echo hello\nenvironment: {{image: {pulled}}}\ncompute: azureml:cpu-cluster\n"
    )
    (cli.cwd / "pipe.yml").write_text(
        f"""
type: pipeline
settings: {{default_compute: azureml:cpu-cluster}}
jobs:
  first: {{command: "echo one", environment: {{image: {pulled}}}}}
  second: {{command: "echo two", environment: {{image: {pulled}}}}}
"""
    )
    return cli


def other_machine(azure: Cli, home: Path) -> Cli:
    other = Cli(home, azure.cwd)
    other.env |= {**azure.env, "RUNNER_HOME": str(home)}
    return other


def test_computes(azure: Cli) -> None:
    done = azure("compute", "list")
    assert done.code == 0, done.err
    assert "cpu-cluster     AmlCompute  Standard_DS3_v2  0 of 0-4  Steady  0 of 24 cores" in done.out
    one = azure("compute", "show", "cpu-cluster", "--json").json
    assert (one["name"], one["usable"], one["most"], one["quota"]["machines"]) == ("cpu-cluster", True, 4, 6)
    assert [each["name"] for each in azure("compute", "list", "--json").json] == ["cpu-cluster", "defaultcompute"]
    assert "6 more machines" in azure("compute", "show", "cpu-cluster").out
    wrong = azure("compute", "show", "cpu-clustr")
    assert wrong.code == 4
    assert "did you mean cpu-cluster?" in wrong.err


def test_what_the_workspace_does_not_have_is_told_before_anything_is_sent(azure: Cli, emulator: Emulator) -> None:
    before = len(emulator.requests(method="PUT"))
    (azure.cwd / "wrong.yml").write_text(
        """
command: cat ${{inputs.d}}
environment: azureml:nothing-like-it@latest
compute: azureml:cpu-clustr
inputs:
  d: {type: uri_file, path: "azureml:no-such-data:1"}
  e: {type: uri_folder, path: "azureml://datastores/workspaceblobstor/paths/x"}
"""
    )
    done = azure("submit", "wrong.yml", *HERE)
    assert done.code == 6
    assert "4 things of this job cannot be had in the workspace emu-ws; nothing was uploaded" in done.err
    for text in ("did you mean cpu-cluster?", "no environment 'nothing-like-it'", "no data asset 'no-such-data'",
                 "did you mean workspaceblobstore?"):  # fmt: skip
        assert text in done.err
    assert azure("list", "--json").json == []
    assert len(emulator.requests(method="PUT")) == before
    many = azure("submit", "job.yml", *HERE, "--instances", "5")
    assert many.code == 6
    assert "it has at most 4 nodes, and 5 were asked for" in many.err
    script = azure("submit", "hello.sh", "--compute", "cpu-cluster", "--image", "azureml:nothing-like-it:1")
    assert "no environment 'nothing-like-it'" in script.err
    unread = azure("submit", "job.yml", *HERE, env={"RUNNER_DOWNLOAD_LIMIT": "zz"})
    assert (unread.code, "RUNNER_DOWNLOAD_LIMIT" in unread.err) == (3, True)
    pipeline = azure("submit", "pipe.yml", *HERE, "--instances", "2")
    assert (pipeline.code, "--set jobs.STEP.resources.instance_count=2" in pipeline.err) == (2, True)


def test_a_workspace_that_is_not_there(azure: Cli) -> None:
    for args in (
        ("compute", "list"),
        ("list", *HERE),
        ("pipeline", "list", *HERE),
        ("pipeline", "show", "x", *HERE),
        ("submit", "hello.sh", "--compute", "cpu-cluster", "--image", "a/b:1"),
    ):
        done = azure(*args, "--workspace", "no-such")
        assert done.code == 8
        assert "error: there is no workspace no-such" in done.err


def test_names_that_no_compute_can_have_are_never_asked_for(azure: Cli, emulator: Emulator) -> None:
    before = emulator.requests(method="PUT")
    for name in ("", "../x", "a/b", "."):
        done = azure("compute", "show", name)
        assert done.code == 4, done.err
        assert "has no compute" in done.err
    done = azure("submit", "hello.sh", "--compute", "a/b", "--image", "a/b:1")
    assert (done.code, "has no compute 'a/b'" in done.err) == (6, True), done.err
    assert emulator.requests(method="PUT") == before
    done = azure("submit", "hello.sh", "--compute", "local", *HERE)
    assert done.code == 2
    assert "--compute local is this machine" in done.err


def test_an_option_that_is_empty_is_not_one_that_is_left_out(azure: Cli) -> None:
    """As of a shell's variable that was never set: the code would go to another place than was meant."""
    for argv in (
        ("submit", "hello.sh", "--compute", ""), ("compute", "list", "--workspace", ""),
        ("submit", "hello.sh", "--compute", "cpu-cluster", "--resource-group", ""),
    ):  # fmt: skip
        done = azure(*argv)
        assert done.code == 2, done.err
        assert f"{argv[-2]} is empty" in done.err


def test_a_list_says_what_it_was_asked_for(azure: Cli) -> None:
    done = azure("list", *HERE, "--status", "Fail")
    assert done.code == 2
    assert "expected one of: NotStarted" in done.err
    done = azure("list", *HERE, "--experiment", "no-such")
    assert (done.code, done.err) == (0, "no such jobs in the workspace emu-ws\n")


def test_what_the_service_never_took_is_told_and_is_no_success(azure: Cli) -> None:
    done = azure("submit", "job.yml", *HERE, "--set", "resources.memory=2g")
    assert done.code == 125
    assert "Unknown field" in done.err
    assert "follow:" not in done.err
    assert "IntelliSense" not in done.err


@pytest.mark.docker
def test_a_run_is_found_in_the_workspace_and_in_the_studio(
    azure: Cli, emulator: Emulator, pulled: str, tmp_path: Path
) -> None:
    name = f"calm-{uuid.uuid4().hex[:8]}"
    done = azure(
        "submit", "hello.sh", "--compute", "cpu-cluster", "--image", pulled, "--wait", "--name", name, "--", "you"
    )
    assert done.code == 0, done.err
    assert done.out == "hello you\n"
    (job,) = [each for each in azure("list", *HERE, "--json").json if each["run"] == name]
    assert (job["display_name"], job["status"], job["local_run"], job["compute"]) == (
        name,
        "Completed",
        name,
        "cpu-cluster",
    )
    assert name in azure("list", *HERE, "--status", "completed").out
    shown = azure("show", name).out.splitlines()
    assert {"  workspace   emu-ws in emu-rg", "  compute     cpu-cluster", f"  page        runner open {name}"} < set(
        shown
    )
    address = azure("open", name)
    assert address.out == f"https://ml.azure.com/runs/{job['name']}?wsid={emulator.target.path}\n"
    there = other_machine(azure, tmp_path / "other")
    assert [each["local_run"] for each in there("list", *HERE, "--json").json if each["run"] == name] == [None]
    assert there("list").out == ""


@pytest.mark.docker
def test_a_step_has_a_page_too(azure: Cli, emulator: Emulator) -> None:
    name = f"pipe-{uuid.uuid4().hex[:8]}"
    done = azure("submit", "pipe.yml", *HERE, "--wait", "--name", name)
    assert done.code == 0, done.err
    assert f"  page        runner open {name}" in azure("show", name).out
    assert "the service itself decides there what is reused" in azure("why", f"{name}.first").out
    whole, first, second = (azure("open", run).out for run in (name, f"{name}.first", f"{name}.second"))
    assert len({whole, first, second}) == 3
    children = {f"/runs/{each['runId']}?" for each in _children(emulator, whole)}
    assert {text.removeprefix("https://ml.azure.com").partition("wsid")[0] for text in (first, second)} == children


def _children(emulator: Emulator, whole: str) -> list[dict[str, object]]:
    from runner.backends.azureml.backend import AzureMLBackend

    backend = AzureMLBackend(emulator.target)
    try:
        return backend.service.children(whole.partition("/runs/")[2].partition("?")[0])
    finally:
        backend.close()


def test_the_doctor_of_azure(azure: Cli) -> None:
    done = azure("doctor", *HERE, "--json")
    assert done.code == 0, done.err
    found = {each["name"]: each for each in done.json}
    assert list(found) == ["azure extra", "workspace", "sign-in", "access", "computes", "registry"]
    assert [name for name, each in found.items() if not each["ok"]] == []
    assert "cpu-cluster, defaultcompute can take jobs" in found["computes"]["text"]
    assert "emuregistry.azurecr.io: by the" in found["registry"]["text"]
    elsewhere = azure("doctor", *HERE, "--json", env={"RUNNER_REGISTRY": "other.azurecr.io/team"}).json
    assert not elsewhere[-1]["ok"]
    assert "az role assignment create" in elsewhere[-1]["fix"]


@pytest.mark.parametrize(
    ("argv", "env", "name", "text"),
    [
        ((), {"AZURE_CLIENT_SECRET": "wrong"}, "sign-in", "no sign-in to Azure works here"),
        (("--auth", "cli"), {"PATH": "/nonexistent"}, "sign-in", "az login"),
        (("--workspace", "nope"), {}, "access", "the workspace nope is not there"),
        ((), {"AZURE_SUBSCRIPTION_ID": ""}, "workspace", "nothing says its subscription"),
        (("--resource-group", "a/b"), {}, "workspace", "cannot be a resource group"),
        (
            (),
            {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
            "sign-in",
            "cannot be reached",
        ),
    ],
)
def test_each_thing_that_fails_is_told_with_its_fix(
    azure: Cli, argv: tuple[str, ...], env: dict[str, str], name: str, text: str
) -> None:
    done = azure("doctor", *HERE, *argv, "--json", env=env)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    (wrong,) = [each for each in done.json if not each["ok"]]
    assert wrong["name"] == name
    assert text in wrong["text"] + wrong["fix"]
    assert wrong["fix"]


def test_a_workspace_that_a_found_file_chose_is_told(azure: Cli, emulator: Emulator) -> None:
    target = emulator.target
    (azure.cwd / "config.json").write_text(
        json.dumps({
            "subscription_id": target.subscription, "resource_group": target.resource_group,
            "workspace_name": target.workspace,
        })
    )  # fmt: skip
    unnamed = {"AZURE_SUBSCRIPTION_ID": "", "AZURE_RESOURCE_GROUP": "", "AZURE_WORKSPACE": ""}
    done = azure("compute", "list", env=unnamed)
    assert done.code == 0, done.err
    assert f"emu-ws  ({azure.cwd / 'config.json'}; --workspace to choose)" in done.err
    assert azure("compute", "list").err == ""


def test_options_of_a_workspace_are_no_silent_no_ops(azure: Cli) -> None:
    done = azure("submit", "hello.sh", "--backend", "process", "--workspace", "emu-ws")
    assert done.code == 2
    assert "a workspace is Azure ML's" in done.err
    done = azure("submit", "hello.sh", "--backend", "process", "--registry", "registry.example.com")
    assert done.code == 2
    assert "pushes none" in done.err
    done = azure("list", "--workspace", "emu-ws")
    assert done.code == 2
    assert "--backend azureml" in done.err
    assert azure("doctor", "--workspace", "emu-ws").code == 2
    for argv in (("list",), ("pipeline", "list"), ("pipeline", "show", "x"), ("doctor",)):
        done = azure(*argv, "--backend", "azurml")
        assert done.code == 2
        assert "--backend azurml: only azureml can be asked here" in done.err
    done = azure("submit", "hello.sh", "--compute", "cpu-cluster", "--image", "a/b:1", "--registry", "h/x")
    assert (done.code, "none is pushed" in done.err) == (2, True), done.err
    done = azure("submit", "job.yml", *HERE, "--registry", "http://x y")
    assert (done.code, "--registry" in done.err) == (3, True), done.err
    assert azure("submit", "hello.sh", "--backend", "process", "--wait", "--name", "local").code == 0
    done = azure("open", "local")
    assert done.code == 6
    assert "local runs on process" in done.err


def loaded(azure: Cli, *argv: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _DUMP, *argv], cwd=azure.cwd, env=azure.env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("MODULES ")[2].split())


@pytest.mark.docker
def test_only_submit_pays_for_the_sdk(azure: Cli, pulled: str) -> None:
    name = f"cost-{uuid.uuid4().hex[:8]}"
    submitted = loaded(
        azure, "submit", "hello.sh", "--compute", "cpu-cluster", "--image", pulled, "--wait", "--name", name
    )
    assert "azure.ai.ml" in submitted, "it is imported before the supervisor is forked, while Azure answers"
    dry = loaded(azure, "submit", "hello.sh", "--compute", "cpu-cluster", "--image", pulled, "--dry-run")
    assert "azure.ai.ml" not in dry
    for argv in (["compute", "list"], ["list", *HERE], ["doctor", *HERE]):
        found = loaded(azure, *argv)
        assert "azure.identity" in found, argv
        assert "azure.ai.ml" not in found, argv
    for argv in (
        ["logs", name],
        ["status", name],
        ["show", name],
        ["wait", name],
        ["open", name],
        ["list"],
        ["backends"],
    ):
        found = loaded(azure, *argv)
        assert found.isdisjoint({"azure", "urllib3", "msal"}), argv


@pytest.mark.docker
def test_a_pipeline_registered_in_the_workspace_is_invoked(azure: Cli, pulled: str, tmp_path: Path) -> None:
    name = f"say_{uuid.uuid4().hex[:8]}"
    (azure.cwd / "say.yml").write_text(
        f"""
type: pipeline
description: Says a word.
inputs: {{word: hi, times: 2}}
jobs:
  one:
    command: echo ${{{{inputs.w}}}} ${{{{inputs.n}}}}
    environment: {{image: {pulled}}}
    inputs: {{w: "${{{{parent.inputs.word}}}}", n: "${{{{parent.inputs.times}}}}"}}
"""
    )
    done = azure("pipeline", "register", "say.yml", "--name", name, *HERE)
    assert done.code == 0, done.err
    assert done.out == f"{name}@1\n"
    there = other_machine(azure, tmp_path / "other")
    assert name in [each["name"] for each in there("pipeline", "list", *HERE, "--json").json]
    shown = there("pipeline", "show", name, *HERE)
    assert "Says a word." in shown.out
    assert "word   string   hi" in shown.out
    assert azure("pipeline", "list", "--json").json == [], "this machine's own are another matter"
    wrong = there("submit", f"pipeline:{name}", *HERE, "--set", "inputs.wrd=yo")
    assert wrong.code == 2
    assert "inputs.word" in wrong.err
    run = there("submit", f"pipeline:{name}", "--compute", "cpu-cluster", "--set", "inputs.word=yo", "--wait")
    assert run.code == 0, run.err
    assert azure("pipeline", "show", name[:-1], *HERE).code == 4
    place = f"resource_group: emu-rg, subscription: {azure.env['AZURE_SUBSCRIPTION_ID']}"
    (azure.cwd / "other.yaml").write_text(f"workspace: {{name: no-such, {place}}}\n")
    register = ("pipeline", "register", "say.yml", *HERE, "--name")
    other = azure(*register, f"other_{name}", "--config", "other.yaml", env={"AZURE_WORKSPACE": ""})
    assert (other.code, "there is no workspace no-such" in other.err) == (8, True), other.err
    bad = azure(*register, "Say-It")
    assert bad.code == 2
    assert "such as say_it" in bad.err


def test_a_job_is_exported(azure: Cli) -> None:
    done = azure("export", "pipe.yml", "--to", "azureml", "-o", "out.yml", "--set", "settings.force_rerun=true")
    assert done.code == 0, done.err
    assert done.out == ""
    assert "az ml job create -f out.yml" in done.err
    written = (azure.cwd / "out.yml").read_text()
    assert "default_compute: azureml:cpu-cluster" in written
    assert azure("export", "pipe.yml", "--to", "azureml").out.startswith("$schema: ")
    assert azure("export", "pipe.yml", "--to", "gcp").code == 2
    script = azure("export", "hello.sh", "--to", "azureml")
    assert (script.code, "hello.sh is no job file" in script.err) == (2, True)
    assert azure("export", "pipe.yml", "--to", "azureml", "-o", "no/such/folder/x.yml").code == 5
