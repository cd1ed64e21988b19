"""`runner image` and `runner libs diff` on a real engine. Others use it too, so every removal here is of one name only."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.cli.conftest import Terminal, failed
from tests.cli.test_runs import agrees, documented
from tests.conftest import Cli
from tests.e2e.build_material import docker, make_wheel

pytestmark = [pytest.mark.docker]

LIBS = "name: {name}\napt: [procps]\npip: [./rnwheel-1.0-py3-none-any.whl]\nenv: {{ANSWER: '{answer}'}}\n"


class Shelf:
    """Images of one name, and the command that looks after them."""

    def __init__(self, cli: Cli, cache: Path, name: str) -> None:
        self.cli, self.name = cli, name
        cli.env["RUNNER_CACHE_DIR"] = str(cache)

    def build(self, answer: int, *, name: str = "") -> str:
        """Another image; they differ in a variable only, so all but the last layer is there already. Its tag."""
        if not (self.cli.cwd / "libs.yaml").exists():
            # Of its own content: of two builds of one layer at once, the later takes its name away from the other's.
            make_wheel(self.cli.cwd, "rnwheel", "1.0", f"value = '{token_hex(8)}'")
        (self.cli.cwd / "libs.yaml").write_text(LIBS.format(name=name or self.name, answer=answer))
        done = self.cli("build", "--json", timeout=300)
        assert done.code == 0, done.err
        return str(done.json["tag"])

    def prune(self, *args: str) -> Any:
        done = self.cli("image", "prune", self.name, "--json", "--yes", *args)
        assert done.code == 0, done.err
        return done.json

    def tags(self) -> list[str]:
        """Of this name on the engine, newest first."""
        found = self.cli("image", "list", "--json").json["images"]
        return [tag for made in found for tag in made["tags"] if f"/{self.name}" in tag]

    def info(self, tag: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", tag))[0]
        return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of these tests, and at the end its volumes."""
    folder = tmp_path_factory.mktemp("cache")
    yield folder
    import hashlib

    prefix = f"runner-cache-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    for name in docker("volume", "ls", "-q", "--filter", f"name={prefix}").split():
        docker("volume", "rm", name)


@pytest.fixture
def shelf(engine: None, cli: Cli, cache: Path) -> Iterator[Shelf]:
    shelf = Shelf(cli, cache, f"runner-test-shelf-{token_hex(4)}")
    yield shelf
    # What somebody made of ours first: the engine refuses to remove what another image stands on.
    tags = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"label=runner.name={shelf.name}")
    for tag in sorted(tags.split(), key=lambda tag: "-derived:" not in tag):
        docker("rmi", tag)


def test_list_and_show(shelf: Shelf) -> None:
    older, newer = shelf.build(1), shelf.build(2)
    docker("tag", newer, f"{shelf.name}-mine:1")
    found = [each for each in shelf.cli("image", "list", "--json").json["images"] if each["name"] == shelf.name]
    assert [each["tag"] for each in found] == [newer, older]
    made = found[0]
    info = shelf.info(newer)
    assert (made["id"], made["size_bytes"]) == (info["Id"], info["Size"])
    assert 0 < made["added_bytes"] < made["size_bytes"]
    assert sorted(made["tags"]) == sorted([newer, f"{shelf.name}-mine:1"])
    assert [(each["kind"], each["name"]) for each in made["libraries"]] == [("apt", "procps"), ("pip", "rnwheel")]

    text = shelf.cli("image", "list").out
    row = next(line for line in text.splitlines() if newer.removeprefix("localhost/") in line)
    assert text.startswith("IMAGE ")
    assert f"{shelf.name}-mine:1" in row

    # By its name (the newest), its tag with and without `localhost/`, its id, and what begins them.
    for reference in (shelf.name, newer, newer.removeprefix("localhost/"), info["Id"], info["Id"][7:17], newer[:-3]):
        shown = shelf.cli("image", "show", reference, "--json")
        assert shown.code == 0, shown.err
        assert shown.json["id"] == info["Id"], reference
    assert shelf.cli("image", "show", older, "--json").json["id"] == shelf.info(older)["Id"]


def test_show_tells_what_is_in_it(shelf: Shelf) -> None:
    tag = shelf.build(1)
    done = shelf.cli("image", "show", shelf.name)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == [tag.removeprefix("localhost/")]
    assert ["pip", "rnwheel", "1.0"] in lines
    facts = {line[0]: line[1] for line in lines if len(line) > 1}
    assert facts["id"] == shelf.info(tag)["Id"]
    assert facts["user"] == shelf.info(tag)["Config"]["User"]
    assert (
        facts["python"]
        == docker("run", "--rm", tag, "python3", "-c", "import platform; print(platform.python_version())").strip()
    )
    data = shelf.cli("image", "show", shelf.name, "--json").json
    agrees(data, {**documented("An image"), **documented("`image show`")})
    listed = shelf.cli("image", "list", "--layers", "--json").json
    assert list(listed) == ["images", "layers"]
    for kind, heading in (("images", "An image"), ("layers", "A layer")):
        agrees(listed[kind][0], documented(heading))
    parent = next(layer for layer in listed["layers"] if layer["id"] == shelf.info(tag)["Parent"])
    assert parent["stage"] == "pip"
    assert parent["images"] >= 1  # another worker's test may have an image of the same layer
    assert data["installed"]["pip"] == {"rnwheel": "1.0"}
    assert data["lock"]["python"] == data["python"] == facts["python"]
    assert data["labels"] == shelf.info(tag)["Config"]["Labels"]
    # The lock in it is, byte for byte, the one beside libs.yaml.
    assert shelf.cli("image", "show", shelf.name, "--lock").out_bytes == (shelf.cli.cwd / "libs.lock").read_bytes()


