"""The record itself: always there, always valid, never an old one; and the secrets, which are nowhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from tests.bootstrap.conftest import Run, Start

FIELDS = [
    "contract",
    "final",
    "attempt",
    "pid",
    "child_pid",
    "status",
    "reason",
    "exit_code",
    "signal",
    "core_dumped",
    "oom_kills",
    "cancel",
    "origin",
    "retryable",
    "message",
    "warnings",
    "process_exit",
    "started",
    "finished",
    "elapsed_s",
    "max_rss_bytes",
    "user_s",
    "sys_s",
]
NASTY = ["plain", 'q"uo\\te', "tab\tnl\ncr\rnul\x00esc\x1b", "größe 数 🙂 \x7f\u2028", "\ud800 lone", "", "%s {x}"]


def test_all_fields_are_there(run: Run, mode: str) -> None:
    record = run("true", mode=mode, options=["--attempt", "brave-otter/1"]).record
    assert list(record) == FIELDS
    assert record["attempt"] == "brave-otter/1"
    assert (record["pid"] == 1) == (mode == "pid1")
    assert record["child_pid"] > 1


def test_while_the_script_runs_the_record_is_not_final(start: Start, mode: str, work: Path, tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    os.mkfifo(work / "go")
    started = start("sh", "-c", f"cat {status}; cat {status} | wc -c; read x < go", mode=mode, status=status)
    assert started.process.stdout is not None
    seen = json.loads(started.process.stdout.readline())
    (work / "go").write_text("\n")
    assert started.finish().record["reason"] == "Completed"
    assert list(seen) == FIELDS
    assert seen["final"] is False
    assert seen["status"] == "Running"
    assert seen["reason"] is None
    assert seen["process_exit"] is None


def test_an_old_record_is_replaced(run: Run, start: Start, tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    first = run("true", status=status, options=["--attempt", "1"]).record
    started = start("sleep", "60", status=status, options=["--attempt", "2"])
    while (seen := json.loads(status.read_text()))["attempt"] == first["attempt"]:
        assert started.process.poll() is None
    assert seen["attempt"] == "2"
    assert seen["final"] is False
    started.send(signal.SIGKILL)
    started.process.wait()
    assert json.loads(status.read_text())["final"] is False


def test_an_old_record_does_not_outlive_a_failed_start(run: Run, tmp_path: Path, mount: Callable[..., Path]) -> None:
    """On a full disk no new record can be written; the old one must not be taken for it."""
    full = mount("full", "-t", "tmpfs", "-o", "size=16k", "tmpfs")
    (full / "status.json").write_text('{"final": true, "status": "Completed"}')
    (full / "rest").write_bytes(b"x" * 12_288)
    result = run("touch", "ran", status=full / "status.json")
    assert result.code == 125
    assert result.record == {}
    line = result.stderr.decode().splitlines()[-1]
    assert line.startswith("runner-status: ")
    record = json.loads(line.removeprefix("runner-status: "))
    assert (record["final"], record["reason"], record["retryable"]) == (True, "BootstrapError", True)
    assert "No space left on device" in record["message"]


@pytest.mark.parametrize("code", [0, 6])
def test_a_script_that_fills_the_disk_loses_no_verdict(
    run: Run, mode: str, mount: Callable[..., Path], code: int
) -> None:
    full = mount("full", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
    script = f"cat /dev/zero > {full}/junk 2> /dev/null; echo x > {full}/more; exit {code}"
    result = run("bash", "-c", script, status=full / "status.json", mode=mode)
    assert b"No space left on device" in result.stderr
    assert result.row()[1:] == ("NonZeroExit" if code else "Completed", code, None, code)


@pytest.mark.parametrize("deed", ["rm {0}", "mv {0} {0}.old", "echo '{{}}' > new; mv new {0}", "ln -sf /dev/full {0}"])
def test_a_script_that_tampers_with_the_record(run: Run, mode: str, tmp_path: Path, deed: str) -> None:
    status = tmp_path / "status.json"
    result = run("sh", "-c", deed.format(status) + "; exit 3", status=status, mode=mode)
    assert result.row() == ("Failed", "NonZeroExit", 3, None, 3)
    assert result.stderr == b""
    assert not status.is_symlink()


@pytest.mark.parametrize("deed", ["rm -r {0}", "rm {0}/status.json; mkdir {0}/status.json"])
def test_where_no_file_can_be_written_the_verdict_goes_to_the_log(
    run: Run, mode: str, tmp_path: Path, deed: str
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    result = run("sh", "-c", deed.format(folder) + "; exit 3", status=folder / "status.json", mode=mode)
    assert result.code == 3
    assert result.record == {}
    record = json.loads(result.stderr.decode().removeprefix("runner-status: "))
    assert (record["final"], record["exit_code"], record["process_exit"]) == (True, 3, 3)


def test_log_status_repeats_the_record(run: Run, mode: str) -> None:
    result = run("sh", "-c", "echo out; exit 3", options=["--log-status"], mode=mode)
    assert json.loads(result.stderr.decode().removeprefix("runner-status: ")) == result.record


def test_without_status_no_file(python: str, installed: Path, work: Path) -> None:
    argv = [python, "-I", "-S", str(installed), "--", "sh", "-c", "exit 3"]
    done = subprocess.run(argv, cwd=work, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("text", NASTY)
def test_json_is_json(module: ModuleType, text: str) -> None:
    value: dict[str, Any] = {"text": text, text: [1, -2.5, None, True, False, {"a": []}]}
    written = module.to_json(value)
    assert written.isascii()
    clean = text.replace("\ud800", "?")
    assert json.loads(written) == {"text": clean, clean: [1, -2.5, None, True, False, {"a": []}]}


@pytest.mark.parametrize("count", [0, 1, 3, 200])
@pytest.mark.parametrize("text", ["x" * 20_000, "数" * 20_000, '"' * 20_000, "short"])
def test_the_record_always_fits(module: ModuleType, count: int, text: str) -> None:
    record = module.Record(None, "k" * 256)
    record.fields.update(message=text, warnings=[f"{n} {text}" for n in range(count)])
    written = module.fit(record.fields, 8191)
    assert len(written) <= 8191
    read: dict[str, Any] = json.loads(written)
    assert list(read) == FIELDS
    assert read["attempt"] == "k" * 256
    assert text.startswith(read["message"][:30])
    if count == 200:
        assert read["warnings"][-1].endswith(" more warnings")
        assert len(read["warnings"]) - 1 + int(read["warnings"][-1].split()[1]) == 200


def test_an_endless_message_still_gives_a_record(run: Run, mode: str) -> None:
    name = "x" * 60_000 + ".py"
    result = run(name, mode=mode)
    assert result.record["reason"] == "ScriptNotFound"
    assert result.record["message"].startswith("no such script: xxx")
    assert result.record["message"].endswith(" ...")


def test_secrets_reach_the_script_and_nothing_else(start: Start, mode: str, tmp_path: Path, work: Path) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text(json.dumps({"TOKEN": 's3cr"et ü', "PATH_LIKE": ""}))
    os.mkfifo(work / "go")
    script = f'echo "$TOKEN"; test -e {secrets} && echo there; test -v PATH_LIKE && echo set; read x < go; exit 3'
    started = start("bash", "-c", script, options=["--secrets", str(secrets)], mode=mode)
    assert started.process.stdout is not None
    assert started.process.stdout.readline().decode() == 's3cr"et ü\n'
    assert started.process.stdout.readline() == b"set\n"
    for name in ("environ", "cmdline"):
        assert b"s3cr" not in Path(f"/proc/{started.pid}/{name}").read_bytes()
    (work / "go").write_text("\n")
    result = started.finish()
    assert result.row() == ("Failed", "NonZeroExit", 3, None, 3)
    assert "s3cr" not in json.dumps(result.record)
    assert b"s3cr" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "text", [None, "", "[1]", '{"A": 1}', '{"A=B": "x"}', '{"": "x"}', '{"A": "s3cr\\u0000et"}', "s3cr"]
)
def test_secrets_that_cannot_be_read(run: Run, mode: str, tmp_path: Path, text: str | None) -> None:
    secrets = tmp_path / "secrets.json"
    if text is not None:
        secrets.write_text(text)
    result = run("touch", "ran", options=["--secrets", str(secrets)], mode=mode)
    assert result.row() == ("Failed", "SecretMissing", None, None, 125)
    assert result.record["retryable"] is False
    assert result.record["origin"] == "bootstrapper"
    assert str(secrets) in result.record["message"]
    assert "s3cr" not in json.dumps(result.record) + result.stderr.decode()
    assert not secrets.exists()


def test_secrets_are_gone_even_if_the_script_is_missing(run: Run, tmp_path: Path) -> None:
    secrets = tmp_path / "secrets.json"
    secrets.write_text("{}")
    assert run("gone.py", options=["--secrets", str(secrets)]).record["reason"] == "ScriptNotFound"
    assert not secrets.exists()


def test_secrets_that_cannot_be_removed_stop_the_attempt(run: Run, tmp_path: Path, mount: Callable[..., Path]) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "s.json").write_text('{"TOKEN": "s3cret"}')
    folder = mount("locked", "--bind", "-o", "ro", str(tmp_path / "source"))
    result = run("touch", "ran", options=["--secrets", str(folder / "s.json")])
    assert result.row() == ("Failed", "BootstrapError", None, None, 125)
    assert "cannot remove the secrets file" in result.record["message"]
