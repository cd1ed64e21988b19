"""Sizes, durations, names: what people write, and what they write wrongly."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SpecError
from runner.spec import values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512m", 512 * 1024**2),
        ("2g", 2 * 1024**3),
        ("1.5g", 3 * 1024**3 // 2),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("2GB", 2 * 1024**3),
        ("64k", 65536),
        ("1t", 1024**4),
        ("1048576", 1048576),
        ("7b", 7),
        (" 2 g ", 2 * 1024**3),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert values.size(text, "--memory") == expected


@pytest.mark.parametrize(
    "text", ["", "0", "0g", "-1g", "2x", "g", "1e9", "2 g g", "0.1b", "nan", "inf", "9" * 400, "٢g", "2,5g"]
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(SpecError, match=r"--memory: .*not a size") as caught:
        values.size(text, "--memory")
    assert "512m" in caught.value.hints[0]


@given(st.integers(1, 2**40))
def test_a_size_in_bytes_is_itself(count: int) -> None:
    assert values.size(str(count), "x") == count
    assert values.size(f"{count}k", "x") == count * 1024


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90), ("30s", 30), ("10m", 600), ("10min", 600), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800),
        ("250ms", 0.25), ("1 h 30 m", 5400), ("0.5", 0.5), ("1d2h3m4s", 93784),
    ],
)  # fmt: skip
def test_durations(text: str, expected: float) -> None:
    assert values.duration(text, "--timeout") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "abc", "-5", "5x", "1h30x", "m", "1e3", "s5", "9" * 400, "9" * 20, "٣s"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(SpecError, match=r"--timeout: .*not a duration"):
        values.duration(text, "--timeout")


def test_no_time_at_all_is_only_an_age() -> None:
    with pytest.raises(SpecError, match="no time at all"):
        values.duration("0s", "--timeout")
    assert values.duration("0", "--older-than", zero=True) == 0


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    total = hours * 3600 + minutes * 60 + seconds
    assert values.duration(f"{hours}h{minutes}m{seconds}s", "x", zero=True) == total


@given(st.text(max_size=12))
def test_any_text_is_a_value_or_a_clear_error(text: str) -> None:
    for read in (values.size, values.duration, values.cpus):
        found, wrong = None, None
        try:
            found = read(text, "--key")
        except SpecError as error:
            wrong = error
        assert (found is None) != (wrong is None)
        assert wrong is None or (str(wrong).startswith("--key: ") and wrong.hints)
        assert found is None or (found > 0 and math.isfinite(found))


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "two", "", "0.001", "99999"])
def test_bad_numbers_of_processors(text: str) -> None:
    with pytest.raises(SpecError, match="not a number of processors"):
        values.cpus(text, "--cpus")


def test_numbers_of_processors() -> None:
    assert values.cpus("0.5", "--cpus") == 0.5
    assert values.cpus("2", "--cpus") == 2


@pytest.mark.parametrize("text", ["a", "train-1", "a-b_c", "7", "a" * 63])
def test_run_names(text: str) -> None:
    assert values.run_name(text, "--name") == text


@pytest.mark.parametrize("text", ["", "A", "a b", "-a", "a.b", ".", "..", "../x", "a/b", "a" * 64, "ä", "a\n", "@last"])
def test_bad_run_names(text: str) -> None:
    with pytest.raises(SpecError, match="cannot be a run's name"):
        values.run_name(text, "--name")


def test_a_pair_is_split_at_the_first_equals_sign() -> None:
    assert values.pair("A=b=c", "--env") == ("A", "b=c")
    assert values.pair("A=", "--env") == ("A", "")
    assert values.pair("data.csv=x", "--input") == ("data.csv", "x")


@pytest.mark.parametrize("text", ["A", "=b", "1A=b", "a b=c", ""])
def test_bad_pairs(text: str) -> None:
    with pytest.raises(SpecError, match="--input"):
        values.pair(text, "--input")


@pytest.mark.parametrize("text", ["a-b", "1A", "", "A.B", "RUNNER_RUN", "Ä"])
def test_bad_variables(text: str) -> None:
    with pytest.raises(SpecError):
        values.variable(text, "--env")
    with pytest.raises(SpecError):
        values.pair(f"{text}=1", "--env", check=values.variable)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1023.7, "1 KiB"), (1024, "1 KiB"), (412 * 1024**2, "412 MiB"),
     (1024**3 - 1, "1.0 GiB"), (1536 * 1024**2, "1.5 GiB"), (5 * 1024**4, "5120.0 GiB")],
)  # fmt: skip
def test_sizes_for_people(count: float, text: str) -> None:
    assert values.human_size(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0.04, "0.0 s"), (12.44, "12.4 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (134, "2 min 14 s"),
     (3599.7, "1 h 00 min"), (11_100, "3 h 05 min")],
)  # fmt: skip
def test_durations_for_people(count: float, text: str) -> None:
    assert values.human_time(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (172_799, "47 h"),
     (172_800, "2 d"), (40 * 86_400, "40 d")],
)  # fmt: skip
def test_ages_for_people(seconds: float, text: str) -> None:
    assert values.human_age(seconds) == text
