"""Images built on a real engine: what they hold, what is built again, and what they must not hold."""

from __future__ import annotations

import json
import os
import tarfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from subprocess import PIPE, CalledProcessError, Popen
from typing import IO, Any

import pytest

from runner.builder import build
from runner.builder.base import _write_archive
from tests.e2e.build_material import docker, make_wheel, served

pytestmark = [pytest.mark.docker]

MIXED = """
name: runner-test-mixed
apt: [libxml2, procps]
pip:
  - six
  - attrs>=20
  - ./rnwheel-1.0-py3-none-any.whl
  - nothere; sys_platform == "win32"
r:
  cran:
    - jsonlite
    - rnnative
    - rntiny==0.9
  repos: [{repo}]
env: {{TZ: UTC, ANSWER: 42, SWITCH: no}}
"""

USE_R = """
stopifnot(rnnative::twice(21) == 42, rntiny::hello() == "old", jsonlite::toJSON(1) == "[1]")
cat(Sys.getenv("ANSWER"), Sys.getenv("SWITCH"), Sys.info()[["user"]], getwd(), "\\n")
"""


def run(image: str, *argv: str) -> str:
    return docker("run", "--rm", "--network", "none", image, *argv)


def config(image: str) -> Any:
    return json.loads(docker("inspect", image))[0]


@pytest.fixture
def mixed(cran_url: str, tmp_path: Path) -> str:
    make_wheel(tmp_path, "rnwheel", "1.0", "value = 'wheel'")
    return MIXED.format(repo=cran_url)


def test_mixed_image_holds_what_was_asked_for(make: Callable[..., Any], mixed: str) -> None:
    made = make(mixed)

    libraries = {(each.kind, each.name): each.version for each in made.image.libraries}
    assert libraries.keys() == {
        ("apt", "libxml2"), ("apt", "procps"), ("cran", "jsonlite"), ("cran", "rnnative"), ("cran", "rntiny"),
        ("pip", "six"), ("pip", "attrs"), ("pip", "rnwheel"),
    }  # fmt: skip
    assert (libraries["cran", "rnnative"], libraries["cran", "rntiny"]) == ("2.1", "0.9")
    tag = made.image.tag
    assert run(tag, "Rscript", "--vanilla", "-e", USE_R) == "42 no runner /home/runner \n"
    assert run(tag, "python3", "-c", "import six, attr, attrs, rnwheel; print(rnwheel.value)") == "wheel\n"
    assert made.image.id == config(tag)["Id"]
    assert made.image.size_bytes == config(tag)["Size"]

    labels = config(tag)["Config"]["Labels"]
    assert labels["runner.user"] == config(tag)["Config"]["User"]
    assert labels["runner.build"] == ""
    assert json.loads(labels["runner.libraries"]) == [list(each) for each in made.image.libraries]
    assert run(tag, labels["runner.python"], "-I", "-S", "-c", "print(6 * 7)") == "42\n"
    files = run(tag, "ls", "/opt/runner").split()
    assert {"bootstrap.py", "bootstrap.pyc", "profile.R", "python"} <= set(files)
    code = run(tag, labels["runner.python"], "-I", "-S", "/opt/runner/bootstrap.pyc", "--", "sh", "-c", "echo here")
    assert code == "here\n"


def test_nothing_of_the_build_is_left_in_the_image(make: Callable[..., Any], mixed: str) -> None:
    tag = make(mixed).image.tag

    everything = run(tag, "sh", "-c", "find / -xdev 2>/dev/null | sort").splitlines()
    for gone in ("/usr/bin/gcc", "/var/log/dpkg.log", "/opt/runner/README.md", "/mnt/in", "/root/.cache"):
        assert gone not in everything
    assert not [path for path in everything if path.startswith(("/mnt/", "/tmp/", "/home/runner/"))]
    assert not [path for path in everything if path.startswith("/usr/share/man/man") and path.endswith(".gz")]
    assert not [path for path in everything if path.startswith("/var/cache/apt/archives/") and path.endswith(".deb")]
    assert [path for path in everything if path.startswith("/opt/venv/") and path.endswith("six.cpython-311.pyc")]
    assert run(tag, "sh", "-c", "cat /etc/apt/apt.conf.d/* /etc/hosts").count("/mnt/") == 0


def test_unchanged_file_builds_nothing(make: Callable[..., Any], mixed: str) -> None:
    first = make(mixed)
    since = f"{time.time():.6f}"

    second = make(mixed)

    assert (second.image.id, second.image.built, second.image.added_bytes) == (first.image.id, False, 0)
    assert second.image.libraries == first.image.libraries
    assert second.told == []
    until = f"{time.time():.6f}"
    names = docker(
        "events",
        "--since",
        since,
        "--until",
        until,
        "--filter",
        "type=container",
        "--format",
        "{{.Actor.Attributes.name}}",
    )
    assert f"-{os.getpid()}-" not in names


def test_an_edit_builds_only_what_follows(make: Callable[..., Any], mixed: str) -> None:
    before = make(mixed)

    after = make(mixed.replace("- six", "- six\n  - idna"))

    assert after.stages == {"base", "lock", "add", "pip", "verify"}
    old, new = config(before.image.id)["RootFS"]["Layers"], config(after.image.id)["RootFS"]["Layers"]
    assert new[: len(old) - 1] == old[:-1], "what was there is added to, not built again"
    assert len(new) == len(old) + 1
    assert config(after.image.id)["Config"]["Env"] == config(before.image.id)["Config"]["Env"]
    assert ("pip", "idna") in {(each.kind, each.name) for each in after.image.libraries}
    assert 0 < after.image.added_bytes < 5_000_000


