"""What a script on Azure ML logs reaches the workspace while it runs; what goes wrong there does not touch the script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from mlflow.protos.service_pb2 import LogBatch
from mlflow.utils.proto_json_utils import parse_dict

from runner import tracking
from tests.bootstrap.loopback import Service, bundle, jwt, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bootstrap.loopback import Reply, Seen

BOOTSTRAP = Path(__file__).resolve().parents[2] / "bootstrap"
PYTHON = os.environ.get("RUNNER_TEST_BOOTSTRAP_PYTHON", sys.executable)
SCOPE = "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.MachineLearningServices/workspaces/ws"
BATCH = f"/mlflow/v1.0{SCOPE}/api/2.0/mlflow/runs/log-batch"
RENEWAL = f"/history/v1.0{SCOPE}/experimentids/exp-id/runs/job-1/token"
TOKEN = "h.unexpired.token"

# As the launcher does it: the child of `beside` becomes the bootstrapper.
LAUNCH = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import forward
forward.LOOK_S, forward.LAST_S = 0.1, float(sys.argv[4])
script = json.loads(sys.argv[2])
forward.beside(dict(os.environ), script, sys.argv[3])
argv = [sys.executable, "-I", "-S", sys.argv[1] + "/bootstrap.py", "--merge", "--status", sys.argv[3], *sys.argv[5:]]
os.execve(sys.executable, argv, dict(os.environ, **script))
"""


@dataclass
class Job:
    """A job of Azure ML as far as it matters here: its environment, the script's, the store, the record."""

    folder: Path
    service: Service
    env: dict[str, str]
    script: dict[str, str] = field(default_factory=dict)
    last_s: float = 5.0

    def start(self, text: str, *options: str) -> subprocess.Popen[bytes]:
        argv = [PYTHON, "-c", LAUNCH, str(BOOTSTRAP), json.dumps(self.script), str(self.record), str(self.last_s)]
        command = [*argv, *options, "--", "bash", "-c", text]
        env = {"PATH": os.environ["PATH"], **self.env}
        return subprocess.Popen(command, env=env, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, text: str) -> tuple[int, dict[str, Any]]:
        """(exit code, record)."""
        process = self.start(text)
        self.said, _ = process.communicate(timeout=60)
        return process.returncode, self.read()

    @property
    def record(self) -> Path:
        return self.folder / "status.json"

    def read(self) -> dict[str, Any]:
        raw = self.record.read_bytes()
        assert len(raw) == 8192
        found: dict[str, Any] = json.loads(raw)
        assert found["final"] is True
        return found

    def logged(self, kind: str) -> list[tuple[str, Any]]:
        """All that arrived of one kind; every request has to be one that MLflow's own server understands."""
        found = []
        for body in self.service.bodies("log-batch"):
            parse_dict(body, LogBatch())  # type: ignore[no-untyped-call]  # MLflow's
            assert body["run_id"] == "job-1"
            assert sum(len(body.get(each, ())) for each in ("metrics", "params", "tags")) <= 1000
            found += [(each["key"], each["value"]) for each in body.get(kind, ())]
        return found


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def job(tmp_path: Path, ca: trustme.CA) -> Iterator[Job]:
    """A job whose workspace takes everything."""
    store = tmp_path / "mlflow"
    tracking.prepare(store, seen=str(store), run="brave-fox", experiment="exp")
    with serving(lambda _: (200, {}), ca) as service:
        env = {
            "MLFLOW_TRACKING_URI": f"azureml://127.0.0.1:{service.port}/mlflow/v1.0{SCOPE}?",
            "MLFLOW_TRACKING_TOKEN": TOKEN, "MLFLOW_RUN_ID": "job-1", "MLFLOW_EXPERIMENT_ID": "exp-id",
            "REQUESTS_CA_BUNDLE": bundle(ca, tmp_path),
        }  # fmt: skip
        yield Job(tmp_path, service, env, tracking.variables(str(store), run="brave-fox", experiment="exp"))


def log(metric: str, *values: object) -> str:
    """A shell line that logs these values."""
    lines = "".join(f"1700000000000 {value} {step}\\n" for step, value in enumerate(values))
    path = f"$RUNNER_TRACKING/metrics/{metric}"
    return f'mkdir -p "$(dirname {path})"; printf "{lines}" >> {path}'


def refusing(wrong: str, status: int, words: str) -> Callable[[Seen], Reply]:
    """A workspace that answers so to every batch that holds the word."""

    def answer(seen: Seen) -> Reply:
        return (status, {"error": {"message": words}}) if wrong in json.dumps(seen.body) else (200, {})

    return answer


def test_all_kinds_arrive_as_the_run_of_the_job(job: Job) -> None:
    text = f"{log('loss', 0.5, 0.25)}; {log('val/auc', 0.9)}; printf 0.1 > $RUNNER_TRACKING/params/lr"
    code, record = job.run(f"{text}; printf 'a b' > $RUNNER_TRACKING/tags/note; echo said; exit 3")
    assert (code, record["reason"], record["warnings"]) == (3, "NonZeroExit", [])
    assert job.said == b"said\n"
    assert sorted(job.logged("metrics")) == [("loss", 0.25), ("loss", 0.5), ("val/auc", 0.9)]
    assert job.logged("params") == [("lr", "0.1")]
    assert job.logged("tags") == [("note", "a b")]
    assert {each.path for each in job.service.seen} == {BATCH}
    assert {each.headers["authorization"] for each in job.service.seen} == {f"Bearer {TOKEN}"}


