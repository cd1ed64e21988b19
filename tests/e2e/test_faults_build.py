"""Builds on an engine whose disk fills up or that dies: said clearly, and the next one goes on from what is good."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.builder import content_tag
from runner.builder.base import MADE
from tests.conftest import eventually
from tests.e2e.build_material import make_wheel
from tests.e2e.second_engine import SecondEngine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0 or not shutil.which("dockerd"), reason="needs root and dockerd"),
]

_SMALL = "size=520m"
LIBS = "name: runner-test-faults\npip: [numpy, pandas, pyarrow, scipy]\n"


@pytest.fixture
def engine(image: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SecondEngine]:
    """An engine of the test's own on a small disk, with the base in it; `image` sees to it that this is made."""
    root = Path(tempfile.mkdtemp(prefix="rt-build-"))
    (root / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", _SMALL, "tmpfs", str(root / "data")], check=True)
    engine = SecondEngine(root, os.getpid() + 1)
    try:
        engine.start()
        engine.load(MADE)
        monkeypatch.setenv("DOCKER_HOST", engine.host)
        monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))
        yield engine
    finally:
        engine.close()


def build(libs: Path) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "runner", "build", "--libs", str(libs)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left(engine: SecondEngine) -> str:
    """Containers, and images without a name."""
    return engine.docker("ps", "-aq") + engine.docker("images", "-q", "--filter", "dangling=true")


def test_a_full_disk_is_said_and_with_room_the_next_build_goes_on(engine: SecondEngine, tmp_path: Path) -> None:
    libs = tmp_path / "libs.yaml"
    libs.write_text(LIBS)
    with build(libs) as process:
        out, err = process.communicate()

    assert process.returncode == 10, err
    assert out == ""
    assert "disk is full" in err or "free some space" in err, err
    assert "Traceback" not in err
    assert left(engine) == ""
    assert engine.docker("images", "-q", "localhost/runner-test-faults") == ""
    assert "python   Python 3" in err, "the first layer was made before the disk was full; otherwise this proves less"

    subprocess.run(["mount", "-o", "remount,size=4g", str(engine.root / "data")], check=True)
    with build(libs) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert "python   Python 3" not in err, "the layer that was good is not made again"
    assert out.startswith(content_tag(libs))


def test_an_engine_that_dies_in_the_middle(engine: SecondEngine, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "rnslow", "1.0", "import time\ntime.sleep(120)\n")
    libs = tmp_path / "libs.yaml"
    libs.write_text(f"name: runner-test-faults\npip: [./{wheel.name}]\n")
    with build(libs) as process:
        eventually(_verifying(engine), "the build verifies")
        engine.crash()
        out, err = process.communicate()

    assert process.returncode == 9, err
    assert out == ""
    assert "Traceback" not in err

    engine.start()
    libs.write_text("name: runner-test-faults\npip: [six]\n")
    with build(libs) as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    assert "python   Python 3" not in err
    assert left(engine) == ""


def _verifying(engine: SecondEngine) -> Callable[[], bool]:
    return lambda: "finish.py" in engine.docker("ps", "--no-trunc", "--format", "{{.Command}}")
