"""A job as plain Azure ML YAML, for `az ml job create -f`: our additions compiled away, or refused with the reason.

What Azure ML knows stays as it is: steps, bindings, components (written out where they are used), names of the workspace.
`script:` with `args:` becomes a quoted command, `libs:` the image that `runner push` sends, under the name it has there.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.backends.azureml.search import search
from runner.errors import RunnerError, SpecError, UsageError
from runner.job import Command, Data, DataType, Foreign, Graph, Reference, Sweep
from runner.quoting import compiled, known, unquotable
from runner.spec.job.flat import flattened
from runner.spec.jobwriter import settings_written, written
from runner.submission import elsewhere, refusing
from runner.submission.choices import ENGINES_OWN
from runner.submission.images import stays

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.job import Component, Environment, Input, Job, Node, Output, Value, Where
    from runner.spec.config import Config

    Built = Callable[[Environment | None], str | Mapping[str, Any]]
    """From an environment to the member `environment:` as a workspace can have it."""

_SCHEMA = "https://azuremlschemas.azureedge.net/latest/{}Job.schema.json"
_LITERALS: dict[DataType, Callable[[str], bool | int | float]] = {
    DataType.BOOLEAN: lambda text: text.lower() == "true",
    DataType.INTEGER: int,
    DataType.NUMBER: float,
}
_BESIDE = (
    "distribution", "identity", "services", "queue_settings", "job_tier", "priority", "properties",
    "environment_variables", "resources", "tags", "comment",
)  # fmt: skip
"""Members of a step that stand beside its component, not in it."""
_BESIDE_SWEEP = ("queue_settings", "properties", "resources", "tags", "comment")


def to_azureml(job: Job, config: Config, *, folder: Path | None = None, registry: str | None = None) -> str:
    """The job as YAML.

    Args:
        config: the settings that hold where the job is: registry, and what names mean.
        folder: where the YAML will be; paths below it are relative. Default: the folder of the job's own file.
        registry: HOST[/PATH] of the images; else what the settings say.

    Raises:
        SpecError: what cannot be said in Azure ML's YAML, all of it, each with the way out.
    """
    place = folder or (job.file.parent if job.file else Path.cwd())
    export = _Export(config, place.absolute(), registry)
    return written(export.told(job, export.job))


def component(job: Job, config: Config, name: str, description: str = "", *, built: Built) -> dict[str, Any]:
    """A pipeline as a component of that name, as plain data; paths are relative to the root. What the job gives its inputs
    are their defaults, and what stands around its steps (computes, settings) is left to the job that will use it.

    Args:
        built: brings an environment's image, or the default one (None), to where the workspace can have it.

    Raises:
        SpecError: as `to_azureml`. UsageError: it is no pipeline.
    """
    graph = job.component
    if not isinstance(graph, Graph):
        raise UsageError(
            "only a pipeline is registered in a workspace", "write one: type: pipeline (docs/pipelines.md)"
        )
    given = {key: value for key, value in job.inputs.items() if not isinstance(value, (Data, Reference))}
    inputs = {key: replace(each, default=given.get(key, each.default)) for key, each in graph.inputs.items()}
    export = _Export(config, Path("/"), None, built)
    body = export.told(job, lambda _: export.pipeline(replace(flattened(graph), inputs=inputs)))
    schema = "https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json"
    return _filled({"$schema": schema, "name": name, "description": description or job.description, **body})


class _Export:
    """Collects what is in the way while it writes."""

    def __init__(self, config: Config, folder: Path, registry: str | None, built: Built | None = None) -> None:
        self.faults: list[SpecError] = []
        self._built = built
        self._around: Mapping[str, Value] = {}
        self._config, self._folder, self._registry = config, folder, registry

    def fault(self, where: Where, text: str, *ways: str) -> None:
        """Note what cannot be written."""
        self.faults.append(where.error(text, *ways))

    def told(self, job: Job, make: Callable[[Job], dict[str, Any]]) -> dict[str, Any]:
        """What `make` makes of the job, unless something is in the way: then all of that is raised.

        Raises:
            SpecError: what cannot be said.
        """
        for problem in elsewhere.problems(job):
            self.fault(problem.where, problem.reason, problem.way_out)
        data = make(job)
        if len(self.faults) == 1:
            raise self.faults[0]
        if self.faults:
            count, lines = refusing.listed(refusing.of_error(each) for each in self.faults)
            raise SpecError(f"{count} thing{'s' if count > 1 else ''} cannot be said in Azure ML's YAML", *lines)
        return data

    # -- jobs ------------------------------------------------------------------------------------------------------

    def job(self, job: Job) -> dict[str, Any]:
        """The whole document."""
        component = job.component
        body = self._body(component, job)
        kind = str(body.pop("type"))
        head = {
            "$schema": _SCHEMA.format(kind),
            "type": kind,
            "display_name": job.display_name,
            "experiment_name": job.experiment,
            "description": job.description,
            "tags": dict(job.tags),
            "compute": _named(job.compute),
        }
        return _filled({**head, **body, **{key: value for key, value in job.native.items() if key not in body}})

    def _body(self, component: Component, job: Job) -> dict[str, Any]:
        match component:
            case Foreign():
                return {"type": component.kind, **component.raw}
            case Graph():
                return self._pipeline(component, job)
            case Sweep():
                trial = self._run(component.trial, _inputs(component, job))
                more: dict[str, Any] = {
                    name: trial.pop(name) for name in ("identity", "services", "queue_settings") if name in trial
                }
                return {
                    "type": "sweep", "trial": trial, **self._ends(component, job), **_searched(component), **more,
                }  # fmt: skip
            case Command():
                self._no_includes(component)
                run, ends = self._run(component, _inputs(component, job)), self._ends(component, job)
                return {"type": "command", **run, **ends, "limits": _timeout(component)}

    def _pipeline(self, graph: Graph, job: Job) -> dict[str, Any]:
        graph, self._around = flattened(graph), _inputs(graph, job)
        settings = {**(job.native.get("settings") or {}), **settings_written(graph.settings)}
        for name in ("default_compute", "default_datastore"):
            if settings.get(name):
                settings[name] = _named(str(settings[name]))
        if job.compute is None and not settings.get("default_compute") and not _all_placed(graph):
            settings["default_compute"] = "serverless"  # a pipeline has to say what a single job need not
        return {
            "type": "pipeline", **self._ends(graph, job), "settings": settings,
            "jobs": {name: self._node(node) for name, node in graph.nodes.items()},
        }  # fmt: skip

    def pipeline(self, graph: Graph) -> dict[str, Any]:
        """A pipeline without pipelines in it, as the body of a component."""
        self._around = {name: each.default for name, each in graph.inputs.items() if each.default is not None}
        return _filled({
            "type": "pipeline",
            "inputs": {name: _declared(each) for name, each in graph.inputs.items()},
            "outputs": {name: {"type": each.type.value} for name, each in graph.outputs.items()},
            "jobs": {name: self._node(node) for name, node in graph.nodes.items()},
        })  # fmt: skip

    def _ends(self, component: Command | Graph | Sweep, job: Job) -> dict[str, Any]:
        given = _inputs(component, job)
        inputs = {name: self._value(value, component.inputs[name]) for name, value in given.items()}
        made = {**component.outputs, **job.outputs}
        return {"inputs": inputs, "outputs": {name: _output(each) for name, each in made.items()}}

    # -- steps -----------------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> dict[str, Any]:
        component = node.component
        if isinstance(component, Foreign):
            return {**({} if component.kind == "component" else {"type": component.kind}), **component.raw,
                    **self._bindings(node)}  # fmt: skip
        assert not isinstance(component, Graph)  # noqa: S101 - it was flattened
        given = {name: known(value, self._around) for name, value in node.inputs.items()}
        body: dict[str, Any]
        match component:
            case Sweep():
                run = self._run(component.trial, given)
                beside = {name: run[name] for name in _BESIDE_SWEEP if name in run}
                trial = self._component(component.trial, run)
                body = {"type": "sweep", "trial": trial, **_searched(component), **beside}
            case Command():
                run = self._run(component, given)
                beside = {name: run[name] for name in _BESIDE if name in run}
                body = {
                    "type": "command",
                    "component": self._component(component, run),
                    "limits": _timeout(component),
                    **beside,
                }
        return _filled(
            {**body, **self._bindings(node), "compute": _named(node.compute), "display_name": node.display_name}
        )

    def _bindings(self, node: Node) -> dict[str, Any]:
        declared = node.component.inputs
        inputs = {name: self._value(value, declared.get(name)) for name, value in node.inputs.items()}
        outputs = {name: _setting(output) for name, output in node.outputs.items()}
        return _filled({"inputs": inputs, "outputs": outputs})

    def _component(self, command: Command, run: Mapping[str, Any]) -> dict[str, Any]:
        """run: as `_run` has it; what stands at the node is left out."""
        run = {key: value for key, value in run.items() if key not in _BESIDE}
        includes = [self._path(path) for path in command.code.includes] if command.code else []
        return _filled({
            "type": "command", **run,
            "inputs": {name: _declared(each) for name, each in command.inputs.items()},
            "outputs": {name: _filled({"type": each.type.value, "mode": each.mode and each.mode.value})
                        for name, each in command.outputs.items()},
            "additional_includes": includes,
            "is_deterministic": None if command.deterministic else False,
        })  # fmt: skip

    # -- what is run -----------------------------------------------------------------------------------------------

    def _run(self, command: Command, given: Mapping[str, Value]) -> dict[str, Any]:
        """given: what its inputs are, as far as that is known."""
        if command.retry.count:
            self.fault(command.where, "retry: Azure ML tries nothing again", "leave it out: --set retry.count=0")
        if command.limits.gpus is not None:
            self.fault(
                command.where, "gpus: on Azure ML the compute decides", "leave it out, and choose such a compute"
            )
        text = command.command if command.script is None else compiled(command.script, command.args)
        for name in unquotable(command.args, given):
            self.fault(
                command.where, f"the input {name} holds a single quote, which would end the quotes that it stands in: "
                "Azure ML puts values into commands as they are", "give it by a file, or leave the quote out",
            )  # fmt: skip
        return _filled({
            "command": text,
            "code": self._code(command),
            "environment": self._environment(command.environment),
            "environment_variables": dict(command.variables),
            **command.native,
            "resources": _resources(command),
        })  # fmt: skip

    def _no_includes(self, command: Command) -> None:
        if command.code is not None and command.code.includes:
            self.fault(
                command.where, "additional_includes: Azure ML knows them in components, not in a command job",
                "make it a step of a pipeline, or copy the files into the code folder",
            )  # fmt: skip

    def _code(self, command: Command) -> str | None:
        code = command.code
        if code is None or code.path is None:
            return code.git if code else None
        return self._path(code.path)

    def _path(self, path: Path) -> str:
        relative = os.path.relpath(path, self._folder)
        return relative if relative == "." or relative.startswith("../") else f"./{relative}"

    def _environment(self, environment: Environment | None) -> str | Mapping[str, Any] | None:
        found = stays(environment, self._config, lambda _kind, _text: None)
        if self._built is not None:
            return self._built(found)
        if found is not None and found.reference is not None:
            return found.reference
        if found is not None and found.context is not None:
            return {"build": _filled({"path": self._path(found.context), "dockerfile_path": found.dockerfile})}
        if found is not None and found.image is not None and not found.image.startswith(ENGINES_OWN):
            conda = found.conda
            return _filled(
                {"image": found.image, "conda_file": self._path(conda) if isinstance(conda, Path) else conda}
            )
        return self._named(found)

    def _named(self, environment: Environment | None) -> dict[str, Any] | None:
        """An image of this machine's engine, of a libs file, or runner's default one, as it is called once it has been
        pushed."""
        from runner.builder import content_tag, default_libs
        from runner.builder.registry.publish import destination_for

        libs = environment.libs if environment is not None else None
        image = environment.image if environment is not None else None
        what = f"libs: {libs}" if libs is not None else "no environment, which here means runner's default image"
        if environment is not None and image is not None:
            what = f"image: {image}"
            if not image.startswith("localhost/"):
                self.fault(
                    environment.where, f"{what} is an id, by which only this machine knows it",
                    "name an image that is in a registry; export the job file instead of what was registered here",
                )  # fmt: skip
                return None
        try:
            tag = image or content_tag(libs or default_libs())
            where = destination_for(tag, libs, self._config, registry=self._registry)
        except RunnerError as error:
            self.faults.append(error if isinstance(error, SpecError) else SpecError(str(error)))
            return None
        if where is None:
            text = f"{what}: nothing says which registry its image is in"
            ways = (
                "name it: --registry HOST/PATH, or registry: in runner.yaml",
                "or make a Dockerfile of it: runner eject",
            )
            self.faults.append(environment.where.error(text, *ways) if environment else SpecError(text, *ways))
            return None
        return {"image": where.target.reference}

    # -- values ----------------------------------------------------------------------------------------------------

    def _value(self, value: Value, declared: Input | None) -> Any:
        match value:
            case Reference():
                mode = value.mode and value.mode.value
                return {"path": str(value), "mode": mode} if mode else str(value)
            case Data():
                place = self._path(Path(value.uri)) if value.uri.startswith("/") else value.uri
                kind = value.type or (declared.type if declared and not declared.type.literal else None)
                mode = value.mode or (declared.mode if declared else None)
                return _filled({"type": kind and kind.value, "path": place, "mode": mode and mode.value})
            case _:
                return _literal(value, declared.type if declared else None)


# -- pieces ---------------------------------------------------------------------------------------------------------


def _inputs(component: Command | Graph | Sweep, job: Job) -> dict[str, Value]:
    """What a whole job gives its component, or that has by itself."""
    told = {name: job.inputs.get(name, declared.default) for name, declared in component.inputs.items()}
    return {name: value for name, value in told.items() if value is not None}


def _searched(sweep: Sweep) -> dict[str, Any]:
    return {key: value for key, value in search(sweep, sweep.limits.trial_timeout_s).items() if value is not None}


def _all_placed(graph: Graph) -> bool:
    """Whether every step says where it runs."""
    return all(node.compute is not None for node in graph.nodes.values())


def _named(name: str | None) -> str | None:
    """A compute or datastore by its name, as Azure ML wants it written."""
    return name if name is None or ":" in name or "/" in name or name in {"serverless", "local"} else f"azureml:{name}"


def _timeout(command: Command) -> dict[str, int] | None:
    seconds = command.limits.timeout_s
    return None if seconds is None else {"timeout": math.ceil(seconds)}


def _resources(command: Command) -> dict[str, Any]:
    """What a file said stays as written; limits that were set in Python become arguments for docker."""
    limits, given = command.limits, dict(command.native.get("resources") or {})
    text = given.get("docker_args")
    words = text if isinstance(text, str) else " ".join(map(str, text or ()))
    if limits.shm_bytes is not None and "--shm-size" not in words:
        given["shm_size"] = f"{limits.shm_bytes}b"
    if text is None:
        arguments = [f"--cpus={limits.cpus:.15g}"] if limits.cpus is not None else []
        arguments += [f"--memory={limits.memory_bytes}b"] if limits.memory_bytes is not None else []
        arguments += [f"--ulimit={name}={soft}:{hard}" for name, (soft, hard) in limits.ulimits.items()]
        arguments += ["--ipc=host"] if limits.host_ipc else []
        given |= {"docker_args": " ".join(arguments)} if arguments else {}
    return given


def _output(output: Output) -> dict[str, Any]:
    name, version = output.asset or (None, None)
    return _filled({
        "type": output.type.value, "mode": output.mode and output.mode.value, "path": output.path, "name": name,
        "version": version, "description": output.description,
    })  # fmt: skip


def _setting(output: Output) -> str | dict[str, Any]:
    """An output of a step: the pipeline's output that it is, or what is said of it."""
    return f"${{{{parent.outputs.{output.parent}}}}}" if output.parent else _output(output)


def _declared(given: Input) -> dict[str, Any]:
    """An input of a component."""
    default = given.default
    own = {} if default is None or isinstance(default, Data) else {"default": _literal(default, given.type)}
    return own | _filled({
        "type": given.type.value, "optional": True if given.optional else None, "description": given.description,
        "min": given.minimum, "max": given.maximum, "enum": [_literal(each, given.type) for each in given.choices],
        "mode": given.mode and given.mode.value,
    })  # fmt: skip


def _literal(value: str | float, kind: DataType | None) -> str | bool | int | float:
    text = str(value)
    if kind not in _LITERALS or "${{" in text:
        return text
    try:
        return _LITERALS[kind](text)
    except ValueError:
        return text


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in (None, "", {}, [], ())}
