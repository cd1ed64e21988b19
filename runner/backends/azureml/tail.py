"""Follows a run's log: only what is new is read, and it lands in the task's log byte for byte.

The service names a run's log files with addresses that are signed for some hours. Each is read on from where we are; that
place is kept beside the log, so that a supervisor that comes after a kill goes on at the very byte.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.backends.azureml.rest import refused
from runner.store import write_aside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from runner.backends.azureml.blobs import Datastores
    from runner.backends.azureml.service import Service

MARK = b"runner-record: {"
ARTIFACTS = "workspaceartifactstore"
"""The datastore that keeps what a run leaves beside its named outputs."""

_LINE_MOST = 256 << 10
"""A record is much shorter; what is longer is the script's."""
_PART = 4 << 20
_PULL_MOST = 64 << 20
_OTHERS = 16
"""Files of other processes that are read on in one turn, in rotation; that of the first is read in every one."""
_LOOK_S = 5.0
"""How often it is looked for further files once there is one: those of other instances begin when these do."""
_PATIENCE_S = 5.0

_PRIMARY = re.compile(r"user_logs/std_log\D*0*(?:_ps)?\.txt")
_FILES = (_PRIMARY, re.compile(r"user_logs/std_log.*\.txt"), re.compile(r"azureml-logs/70_driver_log.*\.txt"))


def wanted(names: Iterable[str]) -> list[str]:
    """Of a run's files those with its output: of the first process first, then of the others."""
    there = list(names)
    found = [name for name in there if any(pattern.fullmatch(name) for pattern in _FILES[:2])]
    found = found or [name for name in there if _FILES[2].fullmatch(name)]
    return sorted(found, key=lambda name: (not _primary(name), [int(part) for part in re.findall(r"\d+", name)], name))


def folder_of(run: str) -> str:
    """Where the artifact store keeps what a run leaves, with a slash at the end."""
    return f"ExperimentRun/dcid.{run}/"