def test_show_of_what_is_not_there_or_not_ours(shelf: Shelf) -> None:
    tag = shelf.build(1)
    failed(shelf.cli("image", "show", f"{shelf.name}x"), 4, f"did you mean {shelf.name}")
    base = shelf.info(tag)["Config"]["Labels"]["runner.base.name"]
    failed(shelf.cli("image", "show", base), 11, "was not made by runner", f"runner libs diff {base} local")


def test_prune_keeps_the_newest_and_what_they_stand_on(shelf: Shelf) -> None:
    tags = [shelf.build(answer) for answer in range(4)]
    parent = shelf.info(tags[0])["Parent"]
    dry = shelf.prune("--keep", "2", "--dry-run")
    agrees(dry, documented("`image prune`"))
    assert dry["dry_run"]
    assert [each["refs"] for each in dry["removed"] if each["kind"] == "image"] == [[tags[1]], [tags[0]]]
    assert shelf.tags() == tags[::-1]
    done = shelf.prune("--keep", "2")
    assert [each["refs"] for each in done["removed"]] == [each["refs"] for each in dry["removed"]]
    assert done["kept"] == {"the newest of their name": 2}
    assert shelf.tags() == [tags[3], tags[2]]
    assert shelf.info(parent)["RepoTags"]  # the layer that both stand on
    assert shelf.prune("--keep", "2")["removed"] == []
    # What is left is whole: building it again builds nothing.
    assert shelf.build(3) == tags[3]
    assert shelf.tags() == [tags[3], tags[2]]


def test_prune_takes_the_layers_that_nothing_needs(shelf: Shelf) -> None:
    make_wheel(shelf.cli.cwd, "rnlayer", "1.0", f"value = {os.getpid()}")
    (shelf.cli.cwd / "libs.yaml").write_text(f"name: {shelf.name}\npip: [./rnlayer-1.0-py3-none-any.whl]\n")
    done = shelf.cli("build", "--json", timeout=300)
    assert done.code == 0, done.err
    layer = shelf.info(done.json["tag"])["Parent"]
    assert any(tag.startswith("localhost/runner-layer:") for tag in shelf.info(layer)["RepoTags"])
    found = shelf.prune("--keep", "0")
    assert {"image", "layer"} == {each["kind"] for each in found["removed"]}
    assert found["bytes"] > 0
    assert layer not in docker("images", "-aq", "--no-trunc").split()


def test_prune_leaves_what_a_container_uses_and_what_has_another_tag(shelf: Shelf) -> None:
    used, tagged, plain = (shelf.build(answer) for answer in range(3))
    container = docker("create", used, "true").strip()
    mine = f"localhost/{shelf.name}-mine:1"
    docker("tag", tagged, mine)
    try:
        found = shelf.prune("--keep", "0")
        assert [each["refs"] for each in found["removed"] if each["kind"] == "image"] == [[plain]]
        assert sum(found["kept"].values()) == 2
        assert set(shelf.tags()) == {used, tagged, mine}
        everything = shelf.prune("--keep", "0", "--all")
        assert sorted(everything["removed"][0]["refs"]) == sorted([tagged, mine])
        assert shelf.tags() == [used]
    finally:
        docker("rm", container)


def test_prune_leaves_what_a_live_run_uses(shelf: Shelf) -> None:
    tag = shelf.build(1)
    (shelf.cli.cwd / "wait.sh").write_text("exec tail -f /dev/null\n")
    run = shelf.cli.submit("wait.sh", "--backend", "docker", "--image", tag)
    assert shelf.prune("--keep", "0")["kept"] == {"used by a container or run": 1}
    shelf.cli("cancel", run)
    shelf.cli("wait", run)
    assert shelf.prune("--keep", "0")["removed"][0]["refs"] == [tag]


def test_an_image_that_somebody_built_on_ours_is_not_ours(shelf: Shelf) -> None:
    tag = shelf.build(1)
    container = docker("create", tag, "true").strip()
    mine = f"{shelf.name}-derived:1"
    docker("commit", container, mine)  # it inherits every label
    docker("rm", container)
    assert shelf.info(mine)["Config"]["Labels"]["runner.name"] == shelf.name
    assert shelf.tags() == [tag]
    assert shelf.prune("--keep", "0", "--all", "--layers")["removed"] == []  # ours is what it stands on
    docker("rmi", mine)
    assert shelf.prune("--keep", "0")["removed"][0]["refs"] == [tag]


