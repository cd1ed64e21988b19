"""Eject: the Dockerfile's text, what may not break out of it, and that no file of the user is lost."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.builder.eject import syntax
from runner.builder.eject.eject import System, eject, render
from runner.builder.eject.folder import MARK, SUMS, write
from runner.builder.eject.material import Material
from runner.errors import ConflictError, SpecError, UsageError
from runner.spec.libs import Libs, Package, load
from runner.spec.lock import Base, Lock, Locked
from tests.e2e.build_material import make_wheel

GOLDEN = Path(__file__).parent / "ejected"
"""The texts as they should be. After a change on purpose: RUNNER_WRITE_GOLDEN=1 pytest tests/unit/test_eject.py, and read
the diff."""
SYSTEM = System("1000:1000", "/usr/bin/python3", "3.11.2")
PULLED = Base("debian:bookworm-slim", "sha256:" + "1" * 64, digest="sha256:" + "2" * 64)
MADE = Base("localhost/runner-debian:bookworm", "sha256:" + "3" * 64, recipe="5c81f4cb14316642")
PYTHON = Locked("apt", "python3", "3.11.2-1+b1", stage="python")
TOOLS = f"uv==0.9.5 \\\n    --hash=sha256:{'a' * 64}\n"


def libs_of(folder: Path, text: str, **changes: Any) -> Libs:
    """A libs file of the folder; `changes` are keys that the file's parser may not know yet."""
    (folder / "libs.yaml").write_text(f"name: golden\n{text}")
    return replace(load(folder / "libs.yaml"), **changes)


def lock_of(base: Base, *packages: Locked, r: str = "") -> Lock:
    return Lock(base, "linux/amd64", "3.11.2", r, {}, (PYTHON, *packages))


def text_of(files: dict[str, Any]) -> str:
    text: str = files["Dockerfile"].decode()
    return re.sub(r"(golden:|runner\.libs=\")[0-9a-f]{16}", r"\1HASH", text)


