"""Says what a script wrote into its working directory beside `./outputs` and `./logs`: on Azure ML that directory ends with
the job, and nobody sees it afterwards. The same rules as launch.py: standard library only, Python 3.8.
"""

import os

KEPT = ("outputs", "logs")
NOISE = ("__pycache__", ".ipynb_checkpoints", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".Rproj.user")
DEEPEST = 40
MOST = 100_000  # files that are looked at: a folder of more is data, and looking would cost more than the word is worth


def files(named) -> set:
    """Files of the working directory, without those that are kept. named: folders of it that are outputs."""
    left_out = {*KEPT, *(os.path.normpath(folder) for folder in named)}
    found = set()
    for folder, names, here in os.walk("."):
        place = os.path.normpath(folder)
        deep = place.count(os.sep) >= DEEPEST
        names[:] = [
            name for name in sorted(names)
            if not deep and name not in NOISE and not name.startswith(".")
            and os.path.normpath(os.path.join(place, name)) not in left_out
        ]  # fmt: skip
        found.update(os.path.normpath(os.path.join(place, name)) for name in here if not name.startswith("."))
        if len(found) > MOST:
            break
    return found


def telling(record: type, named: list) -> type:
    """The kind of record that says so when it is finished, compared with the files that are there now."""
    before = files(named)

    class Telling(record):
        def finish(self, echo: bool) -> None:
            """See there."""
            try:
                lost = sorted(files(named) - before) if len(before) <= MOST else []
            except OSError:
                lost = []
            if lost:
                more = " and %d more" % (len(lost) - 3) if len(lost) > 3 else ""
                shown = ", ".join(lost[:3]).encode("utf-8", "replace").decode("utf-8")
                self.fields["warnings"].append("written outside ./outputs and not kept: " + shown + more)
            super().finish(echo)

    return Telling
