"""Steps that need not run, on the process backend: what is reused, what is not, and that no run harms another."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runner.digests import Digests
from runner.engine import taking
from runner.errors import NotFoundError
from runner.model import Reason, Status, Step
from runner.plan import Plan, PlanStep, Upstream
from runner.store import RunRow, Store, remove_tree
from runner.supervisor import supervise


class Site:
    """A store, and pipelines run in it to their ends. What a step does is appended to `ran`."""

    def __init__(self, home: Path, work: Path) -> None:
        self.store, self.work = Store(home), work
        self.ran_file = work / "ran"
        self._count = 0

    @property
    def ran(self) -> list[str]:
        """The steps that really ran since the last look."""
        found = self.ran_file.read_text().split() if self.ran_file.exists() else []
        self.ran_file.unlink(missing_ok=True)
        return found

    def step(
        self,
        name: str,
        text: str,
        *,
        needs: tuple[str, ...] = (),
        inputs: dict[str, Path] | None = None,
        reusable: bool = True,
        **members: object,
    ) -> PlanStep:
        """A step of one output `out` (a file) that says that it ran. `$IN_a` is what step a left."""
        names = {"outputs": {"out": None}, "files": ("out",), **members}
        body = f"echo {name} >> {self.ran_file}; {text}"
        task = Step(
            name, ("bash", "-c", body), inputs={key: str(path) for key, path in (inputs or {}).items()},
            **names,  # type: ignore[arg-type]  # members of Step
        )  # fmt: skip
        return PlanStep(name, task, {need: Upstream(need, "out") for need in needs}, reusable=reusable)

    def accept(self, *steps: PlanStep, **members: object) -> RunRow:
        plan = Plan(steps, code={"src": "0"}, **members)  # type: ignore[arg-type]  # members of Plan
        self._count += 1
        name, _ = self.store.reserve(f"r{self._count}")
        return self.store.accept(
            name, plan=plan, backend="process", image=None, image_name=None, experiment="e", title="p.yml",
            description="", tags={}, kind="pipeline",
        )  # fmt: skip

    def run(self, *steps: PlanStep, **members: object) -> str:
        """Run a pipeline to its end; its name."""
        row = self.accept(*steps, **members)
        supervise(self.store.home, row.name, {})
        return row.name

    def of(self, run: str, step: str) -> RunRow:
        return self.store.child(self.store.get(run), step)

    def out(self, run: str, step: str) -> Path:
        row = self.of(run, step)
        return self.store.folder(row.name).attempt(max(1, row.attempts)).artifacts / "out" / "out"


@pytest.fixture
def site(home: Path, work: Path) -> Site:
    return Site(home, work)


MAKE = "echo {} > ${{{{outputs.out}}}}"
COPY = "cat ${{inputs.a}} > ${{outputs.out}}"


def pair(site: Site, content: str = "1", **members: object) -> tuple[PlanStep, PlanStep]:
    """a makes something, b copies it."""
    return site.step("a", MAKE.format(content), **members), site.step("b", COPY, needs=("a",))  # type: ignore[arg-type]


def test_the_same_again_is_reused(site: Site) -> None:
    first = site.run(*pair(site))
    assert site.ran == ["a", "b"]
    second = site.run(*pair(site))
    assert site.ran == []
    assert site.store.get(second).status is Status.COMPLETED
    for step in "ab":
        row = site.of(second, step)
        assert (row.status, row.reused_from) == (Status.COMPLETED, f"{first}.{step}")
        assert row.outcome is not None
        assert row.outcome.message == f"reused from {first}.{step}"
        assert site.out(second, step).read_text() == "1\n"
    # A step could write to what it reads, so `a` is a copy.
    assert site.out(second, "b").stat().st_ino == site.out(first, "b").stat().st_ino
    assert site.out(second, "a").stat().st_ino != site.out(first, "a").stat().st_ino
    third = site.run(*pair(site))
    assert site.of(third, "b").reused_from == f"{first}.b"


def test_what_changed_runs_and_what_follows(site: Site) -> None:
    site.run(*pair(site))
    site.run(*pair(site, "2"))
    assert site.ran == ["a", "b", "a", "b"]


def test_an_upstream_that_left_the_same_again_stops_there(site: Site) -> None:
    site.run(*pair(site))
    run = site.run(*pair(site, "   1"))
    assert site.ran == ["a", "b", "a"]
    assert site.of(run, "b").reused_from == "r1.b"


def test_the_content_of_an_input_counts(site: Site) -> None:
    data = site.work / "data.csv"
    data.write_text("1")
    step = site.step("a", "cat ${{inputs.data}} > ${{outputs.out}}", inputs={"data": data})
    site.run(step)
    data.touch()
    site.run(step)
    assert site.ran == ["a"]
    data.write_text("2")
    run = site.run(step)
    assert site.ran == ["a"]
    assert site.out(run, "a").read_text() == "2"


def test_an_input_that_changes_while_the_step_runs_is_not_remembered(site: Site) -> None:
    data = site.work / "data.csv"
    data.write_text("1")
    step = site.step("a", f"echo x > ${{{{outputs.out}}}}; echo 2 > {data}", inputs={"data": data})
    site.run(step)
    data.write_text("1")
    site.run(step)
    assert site.ran == ["a", "a"]


@pytest.mark.parametrize("changes", [{"reusable": False}, {"inputs": {"d": Path("/etc/hostname")}, "writable": ("d",)}])
def test_what_may_not_be_reused(site: Site, changes: dict[str, object]) -> None:
    for _ in range(2):
        site.run(site.step("a", MAKE.format(1), **changes))  # type: ignore[arg-type]
    assert site.ran == ["a", "a"]


def test_force_rerun_runs_everything_and_is_a_source_for_later(site: Site) -> None:
    site.run(*pair(site))
    site.run(*pair(site), force_rerun=True)
    assert site.ran == ["a", "b", "a", "b"]
    assert site.of(site.run(*pair(site)), "a").reused_from == "r2.a"


def test_steps_of_one_pipeline_are_not_reused_in_it(site: Site) -> None:
    twins = [replace(site.step("a", MAKE.format(1)), name=name) for name in ("a1", "a2", "a3")]
    site.run(*twins)
    assert site.ran == ["a"] * 3


def test_equal_steps_ask_the_store_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each of 10,000 equal steps looks through the rows of those before it."""
    twins = [replace(site.step("a", MAKE.format(1)), name=f"a{number}") for number in range(8)]
    site.run(*twins)
    asked: list[str] = []

    def counted(name: str) -> Callable[..., object]:
        real = getattr(Store, name)

        def ask(*args: object) -> object:
            asked.append(name)
            return real(*args)

        return ask

    for name in ("any_cached", "cached"):
        monkeypatch.setattr(Store, name, counted(name))
    run = site.run(*twins)
    assert sorted(asked) == ["any_cached", "cached"]
    assert {row.status for row in site.store.children(site.store.get(run))} == {Status.COMPLETED}
    assert site.ran == ["a"] * 8


