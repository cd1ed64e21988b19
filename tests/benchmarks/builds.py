"""What a build costs against the way most people do it: one Dockerfile with one long list for each package manager."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import r_sources, rival
from tests.benchmarks.rows import RUNNER, Row, pair

NOTE = (
    "The rival is one Dockerfile with one list for each package manager, as it is written without care, and built by "
    "`docker build`: `apt-get install` with what Debian recommends (`r-base`, as on Debian's image), package lists left in, "
    "`pip install` with its defaults (all bytecode, in one process). What has not changed before the list is in its "
    "cache. The careful one takes nothing recommended (`r-base-core`), removes lists and caches, and is reported only. "
    "Downloads are cached for runner as they are for its users, except in the full build, where both start with nothing but "
    "the base. runner loads every library, the rivals none. R from source: 6 libraries without further needs, 5 of them "
    "compiled, by `install.packages` on all cores, where R and compilers are there already."
)
ROUNDS = 3
PIP = [
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "requests",
    "pyyaml",
    "tqdm",
    "joblib",
    "pyarrow",
    "sqlalchemy",
    "pillow",
    "lxml",
    "click",
    "jinja2",
]
R = ["data.table", "zoo", "lubridate", "RSQLite", "magrittr"]


def rows(folder: Path) -> list[Row]:
    """All rows; the images are removed at the end."""
    os.environ["RUNNER_CACHE_DIR"] = str(folder / "cache")
    try:
        return [*_full(folder), _unchanged(folder), *_one_more_pip(folder), *_one_more_r(folder), _binaries(folder)]
    finally:
        _clean()


def _runner_build(libs: Path, *argv: str) -> tuple[float, str]:
    """(seconds, tag) of a `runner build`, as a whole process."""
    began = time.perf_counter()
    done = subprocess.run([*RUNNER, "build", "--libs", str(libs), *argv], check=True, capture_output=True, text=True)
    return time.perf_counter() - began, done.stdout.split()[0]


def _write(folder: Path, pip: Sequence[str], r: Sequence[str], name: str = "runner-bench") -> Path:
    folder.mkdir(exist_ok=True)
    libs = folder / "libs.yaml"
    libs.write_text(f"name: {name}\npip: [{', '.join(pip)}]\nr: {{cran: [{', '.join(r)}]}}\n")
    return libs


def _full(folder: Path) -> list[Row]:
    """Python and R libraries, from nothing but the base; and the peak memory of `runner build` in it."""
    libs = _write(folder / "full", PIP, R)
    subprocess.run([*RUNNER, "build", "--libs", str(_write(folder / "base", [], [], "runner-bench-base"))], check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    ours, tag = _runner_build(libs, "--no-cache")
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    size = _size(tag)
    found = []
    for name, text, aim in (("plain", rival.plain(PIP, R), 0.6), ("careful", rival.careful(PIP, R), None)):
        theirs = rival.docker_build(folder / f"rival-{name}", text, cache=False)
        found += [
            _row(f"full build, {len(PIP)} Python and {len(R)} R libraries", ours, f"{name} Dockerfile", theirs, aim),
            _row("its size", size, f"{name} Dockerfile", _size(rival.TAG), aim, unit="MiB"),
        ]
    peak = max(before, after) / 1024
    return [*found, Row("peak memory of `runner build`", peak, "", None, "report", holds=True, unit="MiB")]


def _row(what: str, ours: float, name: str, theirs: float, aim: float | None, unit: str = "s") -> Row:
    told = "report" if aim is None else f"≤ {aim}"
    return Row(what, ours, name, theirs, told, aim is None or ours / theirs <= aim, unit=unit)


def _unchanged(folder: Path) -> Row:
    libs = folder / "full" / "libs.yaml"
    ours, start = pair([*RUNNER, "build", "--libs", str(libs)], [*RUNNER, "--version"])
    return Row("unchanged rebuild", ours, "runner --version", start, "+500 ms", ours - start <= 500)


def _one_more_pip(folder: Path) -> list[Row]:
    """One more library in each round; the rival's list is installed anew."""
    ours, with_pip, with_uv = [], [], []
    head = rival.PLAIN_BASE + rival.PYTHON
    _runner_build(_write(folder / "pip", PIP, []))
    rival.docker_build(folder / "rival-pip", head + rival.pip_list(PIP))
    rival.docker_build(folder / "rival-uv", head + rival.UV + rival.uv_list(PIP))
    more = list(PIP)
    for extra in ("tabulate", "toolz", "humanize")[:ROUNDS]:
        more.append(extra)
        ours.append(_runner_build(_write(folder / "pip", more, []))[0])
        with_pip.append(rival.docker_build(folder / "rival-pip", head + rival.pip_list(more)))
        with_uv.append(rival.docker_build(folder / "rival-uv", head + rival.UV + rival.uv_list(more)))
    a, b, c = map(statistics.median, (ours, with_pip, with_uv))
    what = f"+1 Python library to {len(PIP)}, all loaded"
    return [
        _row(what, a, "plain Dockerfile, pip, none loaded", b, 0.15),
        _row(what, a, "plain Dockerfile, uv, none loaded", c, None),
    ]


