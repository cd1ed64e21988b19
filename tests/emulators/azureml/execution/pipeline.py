"""A pipeline: its nodes as child runs, each as soon as what it needs is there, in threads of their own."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Mapping
from threading import Thread
from uuid import uuid4

from tests.emulators.azureml.execution.binding import Scope, bound_output, command_of_node, scope_of_job
from tests.emulators.azureml.execution.command import CommandRun, Shutdown
from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.data import destination
from tests.emulators.azureml.execution.document import Input, Output
from tests.emulators.azureml.execution.failures import END_STATUSES, RunError, canceled
from tests.emulators.azureml.execution.graph import Graph, Node, graph_of_component, graph_of_job
from tests.emulators.azureml.execution.logs import PIPELINE_LOG, Log
from tests.emulators.azureml.execution.reuse import earlier, reuse_key, take_over
from tests.emulators.azureml.execution.runs import Origin
from tests.emulators.azureml.execution.signals import Signals, SignalsOf
from tests.emulators.azureml.execution.sweep import SweepRun, sweep_of
from tests.emulators.azureml.state import Doc

_POLL_S = 0.05


class PipelineRun:
    """Drives one pipeline, of a job or of a component in another one. Children are found again by their node's name."""

    def __init__(
        self, context: Context, run_id: str, graph: Graph, scope: Scope, signals: Signals, signals_of: SignalsOf,
        *, goes_on: bool,
    ) -> None:  # fmt: skip
        """goes_on: nodes that do not need what failed are run all the same."""
        self._context, self._run_id, self._graph, self._scope = context, run_id, graph, scope
        self._signals, self._signals_of, self._goes_on = signals, signals_of, goes_on
        self._threads: dict[str, Thread] = {}
        self._ended: dict[str, bool] = {}
        self._gave_up = False
        self._ids = {run["_node"]: run["runId"] for run in context.runs.children(run_id)}
        self._log = Log(context, run_id, PIPELINE_LOG)

    def drive(self) -> None:
        """To the run's end. Shutdown: the emulator's end came before."""
        self._context.runs.move(self._run_id, "Running")
        try:
            while not self._over():
                self._start_ready()
                self._signals.wait(_POLL_S) if self._signals.asked is None else self._join_one()
                self._collect()
        finally:
            for thread in self._threads.values():
                thread.join()
        if self._signals.asked == "shutdown":
            raise Shutdown
        self._log.line("Finishing experiment: no runs left and nothing to schedule.")
        self._context.runs.move(self._run_id, "Finalizing")
        self._context.runs.end(self._run_id, self._verdict())

    def _over(self) -> bool:
        if self._threads:
            return False
        return self._signals.asked is not None or self._failed_for_good() or not list(self._graph.settled(self._ended))

    def _join_one(self) -> None:
        next(iter(self._threads.values())).join(_POLL_S) if self._threads else None

    def _failed_for_good(self) -> bool:
        return not self._goes_on and not all(self._ended.values())

    def _start_ready(self) -> None:
        if self._signals.asked is not None or self._failed_for_good():
            return
        ready = [node for node in self._graph.settled(self._ended) if node.name not in self._threads]
        told = []
        for node in itertools.takewhile(lambda _: self._signals.asked is None, ready):
            child = self._child(node)
            run_id = child["runId"]
            told.append(f"Submitting 1 runs, first five are: {child['properties']['azureml.nodeid']}:{run_id}")
            self._threads[node.name] = Thread(target=self._run_child, args=(node, run_id), daemon=True, name=run_id)
            self._threads[node.name].start()
        self._log.lines(told)

    def _collect(self) -> None:
        told = []
        for name, thread in list(self._threads.items()):
            if thread.is_alive():
                continue
            del self._threads[name]
            run = self._context.runs.get(self._ids[name])
            if run["status"] not in END_STATUSES:
                continue  # the emulator ends
            self._ended[name] = run["status"] == "Completed"
            told.append(f"Completing processing run id {run['runId']}.")
        self._log.lines(told)
        if self._failed_for_good() and self._signals.asked is None and not self._gave_up:
            self._gave_up = True
            for name in self._threads:
                cancel_tree(self._context, self._ids[name], self._signals_of)

    def _verdict(self) -> RunError | None:
        if self._signals.asked == "cancel":
            self._signals.linger(self._context.profile.cancel_lingers_s)
            return canceled()
        failed = [name for name, completed in self._ended.items() if not completed]
        if not failed:
            return None
        nodes = ", ".join(f"/{name}" for name in failed)
        text = f"Pipeline has failed child jobs. Failed nodes: {nodes}. For more details and logs, please go to the job"
        return RunError(f"{text} detail page and check the child jobs.", inner=("PipelineHasStepJobFailed",))

    # -- children -------------------------------------------------------------------------------------------------

    def _child(self, node: Node) -> Doc:
        """The node's run, made unless an earlier process made it."""
        if (there := self._ids.get(node.name)) is not None:
            return self._context.runs.get(there)
        own = self._context.runs.get(self._run_id)
        told = {
            "azureml.runsource": "azureml.StepRun", "azureml.nodeid": uuid4().hex[:8], "StepType": _STEP_TYPES[node.kind],
            "azureml.pipelinerunid": self._run_id, "azureml.rootpipelinerunid": own["rootRunId"],
            "azureml.moduleName": str(node.spec.get("name") or node.name), "azureml.moduleid": node.component,
        }  # fmt: skip
        origin = Origin(
            own["rootRunId"], own["experimentName"], node.display_name, "azureml.StepRun", parent=self._run_id,
            node=node.name, compute=node.compute or self._scope.compute, properties=told,
            tags=node.node.get("tags") or {},
        )  # fmt: skip
        self._ids[node.name] = str(uuid4())
        return self._context.runs.create(self._ids[node.name], origin)

    def _run_child(self, node: Node, run_id: str) -> None:
        runs, signals = self._context.runs, self._signals_of(run_id, self._signals)
        try:
            if runs.status(run_id) in END_STATUSES:
                self._made(node, run_id, _taken(runs.get(run_id), self._scope.node_outputs(node)))
                return
            if runs.get(run_id)["_cancel"]:
                signals.ask("cancel")
            DRIVERS[node.kind](self, node, run_id, signals)
        except Shutdown:
            return
        except (RunError, ValueError) as error:
            runs.end(run_id, error if isinstance(error, RunError) else RunError(str(error), inner=("BadArgument",)))
        except Exception:  # a fault of the emulator has to be seen by whoever waits for the job
            message = f"The emulator failed:\n{traceback.format_exc()}"
            runs.end(run_id, RunError(message, code="ServiceError", inner=("EmulatorFault",)))

    def command(self, node: Node, run_id: str, signals: Signals) -> None:
        command = command_of_node(node, self._scope)
        self._made(node, run_id, command.outputs)
        key = reuse_key(node, command) if self._context.profile.reuse else None
        if key is not None and (source := earlier(self._context, key)) is not None:
            take_over(self._context, run_id, source, command)
            self._made(node, run_id, _taken(self._context.runs.get(run_id), command.outputs))
            return
        if CommandRun(self._context, run_id, command, signals).drive() == "Completed" and key is not None:
            self._context.runs.set(run_id, "_reuse", key)

    def sweep(self, node: Node, run_id: str, signals: Signals) -> None:
        sweep = sweep_of(node.node, command_of_node(node, self._scope), run_id)
        SweepRun(self._context, run_id, sweep, signals, self._signals_of).drive()
        run = self._context.runs.get(run_id)
        if run["status"] == "Completed":
            self._made(node, run_id, _taken(run, sweep.command.outputs))

    def nested(self, node: Node, run_id: str, signals: Signals) -> None:
        outputs = {}
        for name, output in self._scope.node_outputs(node).items():
            given = node.outputs.get(name) or {}
            placed = given.get("uri") or (self._scope.placed.get(bound_output(given) or "") or Output()).uri
            outputs[name] = output if placed else Output(output.type, None, output.mode)
        graph = graph_of_component(node.spec, self._context.state)
        compute = node.compute or self._scope.compute
        scope = Scope(self._scope.node_inputs(node), outputs, compute, self._scope.datastore)
        PipelineRun(self._context, run_id, graph, scope, signals, self._signals_of, goes_on=self._goes_on).drive()
        self._made(node, run_id, _taken(self._context.runs.get(run_id), outputs))

    def _made(self, node: Node, run_id: str, outputs: Mapping[str, Output]) -> None:
        """What others can read of the node now; an output that is the pipeline's own is shown as one."""
        for name, output in outputs.items():
            uri = destination(run_id, name, output)
            self._scope.made[(node.name, name)] = Input(uri=uri, type=output.type)
            own = bound_output(node.outputs.get(name) or {})
            if own is not None:
                self._context.runs.set_outputs(self._run_id, {own: (uri, output.type)})


