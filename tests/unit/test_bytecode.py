"""The step script that compiles bytecode, run as a build runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.builder.recipe import STEPS

DATE = 1686355200


def compiled(folder: Path, *, mode: str = "timestamp", **env: str) -> list[str]:
    """The sources below a folder that have bytecode after the script, as `module` or `package/module`."""
    sources = "\n".join(map(str, sorted(folder.rglob("*.py"))))
    argv = [sys.executable, "-I", str(STEPS / "bytecode.py"), mode]
    done = subprocess.run(argv, input=sources, text=True, capture_output=True, env=env, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = folder.rglob("*.pyc")
    return sorted(str(path.parent.parent.relative_to(folder) / path.name.partition(".")[0]) for path in found)


def make(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_all_but_tests_is_compiled(tmp_path: Path) -> None:
    make(tmp_path, one="a = 1", package__two="b = 2", package__tests__three="c = 3", testing__four="d = 4")
    assert compiled(tmp_path) == ["one", "package/two", "testing/four"]


def test_what_does_not_compile_stops_nothing(tmp_path: Path) -> None:
    make(tmp_path, python2="print 'x'", escape=r"s = '\d'", nul="x = '\0'")
    # More than there are processes, so that the broken ones share theirs with good ones.
    names = [f"good{number:02}" for number in range(40)]
    make(tmp_path, **dict.fromkeys(names, "a = 1"))
    assert compiled(tmp_path) == ["escape", *names]


def test_nothing_to_compile(tmp_path: Path) -> None:
    assert compiled(tmp_path) == []


@pytest.mark.parametrize("mode", ["timestamp", "unchecked-hash"])
def test_each_build_has_the_same_bytes(tmp_path: Path, mode: str) -> None:
    (tmp_path / "x").mkdir()
    found = []
    for age in (100, 200):
        make(tmp_path / "x", one="a = 1")
        os.utime(tmp_path / "x" / "one.py", (age, age))
        assert compiled(tmp_path, mode=mode, SOURCE_DATE_EPOCH=str(DATE)) == ["x/one"]
        cached = next(tmp_path.rglob("*.pyc"))
        found.append(cached.read_bytes())
        cached.unlink()
    assert found[0] == found[1]


def test_a_source_that_is_patched_later_is_not_run_from_old_bytecode(tmp_path: Path) -> None:
    make(tmp_path, patched="print(1)")
    assert compiled(tmp_path, SOURCE_DATE_EPOCH=str(DATE)) == ["patched"]
    (tmp_path / "patched.py").write_text("print(2)")
    argv = [sys.executable, "-B", "-c", "import patched"]
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "2\n"
