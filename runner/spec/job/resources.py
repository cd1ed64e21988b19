"""What a step may use and how long: `resources`, `limits` and `retry` of a job file."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.errors import SpecError
from runner.model import Limits, Reason, RetryPolicy
from runner.spec.job.shapes import meant
from runner.spec.values import cpus, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.spec.job.source import Source
    from runner.spec.yamldoc import KeyPath

_FACTOR = re.compile(r"x?\s*(\d+(?:\.\d+)?)", re.ASCII)
_ULIMIT = re.compile(r"([a-z]+)=(-?\d+)(?::(-?\d+))?", re.ASCII)
_LARGEST_FACTOR = 16


@dataclass(frozen=True, slots=True)
class _Argument:
    """One argument for docker that is taken."""

    names: tuple[str, ...]
    apply: Callable[[Limits, str], Limits]


def _ipc(limits: Limits, value: str) -> Limits:
    if value not in {"host", "private", ""}:
        raise SpecError(f"--ipc={value} cannot be had", "expected --ipc=host")
    return replace(limits, host_ipc=value == "host")


def _ulimit(limits: Limits, value: str) -> Limits:
    found = _ULIMIT.fullmatch(value)
    if not found:
        raise SpecError(f"--ulimit {value} is not a limit", "expected NAME=SOFT[:HARD], such as memlock=-1")
    soft = int(found[2])
    return replace(limits, ulimits={**limits.ulimits, found[1]: (soft, int(found[3]) if found[3] else soft)})


_TAKEN = (
    _Argument(("--shm-size",), lambda limits, text: replace(limits, shm_bytes=size(text, "--shm-size"))),
    _Argument(("--ipc",), _ipc),
    _Argument(("--ulimit",), _ulimit),
    _Argument(("--memory", "-m"), lambda limits, text: replace(limits, memory_bytes=size(text, "--memory"))),
    _Argument(("--cpus",), lambda limits, text: replace(limits, cpus=cpus(text, "--cpus"))),
)


def limits(source: Source, path: KeyPath, resources: Any, given: Any, given_path: KeyPath) -> Limits:
    """`resources:` at `path` and `limits:` at `given_path`, both already checked for their form."""
    made = Limits()
    if isinstance(given, dict):
        seconds = source.integer((*given_path, "timeout"), given.get("timeout"), least=1)
        made = replace(made, timeout_s=None if seconds is None else float(seconds))
    if not isinstance(resources, dict):
        return made
    made = _docker_args(source, (*path, "docker_args"), resources.get("docker_args"), made)
    if (shm := resources.get("shm_size")) is not None:
        try:
            made = replace(made, shm_bytes=size(source.text((*path, "shm_size"), shm), "shm_size"))
        except SpecError as error:
            source.wrong((*path, "shm_size"), _bare(error), *error.hints)
    count = source.integer((*path, "instance_count"), resources.get("instance_count"), least=0)
    if count is not None and count > 1:
        source.cannot("resources.instance_count", (*path, "instance_count"), f"instance_count {count}:")
    return made


def native(resources: Any) -> dict[str, Any]:
    """What of `resources:` a backend elsewhere gets as it was written; `shm_size` is a limit everywhere."""
    if not isinstance(resources, dict):
        return {}
    return {key: value for key, value in resources.items() if key != "shm_size" and value is not None}


def _bare(error: SpecError) -> str:
    """Its message without the key, which the place says better."""
    return error.message.removeprefix(f"{error.key}: ") if error.key else error.message


def _docker_args(source: Source, path: KeyPath, given: Any, made: Limits) -> Limits:
    if given is None:
        return made
    try:
        words = [word for item in given for word in _split(str(item))] if isinstance(given, list) else _split(given)
    except ValueError as error:
        source.wrong(path, f"cannot be split into arguments: {error}")
        return made
    words.reverse()
    while words:
        made = _docker_arg(source, path, words, made)
    return made


def _split(text: str) -> list[str]:
    return shlex.split(text)


def _docker_arg(source: Source, path: KeyPath, words: list[str], made: Limits) -> Limits:
    """Take one argument, with its value, off the end of the reversed words."""
    word = words.pop()
    name, joined, value = word.partition("=")
    for argument in _TAKEN:
        if name not in argument.names:
            continue
        if not joined:
            if not words:
                source.wrong(path, f"{name} has no value")
                return made
            value = words.pop()
        try:
            return argument.apply(made, value)
        except SpecError as error:
            source.wrong(path, _bare(error), *error.hints)
            return made
    if not joined and words and not words[-1].startswith("-"):
        words.pop()  # its value, most likely; it may hold what should not be shown
    source.cannot("docker_args.other", path, name)
    return made


def retry(source: Source, path: KeyPath, given: Any) -> RetryPolicy:
    """`retry: {count, on, memory}`."""
    if not isinstance(given, dict):
        return RetryPolicy()
    reasons = given.get("on") or []
    reasons = reasons if isinstance(reasons, list) else [reasons]
    known = {reason.value.lower(): reason for reason in Reason}
    on = []
    for word in reasons:
        if str(word).lower() in known:
            on.append(known[str(word).lower()])
        else:
            source.wrong((*path, "on"), f"{word!r} is not a reason", *meant(str(word), [each.value for each in Reason]))
    return RetryPolicy(
        source.integer((*path, "count"), given.get("count"), least=0) or 0, tuple(on), _factor(source, path, given)
    )


def _factor(source: Source, path: KeyPath, given: dict[str, Any]) -> float | None:
    if given.get("memory") is None:
        return None
    text = source.text((*path, "memory"), given["memory"])
    found = _FACTOR.fullmatch(text.strip())
    if not found or not 1 <= float(found[1]) <= _LARGEST_FACTOR:
        source.wrong((*path, "memory"), f"{text!r} is not a factor", f"expected x2 (from x1 to x{_LARGEST_FACTOR})")
        return None
    return float(found[1])
