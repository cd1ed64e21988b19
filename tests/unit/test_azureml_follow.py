"""The pure parts of following jobs of Azure ML: names, states, the log's bytes, where blobs go."""

from __future__ import annotations

import json
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.backends.azureml import tail
from runner.backends.azureml.blobs import Blob, Place, inside, place_of, targets
from runner.backends.azureml.listing import job_of
from runner.backends.azureml.names import child, job_name, root_of, run_of
from runner.backends.azureml.observe import moment, observation
from runner.backends.azureml.outputs import download_limit
from runner.backends.azureml.rest import Answer, envelope, refused, retry_after
from runner.backends.azureml.target import Target
from runner.backends.base import Phase
from runner.errors import BackendError, NotFoundError, SpecError
from runner.model import Reason

TARGET = Target("s", "g", "w")
KEYS = frozenset({"k1", "run1"})
RECORD = {"final": True, "attempt": "k1", "reason": "Completed"}
LINE = b"runner-record: " + json.dumps(RECORD).encode() + b"\n"


# -- names ----------------------------------------------------------------------------------------------------------


@given(st.text(max_size=200), st.text(max_size=200))
def test_names_of_jobs_are_fixed_in_length_and_their_own(one: str, other: str) -> None:
    assert len(job_name(one)) == 32
    assert job_name(one).isalnum()
    assert (job_name(one) == job_name(other)) == (one == other)


def test_a_handle_tells_job_and_run() -> None:
    assert (root_of("rabc"), run_of("rabc")) == ("rabc", "rabc")
    handle = child("rabc", "0f-1")
    assert (root_of(handle), run_of(handle)) == ("rabc", "0f-1")


# -- states ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        ("NotStarted", Phase.QUEUED),
        ("Queued", Phase.QUEUED),
        ("Scheduled", Phase.QUEUED),
        ("Provisioning", Phase.PREPARING),
        ("Preparing", Phase.PREPARING),
        ("Starting", Phase.STARTING),
        ("Running", Phase.RUNNING),
        ("CancelRequested", Phase.RUNNING),
        ("Finalizing", Phase.FINALIZING),
        ("NotResponding", Phase.NOT_RESPONDING),
        ("Paused", Phase.NOT_RESPONDING),
        ("SomethingNew", Phase.NOT_RESPONDING),
        ("Completed", Phase.ENDED),
        ("Failed", Phase.ENDED),
        ("Canceled", Phase.ENDED),
    ],
)
def test_every_state_has_a_phase_and_only_three_are_ends(status: str, phase: Phase) -> None:
    seen = observation({"status": status})
    assert seen.phase is phase
    assert (seen.platform is not None) == (phase is Phase.ENDED)


def test_an_end_has_azures_own_words_and_times() -> None:
    seen = observation({
        "status": "Failed",
        "startTimeUtc": "2026-11-21T10:00:00.1234567Z", "endTimeUtc": "2026-11-21T10:01:30.1234567+00:00",
        "error": {"error": {"code": "UserError", "message": "the image cannot be pulled",
                            "innerError": {"code": "ImagePull"}}},
    })  # fmt: skip
    assert seen.started == "2026-11-21T10:00:00.123456Z"
    end = seen.platform
    assert end is not None
    assert (end.status, end.code, end.message) == ("Failed", "ImagePull", "the image cannot be pulled")
    assert end.elapsed_s == pytest.approx(90)
    assert end.told is None
    assert end.reused is None


def test_its_own_measure_of_time_counts_first() -> None:
    run = {"status": "Canceled", "computeDuration": "1.02:03:04.5", "startTimeUtc": "2026-01-01T00:00:00Z"}
    end = observation(run).platform
    assert end is not None
    assert end.elapsed_s == pytest.approx(86400 + 2 * 3600 + 3 * 60 + 4.5)


@pytest.mark.parametrize(
    "run",
    [
        {"status": "Failed", "error": {"error": {"code": "NodePreempted", "message": "gone"}}},
        {"status": "Canceled", "cancelationReason": "The node was preempted"},
        {"status": "Failed", "error": {"error": {"code": "A", "innerError": {"code": "JobPreemptedError"}}}},
    ],
)
def test_a_node_that_was_taken_away(run: dict[str, Any]) -> None:
    end = observation(run).platform
    assert end is not None
    assert end.told is Reason.PREEMPTED


