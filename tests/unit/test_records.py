"""What a script can put in the place of its record must not be more than no record."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from runner.bootstrapper import final_outcome, read_record
from runner.model import Reason

if TYPE_CHECKING:
    from pathlib import Path

FINAL = {
    "final": True, "attempt": "k", "reason": "NonZeroExit", "process_exit": 3, "exit_code": 3, "message": "said so",
    "warnings": ["w"], "started": "2026-11-21T14:41:32.522Z", "elapsed_s": 0.5, "max_rss_bytes": 10,
}  # fmt: skip


def test_a_record_is_read(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(json.dumps(FINAL))
    outcome = final_outcome(read_record(tmp_path / "status.json"), "k")
    assert outcome is not None
    assert (outcome.reason, outcome.exit_code, outcome.message) == (Reason.NON_ZERO_EXIT, 3, "said so")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "held pipe", "link", "deep", "no JSON", "a list"])
def test_what_is_no_record_is_none(tmp_path: Path, kind: str) -> None:
    path, held = tmp_path / "status.json", None
    match kind:
        case "folder":
            path.mkdir()
        case "pipe" | "held pipe":
            os.mkfifo(path)
            held = os.open(path, os.O_RDWR) if kind == "held pipe" else None
        case "link":
            (tmp_path / "other").write_text(json.dumps(FINAL))
            path.symlink_to("other")
        case "deep":
            path.write_text("[" * 500_000)
        case "no JSON":
            path.write_bytes(b"\xff{")
        case "missing":
            pass
        case _:
            path.write_text("[1]")
    assert read_record(path) is None
    if held is not None:
        os.close(held)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("reason", "Nonsense"), ("reason", []), ("process_exit", "0"), ("process_exit", 700), ("exit_code", "x"),
        ("message", {"a": 1}), ("warnings", [1]), ("warnings", 5), ("started", "soon"), ("started", 5),
        ("elapsed_s", "long"), ("max_rss_bytes", []), ("cancel", {"x": 1}),
        ("cancel", 3), ("signal", 9),
    ],
)  # fmt: skip
def test_a_forged_member_makes_it_none(member: str, value: object) -> None:
    assert final_outcome({**FINAL, member: value}, "k") is None
