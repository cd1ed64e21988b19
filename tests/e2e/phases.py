"""How far a `submit` has come, by what can be seen of it from outside: on a busy machine no time says that."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.contract.helpers import stored, supervisors

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Submit:
    """A command that is under way: its run store, the name that it was told to give, its process."""

    home: Path
    name: str
    pid: int

    def reads_the_store(self) -> bool:
        """Its options are read: from here on every answer is its own, and none Python's."""
        database = self.home / "runner.db"
        with suppress(OSError):  # it has ended
            return any(_leads_to(link, database) for link in Path(f"/proc/{self.pid}/fd").iterdir())
        return False

    def is_accepted(self) -> bool:
        return (self.home / "runner.db").exists() and stored(self.home, self.name) is not None

    def is_supervised(self) -> bool:
        return any(pid != self.pid for pid in supervisors(self.home, self.name))

    def has_begun(self) -> bool:
        """The script has, and its log is here."""
        log = self.home / "runs" / self.name / "attempts" / "1" / "log"
        return log.exists() and b"began" in log.read_bytes()


PHASES: dict[str, Callable[[Submit], bool]] = {
    "started": lambda _: True,
    "reads the store": Submit.reads_the_store,
    "accepted": Submit.is_accepted,
    "supervised": Submit.is_supervised,
    "begun": Submit.has_begun,
}
"""In their order: who is in one has been in those before."""


def _leads_to(link: Path, path: Path) -> bool:
    try:
        return link.readlink() == path
    except OSError:  # closed meanwhile
        return False