def _bytes(files: dict[str, Any], name: str) -> bytes:
    content: bytes = files[name]
    return content


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.Dockerfile"
    if os.environ.get("RUNNER_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def instructions(text: str) -> list[str]:
    """The instructions as a builder reads them: comments out, continuations joined."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    return re.sub(r"\\[ \t]*\n", "", "\n".join(lines)).split("\n")


# -- the text -------------------------------------------------------------------------------------------------------


def test_python_only_on_a_pulled_base(tmp_path: Path) -> None:
    libs = libs_of(tmp_path, "apt: [procps]\nenv: {TZ: UTC}")
    lock = lock_of(PULLED, Locked("apt", "procps", "2:4.0.2-3", stage="apt"))
    files = render(libs, lock, Material(), SYSTEM, declared=libs.declared)
    check_golden("small", text_of(files))
    assert files[".dockerignore"] == b"# Only what the Dockerfile copies.\n*\n!verify\n"
    assert {name.partition("/")[0] for name in files} == {"Dockerfile", ".dockerignore", "verify"}


@pytest.fixture
def mixed(tmp_path: Path) -> tuple[Libs, Lock, Material]:
    """All kinds but conda, on a base that was made here, with commands that have a secret."""
    make_wheel(tmp_path, "mine", "1.0", "")
    (tmp_path / "requirements.txt").write_text("six\n")
    libs = libs_of(
        tmp_path,
        "pip: [-r requirements.txt, ./mine-1.0-py3-none-any.whl, \"winonly; sys_platform == 'win32'\","
        ' "--extra-index-url https://${PYPI_TOKEN}@pypi.example.org/simple"]\n'
        "r: {cran: [jsonlite, tiny]}\nimports: {six: [six, six.moves]}",
        run=("echo one\necho 'two' \\\n  more", "cat /run/secrets/TOKEN"),
        pip_variables=frozenset(["PYPI_TOKEN"]),
        user="worker",
    )
    lock = lock_of(
        MADE,
        Locked("apt", "base-files", "12.4", stage="base"),
        Locked("apt", "r-base-core", "4.2.2-1", stage="r"),
        Locked("apt", "r-cran-jsonlite", "1.8.4+dfsg-1", stage="r-binary"),
        Locked("r", "jsonlite", "1.8.4+dfsg-1", source="debian"),
        Locked("r", "tiny", "1.0-3", source="https://cran.example.org/src/contrib/tiny_1.0-3.tar.gz"),
        Locked("pip", "six", "1.17.0", hashes=(f"sha256:{'b' * 64}", f"sha256:{'c' * 64}")),
        Locked("pip", "mine", "1.0", source="./mine-1.0-py3-none-any.whl", hashes=(f"sha256:{'d' * 64}",)),
        r="4.2.2",
    )
    r = {"cran/src/contrib/PACKAGES": b"Package: tiny\n", "packages": b"tiny\n", "install.R": b""}
    return libs, lock, Material(TOOLS, r, ("r-base-dev", "libxml2-dev"))


def test_all_kinds_on_a_base_made_here(mixed: tuple[Libs, Lock, Material]) -> None:
    libs, lock, material = mixed
    files = render(libs, lock, material, SYSTEM, declared=libs.declared, secrets=("TOKEN",))
    check_golden("mixed", text_of(files))
    assert _bytes(files, "pip/requirements.txt").decode().splitlines() == [
        "--extra-index-url https://${PYPI_TOKEN}@pypi.example.org/simple",
        "six==1.17.0 \\",
        f"    --hash=sha256:{'b' * 64} \\",
        f"    --hash=sha256:{'c' * 64}",
        "./mine-1.0-py3-none-any.whl \\",
        f"    --hash=sha256:{'d' * 64}",
    ]
    assert "pip/mine-1.0-py3-none-any.whl" in files
    assert "pip/requirements-unhashed.txt" not in files
    assert {"base/make.sh", "base/slim.sh"} <= files.keys()
    assert not [name for name in files if name.endswith("libs.yaml") or name == "pip/requirements.in"]


def test_what_the_proof_is_given(mixed: tuple[Libs, Lock, Material]) -> None:
    libs, lock, material = mixed
    files = render(libs, lock, material, SYSTEM, declared=libs.declared)
    declared, expected = (json.loads(_bytes(files, f"verify/{name}.json")) for name in ("declared", "expected"))
    assert declared["pip"] == {"six": ["six", "six.moves"], "mine": None}, "winonly is not of this platform"
    assert (declared["user"], declared["r"], declared["r_installed"]) == ("1000:1000", ["jsonlite", "tiny"], True)
    assert declared["manifest"]["lock"] == json.loads(lock.to_text())
    assert expected["locked"] == {
        "apt": {
            "base-files": "12.4",
            "python3": "3.11.2-1+b1",
            "r-base-core": "4.2.2-1",
            "r-cran-jsonlite": "1.8.4+dfsg-1",
        },
        "pip": {"mine": "1.0", "six": "1.17.0"},
        "r": {"tiny": "1.0-3"},
    }
    assert expected["declared"]["pip"]["six"] == "requirements.txt:1: six"
    assert expected["declared"]["r"]["tiny"] == "libs.yaml:3: tiny"


def test_conda_and_packages_without_hashes(tmp_path: Path) -> None:
    numpy = Package("conda", "numpy", "numpy", "libs.yaml", 2, "conda")
    libs = libs_of(tmp_path, "pip: ['tool @ git+https://git.example.org/tool@v1']", conda=(numpy,))
    lock = lock_of(
        PULLED,
        Locked("conda", "python", "3.12.1", source="file:///c/python-3.12.1-0.conda"),
        Locked("conda", "numpy", "2.0", source="file:///c/numpy-2.0-0.conda"),
        Locked("pip", "tool", "", source="git+https://git.example.org/tool@0123abc"),
    )
    system = replace(SYSTEM, conda_env={"GDAL_DATA": "/opt/conda/share/gdal"})
    files = render(libs, lock, Material(TOOLS, conda={"in/conda.json": b"{}"}), system, declared=libs.declared)
    check_golden("conda", text_of(files))
    assert files["conda/in/environment"] == b'conda.env={"GDAL_DATA": "/opt/conda/share/gdal"}\n'
    assert "pip/requirements.txt" not in files
    assert files["pip/requirements-unhashed.txt"] == b"tool @ git+https://git.example.org/tool@0123abc\n"


def test_versions_in_the_label_are_as_the_libraries_call_them(mixed: tuple[Libs, Lock, Material]) -> None:
    libs, lock, material = mixed
    (line,) = [
        line
        for line in text_of(render(libs, lock, material, SYSTEM, declared=libs.declared)).splitlines()
        if "runner.libraries" in line
    ]
    value = re.sub(r"\\(.)", r"\1", line.strip().removeprefix('runner.libraries="').removesuffix('" \\'))
    assert json.loads(value) == [
        ["cran", "jsonlite", "1.8.4"], ["cran", "tiny", "1.0.3"], ["pip", "six", "1.17.0"], ["pip", "mine", "1.0"]
    ]  # fmt: skip


# -- what may not break out -----------------------------------------------------------------------------------------

HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MARKS = st.sampled_from(
    ["\n", "\\", '"', "'", "$", "${X}", "$(id)", "`", "#", "<<EOF", "\\\n", "\r", "USER 0", "[", "]"]
)


@given(st.lists(HOSTILE | MARKS, max_size=6).map("".join))
def test_a_command_stays_one_instruction(command: str) -> None:
    line = f"RUN {syntax.exec_form(['sh', '-euc', command])}"
    assert "\n" not in line
    assert not line.endswith("\\")
    assert json.loads(line.removeprefix("RUN ")) == ["sh", "-euc", command]


@given(st.lists(HOSTILE | MARKS, max_size=6).map("".join))
def test_a_value_stays_a_value(value: str) -> None:
    """Read back as both builders read double quotes: a backslash takes the meaning of `"`, `$` and itself away."""
    if "\n" in value or "\0" in value:
        with pytest.raises(ValueError, match="line break"):
            syntax.quoted(value)
        return
    text = syntax.quoted(value)
    inner = text[1:-1]
    assert (text[0], text[-1]) == ('"', '"')
    assert re.fullmatch(r'(?:[^"\\$]|\\["\\$])*', inner), "nothing in it ends the value or begins a variable"
    assert re.sub(r'\\(["\\$])', r"\1", inner) == value


@given(st.lists(HOSTILE | MARKS, max_size=6).map("".join))
def test_a_comment_stays_a_comment(text: str) -> None:
    assert all(line.startswith("#") for line in syntax.comment(text).removesuffix("\n").split("\n"))


def test_hostile_values_do_not_change_the_instructions(tmp_path: Path) -> None:
    libs = libs_of(tmp_path, "apt: [procps]\nenv: {A: plain}", run=("true",))
    lock = lock_of(PULLED, Locked("apt", "procps", "2:4.0.2-3", stage="apt"))
    hostile = replace(libs, env={"A": "x\" \\ $HOME ${PATH} # '<<EOF"}, run=('true\nUSER 0\nRUN id <<EOF\nEOF\n"]\\',))

    plain, changed = (
        instructions(text_of(render(each, lock, Material(), SYSTEM, declared=each.declared)))
        for each in (libs, hostile)
    )

    assert [line.split()[0] for line in changed] == [line.split()[0] for line in plain]
    assert [line for line in changed if not line.startswith(("ENV A", "RUN ["))] == [
        line for line in plain if not line.startswith(("ENV A", "RUN ["))
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"base": Base("debian\nUSER 0", "")},
        {"base": Base("debian AS x", "")},
        {"base": replace(PULLED, digest="sha256:1\nRUN id")},
        {"packages": (Locked("apt", "x;id", "1", stage="apt"),)},
        {"packages": (Locked("apt", "x", "1 && id", stage="apt"),)},
        {"packages": (Locked("apt", "-o=x", "1", stage="apt"),)},
    ],
)
def test_a_lock_that_was_tampered_with_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    libs = libs_of(tmp_path, "")
    with pytest.raises(SpecError, match="cannot be written into a Dockerfile"):
        render(libs, replace(lock_of(PULLED), **changed), Material(), SYSTEM, declared=())


@pytest.mark.parametrize("value", ["two\nlines", "nul\0", "\ud800"])
def test_a_variable_that_a_dockerfile_cannot_hold_is_told_by_its_name(tmp_path: Path, value: str) -> None:
    libs = replace(libs_of(tmp_path, ""), env={"FINE": "x", "GREETING": value})
    with pytest.raises(SpecError, match=r"env\.GREETING: a Dockerfile cannot hold"):
        eject(libs, lock_of(PULLED), tmp_path / "out", system=SYSTEM)
    assert not (tmp_path / "out").exists()


def test_a_login_does_not_get_into_the_folder(tmp_path: Path) -> None:
    libs = replace(libs_of(tmp_path, ""), pip_rest=("--index-url https://me:pa55@pypi.example.org/simple",))
    with pytest.raises(SpecError, match="holds a login") as caught:
        render(libs, lock_of(PULLED), Material(), SYSTEM, declared=libs.declared)
    assert "pa55" not in str(caught.value)


def test_the_name_of_a_secret_is_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the name of a secret"):
        eject(libs_of(tmp_path, ""), lock_of(PULLED), tmp_path / "out", system=SYSTEM, secrets=("A,src=/etc/shadow",))


def test_a_name_of_the_user_is_one(tmp_path: Path) -> None:
    libs = libs_of(tmp_path, "", user="x' >/etc/shadow; echo '")
    with pytest.raises(SpecError, match=r"user: .* is not a user's name"):
        render(libs, lock_of(PULLED), Material(), SYSTEM, declared=libs.declared)


# -- the folder -----------------------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    libs, lock = libs_of(tmp_path, "env: {B: '1', A: '2'}"), lock_of(PULLED)
    written = eject(libs, lock, tmp_path / "one", system=SYSTEM)
    eject(libs, lock, tmp_path / "two", system=SYSTEM)
    first = tree(tmp_path / "one")
    before = {path: path.stat().st_mtime_ns for path in written if path.name != SUMS}
    assert eject(libs, lock, tmp_path / "one", system=SYSTEM) == written
    assert tree(tmp_path / "one") == tree(tmp_path / "two") == first
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what is the same is not written again"
    assert sorted(first) == sorted(path.relative_to(tmp_path / "one").as_posix() for path in written)


def test_sums_are_as_sha256sum_reads_them(tmp_path: Path) -> None:
    write(tmp_path / "out", {"Dockerfile": b"FROM x\n", "a/b": b"1"})
    lines = (tmp_path / "out" / SUMS).read_text().splitlines()
    assert lines == [MARK, *(f"{digest}  {name}" for name, digest in tree(tmp_path / "out").items() if name != SUMS)]


def test_files_can_be_read_by_all_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write(tmp_path / "out", {"verify/deep/x": b"1"})
    finally:
        os.umask(before)
    assert oct((tmp_path / "out" / "verify" / "deep" / "x").stat().st_mode & 0o777) == "0o644"
    assert oct((tmp_path / "out" / "verify" / "deep").stat().st_mode & 0o777) == "0o755"


def test_what_is_not_needed_any_more_goes_and_what_the_user_added_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, {"Dockerfile": b"1", "pip/old.whl": b"2", "r/gone/x": b"3", "pip/edited": b"4"})
    (out / "tools").mkdir()
    (out / "tools" / "ca.pem").write_text("mine")
    (out / "pip" / "edited").write_text("mine")

    write(out, {"Dockerfile": b"1 changed"})

    assert sorted(tree(out)) == ["Dockerfile", SUMS, "pip/edited", "tools/ca.pem"]
    assert (out / "Dockerfile").read_bytes() == b"1 changed"
    assert not (out / "r").exists()


def test_a_file_that_was_changed_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, {"Dockerfile": b"1", "x": b"1"})
    (out / "Dockerfile").write_text("my own work")
    before = tree(out)
    with pytest.raises(ConflictError, match="Dockerfile was changed since runner wrote it"):
        write(out, {"Dockerfile": b"2", "x": b"2"})
    assert tree(out) == before, "nothing else was written either"


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "Dockerfile").write_text("FROM mine\n")
    with pytest.raises(ConflictError, match="holds other files"):
        write(out, {"Dockerfile": b"2"})
    with pytest.raises(ConflictError, match="is a file"):
        write(out / "Dockerfile", {"Dockerfile": b"2"})
    assert tree(out) == {"Dockerfile": hashlib.sha256(b"FROM mine\n").hexdigest()}


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"1")
    write(out, {"Dockerfile": b"1", "pip/x": b"1"})
    (out / "pip" / "x").unlink()
    (out / "pip").rmdir()
    (out / "pip").symlink_to(outside)

    with pytest.raises(ConflictError, match="is a link, or stands behind one"):
        write(out, {"Dockerfile": b"1", "pip/x": b"2"})
    write(out, {"Dockerfile": b"1"})

    assert (outside / "x").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["../victim", "/victim", "pip/../../victim"])
def test_a_list_that_was_tampered_with_removes_nothing_outside(tmp_path: Path, name: str) -> None:
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"1")
    write(out, {"Dockerfile": b"1", "pip/x": b"1"})
    shown = str(victim) if name.startswith("/") else name
    with (out / SUMS).open("a") as sums:
        sums.write(f"{hashlib.sha256(b'1').hexdigest()}  {shown}\n")
    write(out, {"Dockerfile": b"1"})
    assert victim.exists()
