"""What `eject` writes, built by docker alone: the same image as runner's own, by both builders, proof included."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.builder import build
from runner.builder import session as build_session
from runner.builder.eject.eject import System, eject
from runner.builder.recipe import lock_path
from runner.docker_api.images import look_up
from runner.errors import BuildError
from runner.spec.libs import Libs, load
from runner.spec.lock import Lock, read
from tests.e2e.build_material import docker, make_wheel
from tests.e2e.conda_material import STANDARD, Conda, make_channel

pytestmark = [pytest.mark.docker, pytest.mark.slow]

MIXED = """
name: runner-test-ejected
apt: [procps]
pip:
  - six
  - ./rnwheel-1.0-py3-none-any.whl
  - nothere; sys_platform == "win32"
r:
  cran: [jsonlite, rnnative, rntiny==0.9]
  repos: ["file://{repo}"]
env: {{TZ: UTC, ANSWER: 42}}
"""
USE_R = 'stopifnot(rnnative::twice(21) == 42, rntiny::hello() == "old", jsonlite::toJSON(1) == "[1]"); cat(getwd())'
SECRET = "s3cret-of-the-build"
HOSTILE_ENV = {
    "QUOTES": """it's "quoted" \\ and \\\\ and \\" and \\n""",
    "DOLLARS": "$HOME ${PATH} $(id) `id` $$ \\$HOME",
    "MARKS": "# no comment <<EOF | > & ; * ? [x] {y}",
    "SPACES": "  two  spaces\tand a tab  ",
    "CONTROLS": "\x1b[31mred\x1b[0m \r \v \f \x01 \x7f \u2028",
    "LETTERS": "Grüße, 世界",
    "END": "backslash\\",
}
HOSTILE_RUN = (
    "printf '%s\\n' \"two\" > /first\nprintf '# no comment\\n' >> /first\nUSER=0; test -n \"$HOME\"",
    "cat > /second <<'EOF'\nFROM scratch\n\\\n$HOME\nEOF",
    'echo "back\\\\slash" \'"]\' > /third # a comment \\',
)


def clients() -> dict[str, str | None]:
    """Builder → a docker client that has it. A machine may have several, and not every one has BuildKit."""
    found: dict[str, str | None] = {"classic": shutil.which("docker"), "buildkit": None}
    for folder in os.environ["PATH"].split(":"):
        client = f"{folder}/docker"
        if os.access(client, os.X_OK) and found["buildkit"] is None:
            argv = [client, "build", "--help"]
            env = {**os.environ, "DOCKER_BUILDKIT": "1"}
            done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
            if done.returncode == 0 and "--secret" in done.stdout:
                found["buildkit"] = client
    return found


@pytest.fixture(params=["classic", "buildkit"])
def builder(request: pytest.FixtureRequest) -> str:
    if clients()[request.param] is None:
        pytest.skip(f"no docker client here can build with {request.param}")
    return str(request.param)


Build = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def stages(engine: None) -> Iterator[set[str]]:
    """Ids of the images that the classic builder leaves of each stage. They are its cache, and go at the end."""
    ids: set[str] = set()
    yield ids
    # An image has children until they are gone; each round takes the youngest.
    while mine := [each for each in docker("images", "-q", "-f", "dangling=true").split() if each in ids]:
        docker("rmi", *mine)
        ids.difference_update(mine)


