"""The members that Azure ML's job and component YAML knows (CLI v2), with our additions: every table that the check uses."""

from __future__ import annotations

from runner.job import DataType, Mode
from runner.spec.job.shapes import (
    ANYTHING,
    FLAG,
    INTEGER,
    NAME,
    NUMBER,
    TEXT,
    ListOf,
    MapOf,
    Member,
    OneOf,
    Record,
    words,
)  # fmt: skip

TYPES = tuple(DataType)
LEGACY_TYPES = {"path": DataType.URI_FOLDER}
LEGACY_MODES = {"mount": Mode.RO_MOUNT, "link": Mode.RO_MOUNT}

_ANY_MAP = MapOf(ANYTHING, empty=True)
_TEXTS = MapOf(TEXT, empty=True)
_TEXT_LIST = ListOf(TEXT)


_m = Member


INPUT = Record(
    "input",
    {
        "type": _m(
            words(*TYPES, *LEGACY_TYPES), "string, number, integer, boolean, uri_file, uri_folder, mltable, …_model."
        ),
        "path": _m(TEXT, "Where the data is: a path, an address, azureml:NAME:VERSION, azureml://datastores/…"),
        "mode": _m(words(*Mode, *LEGACY_MODES), "How the step gets the data. On this machine always a read-only path."),
        "value": _m(TEXT, "A literal value."),
        "default": _m(TEXT, "The value where none is given."),
        "optional": _m(FLAG, "Whether it may be left out."),
        "min": _m(NUMBER, "The smallest value."),
        "max": _m(NUMBER, "The largest value."),
        "enum": _m(_TEXT_LIST, "The only values."),
        "description": _m(TEXT, "What it is for."),
        "datastore": _m(TEXT, "Where Azure ML puts local data."),
        "path_on_compute": _m(TEXT, "Where Azure ML puts the data on the node.", lost=True),
        "intellectual_property": _m(ANYTHING, "Only Azure ML reads it.", lost=True),
    },
    "an input",
)
OUTPUT = Record(
    "output",
    {
        "type": _m(words(*TYPES, *LEGACY_TYPES), "uri_folder (the default), uri_file, mltable, …_model."),
        "mode": _m(words(*Mode, *LEGACY_MODES), "How the output gets to its place."),
        "path": _m(TEXT, "Where it goes; without it, runner keeps it with the run."),
        "name": _m(TEXT, "The name under which it is registered as data."),
        "version": _m(TEXT, "The version under which it is registered."),
        "description": _m(TEXT, "What it is."),
        "is_control": _m(FLAG, "Only Azure ML reads it.", lost=True),
        "early_available": _m(FLAG, "Only Azure ML reads it.", lost=True),
        "intellectual_property": _m(ANYTHING, "Only Azure ML reads it.", lost=True),
    },
    "an output",
)
_INPUTS = MapOf(OneOf((INPUT, TEXT)), empty=True)
_OUTPUTS = MapOf(OneOf((OUTPUT, NAME)), empty=True)

BUILD = Record(
    "build",
    {
        "path": _m(TEXT, "The folder of the build context."),
        "dockerfile_path": _m(TEXT, "The Dockerfile, seen from that folder."),
    },
    "build",
    required=("path",),
)
ENVIRONMENT = Record(
    "environment",
    {
        "$schema": _m(TEXT, "For editors."),
        "name": _m(TEXT, "Its name in Azure ML.", lost=True),
        "version": _m(TEXT, "Its version in Azure ML.", lost=True),
        "image": _m(NAME, "The image."),
        "conda_file": _m(OneOf((MapOf(ANYTHING), NAME)), "Packages on top of the image: a file, or its content."),
        "build": _m(BUILD, "A folder with a Dockerfile."),
        "libs": _m(NAME, "A libs.yaml. Runner's own addition."),
        "os_type": _m(words("linux", "windows"), "linux."),
        "inference_config": _m(ANYTHING, "Only Azure ML reads it.", lost=True),
        "description": _m(TEXT, "What it is for.", lost=True),
        "tags": _m(_TEXTS, "Only Azure ML reads them.", lost=True),
        "properties": _m(_ANY_MAP, "Only Azure ML reads them.", lost=True),
        "datastore": _m(TEXT, "Only Azure ML reads it.", lost=True),
        "intellectual_property": _m(ANYTHING, "Only Azure ML reads it.", lost=True),
    },
    "an environment",
)
RESOURCES = Record(
    "resources",
    {
        "instance_count": _m(INTEGER, "How many machines: 1 on this one."),
        "instance_type": _m(ANYTHING, "The size of the machine in Azure."),
        "shm_size": _m(TEXT, "Size of /dev/shm, such as 2g."),
        "docker_args": _m(OneOf((NAME, _TEXT_LIST)), "--shm-size, --ipc, --ulimit, --memory and --cpus; no others."),
        "properties": _m(ANYTHING, "Only Azure ML reads them."),
        "locations": _m(_TEXT_LIST, "Regions of Azure."),
        "max_instance_count": _m(INTEGER, "Only Azure ML reads it."),
    },
    "resources",
    lenient=True,
)
LIMITS = Record("limits", {"timeout": _m(INTEGER, "Seconds after which it is ended.")}, "limits")
RETRY = Record(
    "retry",
    {
        "count": _m(INTEGER, "At most so many further attempts."),
        "on": _m(OneOf((ListOf(NAME), NAME)), "Reasons for another attempt, beside those that trying again can cure."),
        "memory": _m(TEXT, "x2: each attempt may use twice the memory of the one before."),
    },
    "retry",
)
SERVICE = Record(
    "service",
    {
        key: _m(ANYTHING, "Only Azure ML reads it.")
        for key in ("type", "job_service_type", "port", "endpoint", "nodes", "properties", "log_dir", "ssh_public_keys",
                    "status", "error_message")
    },
    "a service",
)  # fmt: skip
QUEUE = Record(
    "queue_settings",
    {"job_tier": _m(TEXT, "Only Azure ML reads it."), "priority": _m(TEXT, "Only Azure ML reads it.")},
    "queue_settings",
)
IDENTITY = Record(
    "identity",
    {key: _m(TEXT, "Only Azure ML reads it.") for key in ("type", "client_id", "object_id", "msi_resource_id")},
    "identity",
)
DISTRIBUTION = Record(
    "distribution",
    {
        "type": _m(words("mpi", "pytorch", "tensorflow", "ray"), "mpi, pytorch, tensorflow or ray."),
        **{
            key: _m(ANYTHING, "Only Azure ML reads it.")
            for key in ("process_count_per_instance", "worker_count", "parameter_server_count", "port", "address",
                        "include_dashboard", "dashboard_port", "head_node_additional_args", "worker_node_additional_args")
        },
    },
    "distribution",
)  # fmt: skip
SETTINGS = Record(
    "settings",
    {
        "default_compute": _m(NAME, "The compute of steps that name none."),
        "default_datastore": _m(NAME, "What ${{default_datastore}} stands for."),
        "continue_on_step_failure": _m(FLAG, "Whether steps go on that do not need the failed one."),
        "force_rerun": _m(FLAG, "Whether results of earlier runs are not reused."),
        "on_init": _m(NAME, "Not on this machine."),
        "on_finalize": _m(NAME, "Not on this machine."),
    },
    "settings",
    lenient=True,
)

