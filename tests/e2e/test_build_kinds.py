"""The files that people already have, built as they are: a requirements.txt, an environment.yml, a renv.lock."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.build_material import docker
from tests.e2e.conda_material import Conda, make_channel

pytestmark = [pytest.mark.docker, pytest.mark.slow]

Make = Callable[..., Any]
TOOL = b"#!/bin/sh\necho tool\n"


def loaded(made: Any) -> dict[str, str]:
    return {each.name: each.version for each in made.image.libraries}


def inside(made: Any, *argv: str) -> str:
    return docker("run", "--rm", "--network", "none", made.image.tag, *argv)


def test_requirements(make: Make, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "r.txt").write_bytes(
        b"\xef\xbb\xbfidna<4 ; python_version >= '3.8'\r\npywin32 ; os_name == 'nt'\r\n"
    )
    made = make("six==1.16.0  # why\n--requirement more/r.txt\n", name="requirements.txt")
    assert loaded(made).keys() == {"six", "idna"}
    assert made.image.lock == tmp_path / "requirements.libs.lock"
    assert inside(made, "python3", "-c", "import six, idna; print(six.__version__)") == "1.16.0\n"
    assert not make("six==1.16.0  # why\n--requirement more/r.txt\n", name="requirements.txt", locked=True).image.built


def test_an_environment(make: Make, tmp_path: Path) -> None:
    make_channel(tmp_path / "channel", (Conda("tool", files={"bin/tool": TOOL}, executable=("bin/tool",)),))
    text = (
        "name: Of Conda\nchannels: [./channel, nodefaults]\ndependencies: [tool, pip: [six]]\nvariables: {A: 'b $c'}\n"
    )
    made = make(text, name="environment.yml")
    assert loaded(made).keys() == {"tool", "six"}
    assert made.image.name == "of-conda"
    assert made.image.lock == tmp_path / "environment.lock"
    assert inside(made, "sh", "-c", 'tool; echo "$A"; python3 -c "import six"') == "tool\nb $c\n"


def test_a_lock_of_renv(make: Make, tmp_path: Path, cran_url: str) -> None:
    tiny = {"Package": "rntiny", "Version": "0.9", "Source": "Repository", "Repository": "CRAN", "Hash": "0" * 32}
    repositories = [{"Name": "CRAN", "URL": cran_url}]
    renv = {"R": {"Version": "4.2.2", "Repositories": repositories}, "Packages": {"rntiny": tiny}}
    made = make(json.dumps(renv), name="renv.lock")
    assert loaded(made) == {"rntiny": "0.9"}
    assert made.image.lock == tmp_path / "renv.libs.lock"
    assert json.loads((tmp_path / "renv.lock").read_text()) == renv
    assert inside(made, "Rscript", "-e", "cat(rntiny::hello())") == "old"