def test_a_step_that_failed_is_not_reused(site: Site) -> None:
    for _ in range(2):
        run = site.run(site.step("a", "exit 3"))
        assert site.of(run, "a").status is Status.FAILED
    assert site.ran == ["a", "a"]


def test_the_origin_may_be_deleted(site: Site) -> None:
    first, second = site.run(*pair(site)), site.run(*pair(site))
    site.store.delete(site.store.get(first))
    assert site.out(second, "b").read_text() == "1\n"
    site.ran  # noqa: B018 - forgets what ran
    third = site.run(*pair(site))
    assert site.ran == []
    assert site.out(third, "b").read_text() == "1\n"


@pytest.mark.parametrize("damage", ["missing", "longer", "same size", "listing", "folder"])
def test_damaged_outputs_are_not_reused(site: Site, damage: str) -> None:
    first = site.run(site.step("a", MAKE.format(1)))
    out = site.out(first, "a")
    harm: dict[str, Callable[[], object]] = {
        "missing": out.unlink,
        "longer": lambda: out.write_text("12\n"),
        "same size": lambda: out.write_text("2\n"),
        "listing": lambda: (out.parents[2] / "artifacts.json").write_text("{"),
        "folder": lambda: remove_tree(out.parents[2]),
    }
    harm[damage]()
    second = site.run(site.step("a", MAKE.format(1)))
    assert site.ran == ["a", "a"]
    assert site.out(second, "a").read_text() == "1\n"


def test_the_log_says_where_it_is_from_once(site: Site) -> None:
    step = site.step("a", MAKE.format(1) + "; echo hello")
    for _ in range(3):
        run = site.run(step)
    log = site.store.folder(f"{run}.a").attempt(1).log.read_text()
    assert log == "reused from r1.a, which wrote:\nhello\n"


def test_warnings_are_kept(site: Site) -> None:
    step = site.step("a", MAKE.format(1) + "; touch lost.txt")
    first, second = site.run(step), site.run(step)
    outcomes = [site.of(run, "a").outcome for run in (first, second)]
    assert outcomes[0] is not None
    assert outcomes[1] is not None
    assert outcomes[0].warnings == outcomes[1].warnings != ()