def test_they_arrive_while_the_script_runs(job: Job, until: Callable[..., Any]) -> None:
    process = job.start(f"{log('loss', 1)}; while [ ! -e go ]; do sleep 0.02; done; {log('loss', 2, 3)}")
    until(lambda: job.logged("metrics") == [("loss", 1.0)], "the first value")
    assert process.poll() is None
    (job.folder / "go").touch()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert job.logged("metrics") == [("loss", 1.0), ("loss", 2.0), ("loss", 3.0)]


def test_mlflow_itself_logs_there(job: Job) -> None:
    lines = ("import mlflow", "mlflow.log_metric('loss', 0.5, step=7)", "mlflow.log_params({'lr': 1, 'depth': 3})")
    (job.folder / "train.py").write_text("\n".join((*lines, "mlflow.set_tag('a', 'b')")))
    code, record = job.run(f"{sys.executable} train.py")
    assert (code, record["warnings"]) == (0, []), job.said
    assert job.logged("metrics") == [("loss", 0.5)]
    assert sorted(job.logged("params")) == [("depth", "3"), ("lr", "1")]
    assert ("a", "b") in job.logged("tags")


def test_what_is_no_number_of_json_and_what_is_no_point(job: Job) -> None:
    broken = "printf '%s\\n' garbage '1 2 3 4' 'x 1 1' '1700000000000 5 1' > $RUNNER_TRACKING/metrics/odd"
    half = "printf '1700000000000 10' >> $RUNNER_TRACKING/metrics/odd"
    code, record = job.run(f"{log('loss', 'nan', 'inf', '-inf', 1e300)}; {broken}; {half}")
    assert (code, record["warnings"]) == (0, [])
    assert job.logged("metrics") == [
        ("loss", "NaN"),
        ("loss", "Infinity"),
        ("loss", "-Infinity"),
        ("loss", 1e300),
        ("odd", 5.0),
    ]


def test_many_values_arrive_in_order_and_in_bounded_requests(job: Job) -> None:
    job.last_s = 30.0
    code, record = job.run("for i in $(seq 25000); do echo 1700000000000 $i $i; done > $RUNNER_TRACKING/metrics/loss")
    assert (code, record["warnings"]) == (0, [])
    assert job.logged("metrics") == [("loss", float(i)) for i in range(1, 25001)]


def test_links_and_pipes_are_passed_over(job: Job) -> None:
    outside = job.folder / "outside"
    outside.write_text("1700000000000 42 0\n")
    made = f"ln -s {outside} $RUNNER_TRACKING/metrics/link; mkfifo $RUNNER_TRACKING/params/pipe"
    code, record = job.run(f"{made}; ln -s {job.folder} $RUNNER_TRACKING/metrics/folder; {log('loss', 1)}")
    assert (code, record["warnings"]) == (0, [])
    assert job.logged("metrics") == [("loss", 1.0)]
    assert job.logged("params") == []


def test_a_script_that_logs_nothing_asks_for_nothing(job: Job) -> None:
    assert job.run("sleep 0.5") == (0, job.read())
    assert job.service.seen == []


@pytest.mark.parametrize("given", ["https://mlflow.example", None])
def test_a_tracking_server_of_the_scripts_own_turns_it_off(job: Job, given: str | None) -> None:
    job.script = {name: value for name, value in job.script.items() if not name.startswith("MLFLOW_")}
    if given:
        job.script["MLFLOW_TRACKING_URI"] = given
    process = job.start(f"echo $PPID; {log('loss', 1)}")
    said, _ = process.communicate(timeout=30)
    assert int(said) == process.pid  # the bootstrapper took the launcher's place
    assert job.service.seen == []


@pytest.mark.parametrize("missing", ["MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID"])
def test_outside_azure_there_is_nothing_to_forward_to(job: Job, missing: str) -> None:
    del job.env[missing]
    process = job.start("echo $PPID")
    said, _ = process.communicate(timeout=30)
    assert int(said) == process.pid


# -- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_workspace_that_cannot_be_reached_is_one_warning(job: Job, ca: trustme.CA) -> None:
    with serving(lambda _: (200, {}), ca) as gone:
        port = gone.port
    job.env["MLFLOW_TRACKING_URI"] = f"azureml://127.0.0.1:{port}/mlflow/v1.0{SCOPE}"
    job.last_s = 0.5
    began = time.monotonic()
    code, record = job.run(f"{log('loss', 1)}; exit 4")
    assert (code, record["reason"]) == (4, "NonZeroExit")
    assert len(record["warnings"]) == 1
    assert "did not all reach the workspace (ConnectionRefusedError" in record["warnings"][0]
    assert time.monotonic() - began < 10


