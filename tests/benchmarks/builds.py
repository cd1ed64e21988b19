"""What a build costs against the way most people do it: one Dockerfile with one long list for each package manager."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.rows import RUNNER, Row, pair

NOTE = (
    "The rival is one Dockerfile on the same base with one list for each package manager, built by `docker build`; what has "
    "not changed before the list is in its cache. Downloads are cached for runner as they are for its users, except in the "
    "full build, where both start with nothing but the base."
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
BASE = "localhost/runner-debian:bookworm"
# In a build the CA bundle and the index of this machine are needed, as for anyone behind a proxy.
HEAD = """FROM {base}
COPY ca.pem /etc/runner-bench-ca.pem
ENV SSL_CERT_FILE=/etc/runner-bench-ca.pem PIP_CERT=/etc/runner-bench-ca.pem {index}
"""
PYTHON = "RUN apt-get update && apt-get install -y python3-pip python3-venv && python3 -m venv /opt/venv\n"
PIP_LIST = "RUN /opt/venv/bin/pip install {names}\n"
UV = "RUN /opt/venv/bin/pip install uv\n"
UV_LIST = "RUN /opt/venv/bin/uv pip install --python /opt/venv/bin/python {names}\n"
APT_LIST = "RUN apt-get update && apt-get install -y r-base-core {names}\n"


def rows(folder: Path) -> list[Row]:
    """All rows; the images are removed at the end."""
    os.environ["RUNNER_CACHE_DIR"] = str(folder / "cache")
    try:
        return [*_full(folder), _unchanged(folder), *_one_more_pip(folder), _one_more_r(folder)]
    finally:
        _clean()


def _docker_build(folder: Path, text: str, *, tag: str = "runner-bench-rival", cache: bool = True) -> float:
    """Seconds of a `docker build` of a Dockerfile."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt", folder / "ca.pem")
    index = " ".join(
        f"{name}={value}" for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if (value := os.environ.get(key))
        for name in (key, {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX"}[key])
    )  # fmt: skip
    (folder / "Dockerfile").write_text(HEAD.format(base=BASE, index=index) + text)
    argv = ["docker", "build", "-q", "--network", "host", "-t", tag, *([] if cache else ["--no-cache"]), str(folder)]
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DOCKER_BUILDKIT": "0"})
    return time.perf_counter() - began


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


def _debian(names: Sequence[str]) -> str:
    return " ".join(f"r-cran-{name.lower()}" for name in names)


def _full(folder: Path) -> list[Row]:
    """Python and R libraries, from nothing but the base; and the peak memory of `runner build` in it."""
    libs = _write(folder / "full", PIP, R)
    subprocess.run([*RUNNER, "build", "--libs", str(_write(folder / "base", [], [], "runner-bench-base"))], check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    ours, tag = _runner_build(libs, "--no-cache")
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    text = PYTHON + APT_LIST.format(names=_debian(R)) + PIP_LIST.format(names=" ".join(PIP))
    theirs = _docker_build(folder / "rival-full", text, cache=False)
    sizes = [_size(tag), _size("runner-bench-rival")]
    what = f"full build, {len(PIP)} Python and {len(R)} R libraries"
    return [
        Row(what, ours, "one Dockerfile, pip", theirs, "≤ 0.6", ours / theirs <= 0.6, unit="s"),
        Row("its size", sizes[0], "one Dockerfile, pip", sizes[1], "≤ 0.6", sizes[0] / sizes[1] <= 0.6, unit="MiB"),
        Row("peak memory of `runner build`", max(before, after) / 1024, "", None, "report", holds=True, unit="MiB"),
    ]


def _unchanged(folder: Path) -> Row:
    libs = folder / "full" / "libs.yaml"
    ours, start = pair([*RUNNER, "build", "--libs", str(libs)], [*RUNNER, "--version"])
    return Row("unchanged rebuild", ours, "runner --version", start, "+500 ms", ours - start <= 500)


def _one_more_pip(folder: Path) -> list[Row]:
    """One more library in each round; the rival's list is installed anew."""
    ours, with_pip, with_uv = [], [], []
    _runner_build(_write(folder / "pip", PIP, []))
    _docker_build(folder / "rival-pip", PYTHON + PIP_LIST.format(names=" ".join(PIP)))
    _docker_build(folder / "rival-uv", PYTHON + UV + UV_LIST.format(names=" ".join(PIP)))
    more = list(PIP)
    for extra in ("tabulate", "toolz", "humanize")[:ROUNDS]:
        more.append(extra)
        names = " ".join(more)
        ours.append(_runner_build(_write(folder / "pip", more, []))[0])
        with_pip.append(_docker_build(folder / "rival-pip", PYTHON + PIP_LIST.format(names=names)))
        with_uv.append(_docker_build(folder / "rival-uv", PYTHON + UV + UV_LIST.format(names=names)))
    a, b, c = map(statistics.median, (ours, with_pip, with_uv))
    what = f"+1 Python library to {len(PIP)}, all loaded"
    return [
        Row(what, a, "one Dockerfile, pip, none loaded", b, "≤ 0.15", a / b <= 0.15, unit="s"),
        Row(what, a, "one Dockerfile, uv, none loaded", c, "report", holds=True, unit="s"),
    ]


def _one_more_r(folder: Path) -> Row:
    ours, theirs = [], []
    _runner_build(_write(folder / "r", [], R))
    _docker_build(folder / "rival-r", APT_LIST.format(names=_debian(R)))
    more = list(R)
    for extra in ("cowplot", "R6", "fpc")[:ROUNDS]:
        more.append(extra)
        ours.append(_runner_build(_write(folder / "r", [], more))[0])
        theirs.append(_docker_build(folder / "rival-r", APT_LIST.format(names=_debian(more))))
    a, b = statistics.median(ours), statistics.median(theirs)
    return Row(f"+1 R library to {len(R)}, all loaded", a, "one Dockerfile, apt", b, "≤ 0.15", a / b <= 0.15, unit="s")


def _size(image: str) -> float:
    listed = subprocess.run(
        ["docker", "inspect", "--format", "{{.Size}}", image], check=True, capture_output=True, text=True
    )
    return int(listed.stdout) / (1 << 20)


def _clean() -> None:
    listed = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], check=True, capture_output=True, text=True
    )
    ours = [name for name in listed.stdout.split() if name.startswith(("localhost/runner-bench", "runner-bench-rival"))]
    if ours:
        subprocess.run(["docker", "rmi", "-f", *ours], stdout=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    import tempfile

    from tests.benchmarks.rows import table

    with tempfile.TemporaryDirectory(prefix="runner-bench-") as name:
        sys.stdout.write(table(rows(Path(name))) + "\n")