# -- what jobs, components and nodes have in common ------------------------------------------------------------------

_BASE = {
    "$schema": _m(TEXT, "For editors."),
    "name": _m(TEXT, "Its name."),
    "display_name": _m(TEXT, "Its name for people."),
    "description": _m(TEXT, "What it is for."),
    "tags": _m(_TEXTS, "Names and values that it can be found by."),
    "properties": _m(_ANY_MAP, "Only Azure ML reads them."),
}
_GIVEN = {
    key: _m(ANYTHING, "Set by Azure ML, which does not read it.")
    for key in ("id", "status", "creation_context", "log_files", "parameters", "resourceGroup")
}
JOB = {
    **_BASE,
    **_GIVEN,
    "experiment_name": _m(TEXT, "The experiment that the run belongs to."),
    "compute": _m(TEXT, "A name that runner.yaml maps to a backend; never by itself the cloud."),
    "identity": _m(IDENTITY, "Only Azure ML reads it."),
    "services": _m(MapOf(SERVICE, empty=True), "Not started on this machine."),
    "notification_setting": _m(ANYTHING, "Only Azure ML reads it.", lost=True),
    "parent_job_name": _m(TEXT, "Only Azure ML reads it.", lost=True),
}
ASSET = {
    **_BASE,
    **_GIVEN,
    "version": _m(TEXT, "Its version."),
    "is_deterministic": _m(FLAG, "Whether equal inputs give equal outputs, so that results can be reused."),
    "intellectual_property": _m(ANYTHING, "Only Azure ML reads it.", lost=True),
}
NODE = {
    "$schema": _m(TEXT, "For editors."),
    "name": _m(TEXT, "Not read: the key is the name."),
    "display_name": _m(TEXT, "Its name for people."),
    "description": _m(TEXT, "What it is for."),
    "tags": _m(_TEXTS, "Only Azure ML reads them."),
    "properties": _m(_ANY_MAP, "Only Azure ML reads them."),
    "comment": _m(TEXT, "Only Azure ML reads it."),
    "compute": _m(TEXT, "A name that runner.yaml maps to a backend."),
    "identity": _m(IDENTITY, "Only Azure ML reads it."),
    "services": _m(MapOf(SERVICE, empty=True), "Not started on this machine."),
    "experiment_name": _m(TEXT, "Not read in a step."),
    "is_deterministic": _m(FLAG, "Whether equal inputs give equal outputs, so that results can be reused."),
    "version": _m(TEXT, "Not read in a step."),
}
IO = {
    "inputs": _m(_INPUTS, "Values by name."),
    "outputs": _m(_OUTPUTS, "Outputs by name."),
}
COMMAND = {
    **IO,
    "command": _m(NAME, "The line that bash runs, with ${{inputs.NAME}}, ${{outputs.NAME}} and $[[ … ]]."),
    "script": _m(NAME, "A script instead of a command. Runner's own addition."),
    "args": _m(OneOf((_TEXT_LIST, TEXT)), "Its arguments, which arrive byte for byte. Runner's own addition."),
    "code": _m(NAME, "The folder or file with the code; or git+https://…, git+ssh://…"),
    "additional_includes": _m(ListOf(OneOf((NAME, MapOf(ANYTHING)))), "Files and folders laid into the code."),
    "environment": _m(OneOf((ENVIRONMENT, NAME)), "What it runs in."),
    "environment_variables": _m(_TEXTS, "Variables of the process."),
    "resources": _m(RESOURCES, "What it may use."),
    "distribution": _m(DISTRIBUTION, "More than one process or machine: not on this machine."),
    "limits": _m(LIMITS, "When it is ended."),
    "retry": _m(RETRY, "When it is tried again. Runner's own addition."),
    "queue_settings": _m(QUEUE, "Only Azure ML reads them."),
    "job_tier": _m(TEXT, "Only Azure ML reads it."),
    "priority": _m(TEXT, "Only Azure ML reads it."),
}
