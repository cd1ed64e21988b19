"""Registered pipelines: versions, what is taken along, and what a submission of one may set."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from runner import registered
from runner.errors import CodeFolderError, NotFoundError, StoreError, UsageError
from runner.job import Code, Command, Data, DataType, Environment, Graph, Input, Job, Node
from runner.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "a.py").write_text("print(1)")
    (folder / ".amlignore").write_text("big\n")
    (folder / "big").write_text("no")
    (folder / "id_rsa").write_text("secret")
    (tmp_path / "shared.py").write_text("x = 1")
    return folder


def job(code: Path) -> Job:
    command = Command(
        inputs={"data": Input(DataType.URI_FOLDER), "lr": Input(DataType.NUMBER, default=0.1)},
        command="python a.py",
        code=Code(code, includes=(code.parent / "shared.py",)),
        environment=Environment(image="python:3.12"),
    )
    inputs = {
        "lr": Input(DataType.NUMBER, default=0.1),
        "n": Input(DataType.INTEGER, optional=True),
        "flag": Input(DataType.BOOLEAN, default=False),
        "word": Input(DataType.STRING, default=""),
        "data": Input(DataType.URI_FOLDER),
    }
    nodes = {"train": Node(command, {"data": Data("/data/raw")})}
    return Job(
        Graph(inputs, nodes=nodes), {"data": Data("/data/raw")}, name="once", description="words", file=code / "job.yml"
    )


def command_of(found: Job) -> Command:
    assert isinstance(found.component, Graph)
    command = found.component.nodes["train"].component
    assert isinstance(command, Command)
    return command


def test_it_can_be_had_when_its_files_are_gone(store: Store, code: Path) -> None:
    done = registered.register(store, job(code), "churn")
    assert (done.row.name, done.row.version, done.row.description, done.new) == ("churn", 1, "words", True)
    assert "data stays where it is: /data/raw" in done.notes
    assert "the environment stays a reference: python:3.12" in done.notes
    assert any("id_rsa" in note for note in done.notes)
    shutil.rmtree(code)
    (code.parent / "shared.py").unlink()

    found = registered.load(store, "pipeline:churn")
    kept = command_of(found).code
    assert (found.name, found.display_name, found.experiment) == (None, "churn", "churn")
    assert kept is not None
    assert kept.path is not None
    assert sorted(each.name for each in kept.path.iterdir()) == [".amlignore", "a.py"]
    assert kept.path.name == "src"
    assert [each.read_text() for each in kept.includes] == ["x = 1"]
    assert kept.includes[0].name == "shared.py"
    assert store.pipeline_files.stat().st_mode & 0o777 == 0o700


def test_the_same_again_is_the_same_version_and_all_else_is_a_new_one(store: Store, code: Path) -> None:
    def version(given: Job) -> tuple[int, bool]:
        done = registered.register(store, given, "churn")
        return done.row.version, done.new

    assert version(job(code)) == (1, True)
    assert version(replace(job(code), file=Path("/elsewhere"), name="twice")) == (1, False)
    moved = code.rename(code.parent / "other")
    moved.rename(code)
    assert version(job(code)) == (1, False)
    (code / "a.py").write_text("print(2)")
    assert version(job(code)) == (2, True)
    assert version(replace(job(code), tags={"a": "b"})) == (3, True)
    assert command_of(registered.load(store, "churn@1")).code != command_of(registered.load(store, "churn@2")).code
    assert len(list(store.pipeline_files.iterdir())) == 3  # two of src, one of shared.py; nothing half made


def test_images_are_pinned(store: Store, code: Path) -> None:
    done = registered.register(store, job(code), "churn", pin=lambda _: Environment(image="sha256:41c9"))
    assert command_of(registered.load(store, "churn")).environment == Environment(image="sha256:41c9")
    assert not any("environment" in note for note in done.notes)


def test_inputs_can_be_set(store: Store, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered.register(store, job(code), "churn")
    monkeypatch.chdir(tmp_path)
    sets = [("lr", "0.5"), ("n", "3"), ("flag", "TRUE"), ("word", "1e3"), ("data", "new/raw")]
    found = registered.load(store, "churn", [(f"inputs.{name}", text) for name, text in sets])
    assert found.inputs == {
        "lr": 0.5, "n": 3, "flag": True, "word": "1e3", "data": Data(str(tmp_path / "new/raw"), DataType.URI_FOLDER),
    }  # fmt: skip
    for uri in ("azureml:churn:1", "https://host/x", "azureml://datastores/a/paths/b"):
        assert registered.load(store, "churn", [("inputs.data", uri)]).inputs["data"] == Data(uri, DataType.URI_FOLDER)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("inputs.lr", "fast", "of type number"),
        ("inputs.n", "1.5", "of type integer"),
        ("inputs.flag", "yes", "of type boolean"),
        ("inputs.wrod", "x", "did you mean word"),
        ("jobs.train.limits.timeout", "3", "only inputs can be set"),
        ("inputs.", "3", "only inputs can be set"),
    ],
)
def test_what_cannot_be_set(store: Store, code: Path, path: str, text: str, message: str) -> None:
    registered.register(store, job(code), "churn")
    with pytest.raises(UsageError) as caught:
        registered.load(store, "churn", [(path, text)])
    assert message in str(caught.value)


def test_references(store: Store, code: Path) -> None:
    for words in ("a", "b"):
        registered.register(store, replace(job(code), description=words), "churn")
    registered.register(store, job(code), "fraud")
    assert [
        registered.find(store, ref).version for ref in ("churn", "pipeline:churn@1", "churn@2", "churn@latest")
    ] == [2, 1, 2, 2]
    assert [(row.name, row.version) for row in store.pipelines()] == [("churn", 2), ("fraud", 1)]
    for reference, hint in (
        ("chrun", "did you mean churn?"),
        ("churn@3", "there are: 1 to 2"),
        ("fraud@x", "there are: 1"),
    ):
        with pytest.raises(NotFoundError) as caught:
            registered.find(store, reference)
        assert hint in caught.value.hints


@pytest.mark.parametrize("name", ["", "a b", "a@1", "../a", "a/b", "-a", "x" * 129])
def test_names_that_cannot_be(store: Store, code: Path, name: str) -> None:
    with pytest.raises(UsageError):
        registered.register(store, job(code), name)


def test_code_that_is_not_there(store: Store, code: Path) -> None:
    shutil.rmtree(code)
    with pytest.raises((NotFoundError, CodeFolderError)):
        registered.register(store, job(code), "churn")
    assert store.pipelines() == []
    assert list(store.pipeline_files.iterdir()) == []


def test_many_at_once_make_one_version(store: Store, code: Path) -> None:
    threads = [
        threading.Thread(target=lambda: registered.register(Store(store.home), job(code), "churn")) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [row.version for row in store.pipelines("churn")] == [1]
    assert not [path for path in store.pipeline_files.iterdir() if path.name.startswith(".")]


def test_a_damaged_one_is_an_error(store: Store) -> None:
    store.add_pipeline("churn", description="", job=json.dumps({"Job": 1}))
    with pytest.raises(StoreError):
        registered.load(store, "churn")
