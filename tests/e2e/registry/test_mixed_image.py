"""One image of everything: built, verified, locked, built again from the lock, pushed, pulled by digest, and run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.build_material import docker
from tests.e2e.conda_material import Conda, make_channel
from tests.e2e.registry.conftest import Registries

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.xdist_group("registries")]

PYTHON = ["six", "attrs", "idna", "certifi", "click", "jinja2", "numpy", "packaging", "pyyaml", "tabulate"]
BINARIES = ["jsonlite", "zoo", "R6", "magrittr", "DBI", "digest", "glue", "rlang"]
LIBS = """
name: runner-test-everything
apt: [libxml2, procps, libpopt0]
pip: [{pip}]
conda:
  channels: [./channel]
  packages: [tool]
r:
  cran: [{r}, rnnative, rntiny==0.9]
  repos: [{repo}]
env: {{TZ: UTC}}
"""
CHECK_R = """
stopifnot(rnnative::twice(21) == 42, rntiny::hello() == "old")
for (name in strsplit("{r}", " ")[[1]]) library(name, character.only = TRUE)
cat(as.character(jsonlite::toJSON(zoo::coredata(zoo::zoo(1:3)))))
"""
CHECK_PYTHON = (
    "import six, attr, idna, certifi, click, jinja2, numpy, packaging, yaml, tabulate; print(numpy.arange(4).sum())"
)
TOOL = b"#!/bin/sh\necho tool\n"


def runner(*argv: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", *argv], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def project(tmp_path: Path, cran_url: str) -> Iterator[Path]:
    make_channel(tmp_path / "channel", (Conda("tool", files={"bin/tool": TOOL}, executable=("bin/tool",)),))
    (tmp_path / "libs.yaml").write_text(LIBS.format(pip=", ".join(PYTHON), r=", ".join(BINARIES), repo=cran_url))
    yield tmp_path
    listed = docker("images", "--filter", "label=runner.name=runner-test-everything", "--format", "{{.ID}}").split()
    if listed:
        docker("rmi", "-f", *dict.fromkeys(listed))


def manifest(image: str) -> Any:
    return json.loads(docker("run", "--rm", image, "cat", "/opt/runner/manifest.json"))


def check(image: str) -> None:
    """Everything is there and works, without a network."""
    run: Callable[..., str] = lambda *argv: docker("run", "--rm", "--network", "none", image, *argv)  # noqa: E731
    assert run("Rscript", "-e", CHECK_R.format(r=" ".join(BINARIES))) == "[1,2,3]"
    assert run("python3", "-c", CHECK_PYTHON) == "6\n"
    assert run("tool") == "tool\n"
    assert run("sh", "-c", "command -v gcc || echo none") == "none\n"


def test_built_locked_pushed_pulled_run(project: Path, registries: Registries) -> None:
    built = runner("build", "--json", folder=project)
    assert built.returncode == 0, built.stderr
    first = json.loads(built.stdout)
    counts: dict[str, int] = {}
    for each in first["libraries"]:
        counts[each["kind"]] = counts.get(each["kind"], 0) + 1
    assert counts == {"apt": 3, "pip": 10, "cran": 10, "conda": 1}
    check(first["tag"])
    lock = (project / "libs.lock").read_bytes()

    again = runner("build", "--locked", "--no-cache", "--json", folder=project)
    assert again.returncode == 0, again.stderr
    second = json.loads(again.stdout)
    assert second["id"] != first["id"]
    assert (project / "libs.lock").read_bytes() == lock
    assert second["libraries"] == first["libraries"]
    held = manifest(second["tag"])
    assert {each["name"] for each in held["lock"]["packages"] if each["kind"] == "conda"} == {"tool"}

    pushed = runner("build", "--push", f"{registries.open}/team/everything:1", "--json", folder=project)
    assert pushed.returncode == 0, pushed.stderr
    where = json.loads(pushed.stdout)["pushed"]
    assert where["by_digest"].startswith(f"{registries.open}/team/everything@sha256:")

    docker("rmi", "-f", where["reference"], second["tag"])
    docker("pull", "-q", where["by_digest"])
    check(where["by_digest"])
    assert manifest(where["by_digest"]) == held
    run = runner("submit", "--image", where["by_digest"], "--backend", "docker", "--wait", "check.py", folder=project)
    assert run.returncode != 0, "there is no such script yet"
    (project / "check.py").write_text(CHECK_PYTHON + "\n")
    run = runner("submit", "--image", where["by_digest"], "--backend", "docker", "--wait", "check.py", folder=project)
    assert run.returncode == 0, run.stderr
    shown = runner("show", "@last", "--json", folder=project)
    assert second["id"] in shown.stdout
    docker("rmi", "-f", where["by_digest"])
