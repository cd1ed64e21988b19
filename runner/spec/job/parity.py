"""What of Azure ML's job YAML runs on this machine: one table, which the reader's refusals and docs/parity.md come from.

`python -m runner.spec.job.parity` prints the page.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from enum import StrEnum

AZURE = "--backend azureml"
ONE = "leave it out, or --backend azureml"
AZ = "submit it with `az ml job create -f FILE`"

PASSED = frozenset({
    "automl", "spark", "parallel", "import", "data_transfer", "finetuning", "distillation", "component.named",
    "distribution", "resources.instance_count", "docker_args.other", "sweep.nested",
})  # fmt: skip
"""Features that no local backend has, and that `--backend azureml` passes on. All else that is refused here is so there."""


class Fate(StrEnum):
    """What becomes of a feature on a local backend."""

    RUNS = "runs"
    DIFFERS = "runs, with a difference"
    REFUSED = "refused"
    AZURE_ONLY = "passed on to Azure ML only"
    NOWHERE = "no effect"


@dataclass(frozen=True, slots=True)
class Row:
    """One feature. reason: the difference, or why it is refused (one clause). way_out: of a refused one."""

    title: str
    fate: Fate
    reason: str = ""
    way_out: str = ""


def _runs(title: str, difference: str = "") -> Row:
    return Row(title, Fate.DIFFERS if difference else Fate.RUNS, difference)


def _refused(title: str, reason: str, way_out: str = AZURE) -> Row:
    return Row(title, Fate.REFUSED, reason, way_out)


def _passed(title: str, what: str) -> Row:
    return Row(title, Fate.AZURE_ONLY, what)


def _unsent(title: str, why: str = "said when it is submitted") -> Row:
    return Row(title, Fate.NOWHERE, why)


_ROWS: dict[str, Row] = {
    # kinds
    "command": _runs("`type: command` (job, component, step)"),
    "pipeline": _runs("`type: pipeline` (job, component, nested component)"),
    "sweep": _runs("`type: sweep` (job, step)"),
    "automl": _refused("`type: automl`", "automl runs on Azure ML only"),
    "spark": _refused("`type: spark`", "spark runs on Azure ML only"),
    "parallel": _refused(
        "`type: parallel`", "parallel runs on Azure ML only", "write it as a command, or --backend azureml"
    ),
    "import": _refused(
        "`type: import`", "import runs on Azure ML only", "give the data as an input, or --backend azureml"
    ),
    "data_transfer": _refused(
        "`type: data_transfer`",
        "data_transfer runs on Azure ML only",
        "give the data as an input, or --backend azureml",
    ),
    "finetuning": _refused("`type: finetuning`", "finetuning runs on Azure ML only"),
    "distillation": _refused("`type: distillation`", "distillation runs on Azure ML only"),
    "if_else": _refused("`type: if_else`", "steps that decide while running are for Azure ML only"),
    "do_while": _refused("`type: do_while`", "loops that are decided while running are for Azure ML only"),
    "parallel_for": _refused("`type: parallel_for`", "loops that are decided while running are for Azure ML only"),
    # components and code
    "component.file": _runs("`component: ./file.yml`, inline component"),
    "component.named": _refused(
        "`component: azureml:…`, `azureml://registries/…`",
        "a component that only Azure ML knows is not mapped to a file",
        "runner.yaml: components: {NAME: file.yml}, or --backend azureml",
    ),
    "code.local": _runs("`code:` a folder or file, `additional_includes`"),
    "code.git": _runs("`code: git+https://…`, `git+ssh://…`"),
    "code.azureml": _refused(
        "`code: azureml:…`",
        "code that is stored in Azure ML cannot be had here",
        "give the folder, or --backend azureml",
    ),
    "code.address": _refused(
        "`code: https://…` that is no git repository",
        "code is taken from folders and git repositories only",
        "write git+https://…, or give the folder",
    ),
    "additional_includes.artifact": _refused(
        "`additional_includes` of Azure DevOps artifacts",
        "an artifact of Azure DevOps cannot be had here",
        "download it and name its folder, or --backend azureml",
    ),
    # environments
    "environment.image": _runs("`environment: {image: …}`, `build`, `conda_file`, `file:./env.yml`, inline"),
    "environment.named": _runs(
        "`environment: azureml:NAME@LABEL`, `azureml://registries/…`", "runner.yaml says which image or libs file it is"
    ),
    "environment.libs": _runs("`environment: {libs: libs.yaml}` (runner's own)"),
    "environment.windows": _refused("`os_type: windows`", "a Windows image does not run in a Linux engine"),
    "environment.build_address": _refused(
        "`build: {path: https://…}`", "a build context is taken from this machine only", "give the folder"
    ),
    # running
    "command.text": _runs("`command:`, `${{…}}`, `$[[…]]`"),
    "script": _runs("`script:` with `args:` (runner's own)"),
    "environment_variables": _runs("`environment_variables`"),
    "limits": _runs("`limits.timeout`"),
    "retry": _runs("`retry: {count, on, memory}` (runner's own)"),
    "resources.shm_size": _runs("`resources.shm_size`"),
    "resources.docker_args": _runs("`docker_args`: --shm-size, --ipc, --ulimit, --memory, --cpus"),
    "docker_args.other": _refused(
        "`docker_args`: any other",
        "is not among the arguments that are taken from a file (some give root on this machine)",
        "leave it out; taken are --shm-size, --ipc, --ulimit, --memory, --cpus",
    ),
    "resources.instance_count": _refused(
        "`instance_count` above 1",
        "more than one machine cannot be had here",
        "--set resources.instance_count=1, or --backend azureml",
    ),
    "distribution": _refused(
        "`distribution`",
        "several processes or machines are started by Azure ML only",
        "start them in the command (torchrun, mpirun), or --backend azureml",
    ),
    "resources.native": _passed(
        "`instance_type`, `resources.properties`, `locations`, `max_instance_count`", "no effect here"
    ),
    "compute": _runs(
        "`compute`, `default_compute`", "a name that runner.yaml maps; by itself it sends nothing to the cloud"
    ),
    "identity": _passed("`identity`", "the script runs as you; it gets no token"),
    "services": _passed("`services` (ssh, Jupyter, VS Code, TensorBoard)", "not started; the script runs without them"),
    "queue_settings": _passed("`queue_settings`, `job_tier`, `priority`", "no effect here"),
    "properties": _passed("`properties`, `comment`, and `tags` of a step", "no effect here"),
    "told": _runs(
        "`display_name`, `description`, `tags`, `experiment_name` of the job", "as `list` and `show` have them"
    ),
    "unsent": _unsent(
        "`notification_setting`, `parent_job_name`, `intellectual_property`; `path_on_compute` of an input; `name`, "
        "`version`, `tags` … of an inline environment; `services` of a sweep, `identity` of a sweep step; of a step that is "
        "a pipeline all but inputs, outputs and `display_name`"
    ),
    "component.about": _unsent(
        "of a component file what describes it (`name`, `version`, `display_name`, `description`, `tags`, those of its "
        "inputs and outputs)",
        "a step's component is anonymous there",
    ),
    # data
    "inputs.literal": _runs(
        "literal inputs; defaults, `optional`, `min`, `max`, `enum`", "kept as written: 1.10 stays 1.10"
    ),
    "inputs.data": _runs("uri_file, uri_folder, mltable, …_model inputs"),
    "inputs.mode": _runs(
        "`mode` of inputs",
        "always a path: read-only, or for rw_mount writable unless it was fetched; direct and eval_* likewise",
    ),
    "inputs.native": _passed("`datastore` of an input of this machine: where it is uploaded", "no effect here"),
    "outputs": _runs(
        "outputs with `type`, `mode`, `path`, `name`, `version`", "kept with the run, and copied to `path`"
    ),
    "outputs.literal": _refused(
        "literal outputs (string, number, integer, boolean)",
        "values that a step gives back are handled by Azure ML only",
        "write the value to a uri_file, or --backend azureml",
    ),
    # pipelines
    "settings": _runs("`default_datastore`, `continue_on_step_failure`, `force_rerun`, `is_deterministic`"),
    "settings.hooks": _refused("`on_init`, `on_finalize`", "steps before and after a pipeline are for Azure ML only"),
    "settings.native": _passed("other `settings`", "no effect here"),
    # sweeps
    "sweep.search_space": _runs("all distributions of `search_space`; grid, random, sobol, bayesian"),
    "sweep.nested": _refused(
        "mappings as values of a `choice`",
        "search spaces within search spaces are for Azure ML only",
        "write one entry for each, or --backend azureml",
    ),
    "sweep.early_termination": _runs("`early_termination`, `limits`, `objective`"),
}

ROWS = {
    key: row if key in PASSED else replace(row, way_out=row.way_out.replace(AZURE, AZ)) for key, row in _ROWS.items()
}


def page() -> str:
    """docs/parity.md."""
    lines = [
        "# What of Azure ML's job YAML runs here",
        "",
        "Made from `runner/spec/job/parity.py` (`python -m runner.spec.job.parity > docs/parity.md`). What is",
        "refused is refused before anything starts, all of it at once, with file, line, reason and way out. A member that",
        "Azure ML does not know is an error, with the nearest right word.",
        "",
        "The third column is of `--backend azureml`: what runs here runs there, but `retry:` of a pipeline step and limits",
        "of memory and processors, which the compute has ([azure.md](azure.md)). Names (environments, data) are the",
        "workspace's own.",
        "",
        "| feature | on this machine | on Azure ML | |",
        "|---|---|---|---|",
    ]
    for key, row in ROWS.items():
        there = "refused" if row.fate is Fate.REFUSED and key not in PASSED else "passed on"
        there = {Fate.RUNS: "runs", Fate.NOWHERE: "not passed on"}.get(row.fate, there)
        rest = f"{row.reason} → {row.way_out}" if row.way_out else row.reason
        lines.append(f"| {row.title} | {row.fate} | {there} | {rest} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