def test_a_reused_step_names_the_run_that_stands_for_it() -> None:
    properties = {"azureml.isreused": "true", "azureml.reusedrunid": "0f-2"}
    end = observation({"status": "Completed", "properties": properties}).platform
    assert end is not None
    assert end.reused == "0f-2"


def test_why_a_job_waits_is_told() -> None:
    seen = observation({"status": "Queued", "queueingInfo": {"code": "Q", "message": "no quota left"}})
    assert seen.note == "no quota left"


@given(st.one_of(st.none(), st.text(max_size=40), st.integers()))
def test_no_time_breaks_it(text: object) -> None:
    assert moment(text) is None or isinstance(moment(text), str)


@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.integers(),
        lambda inner: st.dictionaries(st.sampled_from(["error", "code", "message", "details", "innerError"]), inner),
        max_leaves=12,
    )
)
def test_no_error_breaks_it(error: Any) -> None:
    assert observation({"status": "Failed", "error": error}).platform is not None


# -- the log --------------------------------------------------------------------------------------------------------


def test_the_record_is_taken_out_and_kept() -> None:
    text, used, record = tail.split(b"hello\n" + LINE, KEYS)
    assert (text, used, record) == (b"hello\n", 6 + len(LINE), RECORD)


def test_a_record_after_half_a_line_leaves_the_half() -> None:
    assert tail.split(b"hello" + LINE, KEYS)[0] == b"hello"


def test_a_record_of_somebody_else_is_the_scripts() -> None:
    other = LINE.replace(b"k1", b"k2")
    assert tail.split(other, KEYS, last=True) == (other, len(other), None)
    assert tail.split(other, None, last=True)[0] == b""
    assert tail.split(LINE.replace(b"k1", b"run1"), KEYS)[0] == b""


def test_what_may_become_a_record_waits() -> None:
    for cut in range(1, len(LINE)):
        text, used, record = tail.split(b"a\n" + LINE[:cut], KEYS)
        assert (text, used, record) == (b"a\n", 2, None), cut


def test_a_record_without_line_end_counts_at_the_end() -> None:
    assert tail.split(LINE.rstrip(), KEYS, last=True) == (b"", len(LINE) - 1, RECORD)


def test_an_endless_line_is_no_record() -> None:
    data = tail.MARK + b"x" * 300_000
    assert tail.split(data, KEYS)[0].startswith(tail.MARK)


@given(
    st.lists(
        st.sampled_from(
            [b"hello\n", b"runner-rec", b"runner-record: {", b"\n", b"\r", b"\xff\x00", b"x", b"}\n", LINE]
        ),
        max_size=12,
    ),
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
)
def test_pieces_give_the_same_bytes_as_the_whole(parts: list[bytes], cuts: list[int]) -> None:
    """However the log arrives: nothing twice, nothing lost, and only records missing."""
    data = b"".join(parts)
    out, offset, seen, found = b"", 0, 0, None
    for cut in [*cuts, len(data)]:
        seen = min(len(data), seen + cut)
        text, used, record = tail.split(data[offset:seen], KEYS)
        out, offset, found = out + text, offset + used, record or found
    text, used, record = tail.split(data[offset:], KEYS, last=True)
    out, found = out + text, record or found
    whole, used_whole, record_whole = tail.split(data, KEYS, last=True)
    assert offset + used == used_whole == len(data)
    assert (out, found) == (whole, record_whole)


def test_which_files_are_the_log() -> None:
    names = ["system_logs/lifecycler/a.log", "user_logs/std_log_process_10.txt", "user_logs/std_log_process_2.txt",
             "user_logs/std_log_process_0.txt", "user_logs/other.txt", "azureml-logs/70_driver_log.txt"]  # fmt: skip
    assert [name[-6:] for name in tail.wanted(names)] == ["_0.txt", "_2.txt", "10.txt"]
    assert tail.wanted(["azureml-logs/55_x.txt", "azureml-logs/70_driver_log.txt"]) == [
        "azureml-logs/70_driver_log.txt"
    ]


