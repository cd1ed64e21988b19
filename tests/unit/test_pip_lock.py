"""From what uv says to the lock: where local files lie, and which hashes are allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.builder import pip
from runner.errors import SpecError
from runner.spec.libs import load
from runner.spec.lock import Locked

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
LONG = f"sha512:{'d' * 128}"
IMAGE: Any = SimpleNamespace(id="sha256:1", labels={"runner.python": "/usr/bin/python3"})


@dataclass
class Answers:
    """A session whose one step is uv's answer."""

    text: str
    log_path: Path = Path("log")

    @contextmanager
    def step(self, *_args: Any, **_options: Any) -> Iterator[Any]:
        yield SimpleNamespace(ran=SimpleNamespace(exit_code=0), text=lambda _name: self.text)


def locked(folder: Path, requirements: str, answer: str, *kept: Locked) -> tuple[Locked, ...]:
    (folder / "requirements.txt").write_text(requirements)
    session: Any = Answers(answer)
    return pip.resolve(session, load(folder / "requirements.txt"), IMAGE, "3.11.2", kept)


WHEEL = "w/x-1.0-py3-none-any.whl"


@pytest.mark.parametrize("written", [WHEEL, f"./{WHEEL}", f"./w/../{WHEEL}", f"x @ file:{WHEEL}", f"x @ {WHEEL}"])
def test_a_local_file_is_locked_in_one_form(tmp_path: Path, written: str) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / WHEEL).touch()
    (found,) = locked(tmp_path, written, f"{written} \\\n    --hash={A}\n")
    assert (found.name, found.source, found.hashes) == ("x", f"./{WHEEL}", (A,))


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [((), (A, B)), ((A,), (A,)), ((C, B), (B,)), ((B, A, C), (A, B)), ((A, LONG), (A,)), ((LONG,), (LONG,))],
)
def test_no_other_hash_than_those_asked_for(tmp_path: Path, asked: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    line = " ".join(["x==1", *(f"--hash={each}" for each in asked)])
    before = Locked("pip", "x", "1", hashes=(A, B, C))
    for kept in ((), (before,)):
        (found,) = locked(tmp_path, line, f"x==1 --hash={A} --hash={B}\n", *kept)
        assert found.hashes == allowed


def test_a_hash_that_no_file_has(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        locked(tmp_path, f"y\nx==1 --hash={C}\n", f"x==1 --hash={A}\ny==1 --hash={A}\n")
    assert str(caught.value).startswith(
        f"{tmp_path}/requirements.txt:2: x 1: no file of it has a hash that is asked for"
    )
