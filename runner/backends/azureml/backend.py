"""Tasks as jobs of an Azure ML workspace.

A job's name follows from its task's key, so a submit that is repeated finds the job. `submit` goes through azure-ai-ml,
which knows how to upload; everything after it is plain REST, and done in the background (`follow`): `poll` and `wait` never
wait for the network.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from runner.backends.azureml import installed, secrets
from runner.backends.azureml.blobs import Datastores
from runner.backends.azureml.bring import unavailable
from runner.backends.azureml.credential import Tokens
from runner.backends.azureml.follow import Follower
from runner.backends.azureml.names import child, job_name, root_of, run_of
from runner.backends.azureml.outputs import Outputs
from runner.backends.azureml.rest import Rest
from runner.backends.azureml.service import Service
from runner.backends.azureml.watched import shown, unfinished
from runner.backends.base import Capabilities, Layout, Tried
from runner.errors import BackendError, NotFoundError, RunnerError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from runner.backends.azureml.sdk import Client
    from runner.backends.azureml.target import Target
    from runner.backends.base import Box, Handle, Observation, Task
    from runner.model import Step

_ENDING = frozenset({"Completed", "Failed", "Canceled", "Finalizing"})
"""What Azure cancels no more; of one that is Finalizing the script has ended."""


class AzureMLBackend:
    """Tasks as jobs of an Azure ML workspace. Handles: a job's name; of a child `JOB/RUN`."""

    name = "azureml"
    capabilities = Capabilities(
        images=True,
        cpus=False,  # the compute's size decides
        memory=False,
        gpus=False,
        shm=True,
        ulimits=False,
        secrets=False,  # Azure stores a job's variables; secrets are named, and read in the job
        isolates=True,
        remote=True,
    )

    def __init__(self, target: Target) -> None:
        """Ask nobody yet.

        Raises:
            CapabilityError: what it needs is not installed.
        """
        installed.check()
        self._target = target
        rest = Rest(Tokens(target.auth))
        self._rest = rest
        self.service = Service(rest, target)
        self._datastores = Datastores(self.service)
        self.outputs = Outputs(self.service, self._datastores)
        self._follower = Follower(self.service, self._datastores, self.outputs)
        self._client: Client | None = None
        self._wholes: dict[Handle, Task] = {}
        self._version = 0

    # -- pure -----------------------------------------------------------------------------------------------------

    def layout(
        self, box: Box, inputs: Mapping[str, str], outputs: Mapping[str, str | None], files: Collection[str] = ()
    ) -> Layout:
        """Azure's own expressions, which it replaces in the command. HOME and where it logs to are the launcher's to say."""
        del box, files
        return Layout(
            work=".",
            home="",
            inputs={name: f"${{{{inputs.{name}}}}}" for name in inputs},
            outputs={name: f"${{{{outputs.{name}}}}}" for name in outputs},
            tracking="logs/runner/mlflow",
        )

    def render(self, task: Task) -> Mapping[str, object]:
        """The job as Azure ML's YAML has it."""
        from runner.backends.azureml.document import document

        return document(task)

    # -- before anything is sent ----------------------------------------------------------------------------------

    def check(self, steps: Sequence[Step]) -> None:
        """See `PlanBackend.check`.

        azure-ai-ml is imported while the answers are on their way: a supervisor that is forked from here has it then.
        """
        from runner.backends.azureml import sdk
        from runner.backends.azureml.arm import Arm
        from runner.backends.azureml.checks import check
        from runner.backends.azureml.outputs import download_limit

        download_limit()  # a value that is none would show only when the run has ended
        forked = threading.active_count() == 1  # one that is spawned has to import for itself
        self._rest.tokens.prepare()
        check(Arm(self._rest), self._target, steps, meanwhile=sdk.ready if forked else None)

    def registry(self) -> str | None:
        """The host of the workspace's own registry; None: it has none yet."""
        from runner.backends.azureml.arm import Arm
        from runner.backends.azureml.pulls import own_registry

        return own_registry(Arm(self._rest), self._target)

    # -- running --------------------------------------------------------------------------------------------------

    def submit(self, task: Task) -> Handle:
        """Make the job; see `Backend.submit`.

        Whether it is there is not asked before: its name is taken then, so the service refuses a second one.
        """
        handle = self._made(task)
        self._watch(task, handle, submitted=True)
        return handle

    def _made(self, task: Task) -> Handle:
        task = secrets.settled(task, self._vault)
        document = dict(self.render(task))
        try:
            self._sdk().submit(document, task)
        except BackendError as error:
            # The job may have been accepted, and only the answer was lost.
            if (found := self._found_after(error, task)) is not None:
                return found
            raise
        return job_name(task.key)

    def _sdk(self) -> Client:
        from runner.backends.azureml import sdk

        if self._client is None:
            self._client = sdk.Client(self._target, self._rest.tokens, bars=True)
        return self._client

    def _found_after(self, error: BackendError, task: Task) -> Handle | None:
        """The job that a refused submit made all the same. Where that cannot be asked, nothing is decided: it may run."""
        try:
            return self.find(task)
        except UnavailableError:
            raise unavailable(error) from None
        except RunnerError:
            return None

    def _vault(self) -> str:
        """The name of the workspace's own vault."""
        place = str((self.service.workspace().get("properties") or {}).get("keyVault") or "")
        if not place:
            raise BackendError("the workspace does not say which vault is its own", "name it: keyvault:VAULT/NAME")
        return secrets.vault_of(place)

    def find(self, task: Task) -> Handle | None:
        """The job of that key; of a step of a plan that is followed, its child run."""
        for root, whole in self._wholes.items():
            for member in whole.whole.members if whole.whole else ():
                if member.task.key == task.key:
                    return self.steps(root).get(member.name)
        name = job_name(task.key)
        try:
            job = self.service.job(name)
        except NotFoundError:
            return None
        key = ((job.get("properties") or {}).get("tags") or {}).get("runner.key")
        if key not in {None, task.key}:
            raise BackendError(
                f"the job {name} is there already, and of another run ({key})", "submit under another name"
            )
        return name

    def watch(self, task: Task, handle: Handle) -> None:
        """Follow a task; its log goes on where it stopped."""
        self._watch(task, handle, submitted=False)

    def _watch(self, task: Task, handle: Handle, *, submitted: bool) -> None:
        if task.whole is not None:
            self._wholes[handle] = task
        self._follower.watch(task, handle, submitted=submitted)

    def poll(self, handles: Sequence[Handle]) -> Mapping[Handle, Observation | None]:
        """What is known: of followed tasks as of the last second, of others by one question for all of them."""
        found: dict[Handle, Observation | None] = {}
        strange, taken_up = [], []
        for handle in handles:
            one = self._follower.known(handle)
            if one is None:
                if (seen := self._follower.unwatched(handle)) is not None:
                    found[handle] = seen
                else:
                    strange.append(handle)
                continue
            if self._follower.problem is not None and not one.settled:
                raise self._follower.problem.with_traceback(None)  # it is raised again and again
            found[handle] = shown(one)
            if one.guessed:
                taken_up.append(handle)
        if taken_up:
            found |= {handle: unfinished(seen) for handle, seen in self._asked(taken_up).items() if seen is not None}
        if strange:
            states = self._asked(strange)
            if missing := [handle for handle in strange if handle not in states]:
                raise UnavailableError(f"the run history does not tell of {missing[0]} now", "it is asked again")
            found |= states
        return {handle: found[handle] for handle in handles}

    def _asked(self, handles: Sequence[Handle]) -> dict[Handle, Observation | None]:
        try:
            return self._follower.states(handles)
        except RunnerError as error:
            raise unavailable(error) from None

    def steps(self, handle: Handle) -> Mapping[str, Handle]:
        """The children of a plan's job that are there; see `PlanBackend.steps`."""
        one = self._follower.known(handle)
        if one is None or one.task.whole is None:
            return {}
        if one.parts is not None:
            return one.parts.steps
        try:
            return self._follower.look(one).steps
        except NotFoundError:  # the run history does not know the job yet
            return {}
        except RunnerError as error:
            raise unavailable(error) from None

    def tried(self, handle: Handle) -> Tried:
        """What is known of its sweeps, as of when the newest of `steps` was asked for; see `PlanBackend.tried`."""
        one = self._follower.known(handle)
        return Tried() if one is None or one.parts is None else one.parts.tried

    def wait(self, timeout: float) -> None:
        """Return when something may have changed; logs are copied in the background."""
        self._version = self._follower.wait(timeout, self._version)

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """Azure's cancel, which is the only one: `force` asks once more. Of one step of a plan there is none.

        Raises:
            UnavailableError: it cannot be had now, or is refused; the job goes on, and may be asked again.
        """
        del force
        if root_of(handle) != handle:
            return
        try:
            self.service.cancel(handle)
        except NotFoundError:
            return
        except RunnerError as error:
            if isinstance(error, UnavailableError) or not self._ending(handle):
                raise unavailable(error) from None
        self._follower.hurry()

    def _ending(self, handle: Handle) -> bool:
        """Whether a job has ended, or cannot be stopped from doing so."""
        try:
            return str((self.service.job(handle).get("properties") or {}).get("status")) in _ENDING
        except RunnerError:
            return False

    def finish(self, handle: Handle) -> Sequence[str]:
        """What the task left is in the box when this returns; see `Backend.finish`."""
        return self._follower.warnings(handle)

    def remove(self, handle: Handle) -> None:
        """Follow it no more. The job stays where it is: it is the workspace's own record."""
        self._follower.forget(handle)
        self._wholes.pop(handle, None)

    def close(self) -> None:
        """Close connections and threads. Jobs go on."""
        self._rest.close()
        self._datastores.close()
        self._follower.close()

    # -- for the other use cases ----------------------------------------------------------------------------------

    def download(self, handle: Handle, names: Collection[str], target: Path) -> tuple[list[str], list[str]]:
        """Bring named outputs, and `outputs` and `logs`, that were left on Azure ML, whatever their size.

        Args:
            names: of the outputs, with `outputs` and `logs` where these are meant. target: each becomes a folder in there.

        Returns:
            The names of those that were there; warnings.
        """
        return self.outputs.download(run_of(handle), names, target)

    def handle_of(self, key: str, path: str | None) -> Handle:
        """See `PlanBackend.handle_of`; a step is told by its display name.

        Raises:
            NotFoundError: the job has no such step.
        """
        root = job_name(key)
        if path is None:
            return root
        for run in self.service.children(root):
            if run.get("displayName") == path:
                return child(root, str(run.get("runId")))
        raise NotFoundError(f"the job {root} has no step {path}", "see it in the studio: runner open")

    def studio(self, handle: Handle) -> str:
        """The address of the job's page in the studio."""
        return f"https://ml.azure.com/runs/{run_of(handle)}?wsid={self._target.path}"
