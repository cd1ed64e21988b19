"""Ends a command that is asked to end (Ctrl-C, a CI job canceled, a terminal closed) by an exception, so that every
`finally` runs. Without it SIGTERM kills on the spot, and leaves a container that builds, and files with logins."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType

_ASKS = (signal.SIGTERM, signal.SIGHUP)


class StoppedError(BaseException):
    """A signal asked the command to end. Not an Exception, so that nothing on the way takes it for a failure; nor a
    KeyboardInterrupt, of which typer makes an exit code without a word. word: what to say."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        self.word = "interrupted" if number == signal.SIGINT else "terminated"


def stop_cleanly() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP raise `StoppedError`, where they are not ignored (nohup).

    Once: a second one does not interrupt the cleaning up after the first, or after Ctrl-C. A second Ctrl-C does.
    """
    for number in (*_ASKS, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _ASKS:
        signal.signal(each, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise StoppedError(number)
