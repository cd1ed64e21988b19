"""What every name in a job means here: its places, environments and computes by runner.yaml, and all that cannot be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import composer, data, environments
from runner.data.place import without_login
from runner.errors import RunnerError, SpecError
from runner.job import Environment, Graph, Mode
from runner.model import Step
from runner.spec import names
from runner.submission import elsewhere, guards, refusing
from runner.sweeps import rules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.backends.base import Backend, Capabilities
    from runner.data import Place
    from runner.drafts import Draft, Drafts, Given
    from runner.job import Code, Where
    from runner.model import Limits, Remote
    from runner.spec.mappings import Compute
    from runner.submission.job import JobRequest


@dataclass(frozen=True, slots=True)
class Settled:
    """A draft, and what its names mean here."""

    draft: Draft
    limits: Limits
    compute: Compute | None
    environment: Environment | None
    places: Mapping[str, Place]
    publish: Mapping[str, str]
    remote: Remote | None = None
    """Of a backend elsewhere, but for the environment; then there are no places, and nothing to publish."""


def settle(request: JobRequest, found: Drafts, backend: Backend, known: Sequence[refusing.Fault] = ()) -> list[Settled]:
    """What every name of every step means.

    Args:
        known: what is in the way already.

    Raises:
        CapabilityError: listing all that is not mapped, not known, or not to be had on the backend.
    """
    faults = list(known)
    settled = []
    for draft in found.steps:
        if draft.sweep is not None:
            rules.check(draft.sweep, draft.command.where)
        one = _Settling(request, draft, backend, single=found.single)
        settled.append(one.settle())
        faults += one.faults
    if faults:
        raise refusing.refusal(request.job, backend.name, faults)
    return settled


class _Settling:
    """One draft; what is wrong with it is collected in `faults`."""

    def __init__(self, request: JobRequest, draft: Draft, backend: Backend, *, single: bool) -> None:
        self.faults: list[refusing.Fault] = []
        self._request, self._single = request, single
        self._config, self._draft, self._backend = request.config, draft, backend
        self._folder = request.job.file.parent if request.job.file else Path.cwd()
        self._compute = request.compute or draft.compute

    def settle(self) -> Settled:
        draft, can = self._draft, self._backend.capabilities
        if can.remote:
            return self._elsewhere()
        compute = names.compute(self._config, self._compute) if self._compute else None
        limits = _limits(draft.command.limits, compute, can)
        environment = self._environment(draft.command.environment)
        self._sources(draft.command.code, environment)
        places = {name: place for name, given in draft.data.items() if (place := self._input(given)) is not None}
        publish = {name: to for name, path in draft.publish.items() if (to := self._output(path)) is not None}
        for what, why, way in composer.problems(Step(draft.name, draft.argv, limits=limits), can):
            self.faults.append(refusing.of_error(draft.command.where.error(f"{what}: {why}", way)))
        return Settled(draft, limits, compute, environment, places, publish)

    def _elsewhere(self) -> Settled:
        """The names stay what they are there."""
        draft, job = self._draft, self._request.job
        told = elsewhere.told(
            None if self._request.name else job.display_name,
            self._request.description or job.description, {**job.tags, **self._request.tags},
        )  # fmt: skip
        native = {} if isinstance(job.component, Graph) else {**job.native, **told}
        passing = elsewhere.Passing(draft, self._compute, native=native, vaulted=self._request.vaulted)
        found = passing.passed(self._backend.capabilities, single=self._single)
        self.faults += passing.faults
        if self._request.secrets:
            asked = Step(draft.name, draft.argv, secrets=tuple(self._request.secrets))
            for what, why, way in composer.problems(asked, self._backend.capabilities):
                self.faults.append(refusing.Fault(f"--{what}: {why}", (way,)))
        if self._request.begin_at is not None:
            self.faults.append(refusing.Fault("--from: nothing of an earlier run is taken over there", (
                "leave it out: Azure ML itself reuses steps that have not changed, where is_deterministic says so",
            )))  # fmt: skip
        environment = draft.command.environment
        self._sources(draft.command.code, environment)
        return Settled(draft, found.limits, None, environment, {}, {}, found.remote)

    def _environment(self, wanted: Environment | None) -> Environment | None:
        try:
            found = environments.mapped(wanted, self._lookup, images=self._backend.capabilities.images)
            if not self._backend.capabilities.images:
                environments.check_local(found)
        except RunnerError as error:
            self.faults.append(refusing.of_error(error))
            return None
        return found

    def _lookup(self, name: str) -> Environment | None:
        found = names.environment(self._config, name)
        return Environment(found.image, libs=found.libs, local=found.local, where=found.origin.where) if found else None

    def _input(self, given: Given) -> Place | None:
        uri, where = given.data.uri, given.data.where
        try:
            place = data.resolve(uri, self._config, where=where)
            if place.path is not None:
                self._guard(str(place), place.path, where, written=given.mode is Mode.RW_MOUNT)
        except RunnerError as error:
            self.faults.append(refusing.of_error(error))
            return None
        return place

    def _sources(self, code: Code | None, environment: Environment | None) -> None:
        """That what is copied along, or sent to the engine to be built, is nothing that no job may be given."""
        found = [(path, code.where) for path in (code.path, *code.includes) if path is not None] if code else []
        if environment is not None and environment.context is not None:
            found.append((environment.context, environment.where))
        for path, where in found:
            try:
                self._guard(str(path), path, where, written=False)
            except SpecError as error:
                self.faults.append(refusing.of_error(error))

    def _guard(self, place: str, path: Path, where: Where, *, written: bool) -> None:
        reason = guards.refused_as_output(path, self._folder) if written else guards.refused_as_input(path)
        if reason is not None:
            verb = "write to" if written else "be given"
            raise where.error(
                f"{place} is {reason}; a job may not {verb} it", "name a folder that holds the data alone"
            )

    def _output(self, path: str) -> str | None:
        where = self._draft.command.where
        uri = path if "://" in path or path.startswith(("/", "azureml:")) else str(self._folder / path)
        try:
            place = data.resolve(uri, self._config, where=where)
            data.check_publish(place)
            if place.path is not None:
                self._guard(str(place), place.path, where, written=True)
            if place.path is None and without_login(place.url) != place.url:
                raise where.error(
                    "an output's address may not hold a login, since it would be kept", f"shorten {place}"
                )
        except RunnerError as error:
            self.faults.append(refusing.of_error(error))
            return None
        # What ends in a slash is a folder, into which a file goes under its own name.
        return f"{place.path}{'/' * uri.endswith('/')}" if place.path else place.url


def _limits(limits: Limits, compute: Compute | None, can: Capabilities) -> Limits:
    """The step's own, and what its compute has where it says nothing."""
    if compute is None:
        return limits
    return replace(
        limits,
        cpus=compute.cpus if limits.cpus is None and can.cpus else limits.cpus,
        memory_bytes=compute.memory_bytes if limits.memory_bytes is None and can.memory else limits.memory_bytes,
    )