# -- blobs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../a", "a/../../b", "/etc/passwd", "a\\b", "..\\a", "", "a/", "a//b", "a\nb", "x" * 256, "a/..", "\x00"]
)
def test_a_name_that_leads_out_goes_nowhere(name: str) -> None:
    assert inside(Path("/t"), name) is None


@given(st.text(max_size=60))
def test_nothing_ever_leaves_the_folder(name: str) -> None:
    found = inside(Path("/t/box"), name)
    assert found is None or Path("/t/box") in Path(str(found)).resolve().parents


def test_a_file_beside_a_folder_of_its_name_is_left_out() -> None:
    blobs = [Blob("p/a", 1), Blob("p/a/b", 2), Blob("p/../c", 3), Blob("p/ok.txt", 4)]
    good, bad = targets(blobs, "p/", Path("/t"))
    assert [(blob.name, str(place)) for blob, place in good] == [("p/a/b", "/t/a/b"), ("p/ok.txt", "/t/ok.txt")]
    assert bad == ["p/a", "p/../c"]


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("azureml://datastores/d/paths/a/b/", Place("d", "a/b/")),
        ("azureml://datastores/store/ExperimentRun/dcid.j", Place("store", "ExperimentRun/dcid.j")),
        ("azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/d/paths/a", Place("d", "a")),
        (f"azureml:/{TARGET.path}/datastores/d/paths/a", Place("d", "a")),
        ("https://x.blob.core.windows.net/c/a", None),
        ("azureml:data:1", None),
    ],
)  # fmt: skip
def test_where_a_uri_leads(uri: str, place: Place | None) -> None:
    assert place_of(uri) == place


# -- http -----------------------------------------------------------------------------------------------------------


def test_retry_after_as_seconds_and_as_a_date() -> None:
    assert retry_after("7") == 7
    assert retry_after(formatdate(time() + 20, usegmt=True)) == pytest.approx(20, abs=2)
    assert retry_after(formatdate(time() - 20, usegmt=True)) == 0
    assert [retry_after(text) for text in (None, "", "soon", "-1")] == [None] * 4


def test_the_envelope_says_everything_once() -> None:
    body = {"error": {"code": "UserError", "message": "bad", "details": [{"message": "bad"}, {"message": "why"}, 3]}}
    assert envelope(json.dumps(body).encode()) == ("UserError", "bad; why")
    assert envelope(b"<html>") == ("", "")
    assert envelope(b"[]") == ("", "")


def test_what_is_refused_says_what_to_do() -> None:
    def error(status: int) -> Any:
        return refused(Answer(status, {}, b'{"error":{"code":"C","message":"no"}}'), "the job j")

    assert isinstance(error(404), NotFoundError)
    assert error(403).code == 403
    assert "role" in str(error(403))
    assert "az login" in str(error(401))
    assert str(error(400)) == "Azure ML refused the job j: no (C)"
    assert all(isinstance(error(status), BackendError) for status in (400, 401, 403, 409, 422))


def test_a_size_of_downloads() -> None:
    assert download_limit({}) == 1 << 30
    assert download_limit({"RUNNER_DOWNLOAD_LIMIT": "5m"}) == 5 << 20
    assert download_limit({"RUNNER_DOWNLOAD_LIMIT": "0"}) == 0
    with pytest.raises(SpecError, match="RUNNER_DOWNLOAD_LIMIT"):
        download_limit({"RUNNER_DOWNLOAD_LIMIT": "lots"})


def test_a_job_of_the_list() -> None:
    found = job_of({
        "name": "j1", "systemData": {"createdAt": "2026-11-21T10:00:00Z", "createdBy": "ada"},
        "properties": {"jobType": "Command", "status": "Running", "displayName": "mine", "experimentName": "e",
                       "computeId": "/subscriptions/s/computes/cpu-cluster", "tags": {"runner.run": "calm-fox"}},
    })  # fmt: skip
    assert (found.name, found.display_name, found.compute, found.run) == ("j1", "mine", "cpu-cluster", "calm-fox")
    assert job_of({"name": "child"}).status == "Unknown"
