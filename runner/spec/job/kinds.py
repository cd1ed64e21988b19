"""Which kinds of jobs, components and nodes there are, how Azure ML tells them apart, and the members of each."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.spec.job.members import (
    ASSET,
    COMMAND,
    IO,
    JOB,
    NODE,
    QUEUE,
    RESOURCES,
    SETTINGS,
)  # fmt: skip
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
    Pick,
    Record,
    words,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Mapping

ALONE = ("finetuning", "distillation")
FOREIGN = ("automl", "spark", "parallel", "import", "data_transfer", *ALONE, "if_else", "do_while", "parallel_for")
"""Kinds that only Azure ML runs."""
KINDS = ("command", "pipeline", "sweep", *FOREIGN)

_SCHEMA = re.compile(r"/(\w+?)(Job|Component)(?:\.schema)?\.json\s*$", re.IGNORECASE)
_OTHER = re.compile(r"/(\w+?)(?:\.schema)?\.json\s*$", re.IGNORECASE)
_NAMES = {"automl": "automl", "datatransfer": "data_transfer", "dsl": "pipeline"}

_MEMBERS_OF = {
    "jobs": "pipeline",
    "search_space": "sweep",
    "trial": "sweep",
    "command": "command",
    "script": "command",
    "entry": "spark",
    "mini_batch_size": "parallel",
    "condition": "if_else",
    "true_block": "if_else",
    "items": "parallel_for",
    "mapping": "do_while",
}


def kind_of(data: Mapping[str, Any]) -> str | None:
    """`type:`, else what the members or `$schema` tell; None where nothing does. An unknown `type:` is given back."""
    given = data.get("type")
    if given is not None:
        return str(given).lower()
    for member, kind in _MEMBERS_OF.items():
        if member in data:
            return kind
    return schema_kind(data)[0]


def schema_kind(data: Mapping[str, Any]) -> tuple[str | None, bool | None]:
    """(kind, whether it is a component) by `$schema`; (the word, None) for a schema of something else."""
    address = str(data.get("$schema") or "")
    if found := _SCHEMA.search(address):
        word = found[1].lower()
        return _NAMES.get(word, word), found[2].lower() == "component"
    if found := _OTHER.search(address):
        return found[1], None
    return None, None


def is_component(data: Mapping[str, Any]) -> bool:
    """Whether a file describes a component rather than a job: what `$schema` says, else what only one of them has."""
    by_schema = schema_kind(data)[1]
    if by_schema is not None:
        return by_schema
    if any(data.get(key) is not None for key in ("experiment_name", "compute", "settings", "limits", "services")):
        return False
    inputs = data.get("inputs")
    declared = [value for value in inputs.values() if isinstance(value, dict)] if isinstance(inputs, dict) else []
    if inputs and isinstance(inputs, dict) and len(declared) == len(inputs):
        return all("type" in value and not {"path", "value"} & value.keys() for value in declared)
    return "version" in data or "is_deterministic" in data


# -- search spaces --------------------------------------------------------------------------------------------------

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "choice": ("values",),
    "randint": ("upper",),
    "uniform": ("min_value", "max_value"),
    "quniform": ("min_value", "max_value", "q"),
    "loguniform": ("min_value", "max_value"),
    "qloguniform": ("min_value", "max_value", "q"),
    "normal": ("mu", "sigma"),
    "qnormal": ("mu", "sigma", "q"),
    "lognormal": ("mu", "sigma"),
    "qlognormal": ("mu", "sigma", "q"),
}
SPACE = Record(
    "search_space_entry",
    {
        "type": Member(words(*DISTRIBUTIONS), f"{', '.join(DISTRIBUTIONS)}."),
        "values": Member(ListOf(OneOf((TEXT, MapOf(ANYTHING)))), "Of choice."),
        **{
            key: Member(NUMBER, text)
            for key, text in {
                "min_value": "Of uniform, quniform, loguniform, qloguniform.",
                "max_value": "Of uniform, quniform, loguniform, qloguniform.",
                "mu": "Of normal, qnormal, lognormal, qlognormal.",
                "sigma": "Of normal, qnormal, lognormal, qlognormal.",
                "q": "The step of those that begin with q.",
                "upper": "Of randint: below this one.",
            }.items()
        },
    },
    "an entry of search_space",
    required=("type",),
)
OBJECTIVE = Record(
    "objective",
    {
        "goal": Member(words("minimize", "maximize"), "minimize or maximize."),
        "primary_metric": Member(NAME, "The metric, as the trial logs it."),
    },
    "objective",
    required=("goal", "primary_metric"),
)
SAMPLING = Record(
    "sampling_algorithm",
    {
        "type": Member(words("random", "grid", "bayesian"), "random, grid or bayesian."),
        "seed": Member(INTEGER, "Of random."),
        "rule": Member(words("random", "sobol"), "Of random."),
        "logbase": Member(TEXT, "Of random: a number, or e."),
    },
    "sampling_algorithm",
    required=("type",),
)
EARLY = Record(
    "early_termination",
    {
        "type": Member(words("bandit", "median_stopping", "truncation_selection"), "The policy."),
        "evaluation_interval": Member(INTEGER, "Every so many reports of the metric."),
        "delay_evaluation": Member(INTEGER, "Not before so many reports."),
        "slack_factor": Member(NUMBER, "Of bandit."),
        "slack_amount": Member(NUMBER, "Of bandit."),
        "truncation_percentage": Member(INTEGER, "Of truncation_selection."),
        "exclude_finished_jobs": Member(FLAG, "Of truncation_selection."),
    },
    "early_termination",
    required=("type",),
)
SWEEP_LIMITS = Record(
    "sweep_limits",
    {
        "max_total_trials": Member(INTEGER, "At most so many trials (1000)."),
        "max_concurrent_trials": Member(INTEGER, "At most so many at once."),
        "timeout": Member(INTEGER, "Seconds of the whole sweep."),
        "trial_timeout": Member(INTEGER, "Seconds of one trial."),
    },
    "limits of a sweep",
)
TRIAL = Record(
    "trial",
    {**ASSET, **COMMAND, "type": Member(words("command"), "command.")},
    "a trial",
)
_SWEEP = {
    "search_space": Member(MapOf(SPACE), "What is varied."),
    "objective": Member(OBJECTIVE, "What makes a trial the best."),
    "sampling_algorithm": Member(OneOf((SAMPLING, words("random", "grid", "bayesian"))), "How values are chosen."),
    "limits": Member(SWEEP_LIMITS, "How many trials, how long."),
    "early_termination": Member(EARLY, "Which trials are ended early."),
    "queue_settings": Member(QUEUE, "Only Azure ML reads them."),
    "resources": Member(RESOURCES, "What a trial may use."),
}
_SWEEP_NEEDS = ("trial", "objective", "search_space")

# -- kinds that only Azure ML runs ----------------------------------------------------------------------------------

_WHOLE = Member(ANYTHING, "Only Azure ML reads it.")
_FOREIGN_MEMBERS: dict[str, tuple[str, ...]] = {
    "spark": ("entry", "py_files", "jars", "files", "archives", "conf", "args", "code", "environment", "resources",
              "additional_includes", "environment_variables"),
    "parallel": ("task", "logging_level", "mini_batch_size", "partition_keys", "input_data", "resources", "retry_settings",
                 "max_concurrency_per_instance", "error_threshold", "mini_batch_error_threshold", "environment_variables",
                 "environment", "code", "additional_includes", "program_arguments", "entry_script", "limits"),
    "automl": ("task", "resources", "queue_settings", "limits", "training", "primary_metric"),
    "import": ("source", "output"),
    "data_transfer": ("task", "data_copy_mode", "source", "sink"),
    "if_else": ("condition", "true_block", "false_block"),
    "do_while": ("condition", "body", "mapping", "limits"),
    "parallel_for": ("body", "items", "max_concurrency"),
}  # fmt: skip


def _foreign(kind: str, base: Mapping[str, Member], suffix: str) -> Record:
    members = dict.fromkeys(_FOREIGN_MEMBERS.get(kind, ()), _WHOLE)
    return Record(
        f"{kind}_{suffix}",
        {**base, **IO, **members, "type": Member(words(kind), f"{kind}."), "component": _WHOLE},
        f"{'an' if kind[0] in 'aio' else 'a'} {kind} {suffix}",
        lenient=kind in {"automl", *ALONE},  # dozens of tasks with members of their own: Azure ML checks them
    )


def _lost(members: Mapping[str, Member], *names: str) -> dict[str, Member]:
    return {name: replace(members[name], lost=True) for name in names}


def _type(kind: str) -> dict[str, Member]:
    return {"type": Member(words(kind), f"{kind}.")}


_COMPONENT = Member(OneOf((NAME, MapOf(ANYTHING))), "A component: ./file.yml, azureml:NAME@LABEL, or inline.")
_JOBS = "Steps by name."


def _node(data: Mapping[str, Any]) -> Record | None:
    kind = node_kind(data)
    if kind == "command" and data.get("component") is not None:
        return COMMAND_OF_COMPONENT
    return NODES.get(kind) if kind is not None else ANY_NODE if "component" in data else None


def node_kind(data: Mapping[str, Any]) -> str | None:
    """As `kind_of`; None where only the component that is named can tell."""
    if data.get("type") is None and "component" in data:
        inline = data["component"]
        return kind_of(inline) if isinstance(inline, dict) else None
    return kind_of(data)


NODES: dict[str, Record] = {
    "command": Record(
        "command_node", {**NODE, **COMMAND, **_type("command"), "component": _COMPONENT}, "a command step"
    ),
    "sweep": Record(
        "sweep_node",
        {
            **NODE,
            **_lost(NODE, "identity", "services"),
            **IO,
            **_SWEEP,
            **_type("sweep"),
            "trial": Member(OneOf((NAME, TRIAL)), "What is run: a file or inline."),
        },
        "a sweep step",
        required=_SWEEP_NEEDS,
        open=True,
    ),
    **{kind: _foreign(kind, NODE, "step") for kind in FOREIGN},
}
_NODE = Pick(_node, tuple(f"{kind}_node" if kind not in FOREIGN else f"{kind}_step" for kind in KINDS))
_GRAPH = {"jobs": Member(MapOf(_NODE), _JOBS), "settings": Member(SETTINGS, "Of the pipeline.")}
_NESTED = {
    **NODE, **_lost(NODE, "identity", "services", "tags", "properties", "comment", "description", "compute"), **IO,
    **_type("pipeline"), "component": _COMPONENT, "settings": Member(SETTINGS, "Of the pipeline."),
}  # fmt: skip
NODES["pipeline"] = Record("pipeline_node", _NESTED, "a pipeline step", required=("component",), open=True)
COMMAND_OF_COMPONENT = replace(NODES["command"], open=True)
"""A command step with a component: unlike one that is written out, Azure ML takes any member there."""
ANY_NODE = Record(
    "any_node", {**NODE, **COMMAND, **_GRAPH, "type": _WHOLE, "component": _COMPONENT}, "a step", open=True
)
"""A node whose component says what it is."""

JOBS: dict[str, Record] = {
    "command": Record("command_job", {**JOB, **COMMAND, **_type("command"), "is_deterministic": ASSET["is_deterministic"]},
                      "a command job"),
    "pipeline": Record("pipeline_job", {**JOB, **IO, **_GRAPH, **_type("pipeline"), "component": _COMPONENT,
                                        "is_deterministic": ASSET["is_deterministic"]}, "a pipeline job"),
    "sweep": Record("sweep_job", {**JOB, **_lost(JOB, "services"), **IO, **_SWEEP, **_type("sweep"),
                                  "trial": Member(TRIAL, "What is run.")},
                    "a sweep job", required=_SWEEP_NEEDS),
    **{kind: _foreign(kind, JOB, "job") for kind in FOREIGN[:7]},
}  # fmt: skip
COMPONENTS: dict[str, Record] = {
    "command": Record("command_component", {**ASSET, **COMMAND, **_type("command")}, "a command component", open=True),
    "pipeline": Record(
        "pipeline_component", {**ASSET, **IO, **_GRAPH, **_type("pipeline")}, "a pipeline component", open=True
    ),
    **{kind: _foreign(kind, ASSET, "component") for kind in FOREIGN[:5]},
}
