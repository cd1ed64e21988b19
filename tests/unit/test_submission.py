"""Accepting a run, and being interrupted at it: either it counts and will end, or nothing is left of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner import snapshot
from runner.errors import CodeFolderError, StoreError, UsageError
from runner.model import Status
from runner.store import Store
from runner.submission.accepting import WHOLE, accept
from runner.submission.script import Request, prepare
from runner.supervisor import ensure, launch

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture
def request_of(work: Path) -> Callable[..., Request]:
    def make(**values: Any) -> Request:
        (work / "a.sh").write_text("echo hello\n")
        return Request(**{"script": work / "a.sh", "backend": "process", **values})

    return make


def silent(_kind: str, _text: str) -> None:
    """Nothing is said."""


def finished(store: Store, name: str, eventually: Callable[..., None]) -> None:
    eventually(lambda: store.get(name).status.terminal, f"{name} has ended")
    assert store.get(name).status is Status.COMPLETED


def test_an_accepted_run_ends(
    store: Store, request_of: Callable[..., Request], eventually: Callable[..., None]
) -> None:
    run, gone = accept(prepare(request_of(), store, silent), store)
    os.close(gone)
    finished(store, run.name, eventually)


def test_what_goes_wrong_while_copying_leaves_nothing(
    store: Store, request_of: Callable[..., Request], work: Path, home: Path
) -> None:
    prepared = prepare(request_of(), store, silent)
    (work / "a.sh").unlink()
    with pytest.raises(CodeFolderError, match=r"a\.sh"):
        accept(prepared, store)
    assert store.list() == []
    assert list((home / "runs").iterdir()) == []


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_while_copying_leaves_nothing(
    store: Store, request_of: Callable[..., Request], home: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def broken(*_: object) -> None:
        raise fault

    prepared = prepare(request_of(), store, silent)
    monkeypatch.setattr(snapshot, "copy", broken)
    with pytest.raises((StoreError, KeyboardInterrupt)) as caught:
        accept(prepared, store)
    if isinstance(caught.value, StoreError):
        assert "runner prune" in str(caught.value)
    else:
        assert caught.value.args == (), "no run is named, since none was accepted"
    assert list((home / "runs").iterdir()) == []


def test_ctrl_c_just_after_the_commit_keeps_the_run(
    store: Store, request_of: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    """The row is there, but `accept` has not heard of it: the run counts, has its folder, and any command drives it on."""
    prepared = prepare(request_of(name="kept"), store, silent)
    real = store.accept

    def interrupted(*args: Any, **values: Any) -> object:
        real(*args, **values)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "accept", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        accept(prepared, store)
    assert caught.value.args == ("kept",)
    assert store.folder("kept").code.is_dir()
    ensure(store, store.get("kept"))
    finished(store, "kept", eventually)


def test_ctrl_c_while_the_supervisor_is_started_names_the_run(
    store: Store, request_of: Callable[..., Request], monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    prepared = prepare(request_of(name="kept"), store, silent)

    def interrupted(*args: Any) -> int:
        os.close(launch(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr("runner.submission.accepting.launch", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        accept(prepared, store)
    assert caught.value.args == ("kept",)
    finished(store, "kept", eventually)


@pytest.mark.parametrize("value", ["a\0b", "x" * 131_072])
def test_what_no_program_can_be_given(store: Store, request_of: Callable[..., Request], value: str) -> None:
    for wanted in (request_of(args=(value,)), request_of(env={"A": value})):
        with pytest.raises(UsageError, match="an argument or variable"):
            prepare(wanted, store, silent)


def test_decisions_are_said(store: Store, request_of: Callable[..., Request], work: Path) -> None:
    (work / "libs.yaml").write_text("pip: [numpy]\n")
    (work / "server.pem").write_text("")
    said: list[tuple[str, str]] = []
    prepare(request_of(), store, lambda kind, text: said.append((kind, text)))
    assert [kind for kind, _ in said] == ["note", "note"]
    assert "server.pem" in said[0][1]
    assert "libs.yaml beside the script is not used" in said[1][1]


def test_folders_are_named_as_they_are(store: Store, request_of: Callable[..., Request], work: Path) -> None:
    inside = work / "deep"
    inside.mkdir()
    prepared = prepare(request_of(script=inside / ".." / "a.sh"), store, silent)
    assert prepared.codes[WHOLE].folder == work.resolve()
    assert prepared.experiment == work.name
    link = work.parent / "link"
    link.symlink_to(work)
    prepared = prepare(request_of(script=link / "a.sh", code=Path(work)), store, silent)
    assert prepared.step.argv == ("a.sh",)


def test_a_link_to_a_script_alone_takes_what_it_points_to(
    store: Store, request_of: Callable[..., Request], work: Path, eventually: Callable[..., None]
) -> None:
    (work / "sub").mkdir()
    link = work / "sub" / "link.sh"
    link.symlink_to(work / "a.sh")
    run, gone = accept(prepare(request_of(script=link, code=link), store, silent), store)
    os.close(gone)
    finished(store, run.name, eventually)


def test_the_run_store_inside_the_code_folder_is_not_taken_along(
    request_of: Callable[..., Request], work: Path
) -> None:
    inner = Store(work / ".runner")
    assert inner.list() == []
    assert prepare(request_of(), inner, silent).codes[WHOLE].snapshot.files == ["a.sh"]
    inner.close()


def test_secrets_are_not_in_what_is_shown_of_a_request(request_of: Callable[..., Request]) -> None:
    assert "hunter2" not in repr(request_of(secrets={"TOKEN": "hunter2"}))
