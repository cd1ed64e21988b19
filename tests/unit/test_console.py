"""How things look: lines that fit a terminal, tables, and what is advised after an end."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runner import console
from runner.model import Limits, Origin, Outcome, Reason
from runner.plan import Plan
from runner.store import Store
from tests.plans import accept, bash

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_line_comes_to() -> None:
    assert console.last_state("\r 5%\r10%\r") == "10%"
    assert console.last_state("\x1b[1;31ma\x1b[0m\tb\x1b]0;title\x07c") == "a       bc"
    assert console.last_state("\x1b[") == "?["
    assert console.clipped("a一二三", 4) == "a一"
    assert console.clipped("abc", 2) == "ab"
    assert console.shortened("abcdefghij", 7) == "abc…hij"
    assert console.shortened("abc", 3) == "abc"


def test_a_table_paints_the_status_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.table(("TRIAL", "LR", "STATUS", "TOOK"), [("0", "0.1", "Failed", "1 s")], ["red"])
    assert capsys.readouterr().out.splitlines()[1] == "0      0.1  \x1b[31mFailed\x1b[0m  1 s"


@pytest.mark.parametrize(
    ("reason", "limits", "script", "job"),
    [
        (
            Reason.OUT_OF_MEMORY,
            Limits(memory_bytes=64 << 20),
            "--memory 128m",
            'resources: {docker_args: "--memory 128m"} in its file',
        ),
        (Reason.OUT_OF_MEMORY, Limits(), "--memory 2g", 'resources: {docker_args: "--memory 2g"} in its file'),
        (Reason.TIMEOUT, Limits(timeout_s=90), "--timeout 180s", "limits: {timeout: 180} in its file"),
        (Reason.LOST, Limits(), "--retries 2 (this cause is retried when asked)", "retry: {count: 2} in its file"),
        (Reason.NON_ZERO_EXIT, Limits(), None, None),
    ],
)
def test_advice_is_an_option_for_a_script_and_a_member_for_a_job(
    tmp_path: Path, reason: Reason, limits: Limits, script: str | None, job: str | None
) -> None:
    store = Store(tmp_path / "home")
    run, _ = accept(store, Plan((bash("a", "true"),)))
    step = store.child(run, "a")
    ended = Outcome(reason, 1, "", origin=Origin.EXECUTOR)
    of_job = replace(step, step=replace(step.step, limits=limits))
    assert console.advice(of_job, ended) == job
    of_script = replace(of_job, parent=None, step=replace(of_job.step, argv=("train.py",)))
    assert console.advice(of_script, ended) == script
    store.close()
