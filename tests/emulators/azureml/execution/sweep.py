"""A sweep: trials as child runs, given up early by its policy, the best of them told in its properties.

What trials log is read from their run documents: `_metrics`, metric name → list of {"value", "step", "timestamp"} in the
order of their coming. Whoever serves MLflow's REST API writes it.
"""

from __future__ import annotations

import itertools
import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any
from zlib import crc32

from tests.emulators.azureml.execution.clock import duration_s, seconds_since
from tests.emulators.azureml.execution.command import CommandRun, Shutdown
from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.document import Command, Input, command_of
from tests.emulators.azureml.execution.failures import END_STATUSES, RunError, canceled, timeout
from tests.emulators.azureml.execution.logs import SWEEP_LOG, Log
from tests.emulators.azureml.execution.policies import Policy, policy_of
from tests.emulators.azureml.execution.runs import Origin
from tests.emulators.azureml.execution.signals import Signals, SignalsOf
from tests.emulators.azureml.execution.space import Space, Values, space_of, text_of
from tests.emulators.azureml.state import Doc

_POLL_S = 0.1
_MOST = 1000


@dataclass(frozen=True, slots=True)
class Sweep:
    """limit_s: of the whole sweep; the trials' own is in the command."""

    command: Command
    space: Space
    metric: str
    maximize: bool
    policy: Policy | None
    trials: int
    at_once: int
    limit_s: float | None

    def trial(self, values: Values) -> Command:
        """The command of one trial; the trial's component may have the values as inputs."""
        texts = {name: text_of(value) for name, value in values.items()}
        given = {name: Input(literal=text) for name, text in texts.items()}
        return replace(self.command, search_space=texts, inputs={**self.command.inputs, **given})


def sweep_of_job(properties: Mapping[str, Any], name: str) -> Sweep:
    """ValueError: what is wrong with it."""
    trial = {name: value for name, value in (properties.get("trial") or {}).items() if value is not None}
    shared = {member: properties.get(member) for member in ("inputs", "outputs", "computeId")}
    command = command_of({**shared, **trial, "limits": None})
    return sweep_of(properties, command, name)


def sweep_of(told: Mapping[str, Any], command: Command, name: str) -> Sweep:
    """told: a sweep job's properties, or a sweep node; their members are spelled differently."""

    def member(source: Mapping[str, Any], camel: str) -> Any:
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in camel)
        return source.get(camel, source.get(snake))

    limits, objective = told.get("limits") or {}, told.get("objective") or {}
    space = space_of(member(told, "searchSpace") or {}, member(told, "samplingAlgorithm"), crc32(name.encode()))
    trials = int(member(limits, "maxTotalTrials") or _MOST)
    metric, goal = member(objective, "primaryMetric"), str(objective.get("goal") or "").casefold()
    if not metric or goal not in ("maximize", "minimize"):
        raise ValueError("The objective of a sweep needs primaryMetric, and a goal: Maximize or Minimize.")
    command = replace(
        command,
        limit_s=duration_s(member(limits, "trialTimeout")),
        search_space=dict.fromkeys(space.axes, ""),
    )
    policy = policy_of(member(told, "earlyTermination"))
    return Sweep(
        command, space, str(metric), goal == "maximize", policy, trials,
        min(trials, int(member(limits, "maxConcurrentTrials") or trials)), duration_s(limits.get("timeout")),
    )  # fmt: skip


