"""A folder with a Dockerfile → an image, by the engine's own builder. Its name is a hash of what it is made of."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Any

from runner.builder.cache import new_log
from runner.docker_api.images import connect
from runner.errors import BuildError
from runner.spec.requirements import fit_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import IO

    from runner.docker_api.context import Context

_STEP = re.compile(r"Step (\d+)/\d+ : (.*)")
_PARSE_ERROR_LINE = re.compile(r"parse error (?:on )?line (\d+)")
_ESCAPE = re.compile(r"#\s*escape\s*=\s*([\\`])\s*", re.IGNORECASE)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""What programs send to a terminal: the engine paints errors red, and a program in a build may do worse with it."""
_SHOWN_LINES = 10


def context_tag(context: Context) -> str:
    """The name of the image of that context: the same content, the same name.

    Raises:
        BuildError: a file cannot be read.
    """
    return f"localhost/{fit_name(context.folder.name) or 'context'}:{context.digest()[:16]}"


def build_context(context: Context, tag: str, progress: Callable[[str, str], None]) -> str:
    """Build it as `tag`; the image's id. `progress` gets ("build", text); a text that ends in `…` is movement.

    Raises:
        BuildError: an instruction failed; names its line in the Dockerfile and shows the last lines of its output.
        UnavailableError: no engine answers.
    """
    log = new_log(tag.rpartition("/")[2].partition(":")[0])
    engine = connect()
    try:
        log.touch(mode=0o600)
        with log.open("wb") as kept, context.pack() as packed:
            seen = _Seen(progress, kept)
            failed = _CONTROL.sub("", engine.build(packed, context.dockerfile, tag, seen))
        if failed:
            raise _error(context, seen, failed, str(log))
        image = engine.inspect(tag)
    finally:
        engine.close()
    if image is None:
        raise BuildError(f"{context.folder} was built, but {tag} is not on the engine", f"log: {log}")
    return image.id


class _Seen:
    """Takes the items of a build's stream: shows movement, keeps the log, and knows what was done last."""

    def __init__(self, progress: Callable[[str, str], None], log: IO[bytes]) -> None:
        self._progress, self._log = progress, log
        self.number = 0
        self.instruction = ""
        self.last: deque[str] = deque(maxlen=_SHOWN_LINES)

    def __call__(self, item: Mapping[str, Any]) -> None:
        text = str(item.get("stream") or item.get("error") or item.get("status") or "")
        if not text.strip():
            return
        self._log.write(text.encode() if text.endswith("\n") else f"{text}\n".encode())
        for line in _CONTROL.sub("", text).splitlines():
            self._line(line.strip())

    def _line(self, line: str) -> None:
        if step := _STEP.fullmatch(line):
            self.number, self.instruction = int(step[1]), step[2]
            self.last.clear()
        elif line and not line.startswith(("---> ", "Removing intermediate container")):
            self.last.append(line)
        if line:
            self._progress("build", f"{line[:100]} …")


def _error(context: Context, seen: _Seen, failed: str, log: str) -> BuildError:
    text = (context.folder / context.dockerfile).read_text("utf-8", "replace")
    parse = _PARSE_ERROR_LINE.search(failed)
    line = int(parse[1]) if parse else dict(enumerate(instruction_lines(text), 1)).get(seen.number)
    where = f"{context.folder / context.dockerfile}{f':{line}' if line else ''}"
    what = f"{seen.instruction[:200]}: " if seen.instruction else ""
    hints = [shown for shown in seen.last if shown != failed.strip()]
    if "BuildKit" in failed or "the --mount option" in failed:
        hints.append(
            "the engine's own builder has no BuildKit: build it with docker build, and name the result as image"
        )
    return BuildError(f"{where}: {what}{failed.strip()}", *hints, f"log: {log}")


def instruction_lines(text: str) -> Iterator[int]:
    """The line of each instruction of a Dockerfile, in order: what the engine counts as `Step n`."""
    escape, inside = "\\", False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if number == 1 and (found := _ESCAPE.fullmatch(stripped)):
            escape = found[1]
        if not stripped or stripped.startswith("#"):
            continue  # also within an instruction, where it ends nothing
        if not inside:
            yield number
        inside = stripped.endswith(escape)
