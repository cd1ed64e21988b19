"""Plans made by hand on every backend: order, parallelism, failure, cancel, retries, files; and kill -9 at any moment."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.backends import find_target
from runner.errors import CapabilityError
from runner.model import Limits, Reason, RetryPolicy, Status
from runner.plan import Plan, PlanStep, Pool, Upstream
from runner.run import Run
from runner.spec import config
from runner.store import Store
from runner.supervisor import ensure
from tests.conftest import eventually
from tests.contract.helpers import supervisors
from tests.contract.workspace import remote
from tests.patience import PATIENCE
from tests.plans import bash, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.backends.base import Capabilities
    from runner.model import Step
    from runner.store import RunRow

_TWO = {"two": Pool(cpus=2)}


class Bench:
    """A store, and the backend on which its pipelines run."""

    def __init__(self, home: Path, backend: str, image: str | None, *, remote: bool) -> None:
        self.store, self._backend, self._image, self._remote = Store(home), backend, image, remote

    def _placed(self, step: Step) -> Step:
        if not self._remote:
            return replace(step, image=self._image)
        files: Mapping[str, Mapping[str, str]] = {name: {"type": "uri_file"} for name in step.files}
        return replace(step, image=self._image, remote=remote(self._image, files))

    def start(self, *steps: PlanStep, **options: object) -> Run:
        placed = tuple(replace(each, compute="two", step=self._placed(each.step)) for each in steps)
        plan = Plan(placed, pools=_TWO, **options)  # type: ignore[arg-type]
        here = Path.cwd()
        target, _ = find_target(self._backend, {}, lambda: config.load(here, os.environ), here)
        return Run(self.store, start(self.store, plan, backend=self._backend, target=target))

    def run(self, *steps: PlanStep, **options: object) -> Run:
        run = self.start(*steps, **options)
        run.wait(120 * PATIENCE)
        return run


@pytest.fixture
def bench(home: Path, where: list[str], can: Capabilities) -> Iterator[Bench]:
    image = where[3] if can.images else None
    if image is not None and not can.remote:
        from runner.docker_api.containers import Engine

        engine = Engine()
        found = engine.image(image)
        engine.close()
        assert found is not None
        image = found.id
    bench = Bench(home, where[1], image, remote=can.remote)
    yield bench
    bench.store.close()


def reasons(run: Run) -> dict[str, str]:
    return {str(each.row.path): each.outcome.reason.value for each in run.steps() if each.outcome}


def text(run: Run, step: str | None = None) -> str:
    return b"".join(run.logs(step=step)).decode()


def test_outputs_reach_the_steps_that_need_them_and_the_pipeline(bench: Bench, tmp_path: Path) -> None:
    run = bench.run(
        bash("one", 'echo 1 > "$RUNNER_OUTPUT_OUT"', files=("out",)),
        bash("two", 'cat "$RUNNER_INPUT_FROM_ONE"; cp "$RUNNER_INPUT_FROM_ONE" "$RUNNER_OUTPUT_OUT/copy"', "one"),
        bash(
            "sum", 'cat "$RUNNER_INPUT_FROM_TWO/copy" "$RUNNER_INPUT_FROM_ONE" > "$RUNNER_OUTPUT_OUT/sum"', "two", "one"
        ),
        outputs={"final": Upstream("sum", "out")},
    )
    assert run.outcome is not None
    assert run.outcome.reason is Reason.COMPLETED, run.outcome
    assert text(run) == "[two] 1\n"
    assert text(run, "two") == "1\n"
    assert run.outputs() == [("final/sum", 4)]
    assert run.download(str(tmp_path / "to"), "final") == ["sum"]
    assert (tmp_path / "to" / "sum").read_text() == "1\n1\n"


def test_an_input_cannot_be_written_to_where_the_backend_isolates(bench: Bench, can: Capabilities) -> None:
    run = bench.run(
        bash("one", 'echo 1 > "$RUNNER_OUTPUT_OUT/f"'),
        bash("two", 'echo 2 > "$RUNNER_INPUT_FROM_ONE/f" && exit 3; exit 0', "one"),
    )
    if can.isolates:
        assert reasons(run)["two"] == "Completed"


def _times(row: RunRow) -> tuple[datetime, datetime]:
    """When the script began and ended, by its bootstrapper's clock; the row has when that was seen."""
    assert row.outcome is not None
    assert row.outcome.started is not None
    assert row.outcome.finished is not None
    return datetime.fromisoformat(row.outcome.started), datetime.fromisoformat(row.outcome.finished)


def test_steps_run_at_once_and_each_after_what_it_needs(bench: Bench) -> None:
    slow = bash("slow", "sleep 3; echo slow")
    run = bench.run(slow, bash("other", "sleep 3; echo other"), bash("after", "echo after", "slow", "other"))
    times = {str(each.path): _times(each) for each in bench.store.children(run.row)}
    assert max(times["slow"][0], times["other"][0]) < min(times["slow"][1], times["other"][1])
    assert times["after"][0] >= max(times["slow"][1], times["other"][1])
    assert text(run).endswith("[after] after\n")


@pytest.mark.parametrize("go_on", [False, True])
def test_a_failure_ends_what_depends_on_it_and_by_the_setting_the_rest(bench: Bench, go_on: bool) -> None:
    run = bench.run(
        bash("bad", "sleep 0.5; exit 7"), bash("long", f"trap 'exit 1' TERM; sleep {1 if go_on else 60} & wait"),
        bash("after", "true", "bad"), bash("further", "true", "after"), bash("later", "true", "long"),
        continue_on_step_failure=go_on,
    )  # fmt: skip
    outcome = run.outcome
    assert outcome is not None
    assert (outcome.reason, outcome.process_exit) == (Reason.STEP_FAILED, 7)
    assert "bad" in outcome.message
    assert "NonZeroExit" in outcome.message
    assert reasons(run) == {
        "bad": "NonZeroExit", "long": "Completed" if go_on else "Canceled", "after": "UpstreamFailed",
        "further": "UpstreamFailed", "later": "Completed" if go_on else "UpstreamCanceled",
    }  # fmt: skip


