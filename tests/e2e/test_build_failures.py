"""Builds that must fail: each names the library and the line, suggests, tags nothing, and leaves no container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.builder import build, content_tag
from runner.docker_api.images import look_up
from runner.errors import BuildError, ImageError, RunnerError, SpecError, UnavailableError
from tests.e2e.build_material import build_containers, docker, make_wheel
from tests.e2e.conda_material import PYTHON, Conda, make_channel

pytestmark = [pytest.mark.docker]

Make = Callable[..., Any]


def fails(make: Make, tmp_path: Path, text: str, kind: type[RunnerError] = SpecError) -> str:
    """The message of a build that must fail, after the proof that nothing was tagged."""
    with pytest.raises(kind) as caught:
        make(text)
    assert look_up(content_tag(tmp_path / "libs.yaml")) is None
    assert build_containers(os.getpid()) == ""
    return str(caught.value)


def test_misspelt_debian_package(make: Make, tmp_path: Path) -> None:
    message = fails(make, tmp_path, "name: runner-test-bad\napt:\n  - procps\n  - libxml22\n")
    assert f"{tmp_path}/libs.yaml:4: apt: no package named 'libxml22'" in message
    assert "did you mean libxml2?" in message


def test_debian_version_that_is_not_there(make: Make, tmp_path: Path) -> None:
    message = fails(make, tmp_path, "name: runner-test-bad\napt: [procps=1.*]\n")
    assert "libs.yaml:2: apt: no version of procps fits 1.*" in message
    assert "there is: 2:" in message


def test_misspelt_python_package(make: Make, tmp_path: Path) -> None:
    message = fails(make, tmp_path, "name: runner-test-bad\npip:\n  - six\n  - runner-no-such-library-numpyy\n")
    assert "libs.yaml:4: pip: runner-no-such-library-numpyy: the index has no such package" in message
    assert "Downloaded" not in message


def test_python_packages_that_exclude_each_other(make: Make, tmp_path: Path) -> None:
    message = fails(make, tmp_path, "name: runner-test-bad\npip: [requests==2.31.0, idna==1.1]\n", BuildError)
    assert "requests==2.31.0" in message
    assert "idna==1.1" in message
    assert "full log: " in message


def test_misspelt_r_package(make: Make, tmp_path: Path, cran_url: str) -> None:
    text = f"name: runner-test-bad\nr:\n  cran:\n    - jsonlite\n    - rnnativ\n  repos: [{cran_url}]\n"
    message = fails(make, tmp_path, text)
    assert "libs.yaml:5: r.cran: no package named 'rnnativ' in the repositories" in message
    assert "did you mean rnnative?" in message
    assert f"searched: Debian r-cran-*, r-bioc-*, {cran_url}" in message


def test_misspelt_r_package_without_a_repository(make: Make, tmp_path: Path) -> None:
    text = "name: runner-test-bad\nr: {cran: [jsonlit], repos: ['http://127.0.0.1:9/cran']}\n"
    message = fails(make, tmp_path, text)
    assert "did you mean jsonlite?" in message
    assert "http://127.0.0.1:9/cran (not reachable: " in message


def test_r_package_in_the_wrong_case_names_the_right_one(make: Make, tmp_path: Path) -> None:
    message = fails(make, tmp_path, "name: runner-test-bad\nr: {cran: [JsonLite]}\n", BuildError)
    assert "JsonLite was installed, but does not load" in message
    assert "did you mean jsonlite?" in message


def test_r_version_that_is_not_there(make: Make, tmp_path: Path, cran_url: str) -> None:
    message = fails(make, tmp_path, f"name: runner-test-bad\nr: {{cran: [rntiny==7.7], repos: [{cran_url}]}}\n")
    assert "no version of rntiny fits == 7.7" in message
    assert "there is: 1.0" in message


def test_r_package_that_needs_a_newer_r(make: Make, tmp_path: Path, cran_url: str) -> None:
    message = fails(make, tmp_path, f"name: runner-test-bad\nr: {{cran: [rnfuture], repos: [{cran_url}]}}\n")
    assert "rnfuture 3.0 needs R >= 99.0; the image has R 4." in message


def test_r_package_that_does_not_compile(make: Make, tmp_path: Path, cran: Path) -> None:
    text = f"name: runner-test-bad\nr: {{cran: [rntiny, rnfails], repos: ['file://{cran}']}}\n"
    message = fails(make, tmp_path, text, BuildError)
    assert "libs.yaml:2: r.cran: rnfails cannot be installed" in message
    assert "header_that_is_not_there" in message
    assert len(message.splitlines()) < 20


def test_r_packages_that_exclude_each_other(make: Make, tmp_path: Path, cran_url: str) -> None:
    text = f"name: runner-test-bad\nr:\n  cran: [rnneeds, rntiny==0.9]\n  repos: [{cran_url}]\n"
    message = fails(make, tmp_path, text)
    assert "rntiny" in message
    assert "rnneeds" in message
    assert "0.9" in message


def test_r_package_that_does_not_load(make: Make, tmp_path: Path, cran_url: str) -> None:
    text = f"name: runner-test-bad\nr:\n  cran:\n    - jsonlite\n    - rnunloadable\n  repos: [{cran_url}]\n"
    message = fails(make, tmp_path, text, BuildError)
    assert "libs.yaml:5: r.cran: rnunloadable was installed, but does not load in the image" in message
    assert "nothing here to load" in message


def test_debian_packages_that_exclude_each_other(make: Make, tmp_path: Path) -> None:
    message = fails(make, tmp_path, "name: runner-test-bad\napt: [msmtp-mta, nullmailer]\n", BuildError)
    assert "msmtp-mta" in message
    assert "nullmailer" in message


def test_name_that_several_debian_packages_provide(make: Make, tmp_path: Path) -> None:
    message = fails(make, tmp_path, "name: runner-test-bad\napt:\n  - mail-transport-agent\n")
    assert "libs.yaml:3: apt: mail-transport-agent is only a name that other packages provide" in message
    assert "exim4-daemon-light" in message


def test_base_without_apt(make: Make, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "cat", "grep", "sed", "cut", "find", "mkdir", "cksum", "awk", "tr", "rm"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    docker("import", str(archive), "runner-test-busybox:latest")
    try:
        message = fails(make, tmp_path, "name: runner-test-bad\nbase: runner-test-busybox:latest\npip: [six]\n")
    finally:
        docker("rmi", "runner-test-busybox:latest")
    assert "libs.yaml:2: base: the base image has no apt-get" in message


@pytest.fixture
def channel(tmp_path: Path) -> str:
    make_channel(
        tmp_path / "channel",
        (
            Conda("rcbase", "1.0", files={"share/rcbase": b"1"}),
            Conda("rcbase", "2.0", files={"share/rcbase": b"2"}),
            Conda("rcold", depends=("rcbase <2",), files={"share/rcold": b""}),
            Conda("rcnew", depends=("rcbase >=2",), files={"share/rcnew": b""}),
            PYTHON,
            Conda("rcfails", "1.0", ("python",), {"site-packages/rcfails.py": b"import nothere\n"}, noarch="python"),
        ),
    )
    return "name: runner-test-bad\nconda:\n  channels: [./channel]\n  packages:\n"


@pytest.mark.parametrize(
    ("packages", "where", "why"),
    [
        (
            "    - rcbase\n    - rcbsae\n",
            "libs.yaml:6: conda.packages: no conda channel has rcbsae",
            "did you mean rcbase?",
        ),
        ("    - rcbase=3\n", "libs.yaml:5: conda.packages: no version fits rcbase=3", "there are 2.0, 1.0"),
        ("    - rcold\n    - rcnew\n", "cannot be installed with the rest", "rcbase"),
    ],
)
def test_conda_package_that_cannot_be_had(
    make: Make, tmp_path: Path, channel: str, packages: str, where: str, why: str
) -> None:
    message = fails(make, tmp_path, channel + packages)
    assert where in message
    assert why in message


def test_conda_package_that_does_not_load(make: Make, tmp_path: Path, channel: str) -> None:
    message = fails(make, tmp_path, channel + "    - rcfails\n", BuildError)
    assert "libs.yaml:5: conda.packages: rcfails was installed, but does not load in the image" in message


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import module_that_is_missing", "ModuleNotFoundError: No module named 'module_that_is_missing'"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("import sys; print('bye'); sys.stdout.flush(); sys.exit(0)", "SystemExit"),
        (
            "import ctypes; ctypes.CDLL('libnothere.so.1')",
            "add the Debian package that holds libnothere.so.1 under apt",
        ),
    ],
)
def test_python_library_that_does_not_load(make: Make, tmp_path: Path, code: str, why: str) -> None:
    wheel = make_wheel(tmp_path, "rnbroken", "1.0", code)
    message = fails(make, tmp_path, f"name: runner-test-bad\npip: [six, ./{wheel.name}]\n", BuildError)
    assert "libs.yaml:2: pip: rnbroken was installed, but does not load in the image" in message
    assert why in message


def test_import_name_that_is_given_is_the_one_that_counts(make: Make, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "rnother", "1.0", "")
    text = f"name: runner-test-bad\npip: [./{wheel.name}]\nimports: {{rnother: rn_another_name}}\n"
    assert "No module named 'rn_another_name'" in fails(make, tmp_path, text, BuildError)


def test_a_registry_that_does_not_answer(make: Make, tmp_path: Path) -> None:
    message = fails(make, tmp_path, "name: runner-test-bad\nbase: 127.0.0.1:9/nothing:1\n", ImageError)
    assert "127.0.0.1:9/nothing:1 cannot be pulled" in message


def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libs.yaml").write_text("name: runner-test-bad\n")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(UnavailableError, match="no container engine answers"):
        build(tmp_path / "libs.yaml")


BUILD = "import sys; from pathlib import Path; from runner.builder import build; build(Path(sys.argv[1]))"


def _start(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A build in a process of its own, in a step that goes on until it is stopped."""
    wheel = make_wheel(tmp_path, "rnslow", "1.0", "import time\nwhile True: time.sleep(1)")
    libs = tmp_path / "libs.yaml"
    libs.write_text(f"name: runner-test-killed\npip: [./{wheel.name}]\nenv: {{SALT: {os.urandom(4).hex()}}}\n")
    argv = [sys.executable, "-c", BUILD, str(libs)]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2])


def test_killed_in_the_middle_the_next_build_goes_on(
    make: Make, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    process = _start(tmp_path)
    eventually(lambda: build_containers(process.pid), "the build runs a container")
    process.kill()
    process.communicate()
    assert build_containers(process.pid), "kill -9 leaves the container; otherwise this test proves nothing"

    made = make("name: runner-test-killed\npip: [six]\n")

    assert [each.name for each in made.image.libraries] == ["six"]
    assert build_containers(process.pid) == ""


def test_interrupted_leaves_no_container(tmp_path: Path, engine: None, eventually: Callable[..., None]) -> None:
    process = _start(tmp_path)
    eventually(lambda: "verify" in _commands(process.pid), "the build verifies")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert b"KeyboardInterrupt" in err
    assert build_containers(process.pid) == ""
    assert look_up(content_tag(tmp_path / "libs.yaml")) is None


def _commands(pid: int) -> str:
    listed = docker(
        "ps", "--filter", "label=runner.build=1", "--filter", f"name=-{pid}-", "--format", "{{.Command}}", "--no-trunc"
    )
    return listed.replace("finish.py", "verify")
