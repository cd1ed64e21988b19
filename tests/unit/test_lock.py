"""libs.lock as text: what is read is what was written, its lines can be compared, and a damaged one is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SpecError
from runner.spec import lock as locks
from runner.spec.lock import KINDS, Base, Lock, Locked, lock_name

BASE = Base("debian:bookworm-slim", f"sha256:{'1' * 64}", digest=f"sha256:{'2' * 64}")
SIX = Locked("pip", "six", "1", hashes=("sha256:a",))
TEXTS = st.text(max_size=20)
WORDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,9}", fullmatch=True)
HASHES = st.lists(st.from_regex(r"sha256:[0-9a-f]{4}", fullmatch=True), max_size=3).map(tuple)
SOURCES = st.sampled_from(["", "debian", "./mine", "https://example.org/a%20b/tiny_1.0.tar.gz#ref=v1&subdir=x"])


def make(*packages: Locked) -> Lock:
    return Lock(BASE, "linux/amd64", "3.11.2", "", {"pip": ("six",)}, packages)


@given(
    st.lists(
        st.builds(
            Locked, st.sampled_from(KINDS), WORDS, WORDS, SOURCES, HASHES, st.sampled_from(["", "r-binary"]), WORDS
        ).filter(lambda each: each.hashes or each.kind in {"apt", "r"}),
        max_size=5,
        unique_by=lambda each: (each.kind, each.name),
    ),
    st.dictionaries(TEXTS, st.lists(TEXTS, max_size=3).map(tuple), max_size=3),
)
def test_what_was_written_is_read(packages: list[Locked], declared: dict[str, tuple[str, ...]]) -> None:
    lock = Lock(BASE, "linux/amd64", "3.11.2", "4.2.2", declared, tuple(packages))
    again = locks.parse(lock.to_text(), "libs.lock")
    assert again.to_text() == lock.to_text()
    assert sorted(map(repr, again.packages)) == sorted(map(repr, packages))
    assert again.declared == declared


def test_one_package_a_line_in_an_order_of_its_own() -> None:
    one, two = Locked("pip", "six", "1", hashes=("sha256:a",)), Locked("apt", "procps", "2", stage="apt")
    text = make(one, two).to_text()
    assert text == make(two, one).to_text()
    changed = make(Locked("pip", "six", "3", hashes=("sha256:a",)), two).to_text()
    assert sum(a != b for a, b in zip(text.splitlines(), changed.splitlines(), strict=True)) == 1


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "libs.lock"
    assert locks.read(path) is None
    locks.write(path, make())
    assert locks.read(path) == make()
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError):
        locks.write(path, make())
    assert [each.name for each in tmp_path.iterdir()] == ["libs.lock"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "libs.lock").symlink_to("shared.lock")
    locks.write(tmp_path / "libs.lock", make())
    assert (tmp_path / "libs.lock").is_symlink()
    assert locks.read(tmp_path / "shared.lock") == make()
    assert {each.name for each in tmp_path.iterdir()} == {"libs.lock", "shared.lock"}


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", ":1", "it is no JSON"),
        ('{"version": 1,\n<<<<<<< HEAD\n', ":2", "it holds the marks of a git conflict"),
        ("[]", "", "it is no lock of runner"),
        ("{}", "", "it is no lock of runner: 'version'"),
        (make().to_text().replace('"version": 1', '"version": 2'), "", "its format is version 2, expected 1"),
        (
            make(SIX).to_text().replace('"pip", "name"', '"rpm", "name"'),
            "",
            "no lock of runner: 'rpm'",
        ),
        (
            make(SIX).to_text().replace('"name"', '"nom"'),
            "",
            "unexpected keyword argument 'nom'",
        ),
        (make(SIX, replace(SIX, version="2")).to_text(), "", "no lock of runner: pip 'six' stands in it twice"),
    ],
)
def test_a_damaged_one_is_told_with_the_way_out(tmp_path: Path, text: str, where: str, what: str) -> None:
    path = tmp_path / "libs.lock"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        locks.read(path)
    assert str(caught.value).startswith(f"{path}{where}: {what}" if where else f"{path}: ")
    assert what in str(caught.value)
    assert "lock" in caught.value.hints[0] or "delete" in caught.value.hints[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../etc/cron.d/x"}, {"name": "-o"}, {"name": "six\n--index-url=https://evil.example"}, {"name": ""},
        {"version": "1; rm -rf /"}, {"version": "1\n2"}, {"version": "../x"}, {"source": "--config=x"},
        {"source": " --x"}, {"source": "./a\nb"}, {"hashes": ("sha256:../x",)}, {"hashes": ("x y",)},
        {"stage": "../apt"}, {"stage": "bogus"}, {"build": "a/b"}, {"hashes": ()},
    ],
)  # fmt: skip
def test_a_hostile_one_is_refused(changes: dict[str, Any]) -> None:
    text = make(replace(Locked("conda", "six", "1", hashes=("sha256:a",)), **changes)).to_text()
    with pytest.raises(SpecError, match="it is no lock of runner"):
        locks.parse(text, "libs.lock")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"platform": "linux/amd64"', '"platform": 5'),
        ('"python": "3.11.2"', '"python": ["3.11"]'),
        (f'"id": "sha256:{"1" * 64}"', '"id": "x y?../"'),
        (f'"id": "sha256:{"1" * 64}"', '"id": 5'),
        ('"reference": "debian:bookworm-slim"', '"reference": "-x"'),
    ],
)
def test_a_head_that_is_not_of_the_form_is_refused(old: str, new: str) -> None:
    text = make().to_text()
    assert old in text
    with pytest.raises(SpecError, match="it is no lock of runner"):
        locks.parse(text.replace(old, new), "libs.lock")


def test_the_lock_of_another_tool_is_not_to_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "renv.lock"
    path.write_text('{"R": {"Version": "4.2.2"}, "Packages": {}}')
    with pytest.raises(SpecError, match=r"it is no lock of runner\n.*give the libs file another name"):
        locks.read(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "libs.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="cannot be read"):
        locks.read(tmp_path / "libs.lock")


@pytest.mark.parametrize(
    ("libs", "name"),
    [("libs.yaml", "libs.lock"), ("my.libs.yml", "my.libs.lock"), ("requirements.txt", "requirements.libs.lock"),
     ("environment.yml", "environment.lock"), ("renv.lock", "renv.libs.lock")],
)  # fmt: skip
def test_its_name(libs: str, name: str) -> None:
    assert lock_name(Path(libs)) == name


@pytest.mark.parametrize(("one", "other"), [("libs.yaml", "libs.yml"), ("requirements.txt", "requirements.in")])
def test_two_of_one_name_have_two_locks(tmp_path: Path, one: str, other: str) -> None:
    for name in (one, other):
        (tmp_path / name).touch()
    assert lock_name(tmp_path / other) == f"{other}.libs.lock" != lock_name(tmp_path / one)


def test_a_line_of_json_each() -> None:
    rows = make(Locked("pip", "six", "1", hashes=("sha256:a",))).to_text().splitlines()
    row = next(row for row in rows if '"six", "version"' in row)
    assert json.loads(row) == {"kind": "pip", "name": "six", "version": "1", "hashes": ["sha256:a"]}
