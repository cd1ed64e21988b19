"""Command jobs in containers: what they get, what is kept of them, how they end."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.emulators.azureml import names
from tests.emulators.azureml.execution.docker import call
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


def test_a_command_runs_in_its_code_with_inputs_and_leaves_outputs(bench: Bench) -> None:
    bench.blobs.upload("azureml", "there/in.txt", b"given")
    code = bench.code({"main.py": b"print(open('sub/x').read())", "sub/x": b"from the snapshot"})
    name = bench.begin(
        bench.command(
            "python3 main.py; cat ${{inputs.file}}; echo ${{inputs.text}}$[[ ${{inputs.absent}}]]; pwd;"
            " cp ${{inputs.file}} ${{outputs.folder}}/copy; echo one > ${{outputs.file}};"
            " echo art > outputs/a; echo l > logs/l",
            codeId=code,
            inputs={
                "file": {
                    "jobInputType": "uri_file",
                    "uri": "azureml://datastores/workspaceartifactstore/paths/there/in.txt",
                },
                "text": {"jobInputType": "literal", "value": "a b"},
                "absent": None,
            },
            outputs={
                "folder": {"jobOutputType": "uri_folder"},
                "file": {
                    "jobOutputType": "uri_file",
                    "uri": "azureml://datastores/workspaceblobstore/paths/x/${{name}}/one.txt",
                },
            },
        )
    )
    run = bench.ended(name)
    uuid = run["runUuid"].replace("-", "")
    assert (run["status"], run["error"]) == ("Completed", None)
    assert bench.log(name) == f"from the snapshot\ngivena b\n/mnt/azureml/cr/j/{uuid}/exe/wd\n".encode()
    assert bench.output(name, "folder", "copy") == b"given"
    assert bench.blobs.read(names.CONTAINERS["workspaceblobstore"], f"x/{name}/one.txt") == b"one\n"
    assert (bench.artifact(name, "outputs/a"), bench.artifact(name, "logs/l")) == (b"art\n", b"l\n")
    assert run["outputs"]["folder"]["type"] == "UriFolder"
    assert set(run["outputs"]) == {"folder", "file", "default"}


def test_the_log_is_byte_for_byte_and_there_while_the_job_runs(bench: Bench) -> None:
    script = (
        "import sys, os, time\nos.write(1, bytes(range(256)))\n"
        "while not os.path.exists('go'): time.sleep(0.05)\nos.write(2, b'\\xff' * 5_000_000)"
    )
    name = bench.begin(bench.command("python3 main.py", codeId=bench.code({"main.py": script.encode()})))
    bench.until(lambda: bench.log(name) == bytes(range(256)), "the log is there early")
    assert bench.run(name)["status"] == "Running"
    (bench.folder / "work" / name / "wd" / "go").touch()
    assert bench.ended(name)["status"] == "Completed"
    assert bench.log(name) == bytes(range(256)) + b"\xff" * 5_000_000


def test_a_flood_of_log_holds_nothing_up(bench: Bench) -> None:
    bench.profile.change({"cancel_grace_s": 0})
    name = bench.begin(bench.command("while true; do head -c 1000000 /dev/zero; sleep 0.02; done"))
    bench.until(lambda: bench.log(name), "it writes")
    bench.execution.cancel(name)
    assert bench.ended(name)["status"] == "Canceled"


def test_the_service_s_variables_and_the_job_s_own(bench: Bench) -> None:
    name = bench.begin(bench.command("env -0", environmentVariables={"MINE": "two\nlines"}))
    assert bench.ended(name)["status"] == "Completed"
    found = dict(part.split(b"=", 1) for part in bench.log(name).split(b"\0") if part)
    assert found[b"MINE"] == b"two\nlines"
    assert found[b"AZUREML_RUN_ID"] == found[b"AZUREML_ROOT_RUN_ID"] == name.encode()
    assert json.loads(found[b"AZUREML_CR_AZUREML_CONTEXT"])["experiment_name"] == "exp"


def test_a_code_other_than_0_is_a_failure_that_keeps_everything(bench: Bench) -> None:
    name = bench.begin(
        bench.command(
            "echo kept > outputs/a; echo m > ${{outputs.mounted}}/f; echo u > ${{outputs.sent}}/f; exit 3",
            outputs={
                "mounted": {"jobOutputType": "uri_folder"},
                "sent": {"jobOutputType": "uri_folder", "mode": "Upload"},
            },
        )
    )
    run = bench.ended(name)
    assert run["status"] == "Failed"
    assert '"exit_codes",\n      "value": "3"' in run["error"]["error"]["message"]
    assert run["error"]["error"]["innerError"]["code"] == "ExecutionFailed"
    assert bench.artifact(name, "outputs/a") == b"kept\n"
    assert bench.output(name, "mounted", "f") == b"m\n"
    place = bench.blobs.resolve(run["outputs"]["sent"]["assetId"])
    assert bench.blobs.list(*place) == []  # what is uploaded at the end is not when the job failed


def test_a_cancel_is_asked_by_SIGTERM_and_lingers_if_so_set(bench: Bench) -> None:  # noqa: N802
    bench.profile.change({"cancel_lingers_s": 0.5})
    script = (
        "import signal, sys, time\n"
        "def end(*_):\n    open('outputs/last', 'w').write('saved'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\ntime.sleep(100)"
    )
    name = bench.begin(bench.command("python3 main.py", codeId=bench.code({"main.py": script.encode()})))
    bench.until(lambda: b"ready" in bench.log(name), "it runs")
    bench.execution.cancel(name)
    assert bench.run(name)["status"] == "CancelRequested"
    run = bench.ended(name)
    assert (run["status"], run["error"]) == ("Canceled", None)
    assert bench.artifact(name, "outputs/last") == b"saved"


def test_who_ignores_a_cancel_is_killed_after_the_grace(bench: Bench) -> None:
    bench.profile.change({"cancel_grace_s": 1})
    name = bench.begin(bench.command("trap '' TERM; echo ready; while true; do sleep 0.1; done"))
    bench.until(lambda: b"ready" in bench.log(name), "it runs")
    bench.execution.cancel(name)
    assert bench.ended(name)["status"] == "Canceled"


def test_the_service_ends_a_job_at_its_limit(bench: Bench) -> None:
    bench.profile.change({"cancel_grace_s": 1})
    limits = {"jobLimitsType": "Command", "timeout": "PT1S"}
    run = bench.ended(bench.begin(bench.command("sleep 100", limits=limits)))
    assert run["status"] == "Canceled"
    assert "limit of 1 seconds" in run["error"]["error"]["message"]


def test_a_lost_node_fails_the_job_or_queues_it_again(bench: Bench) -> None:
    text = "echo began; while true; do sleep 0.1; done"
    name = bench.begin(bench.command(text))
    bench.until(lambda: b"began" in bench.log(name), "it runs")
    bench.execution.preempt(name)
    run = bench.ended(name)
    assert run["status"] == "Failed"
    assert "got pre-empted" in run["error"]["error"]["message"]

    bench.profile.change({"preemption": "requeue", "cancel_grace_s": 0})
    name = bench.begin(bench.command(text))
    bench.until(lambda: b"began" in bench.log(name), "it runs")
    bench.execution.preempt(name)
    bench.until(lambda: bench.log(name) == b"began\n" * 2, "it runs again", lambda: bench.log(name))
    bench.execution.cancel(name)
    assert bench.ended(name)["status"] == "Canceled"


def test_a_job_waits_for_a_node(bench: Bench) -> None:
    bench.nodes("narrow", 1)
    narrow = {"computeId": names.arm("computes", "narrow")}
    text = "echo on; while [ ! -e go ]; do sleep 0.05; done"
    first = bench.begin(bench.command(text, **narrow))
    bench.until(lambda: bench.log(first), "the first runs")
    second = bench.begin(bench.command("true", **narrow))
    bench.until(lambda: bench.run(second)["status"] == "Queued", "the second is queued")
    third = bench.begin(bench.command("true", **narrow))
    bench.until(lambda: bench.run(third)["status"] == "Queued", "the third is queued")
    bench.execution.cancel(third)
    assert bench.ended(third)["status"] == "Canceled"
    assert bench.run(second)["status"] == "Queued"
    (bench.folder / "work" / first / "wd" / "go").touch()
    assert bench.ended(second)["status"] == "Completed"
    assert bench.run(first)["status"] == "Completed"


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"image": "nobody/has-this:1"}, "ImagePullFailure"),
        ({"image": "127.0.0.1:1/nobody/has@sha256:" + "0" * 64}, "ImagePullFailure"),
        ({"image": "x", "condaFile": "dependencies: []"}, "BadArgument"),
    ],
)
def test_an_image_that_cannot_be_had_fails_the_job(bench: Bench, environment: dict[str, str], code: str) -> None:
    name = bench.begin(bench.command("true", environmentId=bench.environment("bad", environment)))
    run = bench.ended(name)
    assert run["status"] == "Failed"
    assert run["error"]["error"]["innerError"]["code"] == code
    if "condaFile" in environment:
        assert b"does not install conda" in bench.log(name, "azureml-logs/20_image_build_log.txt")


def listens(host: str) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", int(host.split(":")[1]))) == 0


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's, on loopback, for the user `robot` with the password `secret`; its host and port."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{trial.getsockname()[1]}"
    users = subprocess.run(["htpasswd", "-Bbn", "robot", "secret"], check=True, capture_output=True).stdout
    (folder / "users").write_bytes(users)
    (folder / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/blobs}}}}\nhttp: {{addr: '{host}'}}\n"
        f"auth: {{htpasswd: {{realm: emulator, path: {folder}/users}}}}\n"
    )
    command = ["docker-registry", "serve", str(folder / "registry.yml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield host
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_an_image_is_pulled_by_digest_with_the_workspace_s_own_login(bench: Bench, tmp_path: Path) -> None:
    login = {"username": "robot", "password": "secret"}
    with registry(tmp_path) as host:
        config = {"auths": {host: {"auth": base64.b64encode(b"robot:secret").decode()}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        repository = f"{host}/emu/small"
        call("tag", bench.image, f"{repository}:1")
        try:
            bench.until(lambda: listens(host), "the registry listens")
            call("--config", str(tmp_path), "push", "--quiet", f"{repository}:1")
            reference = call("image", "inspect", "--format", "{{index .RepoDigests 0}}", f"{repository}:1").strip()
            digest = reference.rpartition("@")[2]
            environment = bench.environment("pushed", {"image": f"{repository}@{digest}"})
            refused = bench.ended(bench.begin(bench.command("true", environmentId=environment)))
            assert refused["status"] == "Failed"
            assert "no basic auth credentials" in refused["error"]["error"]["message"]
            properties = {"category": "ContainerRegistry", "target": f"https://{host}", "credentials": login}
            bench.state.put("connection", "robot", {"name": "robot", "properties": properties})
            name = bench.begin(bench.command("echo pulled", environmentId=environment))
            assert bench.ended(name)["status"] == "Completed", bench.run(name)["error"]
            assert bench.log(name) == b"pulled\n"
        finally:
            call("rmi", f"{repository}:1")


def test_an_image_is_built_from_a_context_once(bench: Bench) -> None:
    bench.blobs.upload("azureml", "ctx/Dockerfile", f"FROM {bench.image}\nCOPY f /f\n".encode())
    bench.blobs.upload("azureml", "ctx/f", b"from the context\n")
    build = {"contextUri": "azureml://datastores/workspaceartifactstore/paths/ctx", "dockerfilePath": "Dockerfile"}
    environment = bench.environment("built", {"build": build})
    for first in (True, False):
        name = bench.begin(bench.command("cat /f", environmentId=environment))
        assert bench.ended(name)["status"] == "Completed", bench.log(name, "azureml-logs/20_image_build_log.txt")
        assert bench.log(name) == b"from the context\n"
        assert bool(bench.log(name, "azureml-logs/20_image_build_log.txt")) == first


def test_data_that_is_not_there_fails_the_job(bench: Bench) -> None:
    uri = "azureml://datastores/workspaceblobstore/paths/nowhere"
    name = bench.begin(bench.command("true", inputs={"x": {"jobInputType": "uri_folder", "uri": uri}}))
    run = bench.ended(name)
    assert run["status"] == "Failed"
    assert "input x" in run["error"]["error"]["message"]


def test_a_command_that_refers_to_nothing_is_refused(bench: Bench) -> None:
    error = bench.execution.check(bench.command("echo ${{inputs.nope}}"))
    assert error is not None
    assert "inputs.nope" in error.message


def test_jobs_outlive_the_emulator(tmp_path: Path, image: str) -> None:
    first = Bench(tmp_path, image).start()
    running = first.begin(
        first.command("echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; echo x > outputs/x")
    )
    finished = first.begin(first.command("while [ ! -e go ]; do sleep 0.05; done; echo did; exit 4"))
    first.until(lambda: first.log(running) and first.run(finished)["status"] == "Running", "both run")
    first.stop(keep=True)
    (tmp_path / "work" / finished / "wd" / "go").touch()
    second = Bench(tmp_path, image).start()
    try:
        second.execution.resume()
        assert second.ended(finished)["status"] == "Failed"
        assert second.log(finished) == b"did\n"
        (tmp_path / "work" / running / "wd" / "go").touch()
        assert second.ended(running)["status"] == "Completed"
        assert second.log(running) == b"one\ntwo\n"
        assert second.artifact(running, "outputs/x") == b"x\n"
    finally:
        second.stop()


def test_a_container_that_was_made_but_never_started_is_made_again(tmp_path: Path, image: str) -> None:
    first = Bench(tmp_path, image).start()
    first.profile.change({"queue_s": 60})
    name = first.begin(first.command("echo ran"))
    first.until(lambda: first.run(name)["status"] == "Queued", "it is queued")
    container = first.execution._context.places(name).container
    first.stop(keep=True)
    call("create", "--name", container, image, "true")  # as far as a killed emulator may have come
    second = Bench(tmp_path, image).start()
    try:
        second.execution.resume()
        assert second.ended(name)["status"] == "Completed", second.run(name)["error"]
        assert second.log(name) == b"ran\n"
    finally:
        second.stop()


def test_the_modes_of_data(bench: Bench) -> None:
    bench.blobs.upload("azureml", "folder/a", b"a")
    bench.blobs.upload("azureml", "folder/sub/b", b"b")
    uri = "azureml://datastores/workspaceartifactstore/paths/folder/"
    modes = {"mounted": "ReadOnlyMount", "down": "Download", "uri": "Direct"}
    name = bench.begin(
        bench.command(
            "cat ${{inputs.mounted}}/sub/b; echo x > ${{inputs.down}}/a && cat ${{inputs.down}}/a; echo ${{inputs.uri}};"
            " echo ${{outputs.uri}}; (echo x > ${{inputs.mounted}}/a) 2>/dev/null || echo read-only",
            inputs={key: {"jobInputType": "uri_folder", "uri": uri, "mode": mode} for key, mode in modes.items()},
            outputs={"uri": {"jobOutputType": "uri_folder", "mode": "Direct"}},
        )
    )
    assert bench.ended(name)["status"] == "Completed"
    output = f"azureml://datastores/workspaceblobstore/paths/azureml/{name}/uri/"
    assert bench.log(name).decode().splitlines() == ["bx", uri, output, "read-only"]
    assert bench.blobs.read("azureml", "folder/a") == b"a"