def test_a_certificate_that_nobody_signed_is_not_trusted(job: Job) -> None:
    del job.env["REQUESTS_CA_BUNDLE"]
    job.last_s = 0.5
    code, record = job.run(log("loss", 1))
    assert code == 0
    assert "CERTIFICATE_VERIFY_FAILED" in record["warnings"][0]
    assert job.service.seen == []


def test_overload_is_waited_out_and_nothing_is_sent_twice(job: Job, until: Callable[..., Any]) -> None:
    answers: Iterator[Reply] = iter([(503, {}), (429, {}, {"Retry-After": "1"}), (500, {})])
    job.service.answer = lambda _: next(answers, (200, {}))
    process = job.start(f"{log('loss', 1, 2)}; while [ ! -e go ]; do sleep 0.02; done")
    until(lambda: len(job.service.seen) == 4, "four tries")
    (job.folder / "go").touch()
    process.communicate(timeout=30)
    assert (process.returncode, job.read()["warnings"]) == (0, [])
    times = [each.time for each in job.service.seen]
    assert times[2] - times[1] >= 1.0
    assert job.service.bodies("log-batch")[3:] == [job.service.bodies("log-batch")[0]]


def test_a_value_that_is_refused_costs_only_itself(job: Job) -> None:
    job.service.answer = refusing("too-long", 400, "parameter value too long")
    params = "cd $RUNNER_TRACKING/params; for i in 1 2 3 4 5; do printf $i > p$i; done; printf too-long > p3"
    code, record = job.run(f"{params}; {log('loss', *range(50))}")
    assert code == 0
    assert record["warnings"] == [
        "the workspace refused 1 of the logged values (p3: HTTP 400: parameter value too long); runner has them all"
    ]
    accepted = [body for body in job.service.bodies("log-batch") if "too-long" not in json.dumps(body)]
    assert sorted(each["key"] for body in accepted for each in body.get("params", ())) == ["p1", "p2", "p4", "p5"]
    assert sorted(each["value"] for body in accepted for each in body.get("metrics", ())) == list(range(50))


def test_a_workspace_that_will_not_have_us_is_not_asked_again(job: Job) -> None:
    job.service.answer = lambda _: (403, {"error": {"message": f"no right to write; token {TOKEN}"}})
    code, record = job.run(f"{log('loss', 1)}; sleep 0.5; {log('loss', 2)}; sleep 0.5")
    assert code == 0
    assert len(job.service.seen) == 1
    assert len(record["warnings"]) == 1
    assert "HTTP 403: no right to write" in record["warnings"][0]
    assert TOKEN not in job.record.read_text()


def test_a_redirect_is_not_followed_with_our_token(job: Job, ca: trustme.CA) -> None:
    with serving(lambda _: (200, {}), ca) as elsewhere:
        place = f"https://127.0.0.1:{elsewhere.port}/"
        job.service.answer = lambda _: (307, {}, {"Location": place})
        code, record = job.run(log("loss", 1))
    assert code == 0
    assert "HTTP 307" in record["warnings"][0]
    assert elsewhere.seen == []


def test_a_token_is_replaced_before_it_expires(job: Job) -> None:
    job.env["MLFLOW_TRACKING_TOKEN"] = jwt(exp=time.time() + 60)
    fresh = jwt(exp=time.time() + 9000)
    job.service.answer = lambda seen: (200, {"token": fresh} if seen.path == RENEWAL else {})
    code, record = job.run(log("loss", 1))
    assert (code, record["warnings"]) == (0, [])
    assert [each.path for each in job.service.seen] == [RENEWAL, BATCH]
    assert job.service.seen[1].headers["authorization"] == f"Bearer {fresh}"


# -- signals --------------------------------------------------------------------------------------------------------


def test_a_cancel_reaches_the_script_and_does_not_wait_for_the_workspace(job: Job, until: Callable[..., Any]) -> None:
    job.last_s = 200.0
    job.service.answer = lambda _: (503, {})
    text = f"trap 'echo stopping; exit 0' TERM; {log('loss', 1)}; echo ready; while :; do sleep 0.02; done"
    process = job.start(text)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    until(lambda: job.record.is_file() and json.loads(job.record.read_bytes())["final"], "the verdict")
    process.send_signal(signal.SIGTERM)  # as a platform does that grows impatient
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said.endswith(b"stopping\n")
    record = job.read()
    assert (record["status"], record["exit_code"], record["cancel"]["signal"]) == ("Canceled", 0, "SIGTERM")


def test_the_exit_code_of_a_killed_script_is_kept(job: Job) -> None:
    code, record = job.run(f"{log('loss', 1)}; kill -9 $$")
    assert (code, record["reason"], record["signal"]) == (137, "Signaled", "SIGKILL")
    assert job.logged("metrics") == [("loss", 1.0)]


def test_a_time_limit_is_kept_beside_it(job: Job) -> None:
    process = job.start(f"{log('loss', 1)}; sleep 60", "--timeout", "0.5", "--grace", "1")
    process.communicate(timeout=30)
    assert process.returncode == 124
    assert job.read()["reason"] == "Timeout"