@dataclass(slots=True)
class Tail:
    """One task's log.

    Args:
        run: its id in the run history. key: of the task. log: its log. kept: where it is noted how far we are.
        any_key: records of any task are taken: the run stands for an earlier one. Otherwise those of this task; one that
            could not be told its key says the run's id.
    """

    service: Service
    datastores: Datastores
    run: str
    key: str
    log: Path
    kept: Path
    any_key: bool = False
    record: dict[str, Any] | None = None
    """What the log itself says of the end."""
    _files: dict[str, str] = field(default_factory=dict)
    _offsets: dict[str, int] = field(default_factory=dict)
    _looked: float = 0.0
    _next: int = 0
    _restored: bool = False

    def pull(self, *, last: bool = False) -> bool:
        """Take what is new; whether there was anything. last: the run has ended, so all that there is.

        Raises:
            UnavailableError, BackendError: the log cannot be had now. OSError: ours cannot be written.
        """
        self._restore()
        if last or not self._files or time.monotonic() - self._looked > _LOOK_S:
            self._look()
        news = [self._follow(name, last=last) for name in (wanted(self._files) if last else self._turn())]
        return any(news)

    def _turn(self) -> list[str]:
        """The files to read on now: that of the first process, and the next few of the others."""
        first, *others = wanted(self._files) or [""]
        if not first:
            return []
        begin = self._next % max(1, len(others))
        self._next = begin + _OTHERS
        return [first, *(others[begin:] + others[:begin])[:_OTHERS]]

    def _look(self) -> None:
        """Ask which files there are. Addresses that are known stay, until they are refused."""
        found = self.service.details(self.run, patience_s=_PATIENCE_S).get("logFiles")
        self._looked = time.monotonic()
        for name, url in (found or {}).items():
            if isinstance(url, str) and url.startswith("https://"):
                self._files.setdefault(str(name), url)

    def _follow(self, name: str, *, last: bool) -> bool:
        """Read one file on; whether it had anything new. What may be the record, or half a line, is read again then."""
        taken = 0
        whole_lines = not _primary(name) or len(wanted(self._files)) > 1
        while True:
            offset = self._offsets.get(name, 0)
            data = self._read(name, offset)
            ended = len(data) < _PART
            text, used, record = split(data, self._keys(), last=last and ended)
            if whole_lines and record is None and not (last and ended):
                text, used = _whole_lines(text, used)
            if record is not None:
                self.record = record
            if used:
                self._write(text if _primary(name) else _named(name, text), name, offset + used)
            taken += used
            if ended or not used or (taken >= (_PULL_MOST if _primary(name) else _PART) and not last):
                return taken > 0

    def _read(self, name: str, offset: int) -> bytes:
        """Up to 4 MiB of a file from `offset` on."""
        for fresh in (False, True):
            if fresh:
                self._files.pop(name, None)
                self._look()
            url = self._files.get(name)
            if url is None:
                return b""
            part = {"Range": f"bytes={offset}-{offset + _PART - 1}"}
            answer = self.service.rest.send("GET", url, f"the log {name}", headers=part, patience_s=_PATIENCE_S)
            match answer.status:
                case 206:
                    return answer.body
                case 200:
                    return answer.body[offset : offset + _PART]
                case 416 | 404:
                    return b""
                case 401 | 403:
                    continue  # the signature is over; or addresses are of no use here, see below
                case _:
                    raise refused(answer, f"the log {name}")
        return self.datastores.read(ARTIFACTS, folder_of(self.run) + name, offset, _PART)

    def _keys(self) -> frozenset[str] | None:
        return None if self.any_key else frozenset({self.key, self.run})

    def _write(self, text: bytes, name: str, offset: int) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(fd).st_size
            view = memoryview(text)
            try:
                while view:
                    view = view[os.write(fd, view) :]
                self._keep(before + len(text), {**self._offsets, name: offset})
            except OSError:
                os.ftruncate(fd, before)  # a full disk: it is read once more
                raise
            self._offsets[name] = offset
        finally:
            os.close(fd)

    def _keep(self, size: int, offsets: dict[str, int]) -> None:
        self.kept.parent.mkdir(parents=True, exist_ok=True)
        write_aside(self.kept, json.dumps({"size": size, "files": offsets, "record": self.record}).encode())

    def _restore(self) -> None:
        """Go on where a killed supervisor stopped; what it wrote last without noting so is read once more."""
        if self._restored:
            return
        size, files, record = 0, {}, None
        try:
            found = json.loads(self.kept.read_bytes())
            size, files, record = int(found["size"]), dict(found["files"]), found["record"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        if self.log.exists() and self.log.stat().st_size > size:
            os.truncate(self.log, size)
        self._offsets, self.record, self._restored = files, record, True


def split(data: bytes, keys: frozenset[str] | None, *, last: bool = False) -> tuple[bytes, int, dict[str, Any] | None]:
    """(the script's bytes, how many bytes are done with, the record if there was one) of the next bytes of a log.

    What may still become a record is left for the next time; with `last` nothing is. keys: of whom records are taken out;
    None: of anybody.
    """
    text, start, record = b"", 0, None
    while True:
        at = data.find(MARK, start)
        if at < 0:
            rest = 0 if last else _overlap(data[start:])
            end = len(data) - rest
            return text + data[start:end], end, record
        text += data[start:at]
        line_end = data.find(b"\n", at)
        whole = line_end >= 0 or last
        if not whole and len(data) - at <= _LINE_MOST:
            return text, at, record
        end = line_end + 1 if line_end >= 0 else len(data)
        found = _parsed(data[at:end], keys) if whole else None
        if found is None:
            text, start = text + data[at : at + len(MARK)], at + len(MARK)
        else:
            record, start = found, end


def _parsed(line: bytes, keys: frozenset[str] | None) -> dict[str, Any] | None:
    if len(line) > _LINE_MOST:
        return None
    try:
        found = json.loads(line[len(MARK) - 1 :])
    except (ValueError, RecursionError):
        return None
    ours = isinstance(found, dict) and found.get("final") is True and (keys is None or found.get("attempt") in keys)
    return found if ours else None


def _overlap(data: bytes) -> int:
    """How many of the last bytes are the beginning of a mark."""
    return next((n for n in range(min(len(MARK) - 1, len(data)), 0, -1) if data.endswith(MARK[:n])), 0)


def _whole_lines(text: bytes, used: int) -> tuple[bytes, int]:
    end = text.rfind(b"\n") + 1
    return (text[:end], used - (len(text) - end)) if end or len(text) < _PART else (text, used)


def _primary(name: str) -> bool:
    return _PRIMARY.fullmatch(name) is not None or name.startswith("azureml-logs/")


def _named(name: str, text: bytes) -> bytes:
    """The lines of another process than the first, each with its name in front."""
    label = b"[" + (re.sub(r"^user_logs/std_log_?|\.txt$", "", name) or name).encode() + b"] "
    lines = text.removesuffix(b"\n").split(b"\n") if text else []
    end = b"\n" if text.endswith(b"\n") else b""
    return b"\n".join(label + line for line in lines) + end