def test_links_and_folders_of_an_output_come_along(site: Site) -> None:
    text = "cd ${{outputs.out}}; mkdir -p d/e empty; echo 1 > d/e/f; ln -s d/e/f l; chmod +x d/e/f; cp -r d z"
    step = site.step("a", text, files=())
    first, second = (site.out(site.run(step), "a").parent for _ in range(2))
    assert site.ran == ["a"]
    assert taking.listing(first) == taking.listing(second)
    assert Digests(None).of(first) == Digests(None).of(second)
    assert (second / "l").is_symlink()


def test_where_links_cannot_be_made_files_are_copied(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.run(*pair(site))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    second, third = site.run(*pair(site)), site.run(*pair(site))
    assert site.ran == ["a", "b"]
    assert site.out(second, "a").stat().st_ino != site.out(first, "a").stat().st_ino
    assert site.of(third, "a").reused_from == "r1.a"


def test_an_output_that_a_consumer_writes_to_is_copied(site: Site) -> None:
    def steps(word: str) -> tuple[PlanStep, PlanStep]:
        writes = f"echo {word} >> ${{{{inputs.a}}}}; cat ${{{{inputs.a}}}} > ${{{{outputs.out}}}}"
        return site.step("a", MAKE.format(1)), site.step("b", writes, needs=("a",), writable=("a",))

    site.run(site.step("a", MAKE.format(1)))
    second = site.run(*steps("x"))
    assert site.of(second, "a").reused_from == "r1.a"
    assert site.out("r1", "a").read_text() == "1\n"
    assert site.out(second, "b").read_text() == "1\nx\n"
    third = site.run(*steps("y"))
    assert site.out(third, "b").read_text() == "1\ny\n"


def test_what_read_an_input_that_a_sibling_had_spoilt_is_not_reused(site: Site) -> None:
    """Plain processes can write to their inputs; what they leave then must not stand for what they were given."""
    steps = (
        site.step("a", MAKE.format(1)),
        site.step("b", "echo spoilt > ${{inputs.a}}; echo b > ${{outputs.out}}", needs=("a",)),
        site.step("c", "cat ${{inputs.a}} > ${{outputs.out}}", needs=("a", "b")),
    )
    first = site.run(*steps)
    assert site.out(first, "c").read_text() == "spoilt\n"
    assert site.ran == ["a", "b", "c"]
    site.run(*steps)
    assert site.ran == ["a", "b", "c"]


def test_a_step_that_spoils_a_reused_input_spoils_no_other_run(site: Site) -> None:
    first = site.run(site.step("a", MAKE.format(1)))
    spoils = site.step("b", "echo spoilt > ${{inputs.a}}; echo b > ${{outputs.out}}", needs=("a",))
    second = site.run(site.step("a", MAKE.format(1)), spoils)
    assert site.of(second, "a").reused_from == f"{first}.a"
    assert site.out(second, "a").read_text() == "spoilt\n"
    assert site.out(first, "a").read_text() == "1\n"


def test_what_is_written_to_before_it_is_read_is_not_remembered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next step may be quicker than our reading."""
    real = taking.listing

    def late(folder: Path) -> dict[str, taking.Entry]:
        found = real(folder)
        (folder / "out" / "out").write_text("spoilt\n")
        return found

    monkeypatch.setattr(taking, "listing", late)
    first = site.run(site.step("a", MAKE.format(1)))
    assert site.store.output_digests(site.of(first, "a")) is None
    monkeypatch.undo()
    second = site.run(site.step("a", MAKE.format(1)))
    assert site.out(second, "a").read_text() == "1\n"
    assert site.ran == ["a", "a"]


def test_outputs_are_published_again(site: Site) -> None:
    """The engine's own word on a copy that it cannot make is the same for a step that is reused."""
    step = site.step("a", MAKE.format(1))
    site.run(step)
    elsewhere = replace(step, step=replace(step.step, publish={"out": str(site.work / "gone" / "${{name}}")}))
    fresh = replace(elsewhere, reusable=False)
    reused, ran = site.of(site.run(elsewhere), "a"), site.of(site.run(fresh), "a")
    assert reused.status is ran.status
    assert reused.outcome is not None
    assert ran.outcome is not None
    assert reused.outcome.reason is ran.outcome.reason


def test_two_pipelines_at_once_share_what_there_is(site: Site) -> None:
    site.run(*pair(site))
    rows = [site.accept(*pair(site)) for _ in range(4)]
    threads = [threading.Thread(target=supervise, args=(site.store.home, row.name, {})) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert site.ran == ["a", "b"]
    for row in rows:
        assert site.of(row.name, "b").reused_from == "r1.b"
        assert site.out(row.name, "b").read_text() == "1\n"


def test_a_run_that_is_deleted_meanwhile_is_not_half_taken(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.run(*pair(site))
    real = os.link

    def after_deletion(source: Path, target: Path, **options: bool) -> None:
        if site.store.has(first):
            site.store.delete(site.store.get(first))
        real(source, target, **options)

    monkeypatch.setattr("os.link", after_deletion)
    second = site.run(*pair(site))
    with pytest.raises(NotFoundError):
        site.store.get(first)
    assert site.ran == ["a", "b", "a", "b"]
    assert site.out(second, "b").read_text() == "1\n"


_DYING = """
import os, sys, pathlib
from runner.engine import taking
from runner.supervisor import supervise
left = int(sys.argv[3])
def count(real):
    def call(*args, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return real(*args, **options)
    return call
os.link = count(os.link)
if sys.argv[4] == "all":
    pathlib.Path.mkdir = count(pathlib.Path.mkdir)
    taking.write_listing = count(taking.write_listing)
supervise(pathlib.Path(sys.argv[1]), sys.argv[2], {})
"""


def test_kill_in_the_middle_of_linking(site: Site) -> None:
    """At each link, folder and listing in turn: the next supervisor ends the run, with everything in place."""
    text = "cd ${{outputs.out}}; mkdir d; for n in 1 2 3; do echo $n > d/$n; done"
    step = site.step("a", text, files=())
    first = site.run(step)
    expected = taking.listing(site.out(first, "a").parent)
    for moment in range(40):
        row = site.accept(step)
        done = subprocess.run(
            [sys.executable, "-c", _DYING, site.store.home, row.name, str(moment), "all"], check=False
        )
        if done.returncode != -signal.SIGKILL:
            break
        supervise(site.store.home, row.name, {})
        assert site.of(row.name, "a").reused_from == f"{first}.a"
        assert taking.listing(site.out(row.name, "a").parent) == expected
        assert taking.listing(site.out(first, "a").parent) == expected
    assert 5 < moment < 39
    assert site.ran == ["a"]


def test_half_of_what_was_linked_is_not_kept_when_the_step_runs_after_all(site: Site) -> None:
    text = "cd ${{outputs.out}}; for n in 1 2 3; do echo $n $RANDOM > $n; done"
    step = site.step("a", text, files=())
    first = site.run(step)
    row = site.accept(step)
    done = subprocess.run([sys.executable, "-c", _DYING, site.store.home, row.name, "1", "links"], check=False)
    assert done.returncode == -signal.SIGKILL
    half = site.store.folder(f"{row.name}.a").attempt(1).artifacts
    assert half.exists()
    (half / "out").mkdir(exist_ok=True)
    (half / "out" / "stale").write_text("")
    site.store.delete(site.store.get(first))
    supervise(site.store.home, row.name, {})
    assert site.ran == ["a", "a"]
    assert sorted(path.name for path in (half / "out").iterdir()) == ["1", "2", "3"]


def test_a_full_disk_while_copying_runs_the_step(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.run(*pair(site))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.link", full)
        patch.setattr("shutil.copy2", full)
        second = site.run(site.step("a", MAKE.format(1)))
    assert site.ran == ["a", "b", "a"]
    assert site.of(second, "a").status is Status.COMPLETED
    assert site.out(second, "a").read_text() == "1\n"


def test_a_resumed_pipeline_takes_over_what_completed(site: Site) -> None:
    random = site.step("a", "echo $RANDOM > ${{outputs.out}}", reusable=False)
    flag = site.work / "flag"
    then = site.step("b", f"test -e {flag} && {COPY}", needs=("a",))
    first = site.run(random, then)
    assert site.store.get(first).outcome is not None
    assert site.of(first, "b").status is Status.FAILED
    flag.touch()
    second = site.run(random, then, taken={"a": f"{first}.a"})
    assert site.store.get(second).status is Status.COMPLETED
    assert site.of(second, "a").reused_from == f"{first}.a"
    assert site.out(second, "b").read_text() == site.out(first, "a").read_text()
    assert site.ran == ["a", "b", "b"]


def test_what_cannot_be_taken_over_any_more_runs(site: Site) -> None:
    run = site.run(*pair(site), taken={"a": "gone.a"})
    assert site.ran == ["a", "b"]
    assert site.store.get(run).status is Status.COMPLETED


def test_a_canceled_step_is_canceled_and_not_reused(site: Site) -> None:
    site.run(*pair(site))
    row = site.accept(*pair(site))
    site.store.request_cancel(row, "test")
    supervise(site.store.home, row.name, {})
    outcome = site.store.get(row.name).outcome
    assert outcome is not None
    assert outcome.reason is Reason.CANCELED
