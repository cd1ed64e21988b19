"""The command line. `main` is the only place that prints errors and exits; commands raise or return an exit code."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

from runner.cli.stopping import StoppedError
from runner.errors import InternalError, RunnerError


def main() -> NoReturn:
    """Entry of the `runner` command."""
    # A command reads, and ends: looking for garbage after each 700 objects took up to half of the load of a long file.
    gc.set_threshold(50_000, 20, 50)
    atexit.register(
        gc.freeze
    )  # a process that ends need not look for garbage: after the import of a SDK that takes long
    code = 0
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`) has seen enough: end as a program killed by SIGPIPE does, without a word.
        code = _silently(141)
    except KeyboardInterrupt:
        code = _stopped("interrupted", 130)
    except StoppedError as stop:
        code = _stopped(stop.word, stop.exit_code)
    except OSError as error:  # a full disk behind `>`
        _say(RunnerError(f"cannot write to standard output: {error.strerror or error}"))
        code = _silently(1)
    sys.exit(code)


def _stopped(word: str, code: int) -> int:
    with suppress(OSError):  # the terminal may be what has gone
        print(word, file=sys.stderr, flush=True)
    return code


def _silently(code: int) -> int:
    """The code; nothing that is still buffered is written any more, since that would fail again at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())
    return code


def _run(argv: list[str]) -> int:
    """Run one command; its exit code. Errors are printed here and nowhere else."""
    # A file's name need not be text: `\udcff` is shown for a byte that is none, and nothing fails over it.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # real streams, here
    # Imported here (40 ms), so that Ctrl-C meanwhile is an interruption and not a traceback.
    from runner.cli.command import execute
    from runner.console import STDOUT

    try:
        return execute(argv)
    except RunnerError as problem:
        return _say(problem)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as problem:
        if isinstance(problem, OSError) and problem.filename == STDOUT:
            raise
        return _say(_fault(problem))


def _say(problem: RunnerError) -> int:
    from runner import console

    console.error(problem)
    return problem.exit_code


def _fault(problem: Exception) -> InternalError:
    import tempfile
    import traceback

    fd, path = tempfile.mkstemp(prefix="runner-fault-", suffix=".txt")
    with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write("".join(traceback.format_exception(problem)))
    return InternalError(
        f"a fault of runner itself: {type(problem).__name__}: {problem}",
        f"the details are in {path}; please report them",
    )
