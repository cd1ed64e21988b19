"""What is to be executed, read from a command job as it was PUT."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.emulators.azureml.execution.clock import duration_s


@dataclass(frozen=True, slots=True)
class Input:
    """literal: its text. Else uri, type (uri_file, …) and mode (ro_mount, download, direct). Neither: absent, optional."""

    literal: str | None = None
    uri: str | None = None
    type: str = "literal"
    mode: str = "ro_mount"

    @property
    def absent(self) -> bool:
        return self.literal is None and self.uri is None


@dataclass(frozen=True, slots=True)
class Output:
    """uri: where to, with templates such as `${{name}}` perhaps; None: the service's default."""

    type: str = "uri_folder"
    uri: str | None = None
    mode: str = "rw_mount"


@dataclass(frozen=True, slots=True)
class Command:
    """One command for one container. code, environment: ARM ids. compute: a name, None is serverless. limit_s: seconds."""

    command: str
    environment: str
    code: str | None = None
    compute: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    search_space: Mapping[str, str] = field(default_factory=dict)
    shm_size: str = "2g"
    docker_args: str = ""
    limit_s: float | None = None
    nodes: int = 1

    def with_values(self, **changes: Any) -> Command:
        return replace(self, **changes)


_MODES = {
    "readonlymount": "ro_mount", "readwritemount": "rw_mount", "evalmount": "eval_mount",
    "evaldownload": "eval_download",
}  # fmt: skip


def command_of(properties: Mapping[str, Any]) -> Command:
    """Of a job's `properties`, or of a sweep's with its `trial` merged in. camelCase, absent members may be null."""
    resources = properties.get("resources") or {}
    limits = properties.get("limits") or {}
    return Command(
        command=properties["command"],
        environment=properties["environmentId"],
        code=properties.get("codeId"),
        compute=last_name(properties.get("computeId")),
        variables=properties.get("environmentVariables") or {},
        inputs={name: input_of(value) for name, value in (properties.get("inputs") or {}).items()},
        outputs={name: output_of(value) for name, value in (properties.get("outputs") or {}).items()},
        shm_size=resources.get("shmSize") or "2g",
        docker_args=resources.get("dockerArgs") or "",
        limit_s=duration_s(limits.get("timeout")),
        nodes=int(resources.get("instanceCount") or 1),
    )


def input_of(value: Mapping[str, Any] | None) -> Input:
    """An input as on the wire, in either spelling of its members."""
    value = value or {}
    kind = value.get("jobInputType") or value.get("job_input_type") or "literal"
    text = value.get("value")
    if kind == "literal":
        return Input(literal=None if text is None else literal(text))
    return Input(uri=value.get("uri") or text, type=kind, mode=mode_of(value.get("mode"), "ro_mount"))


def output_of(value: Mapping[str, Any] | None) -> Output:
    value = value or {}
    kind = value.get("jobOutputType") or value.get("job_output_type") or "uri_folder"
    return Output(kind, value.get("uri") or None, mode_of(value.get("mode"), "rw_mount"))


def mode_of(text: str | None, default: str) -> str:
    """`ReadOnlyMount` as in ARM, `ro_mount` as in components: the latter."""
    return _MODES.get(text.casefold(), text.casefold()) if text else default


def literal(value: object) -> str:
    """As the service writes a value into a command."""
    return str(value) if not isinstance(value, bool) else str(value).title()


def last_name(arm_id: str | None) -> str | None:
    """`…/computes/cpu-cluster` or `azureml:cpu-cluster` → `cpu-cluster`."""
    return re.split(r"[/:]", arm_id)[-1] if arm_id else None
