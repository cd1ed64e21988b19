"""Everything that a new user gets wrong with `runner submit`: a clear error, its exit code, and nothing was started."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import NO_ENGINE, PROCESS, failed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cli


@pytest.fixture(autouse=True)
def nothing_started(home: Path) -> Iterator[None]:
    yield
    if (home / "runner.db").exists():
        from runner.store import Store

        store = Store(home)
        assert store.list() == []
        store.close()
    assert not (home / "runs").exists() or list((home / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("args", "code", "texts"),
    [
        (["helo.sh"], 4, ["no such script: helo.sh", "did you mean hello.sh?"]),
        (["nowhere/x.py"], 4, ["no such script: nowhere/x.py"]),
        (["hello.sh/x"], 4, ["no such script"]),
        (["a" * 300], 4, ["File name too long"]),
        (["~nobody-of-that-name/x.py"], 4, ["there is no such user"]),
        (["."], 2, [". is a folder", "runner submit SCRIPT"]),
        (["/dev/null"], 2, ["/dev/null is not a file", ".py .R .sh"]),
        ([], 2, ["missing argument 'SCRIPT|JOB.yml'", "runner submit --help"]),
        (["hello.sh", "extra"], 2, ["(extra)", "arguments go after --:  runner submit SCRIPT -- ARGS"]),
        (["hello.sh", "--rounds", "3"], 2, ["no such option: --rounds", "runner submit SCRIPT -- ARGS"]),
        (["hello.sh", "--timeoutt", "3"], 2, ["no such option: --timeoutt", "did you mean --timeout"]),
        (["hello.sh", "--memory", "lots"], 3, ["--memory: 'lots' is not a size", "512m, 2g"]),
        (["hello.sh", "--memory", "0"], 3, ["--memory: '0' is not a size"]),
        (["hello.sh", "--memory", "1k"], 3, ["--memory: ", "6 MiB or more"]),
        (["hello.sh", "--shm-size", "-1"], 3, ["--shm-size: '-1' is not a size"]),
        (["hello.sh", "--timeout", "soon"], 3, ["--timeout: 'soon' is not a duration", "1h30m"]),
        (["hello.sh", "--timeout", "0"], 3, ["--timeout: '0' is no time at all"]),
        (["hello.sh", "--grace", "x"], 3, ["--grace: 'x' is not a duration"]),
        (["hello.sh", "--cpus", "many"], 3, ["--cpus: 'many' is not a number of processors"]),
        (["hello.sh", "--cpus", "0.001"], 3, ["--cpus: '0.001' is not a number of processors", "0.01"]),
        (["hello.sh", "--gpus", "0"], 2, ["'--gpus': 0 is not in the range x>=1"]),
        (["hello.sh", "--gpus", "two"], 2, ["'--gpus': 'two' is not a whole number"]),
        (["hello.sh", "--retries", "-1"], 2, ["'--retries'"]),
        (["hello.sh", "--retry-on", "Sunshine"], 2, ["'Sunshine' is not a reason", "NonZeroExit", "Timeout"]),
        (["hello.sh", "--name", "My Run"], 3, ["--name: 'My Run' cannot be a run's name", "small letters"]),
        (["hello.sh", "--name", "../x"], 3, ["cannot be a run's name"]),
        (["hello.sh", "--env", "A"], 3, ["--env: 'A' has no =", "K=V"]),
        (["hello.sh", "--env", "a-b=1"], 3, ["--env: 'a-b' is not a variable's name"]),
        (["hello.sh", "--env", "RUNNER_RUN=1"], 3, ["set by runner itself"]),
        (["hello.sh", "--env", "A=1", "--env", "A=2"], 2, ["--env A is given twice"]),
        (["hello.sh", "--tag", "x"], 3, ["--tag: 'x' has no ="]),
        (["hello.sh", "--input", "data"], 3, ["--input: 'data' has no =", "NAME=PATH"]),
        (["hello.sh", "--input", "data=nope.csv"], 4, ["no such file or folder for --input data: nope.csv"]),
        (["hello.sh", "--input", "data=helo.sh"], 4, ["did you mean hello.sh?"]),
        (["hello.sh", "--input", "d=.", "--input", "d=."], 2, ["--input d is given twice"]),
        (["hello.sh", "--input", "a-b=.", "--input", "a_b=."], 3, ["'a-b' and 'a_b'", "RUNNER_INPUT_A_B"]),
        (["hello.sh", "--output", "o", "--output", "o=x"], 2, ["--output o is given twice"]),
        (["hello.sh", "--output", "o=/abs"], 2, ["inside the script's working directory", "runner download"]),
        (["hello.sh", "--output", "o=../up"], 2, ["inside the script's working directory"]),
        (["hello.sh", "--output", "o="], 2, ["inside the script's working directory"]),
        (["hello.sh", "--output", "outputs"], 3, ["always collected"]),
        (["hello.sh", "--output", "o=logs"], 2, ["always collected"]),
        (["hello.sh", "--output", "a=r", "--output", "b=r/x"], 3, ["two places at once"]),
        (["hello.sh", "--output", "o=hello.sh"], 7, ["hello.sh in the code folder is a file", ".amlignore"]),
        (["hello.sh", "--code", "nowhere"], 4, ["nowhere"]),
        (["hello.sh", "--code", "/etc"], 2, ["is not in the code folder /etc"]),
        (["hello.sh", "--code", "/etc/passwd"], 2, ["is a file, and not the script"]),
        (["hello.sh", "--libs", "l.yaml", "--image", "i"], 2, ["--libs and --image both choose"]),
        (["hello.sh", "--libs", "nowhere.yaml"], 4, ["no such libs file: nowhere.yaml"]),
        (["hello.sh", "--", "${{inputs.data}}"], 3, ["${{inputs.data}} names no input", "--input data="]),
    ],
)  # fmt: skip
def test_wrong_use(cli: Cli, hello: str, args: list[str], code: int, texts: list[str]) -> None:
    assert hello == "hello.sh"
    place = args.index("--") if "--" in args else len(args)
    failed(cli("submit", *args[:place], *PROCESS, *args[place:]), code, *texts)


def test_an_option_without_its_value(cli: Cli, hello: str) -> None:
    failed(cli("submit", hello, "--memory"), 2, "'--memory' requires an argument", "--help")


def test_every_thing_that_a_backend_cannot_do_is_named_at_once(cli: Cli, hello: str) -> None:
    done = cli("submit", hello, *PROCESS, "--image", "python:3.12", "--gpus", "2", "--shm-size", "1g")
    failed(
        done,
        6,
        "cannot do 3 things",
        "nothing was started",
        "python:3.12",
        "--gpus 2",
        "--shm-size",
        "→ --backend docker",
    )
    (cli.cwd / "libs.yaml").write_text("pip: [numpy]\n")
    failed(cli("submit", hello, *PROCESS, "--libs", "libs.yaml"), 6, "cannot do 1 thing", "libs.yaml")


@pytest.mark.parametrize(
    ("args", "code", "texts"),
    [
        (["--compute", "gpu-cluster"], 2, ["needs a workspace", "--workspace", "runner.yaml"]),
        (["--backend", "azureml"], 2, ["needs a workspace"]),
        (["--backend", "docker", "--compute", "gpu-cluster"], 2, ["--compute gpu-cluster", "leave one of them out"]),
        (["--backend", "kubernetes"], 2, ["no backend named 'kubernetes'", "process, docker"]),
        (["--backend", "docker"], 9, ["no container engine answers", "--backend process"]),
        (["--backend", "docker", "--image", "python:3.12"], 9, ["unix:///nonexistent"]),
    ],
)
def test_places_to_run_that_are_not_there(cli: Cli, hello: str, args: list[str], code: int, texts: list[str]) -> None:
    failed(cli("submit", hello, *args, env=NO_ENGINE), code, *texts)


@pytest.mark.docker
def test_an_image_that_is_nowhere(cli: Cli, hello: str) -> None:
    reference = "127.0.0.1:1/nobody/nothing:0"
    failed(cli("submit", hello, "--backend", "docker", "--image", reference), 11, reference)


@pytest.mark.docker
def test_an_image_name_that_is_none(cli: Cli, hello: str) -> None:
    done = cli("submit", hello, "--backend", "docker", "--image", "Not An Image")
    assert done.code in {8, 11}
    failed(done, done.code)


def test_a_code_folder_that_may_not_be_taken(cli: Cli, hello: str) -> None:
    home = {"HOME": str(cli.cwd)}
    failed(cli("submit", hello, *PROCESS, env=home), 7, "your home folder", "--code")
    assert cli("submit", hello, *PROCESS, "--code", ".", "--dry-run", env=home).code == 0
    alone = cli("submit", hello, *PROCESS, "--code", hello, "--dry-run", env=home)
    assert alone.json["code"]["files"] == 1


def test_a_code_folder_that_is_too_large(cli: Cli, hello: str) -> None:
    with (cli.cwd / "big.bin").open("wb") as file:
        file.truncate(101 * 1024 * 1024)
    failed(cli("submit", hello, *PROCESS), 7, "more than 100 MB", ".amlignore")


@pytest.mark.parametrize("name", ["outputs", "logs"])
def test_a_file_where_the_outputs_go(cli: Cli, hello: str, name: str) -> None:
    (cli.cwd / name).write_text("")
    failed(cli("submit", hello, *PROCESS), 7, f"{name} in the code folder is a file")


def test_a_script_that_would_be_left_out(cli: Cli, hello: str) -> None:
    (cli.cwd / ".gitignore").write_text("*.sh\n")
    failed(cli("submit", hello, *PROCESS), 2, "left out by an ignore rule")
    (cli.cwd / ".gitignore").unlink()
    outside = cli.cwd.parent / "outside.sh"
    outside.write_text("")
    (cli.cwd / "link.sh").symlink_to(outside)
    failed(cli("submit", "link.sh", *PROCESS), 2, "link that leads out of its folder", str(outside))


def test_a_home_that_cannot_be_written(cli: Cli, hello: str) -> None:
    (cli.cwd / "file").write_text("")
    for place in ("/proc/runner", str(cli.cwd / "file" / "home")):
        for argv in (["submit", hello, *PROCESS], ["list"], ["show", "x"]):
            failed(cli(*argv, env={"RUNNER_HOME": place}), 12, place, "set RUNNER_HOME")


# -- secrets --------------------------------------------------------------------------------------------------------


def test_a_secret_on_the_command_line_is_refused(cli: Cli, hello: str) -> None:
    for more in ([], ["--dry-run"]):
        done = cli("submit", hello, *PROCESS, "--secret", "TOKEN=hunter2", *more)
        failed(done, 2, "--secret TOKEN", "every user of this machine", "TOKEN=@FILE")
        assert "hunter2" not in done.err


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("TOKEN", 2, "no variable TOKEN in the environment"),
        ("TOKEN=@nowhere", 2, "cannot read nowhere: No such file"),
        ("TOKEN=@.", 2, "cannot read .: Is a directory"),
        ("TOKEN=@binary", 2, "cannot read binary"),
        ("a-b", 3, "'a-b' is not a variable's name"),
        ("RUNNER_X", 3, "set by runner itself"),
    ],
)
def test_secrets_that_cannot_be_had(cli: Cli, hello: str, text: str, code: int, message: str) -> None:
    (cli.cwd / "binary").write_bytes(b"\xff\xfe\x00")
    assert "TOKEN" not in os.environ
    failed(cli("submit", hello, *PROCESS, "--secret", text), code, message)


def test_a_secret_given_twice(cli: Cli, hello: str) -> None:
    done = cli("submit", hello, *PROCESS, "--secret", "TOKEN", "--secret", "TOKEN", env={"TOKEN": "x"})
    failed(done, 2, "--secret TOKEN is given twice")


# -- dry run --------------------------------------------------------------------------------------------------------


def test_a_dry_run_shows_the_request_and_no_secret(cli: Cli, hello: str) -> None:
    done = cli(
        "submit", hello, *PROCESS, "--dry-run", "--secret", "TOKEN", "--env", "A=1", "--timeout", "1m", "--output", "o",
        "--", "--rounds", "5", env={"TOKEN": "hunter2"},
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["backend"] == "process"
    assert done.json["step"]["secrets"] == ["TOKEN"]
    assert done.json["request"]["argv"][-4:] == ["--", "hello.sh", "--rounds", "5"]
    assert done.json["request"]["env"]["A"] == "1"
    assert done.json["step"]["limits"]["timeout_s"] == 60
    assert "hunter2" not in done.out + done.err


def test_a_dry_run_needs_no_value_of_a_secret(cli: Cli, hello: str) -> None:
    assert cli("submit", hello, *PROCESS, "--dry-run", "--secret", "TOKEN").json["step"]["secrets"] == ["TOKEN"]


@pytest.mark.docker
def test_a_dry_run_pulls_and_builds_nothing(cli: Cli, hello: str) -> None:
    done = cli("submit", hello, "--backend", "docker", "--image", "127.0.0.1:1/x:0", "--dry-run")
    failed(done, 11, "is not on this machine", "--dry-run")
