"""What a script has logged to MLflow's file store since it was last read: see `runner/tracking.py` for the format.

Bounded, and past everything that cannot be read. Standard library only, Python 3.8 syntax.
"""

import os
import stat
import time

CHUNK = 1 << 16  # bytes read of a file at once
FILES_MOST = 20000
SETTLE_S = 1.0  # a parameter younger than this may be half written, and can be sent only once


class Store:
    """The folder of one run in MLflow's file store, read on from where it was read to. Never follows a link."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.seen = {}  # path -> how far a metric was read, or the state in which a parameter or tag was read
        self.complete = False  # the script has ended: nothing is half written any more

    def new(self):
        """(kind, entry of MLflow's API, path, mark) of each value that `seen` does not have.

        Whoever has taken care of a value puts its mark there: `seen[path] = mark`.
        """
        left = FILES_MOST
        for kind in ("params", "tags", "metrics"):
            top = os.path.join(self.folder, kind)
            for base, names, files in os.walk(top):
                names.sort()
                for name in sorted(files):
                    left -= 1
                    if left < 0:
                        return
                    path = os.path.join(base, name)
                    key = os.path.relpath(path, top)
                    if kind != "tags" or not key.startswith("mlflow."):  # its own: the run's name, who runs it
                        yield from self.read(kind, key, path)

    def read(self, kind: str, key: str, path: str):
        """What is new in one file."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return
            if kind == "metrics":
                yield from self.points(key, path, fd, found.st_size)
            elif self.seen.get(path) != (found.st_mtime_ns, found.st_size):
                if not self.complete and abs(time.time() - found.st_mtime) < SETTLE_S:
                    return
                text = os.pread(fd, CHUNK, 0).decode("utf-8", "replace")
                text = text[: len(text) - text.endswith("\n")]
                yield kind, {"key": key, "value": text}, path, (found.st_mtime_ns, found.st_size)
        finally:
            os.close(fd)

    def points(self, key: str, path: str, fd: int, size: int):
        """`<milliseconds> <value> [<step>]` a line; one counts once it has its end. A file cut short is read anew."""
        at = self.seen.get(path, 0)
        at = at if at <= size else 0
        while at < size:
            block = os.pread(fd, CHUNK, at)
            end = block.rfind(b"\n") + 1
            if end == 0:
                if len(block) < CHUNK:
                    return
                end = len(block)  # no line is so long
            for line in block[:end].splitlines(True):
                at += len(line)
                entry = point(key, line.split())
                if entry is not None:
                    yield "metrics", entry, path, at


def point(key: str, words: list):
    """One line of a metric as MLflow's API has it, or None where it is none."""
    try:
        if len(words) not in (2, 3, 5):  # MLflow 3 may add a data set's name and digest
            return None
        value = float(words[1])
        step = int(words[2]) if len(words) > 2 else 0
        # JSON knows no NaN; the API takes the words that protobuf has for it.
        words_of = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
        return {"key": key, "value": words_of.get(str(value), value), "timestamp": int(float(words[0])), "step": step}
    except (ValueError, OverflowError):
        return None
