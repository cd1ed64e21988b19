"""Environments on a real engine: what is there is taken, what is not is built once, and what fails says where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.environments import resolve, resolve_all
from runner.errors import BuildError, CapabilityError, ImageError, SpecError
from runner.job import Environment, Where
from tests.e2e.build_material import docker, served
from tests.e2e.conda_material import make_channel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.docker

HERE = Where("job.yml", 7, "environment")


class Said(list[tuple[str, str]]):
    def __call__(self, kind: str, text: str) -> None:
        self.append((kind, text))

    @property
    def kinds(self) -> set[str]:
        """What was spoken of."""
        return {kind for kind, _ in self}


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of images to remove at the end; the test has a cache of its own."""
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))
    names: list[str] = []
    yield names
    for name in names:
        docker("rmi", name)
    # A failed build leaves its good steps without a name, for the next try.
    for left in docker("images", "-q", "--filter", "dangling=true", "--filter", f"label=test={tmp_path}").split():
        docker("rmi", left)


@pytest.fixture
def context(tmp_path: Path, image: str) -> Path:
    """A folder whose content is this test's alone."""
    folder = tmp_path / f"ctx-{os.getpid()}"
    (folder / "docker").mkdir(parents=True)
    (folder / "given.txt").write_text(f"from {tmp_path}\n")
    (folder / "docker" / "Dockerfile").write_text(
        f"ARG X=1\nFROM {image}\nLABEL test={tmp_path}\nCOPY given.txt /given.txt\nRUN cat /given.txt\n"
    )
    return folder


def layers_of(image: str, base: str) -> list[str]:
    """Names of the layers that a build left between the base and its image, the last first."""
    ends = {"", docker("image", "inspect", "--format", "{{.Id}}", base).strip()}
    names: list[str] = []
    while (image := docker("image", "inspect", "--format", "{{.Parent}}", image).strip()) not in ends:
        names += docker("image", "inspect", "--format", "{{range .RepoTags}}{{println .}}{{end}}", image).split()
    return names


def test_an_image_that_is_there_and_one_that_is_not(image: str, said: Said) -> None:
    found = resolve(Environment(image=image), said, build=True)
    assert found.id == docker("image", "inspect", "--format", "{{.Id}}", image).strip()
    assert found.name == image
    with pytest.raises(ImageError, match="is not on this machine"):
        resolve(Environment(image="localhost/runner-test-none:1"), said, build=False)
    with pytest.raises(ImageError):
        resolve(Environment(image="127.0.0.1:1/runner-test-none:1"), said, build=True)


def test_a_context_is_built_once_and_equal_ones_together(context: Path, made: list[str], said: Said) -> None:
    wanted = Environment(context=context, dockerfile="docker/Dockerfile", where=HERE)
    with pytest.raises(CapabilityError, match="has not been built yet"):
        resolve(wanted, said, build=False)
    first, second = resolve_all(
        [wanted, Environment(context=context, dockerfile="docker/Dockerfile")], said, build=True
    )
    made.append(first.name)
    assert first == second
    assert docker("run", "--rm", first.id, "cat", "/given.txt") == (context / "given.txt").read_text()
    steps = [text for kind, text in said if kind == "build" and text.startswith("Step ")]
    assert [step.partition(" : ")[0] for step in steps] == [f"Step {number}/5" for number in range(1, 6)]
    assert steps[3].endswith("COPY given.txt /given.txt …")

    again = Said()
    assert resolve(wanted, again, build=False) == first
    assert again.kinds == {"image"}
    (context / "given.txt").write_text(f"changed {context}\n")
    changed = resolve(wanted, said, build=True)
    made.append(changed.name)
    assert changed.id != first.id


@pytest.mark.parametrize(
    ("last", "line", "message"),
    [
        ("RUN echo told >&2; exit 3", 6, "RUN echo told >&2; exit 3: .*returned a non-zero code: 3\n  told"),
        ("COPY nothere /x", 6, "COPY nothere /x: .*nothere"),
        ("RNU x", 6, "RNU"),
        ("RUN --mount=type=cache,target=/x true", 6, "BuildKit"),
    ],
)
def test_a_failure_names_the_line(
    context: Path, made: list[str], said: Said, last: str, line: int, message: str
) -> None:
    file = context / "docker" / "Dockerfile"
    file.write_text(file.read_text() + last + "\n")
    with pytest.raises(BuildError, match=message) as caught:
        resolve(Environment(context=context, dockerfile="docker/Dockerfile"), said, build=True)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert "\x1b" not in str(caught.value), "the engine's colours are not for logs"
    assert not any("\x1b" in text for _, text in said)
    log = str(caught.value).splitlines()[-1].strip().removeprefix("log: ")
    assert Path(log).stat().st_mode & 0o777 == 0o600
    with pytest.raises(CapabilityError):  # nothing was tagged
        resolve(Environment(context=context, dockerfile="docker/Dockerfile"), said, build=False)
    assert made == []


def test_conda_packages_on_an_image(image: str, tmp_path: Path, made: list[str], said: Said) -> None:
    with served(make_channel(tmp_path / "channel")) as address:
        inline = {"channels": [f"http://{address}/"], "dependencies": ["rctool=1.2", "rcdata=1.0"]}
        wanted = Environment(image=image, conda=inline, where=HERE)
        with pytest.raises(CapabilityError, match=f"conda packages on {image} has not been built"):
            resolve(wanted, said, build=False)
        found = resolve(wanted, said, build=True)
        made += [found.name, *layers_of(found.id, image)]
        assert docker("run", "--rm", found.id, "rctool") == "a,b\n1,2\n"
        wrong = Environment(image=image, conda={**inline, "dependencies": ["rctol"]}, where=HERE)
        with pytest.raises(SpecError) as caught:
            resolve(wrong, said, build=True)
        assert str(caught.value).startswith("job.yml:7: environment: conda_file: ")
        assert "rctol" in str(caught.value)
    again = Said()
    assert resolve(wanted, again, build=False) == found, "the channel is not asked again"
    assert again.kinds == {"image"}
