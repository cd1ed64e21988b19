"""A job of steps as the YAML that `runner submit` takes: what was made in Python, written down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.job import Command, Data, DataType, Graph, Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.job import Code, Environment, Input, Job, Node, Output, Settings, Value
    from runner.model import Limits, RetryPolicy

_LITERALS: dict[DataType, Callable[[str], bool | int | float]] = {
    DataType.BOOLEAN: lambda text: text == "True",
    DataType.INTEGER: int,
    DataType.NUMBER: float,
}


def write(job: Job, folder: Path) -> str:
    """A pipeline job of commands as YAML. folder: absolute, where the file will be; paths below it are relative.

    Raises:
        TypeError: it is of another kind, which nothing here makes.
    """
    graph = job.component
    if not isinstance(graph, Graph):
        raise TypeError(f"a pipeline is written, not a {type(graph).__name__}")
    data = {
        "type": "pipeline",
        "display_name": job.display_name,
        "experiment_name": job.experiment,
        "description": job.description,
        "tags": dict(job.tags),
        "settings": settings_written(graph.settings),
        "outputs": {name: {"type": output.type.value} for name, output in graph.outputs.items()},
        "jobs": {name: _node(node, folder) for name, node in graph.nodes.items()},
    }
    return written(_filled(data))


def written(data: Mapping[str, Any]) -> str:
    """Plain data as YAML, in its own order."""
    import yaml

    return yaml.dump(dict(data), Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=120)


def _dumper() -> type[Any]:
    """YAML as people write it: no anchors, so the same value in two steps stands there twice; lines of a text below `|`."""
    import yaml

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class's
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Plain.add_representer(str, text)
    return Plain


def _filled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in (None, "", {}, [], ())}


def settings_written(settings: Settings) -> dict[str, Any]:
    """`settings:` of a pipeline; what is not said is left out."""
    given = {
        "default_compute": settings.default_compute,
        "default_datastore": settings.default_datastore,
        "continue_on_step_failure": settings.continue_on_step_failure,
        "force_rerun": settings.force_rerun,
    }
    return {key: value for key, value in given.items() if value is not None}


def _node(node: Node, folder: Path) -> dict[str, Any]:
    command = node.component
    if not isinstance(command, Command):
        raise TypeError(f"a step is a command, not a {type(command).__name__}")
    data = {
        "type": "command",
        "script": command.script,
        "args": list(command.args),
        "command": command.command,
        "code": _code(command.code, folder),
        "environment": _environment(command.environment, folder),
        "environment_variables": dict(command.variables),
        "inputs": {name: _input(value, command.inputs[name], folder) for name, value in node.inputs.items()},
        "outputs": {name: _output(node.outputs.get(name, output)) for name, output in command.outputs.items()},
        "compute": node.compute,
        **_limits(command.limits),
        "retry": _retry(command.retry),
    }
    return _filled(data) | ({} if command.deterministic else {"is_deterministic": False})


def _path(path: Path, folder: Path) -> str:
    if not path.is_relative_to(folder):
        return str(path)
    return "." if path == folder else f"./{path.relative_to(folder).as_posix()}"


def _code(code: Code | None, folder: Path) -> str | None:
    if code is None or code.path is None:
        return code.git if code else None
    return _path(code.path, folder)


def _environment(environment: Environment | None, folder: Path) -> str | dict[str, Any] | None:
    if environment is None or environment.reference is not None:
        return environment.reference if environment else None
    if environment.libs is not None:
        return {"libs": _path(environment.libs, folder)}
    if environment.context is not None:
        build = {"path": _path(environment.context, folder), "dockerfile_path": environment.dockerfile}
        return {"build": _filled(build)}
    conda = environment.conda
    return _filled(
        {
            "image": environment.image,
            "conda_file": _path(conda, folder) if isinstance(conda, Path) else dict(conda or {}),
        }
    )


def _input(value: Value, declared: Input, folder: Path) -> Any:
    match value:
        case Reference():
            return str(value)
        case Data():
            place = _path(Path(value.uri), folder) if value.uri.startswith("/") else value.uri
            return _filled(
                {"type": value.type and value.type.value, "path": place, "mode": value.mode and value.mode.value}
            )
        case _:
            text = str(value)
            return _LITERALS[declared.type](text) if declared.type in _LITERALS else text


def _output(output: Output) -> dict[str, Any]:
    place = f"${{{{parent.outputs.{output.parent}}}}}" if output.parent else None
    return _filled({"type": output.type.value, "path": place})


def docker_args(limits: Limits) -> str:
    """cpus and memory have no member of their own: they are arguments for docker, of which these are taken everywhere."""
    arguments = []
    if limits.cpus is not None:
        arguments.append(f"--cpus={limits.cpus:.15g}")
    if limits.memory_bytes is not None:
        arguments.append(f"--memory={_size(limits.memory_bytes)}")
    return " ".join(arguments)


def _limits(limits: Limits) -> dict[str, Any]:
    shm = None if limits.shm_bytes is None else _size(limits.shm_bytes)
    timeout = None if limits.timeout_s is None else int(limits.timeout_s)
    return {
        "resources": _filled({"shm_size": shm, "docker_args": docker_args(limits)}),
        "limits": _filled({"timeout": timeout}),
    }


def _size(count: int) -> str:
    for unit, power in (("g", 30), ("m", 20), ("k", 10)):
        if count % (1 << power) == 0:
            return f"{count >> power}{unit}"
    return f"{count}b"


def _retry(retry: RetryPolicy) -> dict[str, Any]:
    return _filled({"count": retry.count, "on": [reason.value for reason in retry.on]}) if retry.count else {}