def _taken(run: Doc, outputs: Mapping[str, Output]) -> dict[str, Output]:
    """Where the run's outputs really are."""
    return {
        name: Output(output.type, run["_outputs"][run["outputs"][name]["assetId"]]["uri"], output.mode)
        for name, output in outputs.items()
        if name in run["outputs"]
    }


def cancel_tree(context: Context, run_id: str, signals_of: SignalsOf) -> None:
    """The run and everything below it."""
    if not context.runs.ask_cancel(run_id):
        return
    signals_of(run_id).ask("cancel")
    for child in context.runs.children(run_id):
        cancel_tree(context, child["runId"], signals_of)


def drive_pipeline(context: Context, job: Doc, signals: Signals, signals_of: SignalsOf) -> None:
    properties = job["properties"]
    scope = scope_of_job(properties, job["name"])
    graph = graph_of_job(properties, context.state)
    settings = properties.get("settings") or {}
    goes_on = bool(settings.get("continue_on_step_failure"))
    PipelineRun(context, job["name"], graph, scope, signals, signals_of, goes_on=goes_on).drive()


_STEP_TYPES = {"command": "PythonScriptStep", "pipeline": "SubGraphCloudStep", "sweep": "HyperDriveStep"}
DRIVERS: dict[str, Callable[[PipelineRun, Node, str, Signals], None]] = {
    "command": PipelineRun.command,
    "pipeline": PipelineRun.nested,
    "sweep": PipelineRun.sweep,
}