@pytest.fixture
def docker_build(stages: set[str]) -> Iterator[Build]:
    """`docker build` of an ejected folder, with what this machine's network takes, as the Dockerfile's head tells it."""
    tags = []

    def run(folder: Path, tag: str, builder: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        if (bundle := build_session.ca_bundle(None)) and (folder / "tools").exists():
            shutil.copyfile(bundle, folder / "tools" / "ca.pem")
        if index := os.environ.get("UV_DEFAULT_INDEX", os.environ.get("PIP_INDEX_URL")):
            options = ("--build-arg", f"UV_DEFAULT_INDEX={index}", *options)
        tags.append(tag)
        client = clients()[builder]
        assert client is not None
        done = subprocess.run(
            [client, "build", "--network", "host", "--force-rm", "-t", tag, *options, str(folder)],
            env={**os.environ, **env, "DOCKER_BUILDKIT": str(int(builder == "buildkit")), "BUILDKIT_PROGRESS": "plain"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        stages.update(re.findall(r"^ ---> ([0-9a-f]{12})$", done.stdout, re.MULTILINE))
        return done

    yield run
    for tag in tags:
        if look_up(tag) is not None:
            docker("rmi", tag)


@pytest.fixture
def own_build(engine: None) -> Iterator[Callable[[Path], str]]:
    """runner's own build of a libs file: the image's name. It is removed at the end, its layers stay."""
    tags = []

    def make(libs: Path) -> str:
        tags.append(build(libs).tag)
        return tags[-1]

    yield make
    for tag in dict.fromkeys(tags):
        docker("rmi", tag)


def system_of(tag: str) -> System:
    image = look_up(tag)
    assert image is not None
    return System.of(image.labels)


def locked(libs: Path) -> tuple[Libs, Lock]:
    lock = read(lock_path(libs))
    assert lock is not None
    return load(libs), lock


def config(tag: str) -> Any:
    return json.loads(docker("inspect", tag))[0]["Config"]


def run(tag: str, *argv: str) -> str:
    return docker("run", "--rm", "--network", "none", tag, *argv)


def test_docker_builds_the_same_image(
    cran: Path, tmp_path: Path, docker_build: Build, own_build: Callable[[Path], str]
) -> None:
    make_wheel(tmp_path, "rnwheel", "1.0", "value = 'wheel'")
    file = tmp_path / "libs.yaml"
    file.write_text(MIXED.format(repo=cran))
    own = own_build(file)
    libs, lock = locked(file)
    eject(libs, lock, tmp_path / "out", system=system_of(own), ca_bundle=build_session.ca_bundle(None))

    done = docker_build(tmp_path / "out", "runner-test:ejected", "classic")

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "runner: 6 declared libraries load, 0 faults" in done.stdout
    tag = "runner-test:ejected"
    assert run(tag, "cat", "/opt/runner/manifest.json") == run(own, "cat", "/opt/runner/manifest.json")
    assert run(tag, "Rscript", "--vanilla", "-e", USE_R) == "/home/runner"
    assert run(tag, "python3", "-c", "import six, rnwheel; print(rnwheel.value)") == "wheel\n"
    assert run(tag, "ps", "-V").startswith("ps from procps")
    ours, theirs = config(own), config(tag)
    assert {**theirs["Labels"], **ours["Labels"]} == ours["Labels"], "every label is one of runner's, with its value"
    assert {"runner.user", "runner.python", "runner.libraries", "runner.contract"} <= theirs["Labels"].keys()
    assert sorted(theirs["Env"]) == sorted(ours["Env"])
    assert [theirs[key] for key in ("User", "WorkingDir", "Cmd")] == [
        ours[key] for key in ("User", "WorkingDir", "Cmd")
    ]
    # What differs in a list of all files: caches that only one of the two has, and a folder of apt's.
    find = ("find", "/", "-xdev", "-type", "f")
    files = [set(docker("run", "--rm", "--user", "0", each, *find).splitlines()) for each in (own, tag)]
    differs = {path for path in files[0] ^ files[1] if not path.startswith(("/var/cache/", "/var/lib/apt/", "/proc/"))}
    assert differs == set()
    assert not [path for path in files[1] if path.startswith(("/mnt/", "/tmp/", "/tools/", "/root/.cache"))]
    assert "/usr/bin/gcc" not in files[1]
    assert docker("run", "--rm", "--user", "0", tag, "ls", "/var/lib/apt/lists") == ""
    history = docker("history", "--no-trunc", tag)
    assert "ca.pem" not in history


def small(folder: Path, text: str = "") -> tuple[Libs, Lock, System]:
    """Python and nothing else, resolved and built by runner."""
    file = folder / "libs.yaml"
    file.write_text(f"name: runner-test-eject-small\n{text}")
    tag = build(file).tag
    system = system_of(tag)
    docker("rmi", tag)
    return (*locked(file), system)


def test_hostile_values_arrive_as_they_are(builder: str, tmp_path: Path, docker_build: Build) -> None:
    libs, lock, system = small(tmp_path)
    libs = replace(libs, env=HOSTILE_ENV, run=HOSTILE_RUN)
    eject(libs, lock, tmp_path / "out", system=system)

    tag = f"runner-test:hostile-{builder}"
    done = docker_build(tmp_path / "out", tag, builder)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    env = json.loads(run(tag, "python3", "-I", "-c", code))
    assert {name: env.get(name) for name in HOSTILE_ENV} == HOSTILE_ENV
    assert run(tag, "cat", "/first", "/second", "/third") == (
        'two\n# no comment\nFROM scratch\n\\\n$HOME\nback\\slash "]\n'
    )  # fmt: skip
    assert config(tag)["User"] == system.user


def test_secrets_of_commands_stay_in_no_layer(tmp_path: Path, docker_build: Build) -> None:
    if clients()["buildkit"] is None:
        pytest.skip("no docker client here can build with BuildKit")
    libs, lock, system = small(tmp_path)
    # The value of a secret is no part of BuildKit's cache key, so the command must be a new one.
    libs = replace(libs, run=(f"wc -c < /run/secrets/TOKEN > /length; : {os.urandom(8).hex()}",))
    eject(libs, lock, tmp_path / "out", system=system, secrets=("TOKEN",))
    assert SECRET not in "".join(path.read_text() for path in (tmp_path / "out").rglob("*.*") if path.is_file())

    tag = "runner-test:secret"
    without = docker_build(tmp_path / "out", tag, "buildkit")
    assert without.returncode != 0, "a secret that is missing is no empty one"
    done = docker_build(tmp_path / "out", tag, "buildkit", "--secret", "id=TOKEN,env=TOKEN", TOKEN=SECRET)

    assert done.returncode == 0, done.stderr[-3000:]
    assert run(tag, "cat", "/length").strip() == str(len(SECRET))
    assert run(tag, "sh", "-c", "ls -A /run/secrets 2>/dev/null || true") == ""
    assert SECRET not in docker("history", "--no-trunc", tag) + docker("inspect", tag) + done.stderr


def test_a_library_that_does_not_load_fails_the_build(tmp_path: Path, docker_build: Build) -> None:
    make_wheel(tmp_path, "rnbroken", "1.0", "raise RuntimeError('no such device')")
    file = tmp_path / "libs.yaml"
    file.write_text("name: runner-test-eject-broken\npip: [./rnbroken-1.0-py3-none-any.whl]\n")
    with pytest.raises(BuildError, match="rnbroken"):
        build(file)
    libs, lock = locked(file)
    (tmp_path / "small").mkdir()
    system = small(tmp_path / "small")[2]
    eject(libs, lock, tmp_path / "out", system=system, ca_bundle=build_session.ca_bundle(None))

    done = docker_build(tmp_path / "out", "runner-test:broken", "classic")

    assert done.returncode != 0
    expected = (
        "runner: libs.yaml:2: rnbroken: was installed, but does not load in the image: import rnbroken: RuntimeError"
    )
    assert expected in done.stdout + done.stderr
    assert look_up("runner-test:broken") is None


def test_conda_packages_and_what_their_activation_sets(
    tmp_path: Path, docker_build: Build, own_build: Callable[[Path], str]
) -> None:
    active = {"etc/conda/activate.d/rc.sh": b'export RC_DATA="$CONDA_PREFIX/share/rc"\n'}
    channel = make_channel(tmp_path / "channel", (*STANDARD, Conda("rcactive", files=active)))
    file = tmp_path / "libs.yaml"
    file.write_text(
        f"name: runner-test-eject-conda\nconda: {{channels: ['{channel.as_uri()}'], packages: [rcpure, rctool, rcactive]}}\n"
        "pip: [six]\n"
    )
    own = own_build(file)
    libs, lock = locked(file)
    system, bundle, out, tag = system_of(own), build_session.ca_bundle(None), tmp_path / "out", "runner-test:conda"

    eject(libs, lock, out, system=system, ca_bundle=bundle)
    unknown = docker_build(out, tag, "classic")
    known = {"RC_DATA": "/opt/conda/share/rc"}
    eject(libs, lock, out, system=replace(system, conda_env=known), ca_bundle=bundle)
    done = docker_build(out, tag, "classic")

    assert unknown.returncode != 0, "variables that are not known are not lost silently"
    assert 'conda.env={"RC_DATA": "/opt/conda/share/rc"}' in unknown.stdout + unknown.stderr
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert run(tag, "cat", "/opt/runner/manifest.json") == run(own, "cat", "/opt/runner/manifest.json")
    assert sorted(config(tag)["Env"]) == sorted(config(own)["Env"])
    ours, theirs = config(own)["Labels"], config(tag)["Labels"]
    assert {**theirs, **ours} == ours
    assert run(tag, "rctool") == run(own, "rctool")
    assert run(tag, "/opt/conda/bin/python", "-c", "import rcpure; print(rcpure.value)") == "42\n"
    assert run(tag, "python3", "-c", "import six, sys; print(sys.prefix)") == "/opt/venv\n"
    found = ("find", "/opt", "-type", "f", "!", "-name", "*.pyc", "-printf", "%m %s %p\n")
    assert sorted(run(tag, *found).splitlines()) == sorted(run(own, *found).splitlines())