def test_taking_one_away_builds_its_layer_anew(make: Callable[..., Any]) -> None:
    salt = f"# {os.urandom(4).hex()}"
    make(f"name: runner-test-less\npip: [six, idna]\n{salt}")

    less = make(f"name: runner-test-less\npip: [idna]\n{salt}")

    with pytest.raises(CalledProcessError):
        run(less.image.tag, "python3", "-c", "import six")
    assert run(less.image.tag, "python3", "-c", "import idna; print(1)") == "1\n"


def test_a_changed_requirements_file_is_a_change(make: Callable[..., Any], tmp_path: Path) -> None:
    text = "name: runner-test-requirements\npip: [-r requirements.txt]\n"
    (tmp_path / "requirements.txt").write_text("six  # old\n")
    first = make(text)
    (tmp_path / "requirements.txt").write_text("-c constraints.txt\nsix\nidna\n")
    (tmp_path / "constraints.txt").write_text("idna<3.7\n")

    second = make(text)

    versions = {each.name: each.version for each in second.image.libraries}
    assert second.image.id != first.image.id
    assert versions.keys() == {"six", "idna"}
    assert tuple(map(int, versions["idna"].split("."))) < (3, 7)


def test_secrets_and_ca_bundle_leave_no_trace(
    make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, password = os.urandom(12).hex(), os.urandom(12).hex()
    given = next((os.environ[name] for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
    trusted = Path(given or "/etc/ssl/certs/ca-certificates.crt").read_text()
    (tmp_path / "corp.pem").write_text(f"# {marker}\n{trusted}")
    index = tmp_path / "index" / "rnsecret"
    index.mkdir(parents=True)
    version = f"1.0.{int.from_bytes(os.urandom(4))}"  # a layer of an earlier test run must not be found
    wheel = make_wheel(index, "rnsecret", version, "")
    (index / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    with served(tmp_path / "index", password) as address:
        monkeypatch.setenv("UV_INDEX", f"http://build:{password}@{address}/")
        made = make(f"name: runner-test-secrets\npip: [rnsecret=={version}]\nca_bundle: corp.pem\n")

    assert [each.name for each in made.image.libraries] == ["rnsecret"]
    assert made.image.log is not None
    assert password not in made.image.log.read_text()
    assert "rnsecret" in made.image.log.read_text()
    with Popen(["docker", "save", made.image.tag], stdout=PIPE) as saved:
        assert saved.stdout is not None
        found = _search(saved.stdout, [marker.encode(), password.encode(), address.encode(), b"rnsecret"])
    assert saved.returncode == 0
    assert found == {b"rnsecret"}  # the search does find what is there
    assert marker not in docker("history", "--no-trunc", made.image.tag) + docker("inspect", made.image.tag)


def _search(stream: IO[bytes], wanted: list[bytes]) -> set[bytes]:
    """Which of the texts occur in a stream; none is longer than the overlap of 100 bytes."""
    found, tail = set(), b""
    while block := stream.read(1 << 20):
        found |= {text for text in wanted if text in tail + block}
        tail = block[-100:]
    return found


def test_cold_build_of_every_layer_is_the_same_and_leaves_no_dangling_image(make: Callable[..., Any]) -> None:
    text = "name: runner-test-again\npip: [six]\n"
    first = make(text)

    second = make(text, no_cache=True)

    assert second.image.built
    assert "python" in second.stages
    assert second.image.libraries == first.image.libraries
    assert second.image.id != first.image.id
    named = ("--filter", "label=runner.name=runner-test-again")
    assert docker("images", "-q", "--filter", "dangling=true", *named) == ""
    assert docker("images", "-q", "--no-trunc", *named).split() == [second.image.id]


def test_cold_build_without_a_lock_makes_no_layer_twice(make: Callable[..., Any]) -> None:
    """Resolving pip's packages needs the layer with Python, and the image then stands on that one."""
    made = make("name: runner-test-cold\npip: [six]\n", no_cache=True)
    assert [stage for stage, _ in made.told].count("python") == 1


def test_two_builds_at_once_build_once(engine: None, tmp_path: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    (tmp_path / "libs.yaml").write_text(f"name: runner-test-twice\nenv: {{SALT: {os.urandom(4).hex()}}}\n")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        images = list(pool.map(build, [tmp_path / "libs.yaml"] * 2))

    assert sorted(image.built for image in images) == [False, True]
    assert images[0].id == images[1].id
    docker("rmi", images[0].tag)


def test_a_base_without_what_we_add_keeps_its_own(make: Callable[..., Any], python_r: str) -> None:
    """Any image can be a base: one of ours stands in for a user's, with Python, R and a user already there."""
    made = make(f"name: runner-test-based\nbase: {python_r}\nr: {{}}\n")

    layers = config(made.image.id)["RootFS"]["Layers"]
    based = config(python_r)["RootFS"]["Layers"]
    assert layers[: len(based)] == based
    assert made.image.size_bytes - config(python_r)["Size"] < 1_000_000
    assert run(made.image.tag, "Rscript", "-e", "cat(jsonlite::toJSON(1:2))") == "[1,2]"


def test_the_base_archive_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "rootfs.tar", "w") as rootfs:
        rootfs.addfile(tarfile.TarInfo("etc/"), BytesIO())
    for name in ("one.tar", "two.tar"):
        _write_archive(tmp_path / "rootfs.tar", tmp_path / name, "amd64")
    manifests = []
    for name in ("one.tar", "two.tar"):
        with tarfile.open(tmp_path / name) as archive:
            stream = archive.extractfile("manifest.json")
            assert stream is not None
            manifests.append(json.load(stream))
    assert manifests[0] == manifests[1]
    assert len(manifests[0][0]["Config"]) == len("f" * 64 + ".json")