def _one_more_r(folder: Path) -> list[Row]:
    ours, plain, careful = [], [], []
    lean = "RUN apt-get update && apt-get install -y --no-install-recommends r-base-core {}\n"
    _runner_build(_write(folder / "r", [], R))
    more = list(R)
    for extra in ("cowplot", "R6", "fpc")[:ROUNDS]:
        more.append(extra)
        ours.append(_runner_build(_write(folder / "r", [], more))[0])
        plain.append(rival.docker_build(folder / "rival-r", rival.plain([], more)))
        careful.append(rival.docker_build(folder / "rival-r-lean", lean.format(rival.debian(more))))
    a, b, c = map(statistics.median, (ours, plain, careful))
    what = f"+1 R library to {len(R)}, all loaded"
    return [_row(what, a, "plain Dockerfile, apt", b, 0.15), _row(what, a, "careful Dockerfile, apt", c, None)]


def _binaries(folder: Path) -> Row:
    """R is there before, for both; so are the compilers, for the rival."""
    what = f"{len(r_sources.SOURCES)} R libraries from binaries, all loaded"
    context = folder / "rival-source"
    _runner_build(_write(folder / "binaries", [], ["R6"]))
    ours = _runner_build(_write(folder / "binaries", [], list(r_sources.SOURCES)))[0]
    try:
        r_sources.contrib(context / "cran")
    except subprocess.CalledProcessError as error:
        return Row(f"{what}; sources not to be had: {error}", ours, "", None, "≤ 0.1", holds=False, unit="s")
    names = ", ".join(f'"{name}"' for name in r_sources.SOURCES)
    text = rival.PLAIN_BASE + "RUN apt-get update && apt-get install -y r-base\n"
    text += r_sources.REPOSITORY
    rival.docker_build(context, text)
    install = r_sources.INSTALL.format(names=names, cores=os.cpu_count())
    return _row(what, ours, "install.packages from source", rival.docker_build(context, text + install), 0.1)


def _size(image: str) -> float:
    listed = subprocess.run(
        ["docker", "inspect", "--format", "{{.Size}}", image], check=True, capture_output=True, text=True
    )
    return int(listed.stdout) / (1 << 20)


def _clean() -> None:
    listed = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], check=True, capture_output=True, text=True
    )
    ours = [name for name in listed.stdout.split() if name.startswith(("localhost/runner-bench", rival.TAG))]
    if ours:
        subprocess.run(["docker", "rmi", "-f", *ours], stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    import tempfile

    from tests.benchmarks.rows import table

    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        sys.stdout.write(table(rows(Path(name))) + "\n")
