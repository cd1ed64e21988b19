"""The same script tells the same story on every backend; what a backend cannot do is refused before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.backends.base import Capabilities
    from tests.conftest import Cli
    from tests.contract.helpers import Worker

_DIFFER = {
    "name", "created", "started", "finished", "elapsed_s", "max_rss_bytes", "user_s", "sys_s", "backend", "image",
    "image_name", "log",
}  # fmt: skip
_ENDS = {
    "done.py": "print('hi')\n",
    "code.py": "import sys; sys.exit(7)\n",
    "signal.sh": "ulimit -c 0; kill -ABRT $$\n",
    "slow.py": "import time; time.sleep(99)\n",
    "deaf.sh": "trap '' TERM; sleep 99 & wait; sleep 99\n",
    "what.xyz": "",
    "left.py": "open('stray', 'w').close(); open('outputs/kept', 'w').write('12')\n",
    "none.jl": "",
}


def _story(row: dict[str, Any]) -> dict[str, Any]:
    same = {key: value for key, value in row.items() if key not in _DIFFER}
    same["attempt_list"] = [
        {key: value for key, value in (attempt["outcome"] or {}).items() if key not in _DIFFER}
        for attempt in row["attempt_list"]
    ]
    # The one sentence that names the place, since the cure differs.
    if same["reason"] == "InterpreterNotFound":
        same["message"] = same["attempt_list"][0]["message"] = same["message"].split(" is not ")[0]
    return same


@pytest.mark.parametrize("name", sorted(_ENDS))
def test_the_same_script_tells_the_same_story(
    cli: Cli, can: Capabilities, where: list[str], script: Callable[[str, str], Path], name: str
) -> None:
    if not can.images:
        pytest.skip("it is what the others are compared with")
    path = script(name, _ENDS[name])
    common = ["--timeout", "2s", "--grace", "1s", "--tag", "a=b", "--description", "why", "--experiment", "e"]
    stories = []
    for run, options in (("here", ["--backend", "process"]), ("there", where)):
        cli("submit", path, *options, *common, "--name", run, "--wait")
        stories.append(cli.row(run))
    assert list(stories[0]) == list(stories[1])
    here, there = map(_story, stories)
    assert here == there


@pytest.mark.parametrize(
    ("capability", "option", "value"),
    [("memory", "--memory", "1g"), ("cpus", "--cpus", "1"), ("gpus", "--gpus", "1"), ("shm", "--shm-size", "1g")],
)
def test_a_limit_that_the_backend_cannot_hold_is_refused(
    cli: Cli, can: Capabilities, where: list[str], script: Callable[[str, str], Path], capability: str, option: str,
    value: str,
) -> None:  # fmt: skip
    path = script("a.py", "")
    if getattr(can, capability):
        done = cli("submit", path, *where, option, value, "--dry-run")
        assert done.code == 0, done.err
        return
    done = cli("submit", path, *where, option, value)
    assert done.code == 6
    assert option in done.err
    assert "→" in done.err
    assert cli("list", "--json").json == []


def test_a_dry_run_starts_nothing_and_is_the_same_twice(
    cli: Cli, where: list[str], script: Callable[[str, str], Path]
) -> None:
    path = script("a.py", "print(1)\n")
    options = [*where, "--name", "it", "--env", "A=1", "--output", "o=res", "--dry-run", "--json"]
    first, again = cli("submit", path, *options), cli("submit", path, *options)
    assert first.code == 0, first.err
    assert first.json == again.json
    assert first.json["request"]
    assert cli("list", "--json").json == []
    assert not (cli.home / "runs").exists()


def test_cpus_too_small_to_hold_end_clearly(
    cli: Cli, can: Capabilities, where: list[str], script: Callable[[str, str], Path]
) -> None:
    if not can.cpus:
        pytest.skip("this backend cannot hold a processor limit here")
    done = cli("submit", script("a.py", ""), *where, "--cpus", "0.0001", "--wait", timeout=60)
    assert done.code != 0
    assert "error" in done.err or "Failed" in done.err


def test_the_worker_of_this_suite_reports_errors(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="NotFoundError"):
        worker.ask(op="wait", home=str(tmp_path / "h"), name="nope", timeout=1)
