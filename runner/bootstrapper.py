"""Our half of the contract with `bootstrap/bootstrap.py`: its command line out, its record in."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from runner.assets import asset
from runner.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import ModuleType

    from runner.model import Limits

FILE = "bootstrap.py"
COMPILED = "bootstrap.pyc"
LABEL = "runner.contract"
"""Image label: the contract version of the bootstrapper that the image carries at /opt/runner."""


@cache
def contract() -> int:
    """The contract version of the bootstrapper that this runner brings along."""
    found = re.search(r"^CONTRACT = (\d+)$", (asset("bootstrap") / FILE).read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise FileNotFoundError("bootstrap/bootstrap.py does not say its CONTRACT")
    return int(found[1])


def arguments(
    argv: Sequence[str],
    *,
    key: str,
    record: str,
    limits: Limits,
    secrets: str | None = None,
    outputs: Mapping[str, str] | None = None,
    cgroups: Sequence[str] = (),
) -> list[str]:
    """What follows the bootstrapper's file on its command line, the same on every backend.

    Args:
        argv: the user's command. key: the attempt's key. record: path of status.json.
        secrets: path of the secrets file. outputs: folder inside the working directory → folder to move it to.
    """
    # One log for both streams: through two pipes an engine would swap their lines.
    options = ["--merge", "--status", record, "--attempt", key, "--grace", f"{limits.grace_s:g}"]
    if limits.timeout_s is not None:
        options += ["--timeout", f"{limits.timeout_s:g}"]
    if secrets is not None:
        options += ["--secrets", secrets]
    for cgroup in cgroups:
        options += ["--cgroup", cgroup]
    for source, target in (outputs or {}).items():
        options += ["--output", f"{source}={target}"]
    return [*options, "--", *argv]


def staged(cache_folder: Path, tag: str) -> Path:
    """A copy of bootstrap/ with the file compiled for this Python (saves 10 ms a start), made once per state.

    Args:
        tag: what the compiled code depends on (`sys.implementation.cache_tag`).
    """
    source = asset("bootstrap")
    names = ("bootstrap.py", "profile.R", "python/runner_plots.py")
    # By time and size, as Python's own cache does: hashing costs 6 ms more, at every start.
    stamps = [(source / name).stat() for name in names]
    digest = f"{max(stamp.st_mtime_ns for stamp in stamps):x}-{sum(stamp.st_size for stamp in stamps):x}"
    target = cache_folder / f"bootstrap-{digest}-{tag}"
    if not target.is_dir():
        import py_compile

        aside = cache_folder / f".bootstrap-{digest}-{tag}.{os.getpid()}"
        (aside / "python").mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(source / name, aside / name)
        py_compile.compile(
            str(aside / FILE), cfile=str(aside / COMPILED), dfile=FILE, doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )  # fmt: skip
        try:
            aside.rename(target)
        except OSError:  # another process was quicker
            shutil.rmtree(aside, ignore_errors=True)
    return target


def direct_argv(argv: Sequence[str]) -> list[str]:
    """The command for an image without Python, where the bootstrapper cannot choose the interpreter (row E0)."""
    command: list[str] = _module().command_for(list(argv))
    if command[0] == "bash":  # small images have only sh; a fixed text chooses, the names stay arguments
        return ["sh", "-c", 'if command -v bash >/dev/null 2>&1; then exec bash "$@"; else exec sh "$@"; fi', *command]
    if command[0] == argv[0] and "/" not in command[0]:
        command[0] = f"./{command[0]}"
    return command


def interpreted(argv: Sequence[str]) -> list[str]:
    """The command with its interpreter in front, the first of those that the bootstrapper would look for."""
    command: list[str] = _module().command_for(list(argv))
    return command


@cache
def _module() -> ModuleType:
    import importlib.util

    spec = importlib.util.spec_from_file_location("runner_bootstrap", asset("bootstrap") / FILE)
    assert spec is not None  # noqa: S101 - a .py file always has a spec
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_record(path: Path) -> dict[str, Any] | None:
    """The record as it stands, or None when there is none or it is torn. Never follows a link."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    # The script can put anything in its place, so what it may be is looked at before it is read.
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        record = json.loads(os.pread(fd, 1 << 20, 0))
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(fd)
    return record if isinstance(record, dict) else None


def final_outcome(record: Mapping[str, Any] | None, key: str) -> Outcome | None:
    """The outcome that a record holds, if it is final and of this attempt; a stale or foreign one is none."""
    if record is None or record.get("final") is not True or record.get("attempt") != key:
        return None
    try:
        outcome = Outcome.from_json(record)
        _check(outcome)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    return outcome


def _check(outcome: Outcome) -> None:
    """Raise TypeError or ValueError where a member is not what its name says: a script may have forged the record."""
    code: object = outcome.process_exit
    message: object = outcome.message
    numbers: tuple[object, ...] = (
        outcome.elapsed_s, outcome.max_rss_bytes, outcome.user_s, outcome.sys_s, outcome.exit_code
    )  # fmt: skip
    texts: tuple[object, ...] = (outcome.signal, outcome.started, outcome.finished, *outcome.warnings)
    if not isinstance(code, int) or not 0 <= code <= 255:
        raise ValueError("process_exit is no exit code")
    if not all(each is None or isinstance(each, int | float) for each in numbers):
        raise TypeError("a number is none")
    if not isinstance(message, str) or not all(each is None or isinstance(each, str) for each in texts):
        raise TypeError("a text is none")
    for moment in (outcome.started, outcome.finished):
        if moment is not None:
            datetime.fromisoformat(moment).timestamp()
