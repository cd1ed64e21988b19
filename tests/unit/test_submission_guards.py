"""What a job file may name of this machine, and that looking at a job fetches nothing and lets nobody write to the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.errors import CapabilityError
from runner.spec.config import Config
from runner.spec.job import load
from runner.store import Store
from runner.submission.guards import refused_as_input, refused_as_output
from runner.submission.job import JobRequest, prepare

if TYPE_CHECKING:
    from runner.submission.accepting import Prepared


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "me"
    for name in (".ssh", "work/data", ".cache"):
        (folder / name).mkdir(parents=True)
    (folder / ".ssh/id").write_text("key")
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_what_a_job_may_not_read(own_home: Path) -> None:
    (own_home / "work/link").symlink_to("../.ssh")
    for path in ("/", "/etc/shadow", "/proc/1/environ", "/run", "/dev", own_home, own_home.parent, own_home / ".ssh/id",
                 own_home / "work/link", own_home / "work/link/id", own_home / ".aws/credentials"):  # fmt: skip
        assert refused_as_input(Path(path)), path
    for path in (
        own_home / "work",
        own_home / "work/data",
        own_home / ".cache",
        Path("/dev/shm/x"),
        Path("/usr/share"),
    ):
        assert refused_as_input(path) is None, path


def test_what_a_job_may_not_write(own_home: Path) -> None:
    job = own_home / "work"
    for path in ("/", "/usr/lib/x", own_home, own_home / ".bashrc", own_home / ".cache/x", own_home / ".ssh/id"):
        assert refused_as_output(Path(path), job), path
    for path in (job / "out", job / ".hidden/out", own_home / "other/out", Path("/mnt/results")):
        assert refused_as_output(path, job) is None, path
    assert refused_as_output(own_home / "out", own_home) is None
    assert refused_as_output(own_home, own_home)


def ready(home: Path, file: Path, *, build: bool = True) -> Prepared:
    store = Store(home)
    try:
        return prepare(JobRequest(load(file, []), Config(), backend="process"), store, lambda _k, _t: None, build=build)
    finally:
        store.close()


def test_each_is_told_with_its_line(own_home: Path, home: Path) -> None:
    file = own_home / "work/job.yml"
    file.write_text(
        f"type: command\ncommand: cat ${{{{inputs.a}}}}\ncode: {own_home}/.ssh\n"
        "inputs:\n  a: {type: uri_folder, path: ../.ssh}\n  b: {type: uri_folder, path: /, mode: rw_mount}\n"
        f"outputs:\n  o: {{type: uri_file, path: {own_home}/.bashrc}}\n"
    )
    with pytest.raises(CapabilityError) as caught:
        ready(home, file)
    told = "\n".join(caught.value.hints)
    for part in ("job.yml:3", "job.yml:5", "job.yml:6", "a place of keys", "the root folder /", "a hidden place"):
        assert part in told


def test_a_preview_fetches_nothing(own_home: Path, home: Path) -> None:
    file = own_home / "work/job.yml"
    file.write_text(
        "type: command\ncommand: cat ${{inputs.a}}\n"
        "inputs:\n  a: {type: uri_file, path: 'http://127.0.0.1:9/big.csv', mode: rw_mount}\n"
    )
    prepared = ready(home, file, build=False)
    assert prepared.step.inputs == {"a": "/not-fetched/big.csv"}
    assert prepared.step.writable == (), "what is fetched is shared through the cache"
