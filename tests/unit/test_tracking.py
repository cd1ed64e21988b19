"""Reading what was logged: half-written, huge and strange files give what is sure, and never an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import tracking
from runner.tracking import Point


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a b" / "tracking"
    path.parent.mkdir()
    tracking.prepare(path, seen=str(path), run="brave-otter.train", experiment="iris")
    return path


def inside(folder: Path) -> Path:
    return folder / "store" / "1" / tracking.run_id("brave-otter.train")


def test_the_variables_name_what_was_written(folder: Path) -> None:
    found = tracking.variables(str(folder), run="brave-otter.train", experiment="iris")
    assert found["RUNNER_TRACKING"] == str(inside(folder))
    assert found["MLFLOW_TRACKING_URI"] == "file://" + str(folder).replace(" ", "%20") + "/store"
    assert (inside(folder) / "meta.yaml").exists()


def test_nothing_logged_is_nothing(folder: Path, tmp_path: Path) -> None:
    assert not tracking.used(folder)
    assert not tracking.read(folder).main
    assert tracking.read(tmp_path / "missing") == tracking.Store()
    assert tracking.history(tmp_path / "missing", "loss") == ()


def test_lines_that_are_no_points_are_left_out(folder: Path) -> None:
    (inside(folder) / "metrics" / "loss").write_text(
        "1000 0.5 1\nrubbish\n\n1 2 3 4\nx y z\n2000 nan 2\n3000 7\n4000 1e3 1"
    )
    points = tracking.history(folder, "loss")
    assert points[0] == Point(0.5, 1, 1.0)
    assert [(point.step, str(point.value)) for point in points] == [(1, "0.5"), (2, "nan"), (0, "7.0")]
    assert repr(tracking.read(folder).main.metrics["loss"]) == repr(points)
    assert tracking.used(folder)


def test_the_latest_is_of_the_highest_step_and_then_the_last() -> None:
    assert tracking.latest((Point(1, 5, 9), Point(2, 7, 1), Point(3, 7, 0), Point(4, 6, 2))).value == 3


def test_a_long_history_keeps_its_beginning_and_its_end(folder: Path) -> None:
    count = 400_000
    (inside(folder) / "metrics" / "loss").write_text("".join(f"1000 {n} {n}\n" for n in range(count)))
    points = tracking.history(folder, "loss")
    assert points[:3] == (Point(0, 0, 1), Point(1, 1, 1), Point(2, 2, 1))
    assert tracking.latest(points).value == count - 1
    assert len(points) < count
    assert all(point.value == point.step for point in points)


@pytest.mark.parametrize("name", ["../../../main", "/etc/passwd", "..", ".", "", "a/../../x"])
def test_no_metric_is_outside_of_its_folder(folder: Path, name: str) -> None:
    assert tracking.history(folder, name) == ()


def test_many_files_are_not_all_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_FILES", 50)
    for number in range(100):
        (inside(folder) / "params" / f"p{number}").write_text("x" * 100)
    assert 0 < len(tracking.read(folder).main.params) < 50


def test_a_parameter_is_cut(folder: Path) -> None:
    (inside(folder) / "params" / "long").write_text("x" * 1_000_000)
    assert len(tracking.read(folder).main.params["long"]) == 1 << 16


def test_a_file_that_cannot_be_opened_is_passed_over(folder: Path) -> None:
    os.mkfifo(inside(folder) / "params" / "fifo")
    (inside(folder) / "params" / "p").write_text("1")
    (inside(folder) / "metrics" / "m").mkdir()
    assert tracking.read(folder).main.params == {"p": "1"}


@given(raw=st.binary(max_size=200), more=st.binary(max_size=50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_any_bytes_can_be_read(folder: Path, raw: bytes, more: bytes) -> None:
    (inside(folder) / "metrics" / "m").write_bytes(raw)
    (inside(folder) / "params" / "p").write_bytes(more)
    (folder / "main").write_bytes(tracking.run_id("brave-otter.train").encode() + more[:1])
    assert isinstance(tracking.read(folder).main, tracking.Tracked)
    assert all(isinstance(point, Point) for point in tracking.history(folder, "m"))
