"""One command in one container: prepared, queued, run, followed to its end, its files saved, its end recorded."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.emulators.azureml.execution import failures
from tests.emulators.azureml.execution.artifacts import Artifacts
from tests.emulators.azureml.execution.clock import seconds_since
from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.data import (
    Staged,
    bring_code,
    bring_inputs,
    destination,
    hand_over,
    take_outputs,
)
from tests.emulators.azureml.execution.docker import Ended, EngineError, Mount
from tests.emulators.azureml.execution.document import Command
from tests.emulators.azureml.execution.expressions import replace
from tests.emulators.azureml.execution.failures import END_STATUSES, RunError
from tests.emulators.azureml.execution.images import image_for
from tests.emulators.azureml.execution.logs import SYSTEM_LOG, USER_LOG, Log, Pump
from tests.emulators.azureml.execution.signals import Signals
from tests.emulators.azureml.execution.variables import service_variables

_POLL_S = 0.1
_SHELL = 'shell=/bin/sh; [ -x /bin/bash ] && shell=/bin/bash; exec "$shell" -c "$1" >>"$2" 2>&1'


class Shutdown(Exception):  # noqa: N818 - no error: the emulator ends, the run does not
    """The emulator ends; the container goes on, and the run's document stays as it is."""


class CommandRun:
    """Drives one run. Everything it needs is in the state and on the disk, so that a later process can go on with it."""

    def __init__(self, context: Context, run_id: str, command: Command, signals: Signals) -> None:
        self._context, self._run_id, self._command, self._signals = context, run_id, command, signals
        self._places = context.places(run_id)
        self._artifacts = Artifacts(context, self._places)
        self._failure: RunError | None = None
        self._container = False
        self._ending: subprocess.Popen[bytes] | None = None
        context.runs.set_outputs(run_id, output_uris(run_id, command))

    def drive(self) -> str:
        """To the end; the run's status then. Shutdown: the emulator's end came before."""
        if self._context.runs.status(self._run_id) in END_STATUSES:
            return self._context.runs.status(self._run_id)
        failure: RunError | None
        try:
            failure = self._attempts()
        except RunError as known:
            failure = known
        except EngineError as error:
            failure = RunError(f"The node could not run the container: {error}", code="ServiceError")
        if failure is not None and failure.status == "Canceled" and not failure.message:
            self._signals.linger(self._context.profile.cancel_lingers_s)
        self._context.runs.end(self._run_id, failure)
        if self._container:  # not before the end is told: who comes after a kill judges by the container
            self._context.engine.remove(self._places.container)
        shutil.rmtree(self._places.folder, ignore_errors=True)
        return self._context.runs.status(self._run_id)

    def _attempts(self) -> RunError | None:
        """A job whose node was taken begins again, if the service is set to that."""
        while True:
            failure = self._attempt()
            again = failure == failures.preempted() and self._context.profile.preemption == "requeue"
            if not again:
                return failure
            self._signals.answered()
            self._context.engine.remove(self._places.container)
            self._failure = self._ending = None
            self._artifacts = Artifacts(self._context, self._places)
            self._context.runs.move(self._run_id, "Queued")

    def _attempt(self) -> RunError | None:
        runs = self._context.runs
        fresh = self._container or runs.status(self._run_id) == "NotStarted"
        if not fresh and self._context.engine.began(self._places.container):
            self._container = True
            with self._node(at_once=True):
                return self._follow()
        if runs.status(self._run_id) in ("Running", "Finalizing"):
            return failures.node_lost()  # an earlier process began it, and the container is gone
        runs.move(self._run_id, "Preparing")
        image = image_for(self._context, self._run_id, self._command.environment)
        runs.move(self._run_id, "Queued")
        self._pause(self._context.profile.queue_s)
        with self._node(at_once=False):
            self._launch(image)
            return self._follow()

    @contextmanager
    def _node(self, *, at_once: bool) -> Iterator[None]:
        command, nodes = self._command, self._context.nodes
        with nodes.held(command.compute, command.nodes, self._signals, at_once=at_once) as held:
            if not held:
                self._heed()
            yield

    def _pause(self, seconds: float) -> None:
        """Wait, unless the run is asked for something meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self._signals.wait(max(0.0, min(_POLL_S, end - time.monotonic())))
            self._heed()
            if time.monotonic() >= end:
                return

    def _heed(self) -> None:
        """Before there is a container: what was asked ends the run."""
        asked = self._signals.asked
        if asked == "shutdown":
            raise Shutdown
        if asked == "cancel":
            raise failures.canceled()
        if asked == "preempt":
            self._signals.answered()  # no node, nothing to lose

    # -- the container --------------------------------------------------------------------------------------------

    def _launch(self, image: str) -> None:
        context, places, command = self._context, self._places, self._command
        system = Log(context, self._run_id, SYSTEM_LOG)
        system.line(f"Node taken. Image {image}")
        shutil.rmtree(places.folder, ignore_errors=True)
        bring_code(context, places, command)
        staged = bring_inputs(context, places, command)
        hand_over(places, context.engine.user(image))
        text = self._text(staged)
        places.log.parent.mkdir(parents=True)
        places.log.parent.chmod(0o777)
        places.log.touch()
        places.log.chmod(0o666)
        log = Log(context, self._run_id, USER_LOG)
        context.runs.set(self._run_id, "_log_base", log.size)
        mounts = [
            Mount(places.code, places.code_inside),
            Mount(places.log.parent, places.log_inside),
            *staged.mounts,
        ]
        if context.has_network and context.outside.ca is not None:
            mounts.append(Mount(context.outside.ca, places.ca_inside, read_only=True))
        run = context.runs.get(self._run_id)
        own = dict(command.variables) | staged.variables
        self._container = True
        context.engine.run(
            places.container, image, ("/bin/sh", "-c", _SHELL, "azureml", text, f"{places.log_inside}/{places.log.name}"),
            options=self._options(), mounts=mounts, workdir=places.code_inside,
            variables=service_variables(context, places, run, command.compute) | own,
        )  # fmt: skip
        context.runs.move(self._run_id, "Running")
        system.line("Container started.")

    def _text(self, staged: Staged) -> str:
        try:
            return replace(self._command.command, staged.values)
        except KeyError as error:
            raise RunError(
                f"The command refers to {error.args[0]}, which the job does not have.", inner=("BadArgument",)
            ) from None

    def _options(self) -> list[str]:
        network = self._context.profile.network
        return ["--network", network, "--shm-size", self._command.shm_size, *shlex.split(self._command.docker_args)]

    def _follow(self) -> RunError | None:
        """Until the container ended and what it left is saved."""
        places, engine = self._places, self._context.engine
        base = self._context.runs.get(self._run_id)["_log_base"]
        pump = Pump(Log(self._context, self._run_id, USER_LOG), places.log, base)
        self._context.runs.move(self._run_id, "Running")
        waiting = engine.wait(places.container)
        try:
            while waiting.poll() is None:
                pump.due()
                self._artifacts.due()
                self._end_if_asked()
                # Once the end is on its way, nothing new is to be heard, and wait would return at once.
                time.sleep(_POLL_S) if self._ending else self._signals.wait(_POLL_S)
        finally:
            waiting.kill()
            waiting.wait()
            if self._ending is not None:
                self._ending.wait()
        ended = engine.ended(places.container)
        if ended is None:
            raise EngineError("the engine no longer answers for the container")
        failure = self._failure or _judged(ended)
        self._save(pump, failure)
        return failure

    def _end_if_asked(self) -> None:
        if self._signals.asked == "shutdown":
            raise Shutdown
        if self._ending is not None:
            return
        grace_s = self._context.profile.cancel_grace_s
        if self._signals.asked == "cancel":
            self._failure = failures.canceled()
        elif self._signals.asked == "preempt":
            self._failure, grace_s = failures.preempted(), 0.0
        elif (limit_s := self._command.limit_s) is not None and self._context.profile.kill_at_limit:
            started = self._context.runs.get(self._run_id)["startTimeUtc"]
            if started and seconds_since(started) > limit_s:
                self._failure = failures.timeout(limit_s)
        if self._failure is not None:
            self._ending = self._context.engine.stop(self._places.container, grace_s)

    def _save(self, pump: Pump, failure: RunError | None) -> None:
        self._context.runs.move(self._run_id, "Finalizing")
        pump.all()
        if failure == failures.preempted():
            return  # the node is gone, and what was only there with it
        self._artifacts.all()
        take_outputs(self._context, self._places, self._command, completed=failure is None)
        Log(self._context, self._run_id, SYSTEM_LOG).line("Outputs saved.")
        if failure is None:
            self._signals.linger(self._context.profile.ending_s)


def _judged(ended: Ended) -> RunError | None:
    if ended.oom_killed and ended.code == 137:
        return failures.out_of_memory()
    return failures.exit_code(ended.code) if ended.code else None


def output_uris(run_id: str, command: Command) -> dict[str, tuple[str, str]]:
    """What run history tells of a command's outputs: the named ones and the artifacts, `default`."""
    named = {
        name: (destination(run_id, name, output), output.type)
        for name, output in command.outputs.items()
        if name != "default"
    }
    default = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{run_id}"
    return named | {"default": (default, "uri_folder")}
