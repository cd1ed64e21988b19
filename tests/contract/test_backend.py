"""The backend protocol itself, without engine, store of runs or command line."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner import artifacts
from runner.backends import open_backend, secretfile
from runner.backends.base import Box, Phase
from runner.bootstrapper import final_outcome, read_record
from runner.composer import compose_task
from runner.model import Limits, Reason, Step
from runner.store import Store
from tests.conftest import eventually
from tests.contract.helpers import Gate
from tests.contract.workspace import remote
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.backends.base import Backend, Handle, Observation, Task

_COUNT = "with open('outputs/ran', 'a') as f: f.write('x')\nprint('once')\n"


@dataclass
class Bench:
    """A backend and what it takes to make tasks for it."""

    backend: Backend
    store: Store
    image: str | None
    tmp: Path
    gate: Gate

    def task(self, text: str, key: str = "one", *, secrets: Mapping[str, str] | None = None, grace: float = 10) -> Task:
        code = self.tmp / f"code-{key}"
        code.mkdir(exist_ok=True)
        (code / "a.py").write_text(text)
        box = Box(self.tmp / f"box-{key}")
        elsewhere = self.backend.capabilities.remote
        step = Step(
            name="a", argv=("a.py",), image=self.image, inputs=self.gate.inputs, secrets=tuple(secrets or ()),
            limits=Limits(grace_s=grace), remote=remote(self.image) if elsewhere else None,
        )  # fmt: skip
        artifacts.prepare(box, None if elsewhere else code, {})
        return compose_task(
            step, run=key, experiment="e", number=1, store_id=self.store.id, secrets=secrets or {}, box=box,
            log=self.tmp / f"log-{key}", code=code if elsewhere else None,
            layout=self.backend.layout(box, step.inputs, step.outputs, step.files),
        )  # fmt: skip

    def ended(self, handle: Handle, backend: Backend | None = None) -> Observation:
        backend = backend or self.backend
        end = time.monotonic() + 60 * PATIENCE
        while time.monotonic() < end:
            seen = backend.poll([handle])[handle]
            assert seen is not None
            if seen.phase is Phase.ENDED:
                return seen
            backend.wait(0.2)
        raise AssertionError("the task has not ended within 60 s")


@pytest.fixture
def bench(where: list[str], tmp_path: Path) -> Iterator[Bench]:
    """A backend of the test's own; at the end every task that it made is removed."""
    store = Store(tmp_path / "home")
    backend = open_backend(where[1], store)
    image = where[3] if backend.capabilities.images else None
    if image is not None and not backend.capabilities.remote:
        from runner.docker_api.containers import Engine

        engine = Engine()
        found = engine.image(image)
        engine.close()
        assert found is not None
        image = found.id
    gate = Gate(tmp_path / "gate", backend.capabilities.remote)
    gate.folder.mkdir()
    bench = Bench(backend, store, image, tmp_path, gate)
    yield bench
    backend.close()
    store.close()


def test_the_same_key_twice_is_one_task(bench: Bench) -> None:
    task = bench.task(_COUNT)
    first = bench.backend.submit(task)
    try:
        assert bench.backend.submit(task) == first
        seen = bench.ended(first)
        assert seen.exit_code == 0 or (seen.platform is not None and seen.platform.status == "Completed")
        # And once more when it has ended: it is not run again.
        again = bench.backend.submit(task)
        bench.ended(again)
        bench.backend.finish(again)
        assert (task.box.work / "outputs" / "ran").read_text() == "x"
        assert task.log.read_bytes() == b"once\n"
    finally:
        bench.backend.remove(first)
    found = bench.backend.find(replace(task, box=Box(bench.tmp / "no-box")))
    # A service elsewhere keeps its own record of what it ran.
    assert found == (first if bench.backend.capabilities.remote else None)


def test_the_same_key_from_two_processes_is_one_task(bench: Bench, where: list[str]) -> None:
    """As after a kill: another backend object that has not seen the first submit."""
    task = bench.task(_COUNT)
    first = bench.backend.submit(task)
    bench.backend.close()
    other = open_backend(where[1], bench.store)
    try:
        found = other.submit(task)
        assert found == first
        seen = bench.ended(found, other)
        assert seen.phase is Phase.ENDED
        other.finish(found)
        assert (task.box.work / "outputs" / "ran").read_text() == "x"
        outcome = final_outcome(read_record(task.box.record), task.key)
        assert outcome is not None
        assert outcome.reason is Reason.COMPLETED
        assert task.log.read_bytes() == b"once\n"
    finally:
        other.remove(first)
        other.close()