def test_cancel_of_the_whole(bench: Bench) -> None:
    whole = bench.start(bash("a", "echo up; sleep 60"), bash("b", "echo up; sleep 60"), bash("c", "true", "b"))
    eventually(lambda: text(whole).count("up\n") == 2, "both steps run")
    assert whole.cancel("ada")
    outcome = whole.wait(60 * PATIENCE)
    assert (outcome.reason, outcome.process_exit) == (Reason.CANCELED, 143)
    assert reasons(whole) == {"a": "Canceled", "b": "Canceled", "c": "UpstreamCanceled"}


def test_cancel_of_one_step(bench: Bench, can: Capabilities) -> None:
    one = bench.start(
        bash("a", "echo up; sleep 60"), bash("b", "echo up; sleep 1.5"), bash("c", "true", "a"), bash("d", "true", "b")
    )
    eventually(lambda: text(one).count("up\n") == 2, "both steps run")
    if can.remote:  # it cancels a plan as a whole only, and says so
        with pytest.raises(CapabilityError, match=f"runner cancel {one.name}"):
            one.step("a").cancel("ada")
        one.cancel("ada")
        return
    assert one.step("a").cancel("ada")
    assert one.wait(60 * PATIENCE).reason is Reason.CANCELED
    assert reasons(one) == {"a": "Canceled", "b": "Completed", "c": "UpstreamCanceled", "d": "Completed"}


def test_a_file_that_was_promised_and_not_written_fails_its_reader(bench: Bench, can: Capabilities) -> None:
    run = bench.run(bash("one", "true", files=("out",)), bash("two", "true", "one"))
    outcome = run.step("two").outcome
    assert outcome is not None
    assert "one" in outcome.message
    assert outcome.reason is Reason.START_FAILED
    assert run.step("two").row.attempts == int(can.remote)  # a service elsewhere finds out when it brings it there


def test_a_step_out_of_memory_is_retried_with_more(bench: Bench, can: Capabilities) -> None:
    if not can.memory:
        pytest.skip("this backend holds no memory limit here")
    hungry = "import sys; x = bytearray(90 * 2**20); print('fits')"
    each = bash("hungry", f'python3 -c "{hungry}"', limits=Limits(memory_bytes=60 * 2**20, grace_s=2),
                retry=RetryPolicy(2, (Reason.OUT_OF_MEMORY,), 2.0))  # fmt: skip
    run = bench.run(replace(each, step=replace(each.step, argv=("python3", "-c", hungry))))
    row = run.step("hungry").row
    attempts = [attempt.outcome.reason.value for attempt in bench.store.attempts(row) if attempt.outcome]
    assert attempts == ["OutOfMemory", "Completed"]
    assert text(run, "hungry") == "fits\n"


def test_a_follower_sees_every_line_of_every_step_once(bench: Bench) -> None:
    run = bench.start(
        *(bash(f"s{number}", f"for i in $(seq 40); do echo {number}-$i; done; printf part") for number in range(5)),
        bash("end", "printf '\\xff\\r\\n\\0x\\n'", "s0"),
    )
    lines = b"".join(run.logs(follow=True)).splitlines(keepends=True)
    for number in range(5):
        own = [line for line in lines if line.startswith(b"[s%d] " % number)]
        assert own == [b"[s%d] %d-%d\n" % (number, number, i) for i in range(1, 41)] + [b"[s%d] part\n" % number]
    assert b"".join(line for line in lines if b"end" in line or b"\0x" in line) == b"[end] \xff\r\n[end] \0x\n"


def _mix() -> list[PlanStep]:
    """Twenty steps: a chain, a diamond, and what hangs between; each adds its name to all that it was given."""
    needs: dict[str, tuple[str, ...]] = {"s0": ()}
    for number in range(1, 20):
        before = {number - 1} if number % 3 else {number - 1, number - 2, number // 2}
        needs[f"s{number}"] = tuple(f"s{each}" for each in sorted(each for each in before if each >= 0))
    needs["s7"], needs["s8"] = ("s6",), ("s6",)
    return [
        bash(name, f'set -e; echo {name}; for v in ${{!RUNNER_INPUT_FROM_@}}; do cat "${{!v}}/f" > /dev/null; done; '
             f'echo {name} > "$RUNNER_OUTPUT_OUT/f"; sleep 0.05', *before)
        for name, before in needs.items()
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_of_the_supervisor_at_any_moment(bench: Bench, home: Path, seed: int) -> None:
    chance = random.Random(seed)
    run = bench.start(*_mix())
    for _ in range(4):
        until = time.monotonic() + chance.uniform(0.05, 0.8)
        while time.monotonic() < until and run.outcome is None:
            time.sleep(0.01)
        for pid in supervisors(home, run.name):
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        if run.outcome is not None:
            break
        eventually(lambda: not supervisors(home, run.name), "the lock is free")
        ensure(bench.store, run.row)
    outcome = run.wait(120 * PATIENCE)
    assert outcome.reason is Reason.COMPLETED, outcome
    rows = bench.store.children(run.row)
    assert [row.status for row in rows] == [Status.COMPLETED] * 20
    assert [row.attempts for row in rows] == [1] * 20, "no step ran twice"
    assert not list((home / "runs" / run.name).glob("steps/*/attempts/*/box")), "nothing is left behind"
    assert sorted(text(run).splitlines()) == sorted(f"[s{n}] s{n}" for n in range(20))