def test_prune_asks_on_a_terminal(shelf: Shelf) -> None:
    tag = shelf.build(1)
    for answer, left in ((b"n\n", [tag]), (b"\n", [tag]), (b"y\n", [])):
        terminal = Terminal(shelf.cli, "image", "prune", shelf.name, "--keep", "0")
        try:
            terminal.expect(b"? [y/N] ")
            assert tag.removeprefix("localhost/").encode() in terminal.shown
            terminal.send(answer)
            assert terminal.wait() == (1 if left else 0)
        finally:
            terminal.close()
        assert shelf.tags() == left


def test_prune_waits_for_a_build(shelf: Shelf, cache: Path) -> None:
    tag = shelf.build(1)
    with (cache / "build.lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pruning = shelf.cli.start("image", "prune", shelf.name, "--keep", "0", "--yes")
        assert pruning.stderr is not None
        told = b""
        while b"waiting for a build" not in told:
            line = pruning.stderr.readline()
            assert line, told
            told += line
        assert shelf.tags() == [tag]
    pruning.communicate(timeout=60)
    assert pruning.returncode == 0
    assert shelf.tags() == []


def test_caches_of_this_folder(shelf: Shelf, cache: Path) -> None:
    shelf.build(1)
    (cache / "r").mkdir(exist_ok=True)
    (cache / "r" / "index").write_bytes(b"x" * 100)
    found = shelf.prune("--caches", "--dry-run")["removed"]
    assert {each["kind"] for each in found} == {"volume", "download"}
    assert next(each["bytes"] for each in found if each["name"] == "r") == 100
    volumes = [each["name"] for each in found if each["kind"] == "volume"]
    assert {name.rsplit("-", 1)[1] for name in volumes} == {"apt", "uv"}
    assert shelf.prune("--caches")["removed"] == found
    assert not (cache / "r").exists()
    assert (cache / "logs").is_dir()
    assert not set(volumes) & set(docker("volume", "ls", "-q").split())


def test_diff_of_an_image_and_its_lock_and_another(shelf: Shelf) -> None:
    first = shelf.build(1)
    same = shelf.cli("libs", "diff", "libs.yaml", first)
    assert (same.code, same.err) == (0, ""), same.out
    assert same.out.startswith("no difference in ")
    make_wheel(shelf.cli.cwd, "rnwheel", "2.0", "value = 2")
    text = (shelf.cli.cwd / "libs.yaml").read_text()
    (shelf.cli.cwd / "new.yaml").write_text(text.replace("rnwheel-1.0", "rnwheel-2.0").replace("procps", "procps, zip"))
    done = shelf.cli("libs", "diff", first, "new.yaml", "--json")
    assert done.code == 1, done.err
    assert [(each["kind"], each["name"], each["what"]) for each in done.json["differences"]] == [
        ("pip", "rnwheel", "constraint"), ("apt", "zip", "missing"),
    ]  # fmt: skip


def test_diff_of_an_image_that_runner_did_not_make(shelf: Shelf) -> None:
    tag = shelf.build(1)
    container = docker("create", tag, "true").strip()
    mine = f"{shelf.name}-derived:1"
    docker("commit", container, mine)
    docker("rm", container)
    before = docker("ps", "-aq", "--filter", "label=runner.build=1", "--filter", f"ancestor={mine}")
    done = shelf.cli("libs", "diff", tag, mine, "--json")
    # It was asked, the other one has told by its record: both know the same.
    assert (done.code, done.json["b"]["source"]) == (0, "image"), done.json["differences"]
    base = shelf.info(tag)["Config"]["Labels"]["runner.base.name"]
    other = shelf.cli("libs", "diff", base, tag, "--json")
    assert other.code == 1
    assert {each["name"]: each["what"] for each in other.json["differences"]}.items() >= {
        "Python": "missing", "rnwheel": "missing", "procps": "missing",
    }.items()  # fmt: skip
    assert before == docker("ps", "-aq", "--filter", "label=runner.build=1", "--filter", f"ancestor={mine}") == ""


def test_an_image_without_a_shell_says_so(shelf: Shelf, tmp_path: Path) -> None:
    import subprocess
    import tarfile

    archive = tmp_path / "empty.tar"
    (tmp_path / "file").write_text("nothing")
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "file", "file")
    empty = f"{shelf.name}-empty:1"
    subprocess.run(["docker", "import", str(archive), empty], check=True, capture_output=True)
    try:
        failed(shelf.cli("libs", "diff", empty, "local"), 11, empty, "/bin/sh")
        assert not docker("ps", "-aq", "--filter", f"ancestor={empty}")
    finally:
        docker("rmi", empty)