class SweepRun:
    """Drives one sweep. Trials are found again by their ids, `SWEEP_0`, `SWEEP_1`, …, with their values in a tag."""

    def __init__(self, context: Context, run_id: str, sweep: Sweep, signals: Signals, signals_of: SignalsOf) -> None:
        self._context, self._run_id, self._sweep = context, run_id, sweep
        self._signals, self._signals_of = signals, signals_of
        self._threads: dict[str, Thread] = {}
        self._judged: dict[str, int] = {}
        self._begun, self._used_up = 0, False
        self._failure: RunError | None = None
        self._log = Log(context, run_id, SWEEP_LOG)

    def drive(self) -> None:
        """To the run's end. Shutdown: the emulator's end came before."""
        context = self._context
        goal = {"name": self._sweep.metric, "goal": "maximize" if self._sweep.maximize else "minimize"}
        told = {"primary_metric_config": json.dumps(goal), "resume_from": "null", "runTemplate": "HyperDrive",
                "azureml.runsource": "hyperdrive", "platform": "AML"}  # fmt: skip
        context.runs.add(self._run_id, "properties", told)
        context.runs.move(self._run_id, "Running")
        while not self._over():
            self._start_trials()
            self._pause()
            self._threads = {name: thread for name, thread in self._threads.items() if thread.is_alive()}
            self._give_up()
            self._limit()
        if self._signals.asked == "shutdown":
            raise Shutdown
        context.runs.move(self._run_id, "Finalizing")
        self._tell_best()
        context.runs.end(self._run_id, self._verdict())

    def _pause(self) -> None:
        """Until something is asked; from then on until a trial has ended."""
        if self._signals.asked is None:
            self._signals.wait(_POLL_S)
        for thread in itertools.islice(self._threads.values(), 1):
            thread.join(_POLL_S if self._signals.asked else 0)

    def _over(self) -> bool:
        if self._threads:
            return False
        done = self._used_up or self._begun >= self._sweep.trials
        return done or self._signals.asked is not None or self._failure is not None

    def _start_trials(self) -> None:
        while (
            len(self._threads) < self._sweep.at_once and self._begun < self._sweep.trials and not self._used_up
            and self._signals.asked is None and self._failure is None
        ):  # fmt: skip
            trial = self._trial(self._begun)
            if trial is None:
                self._used_up = True
                return
            self._begun += 1
            if trial["status"] in END_STATUSES:
                continue
            run_id = trial["runId"]
            self._log.line(f"Scheduled job, id='{run_id}'")
            signals = self._signals_of(run_id, self._signals)
            if trial["_cancel"]:
                signals.ask("cancel")
            thread = Thread(target=self._run_trial, args=(trial, signals), daemon=True, name=run_id)
            self._threads[run_id] = thread
            thread.start()

    def _trial(self, number: int) -> Doc | None:
        run_id = f"{self._run_id}_{number}"
        if (there := self._context.state.get("run", run_id)) is not None:
            return there
        before = [(_values(run), self._score(run)) for run in self._trials()]
        values = self._sweep.space.trial(number, before)
        if values is None:
            return None
        own, text = self._context.runs.get(self._run_id), json.dumps(values)
        self._context.runs.add(self._run_id, "tags", {f"_aml_system_{run_id}": text})
        origin = Origin(
            own["rootRunId"], own["experimentName"], run_id, "azureml.scriptrun", parent=self._run_id, node=str(number),
            compute=self._sweep.command.compute,
            properties={"azureml.runsource": "hyperdrive.trial", "_parameters": text},
            tags={"hyperparameters": text, "_aml_system_hyperparameters": text},
        )  # fmt: skip
        return self._context.runs.create(run_id, origin)

    def _run_trial(self, trial: Doc, signals: Signals) -> None:
        runs, run_id = self._context.runs, trial["runId"]
        try:
            CommandRun(self._context, run_id, self._sweep.trial(_values(trial)), signals).drive()
        except Shutdown:
            return
        except Exception:  # a fault of the emulator has to be seen by whoever waits for the job
            message = f"The emulator failed:\n{traceback.format_exc()}"
            runs.end(run_id, RunError(message, code="ServiceError", inner=("EmulatorFault",)))

    # -- what trials log ------------------------------------------------------------------------------------------

    def _trials(self) -> list[Doc]:
        return self._context.runs.children(self._run_id)

    def _logged(self, run: Doc) -> list[float]:
        return [float(one["value"]) for one in run["_metrics"].get(self._sweep.metric, [])]

    def _score(self, run: Doc) -> float | None:
        """Higher is better."""
        sign = 1 if self._sweep.maximize else -1
        return max((sign * value for value in self._logged(run)), default=None)

    def _give_up(self) -> None:
        policy = self._sweep.policy
        if policy is None or not self._threads:
            return
        trials = self._trials()
        logged = {run["runId"]: self._logged(run) for run in trials}
        for run in trials:
            name = run["runId"]
            reports = len(logged[name])
            if name not in self._threads or run["_cancel"] or reports <= self._judged.get(name, 0):
                continue
            self._judged[name] = reports
            if policy.due(reports) and policy.stops(name, logged, maximize=self._sweep.maximize):
                self._log.line(f"Early termination policy cancels '{name}'")
                self._context.runs.add(self._run_id, "tags", {f"_aml_system_{name}_cancelled": "true"})
                self._cancel(name)

    def _limit(self) -> None:
        started = self._context.runs.get(self._run_id)["startTimeUtc"]
        limit_s = self._sweep.limit_s
        if self._failure is None and limit_s is not None and started and seconds_since(started) > limit_s:
            self._failure = timeout(limit_s)
            for name in self._threads:
                self._cancel(name)

    def _cancel(self, name: str) -> None:
        self._context.runs.ask_cancel(name)
        self._signals_of(name).ask("cancel")

    def _tell_best(self) -> None:
        trials = [run for run in self._trials() if run["status"] == "Completed" and self._score(run) is not None]
        if not trials:
            return
        best = max(trials, key=lambda run: self._score(run) or 0.0)
        score = (self._score(best) or 0.0) * (1 if self._sweep.maximize else -1)
        told = {"best_child_run_id": best["runId"], "score": str(score), "best_metric_status": "Succeeded",
                "best_data_container_id": best["dataContainerId"]}  # fmt: skip
        self._context.runs.add(self._run_id, "properties", told)
        outputs = {name: (best["_outputs"][one["assetId"]]["uri"], "") for name, one in best["outputs"].items()}
        kinds = {name: output.type for name, output in self._sweep.command.outputs.items()}
        self._context.runs.set_outputs(
            self._run_id, {name: (uri, kinds.get(name, "uri_folder")) for name, (uri, _) in outputs.items()}
        )

    def _verdict(self) -> RunError | None:
        if self._signals.asked == "cancel":
            self._signals.linger(self._context.profile.cancel_lingers_s)
            return canceled()
        if self._failure is not None:
            return self._failure
        if any(run["status"] == "Failed" for run in self._trials()):
            return RunError("User errors were found in at least one of the child runs.", inner=("ChildRunFailed",))
        return None


def _values(run: Doc) -> Values:
    values = json.loads(run["properties"]["_parameters"])
    assert isinstance(values, dict)
    return values


def drive_sweep(context: Context, job: Doc, signals: Signals, signals_of: SignalsOf) -> None:
    sweep = sweep_of_job(job["properties"], job["name"])
    SweepRun(context, job["name"], sweep, signals, signals_of).drive()
