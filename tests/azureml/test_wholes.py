"""Plans that are handed over whole: their steps, found by name and followed like single jobs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.backends.base import Box, Member, Phase, Whole
from runner.model import Limits, Reason, Remote
from runner.plan import Upstream
from tests.azureml.conftest import Bench

if TYPE_CHECKING:
    from runner.backends.base import Task

pytestmark = pytest.mark.docker


def whole(bench: Bench, *members: Member, **options: Any) -> Task:
    key = f"{bench.tmp.name}-whole"
    box = Box(bench.tmp / "box-whole")
    box.root.mkdir()
    labels = {"runner.run": key, "runner.store": "s"}
    given = Whole(members, **options)
    return replace(
        members[0].task, key=key, box=box, log=bench.tmp / "log-whole", labels=labels, argv=(), inputs={}, outputs={},
        limits=Limits(), remote=Remote(), code=None, whole=given, env={"RUNNER_EXPERIMENT": "e"},
    )  # fmt: skip


def test_steps_are_found_and_followed_like_jobs(bench: Bench) -> None:
    first = bench.task(
        "import os\nprint('one')\nopen(os.environ['RUNNER_OUTPUT_DATA'] + '/d', 'w').write('from one')\n",
        outputs={"data": "uri_folder"},
    )
    second = bench.task(
        "import sys\nprint('two')\nprint(open(sys.argv[1] + '/d').read())\nopen('outputs/x', 'w').write('x')\n"
        "raise SystemExit(4)\n"
    )
    second = replace(second, argv=(*second.argv, "${{inputs.data}}"))
    plan = whole(bench, Member("prep", first), Member("train", second, {"data": Upstream("prep", "data")}))
    backend = bench.backend
    root = backend.submit(plan)
    tasks = {"prep": first, "train": second}
    end = time.monotonic() + 90
    known: dict[str, str] = {}
    while backend.poll([root])[root].phase is not Phase.ENDED:  # type: ignore[union-attr]
        assert time.monotonic() < end
        for name, handle in backend.steps(root).items():
            if name not in known:
                assert backend.poll([handle])[handle] is not None
                backend.watch(tasks[name], handle)
                known[name] = handle
        backend.wait(0.2)
    assert set(known) == {"prep", "train"}
    assert all(handle.startswith(f"{root}/") for handle in known.values())
    assert backend.find(second) == known["train"]
    assert bench.outcome(first, known["prep"]).reason is Reason.COMPLETED
    outcome = bench.outcome(second, known["train"])
    assert (outcome.reason, outcome.exit_code) == (Reason.NON_ZERO_EXIT, 4)
    assert first.log.read_bytes() == b"one\n"
    assert second.log.read_bytes() == b"two\nfrom one\n"
    assert (first.box.outputs / "data" / "d").read_text() == "from one"
    assert (second.box.work / "outputs" / "x").read_text() == "x"
    assert backend.finish(root) == ()
    backend.remove(root)


def test_a_step_that_nobody_has_taken_up_has_not_ended(bench: Bench) -> None:
    task = bench.task("print('quick')\n")
    plan = whole(bench, Member("only", task))
    backend = bench.backend
    root = backend.submit(plan)
    bench.ended(root)
    handle = backend.steps(root)["only"]
    seen = backend.poll([handle])[handle]
    assert seen is not None
    assert seen.phase is Phase.FINALIZING
    backend.watch(task, handle)
    assert bench.outcome(task, handle).reason is Reason.COMPLETED


def test_a_reused_step_is_what_the_earlier_run_left(bench: Bench) -> None:
    bench.emulator.admin.switch(reuse=True)
    text = "import os\nprint('ran')\nopen(os.environ['RUNNER_OUTPUT_DATA'] + '/d', 'w').write(str(os.getpid()))\n"
    code_of = bench.task(text, outputs={"data": "uri_folder"})
    backend = bench.backend
    root = backend.submit(whole(bench, Member("only", code_of)))
    bench.ended(root)
    first = backend.steps(root)["only"]
    backend.watch(code_of, first)
    assert bench.outcome(code_of, first).reason is Reason.COMPLETED
    again = replace(code_of, box=Box(bench.tmp / "box-b"), log=bench.tmp / "log-b")
    again.box.root.mkdir()
    plan = replace(whole_of(bench, again), key=f"{bench.tmp.name}-whole-b")
    other = backend.submit(plan)
    bench.ended(other)
    handle = backend.steps(other)["only"]
    again = replace(again, key=f"{code_of.key}-b")  # the service compares variables, and the key is one
    backend.watch(again, handle)
    seen = bench.ended(handle)
    assert seen.platform is not None
    assert seen.platform.reused == first.partition("/")[2]
    assert bench.outcome(again, handle).reason is Reason.COMPLETED
    assert again.log.read_bytes() == b"ran\n"
    assert (again.box.outputs / "data" / "d").read_text() == (code_of.box.outputs / "data" / "d").read_text()


def whole_of(bench: Bench, task: Task) -> Task:
    """A plan of one step, beside another of the same test."""
    box = Box(bench.tmp / f"box-whole-{task.log.name}")
    box.root.mkdir()
    labels = {"runner.run": f"{bench.tmp.name}-b", "runner.store": "s"}
    return replace(
        task, box=box, log=bench.tmp / "log-whole-b", labels=labels, argv=(), inputs={}, outputs={}, limits=Limits(),
        remote=Remote(), code=None, whole=Whole((Member("only", task),)), env={"RUNNER_EXPERIMENT": "e"},
    )  # fmt: skip


def test_a_cancel_of_the_whole_ends_its_steps(bench: Bench) -> None:
    task = bench.task("import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    backend = bench.backend
    root = backend.submit(whole(bench, Member("only", task)))
    end = time.monotonic() + 60
    while not (handles := backend.steps(root)):
        assert time.monotonic() < end
        backend.wait(0.2)
    backend.watch(task, handles["only"])
    bench.until(handles["only"], Phase.RUNNING)
    backend.cancel(handles["only"])  # one step alone cannot be canceled: nothing happens
    backend.cancel(root)
    bench.ended(root)
    assert bench.outcome(task, handles["only"]).reason in {Reason.CANCELED_EXTERNALLY, Reason.INTERRUPTED}