def test_what_is_unknown_is_none_and_never_a_status(bench: Bench) -> None:
    task = bench.task(_COUNT)
    handle = bench.backend.submit(task)
    bench.ended(handle)
    bench.backend.finish(handle)
    bench.backend.remove(handle)
    if bench.backend.capabilities.remote:  # it knows what it ran; what it never ran is unknown
        handle = handle.translate(str.maketrans("0123456789abcdef", "fedcba9876543210"))
    assert bench.backend.poll([handle]) == {handle: None}
    bench.backend.cancel(handle)
    bench.backend.cancel(handle, force=True)
    bench.backend.remove(handle)  # twice is no error: a kill may come between the removal and its record
    assert bench.backend.poll([]) == {}


def test_cancel_of_a_finished_task_changes_nothing(bench: Bench) -> None:
    task = bench.task(_COUNT)
    handle = bench.backend.submit(task)
    before = bench.ended(handle)
    bench.backend.cancel(handle)
    bench.backend.cancel(handle, force=True)
    assert bench.ended(handle) == before
    outcome = final_outcome(read_record(task.box.record), task.key)
    assert outcome is not None
    assert outcome.reason is Reason.COMPLETED
    bench.backend.finish(handle)
    bench.backend.remove(handle)


def test_cancel_and_force(bench: Bench) -> None:
    text = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(300)\n"
    task = bench.task(text, grace=60)
    handle = bench.backend.submit(task)

    def up() -> bool:
        bench.backend.wait(0.05)
        return task.log.exists() and task.log.read_bytes() == b"up\n"

    eventually(up, "the script runs")
    bench.backend.cancel(handle)
    bench.backend.cancel(handle, force=True)
    seen = bench.ended(handle)
    if seen.platform is not None:  # a service that tells no more of it
        assert seen.platform.status == "Canceled"
    else:
        assert seen.exit_code == 137 or seen.killed_by == 9
    assert final_outcome(read_record(task.box.record), task.key) is None
    bench.backend.finish(handle)
    bench.backend.remove(handle)


def test_render_is_pure_and_holds_no_secret(bench: Bench) -> None:
    secret = "s3cret-" + os.urandom(8).hex()
    task = bench.task("", secrets={"TOKEN": secret})
    before = sorted(str(path) for path in bench.tmp.rglob("*") if "home" not in path.parts)
    first, again = bench.backend.render(task), bench.backend.render(task)
    assert first == again
    assert secret not in json.dumps(first)
    assert sorted(str(path) for path in bench.tmp.rglob("*") if "home" not in path.parts) == before
    assert not secretfile.folder(task.key).exists()


def test_a_record_of_another_attempt_is_not_believed(bench: Bench) -> None:
    """A box that holds an old record, and a bootstrapper that is killed before it can replace it."""
    task = bench.task("import time\ntime.sleep(300)\n")
    stale = {"final": True, "attempt": "another-1", "reason": "Completed", "process_exit": 0, "pid": os.getpid()}
    task.box.record.write_text(json.dumps(stale))
    assert final_outcome(read_record(task.box.record), task.key) is None
    assert bench.backend.find(task) is None
    handle = bench.backend.submit(task)
    bench.backend.cancel(handle, force=True)
    bench.ended(handle)
    outcome = final_outcome(read_record(task.box.record), task.key)
    # Only where the kill is no more than a cancel can the bootstrapper still write one of its own.
    assert outcome is None or (bench.backend.capabilities.remote and outcome.reason is Reason.CANCELED)
    bench.backend.finish(handle)
    bench.backend.remove(handle)


def test_a_task_is_taken_up_by_another_process(bench: Bench, where: list[str]) -> None:
    task = bench.task(f"print('one', flush=True)\n{bench.gate.text}print('two')\n")
    handle = bench.backend.submit(task)

    def up() -> bool:
        bench.backend.wait(0.05)
        return task.log.exists() and task.log.read_bytes() == b"one\n"

    eventually(up, "the script runs")
    bench.backend.close()  # as a killed supervisor leaves it: the task goes on
    heir = open_backend(where[1], bench.store)
    try:
        assert heir.find(task) == handle
        heir.watch(task, handle)
        seen = heir.poll([handle])[handle]
        assert seen is not None
        assert seen.phase is Phase.RUNNING
        bench.gate.open()
        bench.ended(handle, heir)
        heir.finish(handle)
        assert task.log.read_bytes() == b"one\ntwo\n"
    finally:
        heir.remove(handle)
        heir.close()


def test_secrets_are_gone_when_the_task_is(bench: Bench) -> None:
    if not bench.backend.capabilities.secrets:
        pytest.skip("this backend passes no secret's value")
    task = bench.task("import os\nprint(os.environ['TOKEN'])\n", secrets={"TOKEN": "value-of-token"})
    handle = bench.backend.submit(task)
    bench.ended(handle)
    bench.backend.finish(handle)
    assert task.log.read_bytes() == b"value-of-token\n"
    bench.backend.remove(handle)
    assert not secretfile.folder(task.key).exists()
