"""What the command line shows of runs in containers; what they do inside is the contract suite's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import failed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Cli

    Script = Callable[[str, str], Path]

pytestmark = pytest.mark.docker


def test_a_dry_run_shows_the_container_and_no_secret(cli: Cli, hello: str, image: str) -> None:
    done = cli(
        "submit", hello, "--backend", "docker", "--image", image, "--dry-run", "--memory", "64m", "--cpus", "0.5",
        "--shm-size", "1m", "--gpus", "1", "--secret", "TOKEN", "--env", "A=1", "--input", "data=.",
        env={"TOKEN": "hunter2"},
    )  # fmt: skip
    assert done.code == 0, done.err
    plan = done.json
    host = plan["request"]["HostConfig"]
    assert plan["image"] == plan["request"]["Image"]
    assert plan["image"].startswith("sha256:")
    assert plan["image_name"] == image
    assert (host["Memory"], host["NanoCpus"], host["ShmSize"]) == (64 << 20, 500_000_000, 1 << 20)
    assert "A=1" in plan["request"]["Env"]
    assert any(mount["Source"] == str(cli.cwd) and mount["ReadOnly"] for mount in host["Mounts"])
    assert "hunter2" not in done.out + done.err
    assert cli("list", "--json").json == []


def test_a_run_in_a_container(cli: Cli, script: Script, image: str) -> None:
    script("a.py", "import os\nprint('hello', os.environ['TOKEN'] == 'hunter' + '2')\nopen('outputs/o', 'w').close()")
    done = cli(
        "submit", "a.py", "--backend", "docker", "--image", image, "--wait", "--name", "n", "--secret", "TOKEN",
        env={"TOKEN": "hunter2"},
    )  # fmt: skip
    assert done.out == "hello True\n", done.err
    assert "outputs: o" in done.err
    assert "hunter2" not in done.err
    row = cli.row("n")
    assert (row["backend"], row["image_name"], row["status"]) == ("docker", image, "Completed")
    assert image in cli("show", "n").out


def test_an_engine_is_chosen_when_it_answers(cli: Cli, hello: str, image: str) -> None:
    done = cli("submit", hello, "--image", image, "--wait")
    assert (done.code, done.out) == (0, "hello \n")
    assert "backend  docker   (engine answers; --backend to choose)" in done.err.splitlines()


def test_a_libs_file_beside_the_script_is_said(cli: Cli, hello: str) -> None:
    (cli.cwd / "libs.yaml").write_text("name: never-built-by-this-test\napt: [no-such-package-anywhere]\n")
    done = cli("submit", hello, "--backend", "docker", "--dry-run")
    failed(done, 6, "has not been built yet", "runner build --libs")
    assert "libs     libs.yaml beside the script  (--libs or --image to choose)" in done.err.splitlines()


def test_a_libs_file_that_is_wrong(cli: Cli, hello: str) -> None:
    (cli.cwd / "libs.yaml").write_text("pip: [numpy\n")
    failed(cli("submit", hello, "--backend", "docker", "--libs", "libs.yaml"), 3, "libs.yaml:")
