"""Data on this machine: outputs published into folders, tables of local files, and what may not lead out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.data import publish, resolve
from runner.data.download import download
from runner.data.mltable import evaluated
from runner.data.others import Bucket
from runner.data.source import NotAFileError
from runner.errors import BackendError, NotFoundError, SpecError
from runner.spec.config import Config, load
from runner.spec.mappings import Location


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("new")
    (folder / "sub" / "b").write_text("b")
    (folder / "link").symlink_to("a")
    return folder


def send(local: Path, uri: str, config: Config | None = None) -> list[str]:
    said: list[str] = []
    publish(local, resolve(uri, config or Config()), said.append)
    return said


def test_a_folder_is_published(tmp_path: Path, output: Path) -> None:
    target = tmp_path / "x" / "y"
    assert send(output, str(target)) == [f"{target}  4 B"]
    assert tree(target) == {"a": "new", "link": "a", "sub/b": "b"}
    (target / "a").write_text("old")
    (target / "own").write_text("own")
    outside = tmp_path / "outside"
    outside.write_text("outside")
    (target / "sub" / "b").unlink()
    (target / "sub" / "b").symlink_to(outside)
    send(output, str(target))
    assert tree(target) == {"a": "new", "link": "a", "own": "own", "sub/b": "b"}
    assert outside.read_text() == "outside", "a link in the way is replaced, not followed"
    assert sorted(path.name for path in target.parent.iterdir()) == ["y"]


def test_a_file_is_published(tmp_path: Path, output: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("outside")
    (tmp_path / "t").symlink_to(outside)
    send(output / "a", str(tmp_path / "t"))
    assert (tmp_path / "t").read_text() == "new"
    assert outside.read_text() == "outside"
    send(output / "a", f"{tmp_path}/folder/")
    assert (tmp_path / "folder" / "a").read_text() == "new"


def test_a_link_leads_no_output_out_of_a_datastore(tmp_path: Path, output: Path) -> None:
    config = Config(datastores={"d": Location(str(tmp_path / "d"))})
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpecError, match="a link leads out"):
        send(output, "azureml://datastores/d/paths/out/x", config)
    send(output, "azureml://datastores/d/paths/in/x", config)
    assert tree(tmp_path / "d" / "in" / "x")["a"] == "new"


def test_a_checkout_does_not_choose_where_outputs_go(tmp_path: Path, output: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    file = project / "runner.yaml"
    file.write_text("datastores:\n  inside: ./store\n  outside: ../home\n")
    found, uri = load(project, {}), "azureml://datastores/{}/paths/x"
    send(output, uri.format("inside"), found)
    with pytest.raises(SpecError, match="may not have outputs written outside its own folder") as caught:
        send(output, uri.format("outside"), found)
    assert (caught.value.file, caught.value.line) == (str(file), 3)
    assert not (tmp_path / "home").exists()
    send(output, uri.format("outside"), load(project, {}, file))
    assert tree(tmp_path / "home" / "x")["a"] == "new"


# -- MLTable --------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    folder = tmp_path / "table"
    (folder / "d" / "deep").mkdir(parents=True)
    for name in ("a.csv", "b.csv", "d/c.csv", "d/deep/e.csv", "d/x.txt"):
        (folder / name).write_text(name)
    (folder / "d" / "out.csv").symlink_to("/etc/passwd")
    return folder


def files_of(table: Path, paths: str) -> dict[str, str]:
    (table / "MLTable").write_text(f"type: mltable\npaths: {paths}\ntransformations:\n  - take: 1\n")
    return tree(evaluated(table, Config(), table.parent / "cache", lambda _: None))


@pytest.mark.parametrize(
    ("paths", "meant"),
    [
        ("[{file: ./a.csv}]", {"a.csv"}),
        ("[{file: a.csv}, {file: d/c.csv}]", {"a.csv", "d/c.csv"}),
        ("[{folder: ./d/}]", {"d/c.csv", "d/deep/e.csv", "d/x.txt"}),
        ("[{folder: .}]", {"a.csv", "b.csv", "d/c.csv", "d/deep/e.csv", "d/x.txt"}),
        ("[{pattern: ./*.csv}]", {"a.csv", "b.csv"}),
        ("[{pattern: ./**/*.csv}, {file: a.csv}]", {"a.csv", "b.csv", "d/c.csv", "d/deep/e.csv"}),
    ],
)
def test_files_of_a_table(table: Path, paths: str, meant: set[str]) -> None:
    found = files_of(table, paths)
    assert found == {name: name for name in meant}
    (table / "a.csv").write_text("changed")
    assert files_of(table, paths).get("a.csv", "changed") == "changed"


def test_a_step_cannot_write_to_the_user_s_files_through_a_table(table: Path) -> None:
    (table / "MLTable").write_text("paths: [{file: a.csv}]\n")
    found = evaluated(table, Config(), table.parent / "cache", lambda _: None)
    assert not (found / "a.csv").samefile(table / "a.csv")
    assert (table / "a.csv").stat().st_mode & 0o200


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("", "expected a list of"),
        ("[a]", "expected {file: …}, {folder: …} or {pattern: …}"),
        ("[{file: a, folder: b}]", "expected {file: …}, {folder: …} or {pattern: …}"),
        ("[{file: [a]}]", "expected {file: …}"),
        ("[{file: ../a.csv}]", "../a.csv leads out of the MLTable's folder"),
        ("[{file: /etc/passwd}]", "/etc/passwd leads out"),
        ("[{file: 'file:///etc/passwd'}]", "expected a path beside the MLTable, or a URL"),
        ("[{file: d/out.csv}]", "a link leads out"),
        ("[{file: no.csv}]", "no such file: no.csv"),
        ("[{folder: no}]", "no file is meant by this folder"),
        ("[{pattern: '*.parquet'}]", "no file is meant by this pattern"),
        ("[{pattern: '/etc/*'}]", "leads out"),
        ("[{file: 'azureml:no:1'}]", 'is not mapped\n  runner.yaml: data: {"azureml:no:1"'),
    ],
)
def test_what_is_wrong_with_a_table(table: Path, paths: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        files_of(table, paths)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{table}/MLTable:2: paths: ")


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="MLTable: no such file"):
        evaluated(tmp_path, Config(), tmp_path / "cache", lambda _: None)


# -- fsspec ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def system() -> Any:
    """A file system of fsspec, as its clients of S3 and Google are; in memory."""
    import fsspec  # type: ignore[import-untyped]

    return fsspec.filesystem("memory", skip_instance_cache=True)


def test_files_of_a_bucket(system: Any, tmp_path: Path, output: Path) -> None:
    name = f"/bucket-{tmp_path.name}"
    bucket = Bucket(system, f"{name}/raw", "s3://bucket/raw")
    for path in (output / "a", output / "sub" / "b"):
        bucket.upload(path, path.relative_to(output).as_posix())
    found = bucket.listing()
    assert {path: entry.size for path, entry in found.items()} == {"a": 3, "sub/b": 1}
    assert download(found["a"].source, tmp_path / "aside", None, shown="a", say=print) is not None
    assert (tmp_path / "aside").read_text() == "new"
    whole = found["a"].source.open(None, 0, "")
    assert whole is not None
    stream = found["a"].source.open(None, 1, whole.validator)
    assert stream is not None
    assert (stream.start, b"".join(stream.chunks)) == (1, b"ew")
    assert found["a"].source.open(whole.validator, 0, "") is None
    with pytest.raises(NotAFileError):
        Bucket(system, f"{name}/raw", "s3://bucket/raw").file().open(None, 0, "")
    with pytest.raises(NotFoundError, match="s3://bucket/no is not there"):
        Bucket(system, f"{name}/no", "s3://bucket/no").file().open(None, 0, "")
    system.rm(name, recursive=True)


def test_an_error_of_a_client_shows_no_address(system: Any) -> None:
    bucket = Bucket(system, "b/x", "s3://b/x", "aws configure")
    assert "secret" not in str(bucket.translated(RuntimeError("https://x?sig=secret")))
    refused = bucket.translated(PermissionError("secret"))
    assert isinstance(refused, BackendError)
    assert "sign in: aws configure" in str(refused)
