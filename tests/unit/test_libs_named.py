"""Which files decide an image's content: each is named, whatever file names it, and nothing heavy is imported to know."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.libs import load
from runner.spec.named import named

ENVIRONMENT = "name: My_Env\nchannels: [./channel]\ndependencies:\n- a\n- pip: [-r env.txt, ./w/b-1-py3-none-any.whl]\n"
LIBS = """
name: x
pip: [six, -r r.txt, ./w/a-1-py3-none-any.whl]
conda: {file: sub/environment.yml}
r: {github: [./pkg, r-lib/cli, src/tar_1.0.tar.gz], file: renv.lock}
ca_bundle: corp.pem
"""
RENV = {"R": {"Version": "4.2.2"}, "Packages": {"own": {"Version": "1", "Source": "Local", "Path": "own"}}}
FILES = {
    "libs.yaml": LIBS,
    "corp.pem": "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n",
    "r.txt": "idna\n-c more/c.txt\n",
    "more/c.txt": "idna<4\n",
    "w/a-1-py3-none-any.whl": "wheel",
    "sub/environment.yml": ENVIRONMENT,
    "sub/env.txt": "attrs\n",
    "sub/channel/noarch/repodata.json": "{}",
    "sub/w/b-1-py3-none-any.whl": "wheel",
    "pkg/DESCRIPTION": "Package: pkg\n",
    "pkg/R/b.R": "1",
    "pkg/R/a.R": "2",
    "pkg/.git/HEAD": "ref",
    "src/tar_1.0.tar.gz": "archive",
    "renv.lock": json.dumps(RENV),
    "own/DESCRIPTION": "Package: own\n",
    "other.txt": "not named by any",
}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(libs: Path) -> list[str]:
    found = named(libs)
    return [file.relative_to(found.folder).as_posix() for file in found.files]


def test_all_files_of_a_libs_yaml(folder: Path) -> None:
    assert names(folder / "libs.yaml") == [
        "r.txt", "more/c.txt", "w/a-1-py3-none-any.whl", "sub/env.txt", "sub/w/b-1-py3-none-any.whl",
        "sub/environment.yml", "renv.lock", "pkg/DESCRIPTION", "pkg/R/a.R", "pkg/R/b.R", "src/tar_1.0.tar.gz",
        "own/DESCRIPTION",
    ]  # fmt: skip
    found = named(folder / "libs.yaml")
    assert (found.name, found.raw) == ("x", LIBS.encode())


def test_all_files_of_the_others(folder: Path) -> None:
    assert names(folder / "r.txt") == ["more/c.txt"]
    assert names(folder / "sub" / "environment.yml") == ["env.txt", "w/b-1-py3-none-any.whl"]
    assert names(folder / "renv.lock") == ["own/DESCRIPTION"]


@pytest.mark.parametrize("libs", ["libs.yaml", "r.txt", "sub/environment.yml", "renv.lock"])
def test_load_and_named_agree(folder: Path, libs: str) -> None:
    loaded, found = load(folder / libs), named(folder / libs)
    assert loaded.name == found.name
    assert set(loaded.files) <= {*found.files, folder / libs}


def test_names(folder: Path) -> None:
    assert named(folder / "sub" / "environment.yml").name == "my-env"
    (folder / "sub" / "environment.yml").write_text("dependencies: [a]\n")
    assert named(folder / "sub" / "environment.yml").name == "sub"
    (folder / "libs.yaml").write_text("name: [x]\n")
    with pytest.raises(SpecError, match=r"libs\.yaml:1: name: not an image name"):
        named(folder / "libs.yaml")


@pytest.mark.parametrize("name", [name for name in FILES if name not in {"libs.yaml", "other.txt", "corp.pem"}])
def test_a_file_that_is_gone_is_told_or_no_longer_named(folder: Path, name: str) -> None:
    before = names(folder / "libs.yaml")
    (folder / name).unlink()
    if name.startswith(("pkg/R", "pkg/.git", "sub/channel", "own/")):  # found by a look into their folder
        assert names(folder / "libs.yaml") == [each for each in before if each != name]
        return
    with pytest.raises(SpecError, match=r"no such file|no R package"):
        names(folder / "libs.yaml")


def digest(libs: Path) -> str:
    """As the content tag is made: the libs file, then each further file by its place and bytes."""
    found = named(libs)
    made = hashlib.sha256(found.raw)
    for file in found.files:
        raw = file.read_bytes()
        made.update(f"\n{file.relative_to(found.folder).as_posix()} {len(raw)}\n".encode() + raw)
    return made.hexdigest()


@pytest.mark.parametrize("name", FILES)
def test_bytes_count_that_decide_the_content_and_no_others(folder: Path, name: str) -> None:
    before = digest(folder / "libs.yaml")
    with (folder / name).open("a") as stream:
        stream.write("\n")
    counts = name not in {"corp.pem", "other.txt", "pkg/.git/HEAD", "sub/channel/noarch/repodata.json"}
    assert (digest(folder / "libs.yaml") != before) is counts


def test_the_same_bytes_elsewhere_are_the_same(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("other") / "copy"
    shutil.copytree(folder, copy)
    assert digest(copy / "libs.yaml") == digest(folder / "libs.yaml")


def test_it_looks_no_further_than_it_must(folder: Path) -> None:
    """A slip in what decides no file is load()'s to tell; submit of an image that is there need not wait for it."""
    (folder / "libs.yaml").write_text("apt: 7\nzzz: 1\nr: {cran: {}, github: [1, ./pkg]}\npip: [1, -r r.txt]\n")
    assert names(folder / "libs.yaml") == ["r.txt", "more/c.txt", "pkg/DESCRIPTION", "pkg/R/a.R", "pkg/R/b.R"]


def test_a_libs_file_that_is_a_link(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    link = folder / "elsewhere" / "libs.yaml"
    link.symlink_to(folder / "libs.yaml")
    assert named(link).files == named(folder / "libs.yaml").files


def test_nothing_heavy_is_imported(folder: Path) -> None:
    code = """
import sys
from pathlib import Path
from runner.spec.named import named
import runner.spec.libs
named(Path(sys.argv[1]))
print([name for name in ("pydantic", "docker", "packaging") if name in sys.modules])
"""
    argv = [sys.executable, "-c", code]
    for libs in ("r.txt", "renv.lock"):
        done = subprocess.run([*argv, str(folder / libs)], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"
    done = subprocess.run([*argv, str(folder / "libs.yaml")], capture_output=True, text=True, check=True)
    assert "pydantic" not in done.stdout
