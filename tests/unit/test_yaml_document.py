"""YAML with positions: what is read, and the error of everything that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SpecError
from runner.spec.yamldoc import MAX_BYTES, Document, decode, nearest, parse, read


def error(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse(text, "job.yml")
    return caught.value


def test_values_lines_and_texts() -> None:
    document = parse("name: x\nlist:\n  - a\n  - {k: 1.10, on: yes}\nmore: |\n  text\n", "job.yml")
    assert document.data == {"name": "x", "list": ["a", {"k": 1.1, "on": True}], "more": "text\n"}
    assert document.line(("list",)) == 2
    assert document.line(("list", 0)) == 3
    assert document.line(("list", 1, "k")) == 4
    assert document.line(("list", 1, "not there")) == 4
    assert document.text(("list", 1, "k")) == "1.10"
    assert document.text(("list", 1, "on")) == "yes"
    assert document.text(("list",)) == ""


def test_error_names_file_line_and_key_without_indexes() -> None:
    document = parse("a:\n  - b: 1\n", "job.yml")
    assert str(document.error(("a", 0, "b"), "wrong", "do this")) == "job.yml:2: a.b: wrong\n  do this"


def test_merge_keys_and_aliases_are_plain_data() -> None:
    document = parse("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\nlist: [*b, {<<: [*b, {z: 0}]}]\n", "f")
    assert document.data["use"] == {"x": 1, "y": 3}
    assert document.data["list"] == [{"x": 1, "y": 2}, {"x": 1, "y": 2, "z": 0}]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "the file is empty"),
        ("# only a comment\n", None, "the file is empty"),
        ("- a\n", 1, "found a list"),
        ("\njust text\n", 2, "found a single value"),
        ("a: 1\nb: 2\na: 3\n", 3, "a: the key is given twice (first in line 1)"),
        ("r:\n  cran: [a]\n  cran: [b]\n", 3, "r.cran: the key is given twice (first in line 2)"),
        ("a:\n\tb: 1\n", 2, "a tab is used for indentation"),
        ("x: 1\na: [1\n\n", 2, "not closed before the end"),
        ("a: b: c\n", 1, "must be in quotes"),
        ("name: @x\n", 1, "must be in quotes"),
        ("a: 1\n---\nb: 2\n", 2, "a second document starts here"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "'python/object/apply:os.system' is not allowed"),
        ("a: !ENV x\n", 1, "'!ENV' is not allowed"),
        ("a: &x [*x]\n", 1, "an alias refers to what it stands in"),
        ("a: &x {<<: *x}\n", 1, "an alias refers to what it stands in"),
        ("a: *nope\n", 1, "undefined alias"),
        ("? [a]\n: 1\n", 1, "a key must be a plain word"),
        ("a: 2026-99-99\n", 1, "not a valid value"),
        ("a: {<<: 1}\n", 1, "`<<` must name a mapping"),
        ("a: b\x00\n", 1, "U+0000 is not allowed"),
        ("a: " + "[" * 60 + "]" * 60, 1, "nested deeper than 50"),
        ("a: " + "[" * 100_000, None, "nested deeper than 50"),
    ],
)
def test_what_cannot_be_read(text: str, line: int | None, message: str) -> None:
    found = error(text)
    assert message in str(found)
    assert (found.file, found.line) == ("job.yml", line)


def test_alias_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "values once its aliases are expanded" in str(error("\n".join(lines)))


def test_not_utf8_names_the_line() -> None:
    with pytest.raises(SpecError, match=r"libs\.yaml:2: not UTF-8"):
        decode(b"a: 1\nb: \xff\n", "libs.yaml")


def test_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert parse(decode(b"\xef\xbb\xbfa: 1\n", "f"), "f").data == {"a": 1}


def test_files_that_cannot_be_taken(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read(tmp_path)
    (tmp_path / "large.yaml").write_bytes(b"a: 1\n" + b"#" * MAX_BYTES)
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        read(tmp_path / "large.yaml")


def test_nearest_word() -> None:
    assert nearest("pipp", ["pip", "apt"]) == "pip"
    assert nearest("GGPLOT", ["ggplot2", "DBI"]) == "ggplot2"
    assert nearest("conda", ["pip", "apt"]) is None


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refused: Document | SpecError
    try:
        read_or_refused = parse(text, "f")
    except SpecError as refused:
        read_or_refused = refused
    assert read_or_refused.file == "f"
