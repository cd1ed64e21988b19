"""From what was asked to what a backend gets. Pure: nothing here reads a file or talks to anybody."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runner import tracking
from runner.artifacts import LOGGED
from runner.backends.base import Box, Member, Task, Whole
from runner.errors import CapabilityError, SpecError
from runner.model import Limits, Remote
from runner.names import file_name
from runner.snapshot import COLLECTED
from runner.spec.values import human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from runner.backends.base import Capabilities, Layout
    from runner.model import Step
    from runner.plan import Plan, PlanStep
    from runner.store import RunFolder

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
RESERVED_OUTPUTS = frozenset(COLLECTED)
"""Always collected, under these names; so no named output can be called so."""


def variable_name(kind: str, name: str) -> str:
    """`RUNNER_INPUT_<NAME>`: upper case, every other character an underscore."""
    return f"RUNNER_{kind}_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def check_names(step: Step) -> None:
    """Refuse names that would meet in one variable, and expressions that name nothing.

    Raises:
        SpecError: naming both.
    """
    for kind, names in (("INPUT", step.inputs), ("OUTPUT", step.outputs)):
        seen: dict[str, str] = {}
        for name in names:
            variable = variable_name(kind, name)
            if variable in seen:
                raise SpecError(
                    f"{seen[variable]!r} and {name!r} would both be the variable {variable}",
                    "rename one of them",
                    key=f"--{kind.lower()}",
                )
            seen[variable] = name
    for name in (RESERVED_OUTPUTS | {LOGGED}) & set(step.outputs):
        raise SpecError(f"{name} is always collected", "choose another name", key=f"--output {name}")
    _check_folders(step)
    inputs = {**step.inputs, **step.parameters}
    for argument in step.argv:
        for expression in _EXPRESSION.findall(argument):
            _lookup(expression, inputs, step.outputs)


def _check_folders(step: Step) -> None:
    """Each output folder is moved away whole, so two must not share one, nor lie in each other."""
    folders = [(name, PurePosixPath(folder)) for name, folder in step.outputs.items() if folder]
    for (first, one), (second, two) in combinations(folders, 2):
        if one == two or one in two.parents or two in one.parents:
            raise SpecError(
                f"{first}={one} and {second}={two} would be collected into two places at once",
                "give each output a folder of its own",
                key="--output",
            )


def check_capabilities(step: Step, backend: str, capabilities: Capabilities) -> None:
    """Refuse, before anything starts, all that the backend cannot do; every problem at once.

    Raises:
        CapabilityError: with one hint line for each problem.
    """
    found = [f"--{what}: {why} → {way}" for what, why, way in problems(step, capabilities)]
    if not found:
        return
    count = "1 thing" if len(found) == 1 else f"{len(found)} things"
    raise CapabilityError(f"backend {backend} cannot do {count} that you asked for; nothing was started", *found)


def problems(step: Step, can: Capabilities) -> Iterator[tuple[str, str, str]]:
    """(what was asked for, why it cannot be had, the way out) of all that a backend cannot do."""
    limits, docker = step.limits, "--backend docker"
    size = f"choose a compute (or resources.instance_type) of that size, or {docker}" if can.remote else docker
    if step.image is not None and not can.images:
        yield f"libs/--image {step.image}", "it runs in no image", f"{docker}, or install the libraries yourself"
    if limits.memory_bytes is not None and not can.memory:
        yield f"memory {human_size(limits.memory_bytes)}", "it cannot hold a memory limit here", size
    if limits.cpus is not None and not can.cpus:
        yield f"cpus {limits.cpus:g}", "it cannot hold a processor limit here", size
    if limits.gpus is not None and not can.gpus:
        whose = "the compute has" if can.remote else "of this machine"
        yield f"gpus {limits.gpus}", "it cannot assign GPUs", f"leave it out: the script sees all GPUs {whose}"
    if limits.shm_bytes is not None and not can.shm:
        yield "shm-size", "it cannot change /dev/shm", f"leave it out, or {docker}"
    if limits.ulimits and not can.ulimits:
        yield f"ulimit {', '.join(limits.ulimits)}", "it cannot set limits of processes", f"leave it out, or {docker}"
    if step.secrets and not can.secrets:
        vault = f"--secret {step.secrets[0]}=keyvault:[VAULT/]NAME, read in the job by its identity"
        yield (
            f"secret {', '.join(step.secrets)}", "it cannot pass secrets unseen",
            f"{vault}; or {docker}" if can.remote else docker,
        )  # fmt: skip


def compose_task(
    step: Step,
    *,
    run: str,
    experiment: str,
    number: int,
    store_id: str,
    secrets: Mapping[str, str] | None,
    box: Box,
    log: Path,
    layout: Layout,
    code: Path | None = None,
) -> Task:
    """Attempt `number` of a step, with every path and variable in place.

    Args:
        layout: of this step's inputs, outputs and files. code: the folder of its code, for a backend elsewhere.
        secrets: their values; None when the process that held them is gone.
    """
    inputs = {**step.parameters, **layout.inputs}
    outputs = layout.outputs
    env = {
        **{name: _filled(text, inputs, outputs) for name, text in step.env.items()},
        "RUNNER_RUN": run,
        "RUNNER_EXPERIMENT": experiment,
        "RUNNER_ATTEMPT": str(number),
        **_tracked(step, layout.tracking, run, experiment),
        # Azure ML itself sets what it calls the run; another name would have its own libraries look in the wrong place.
        **({} if step.remote is not None else _as_azure(run, experiment, step.parameters, inputs, outputs)),
        **{variable_name("INPUT", name): value for name, value in inputs.items()},
        **{variable_name("OUTPUT", name): path for name, path in outputs.items()},
    }
    labels = {"runner.store": store_id, "runner.run": run, "runner.step": step.name, "runner.attempt": str(number)}
    return Task(
        key=task_key(store_id, run, number),
        argv=tuple(substitute(step.argv, inputs, outputs)),
        image=step.image,
        env=env,
        inputs=step.inputs,
        outputs=step.outputs,
        writable=frozenset(step.writable),
        secrets=secrets if step.secrets else {},
        limits=step.limits,
        box=box,
        log=log,
        tracking=layout.tracking,
        labels=labels,
        remote=step.remote,
        code=code if step.remote is not None else None,
    )


def open_step(plan_step: PlanStep) -> Step:
    """The step as it stands in a plan that is handed over whole: what others write, and what a sweep draws, left open."""
    upstream = {
        name: f"${{{{parent.jobs.{source.step}.outputs.{source.output}}}}}"
        for name, source in plan_step.upstream.items()
    }
    drawn = {
        name: f"${{{{search_space.{name}}}}}" for name in (plan_step.sweep.search_space if plan_step.sweep else ())
    }
    step = plan_step.step
    return replace(step, inputs={**step.inputs, **upstream}, parameters={**step.parameters, **drawn})


def compose_whole(
    plan: Plan,
    *,
    run: str,
    experiment: str,
    store_id: str,
    folder: RunFolder,
    layout: Callable[[Box, Step], Layout],
    code: Callable[[str | None], Path | None],
    single_sweep: bool,
) -> Task:
    """The task that hands a plan over to a backend elsewhere.

    Args:
        run: the pipeline's; its steps' are `ROOT.STEP`. folder: of that run.
        layout: of a step's inputs, outputs and files. code: the folder of a key of `Plan.code`.
        single_sweep: the plan is one sweep job.
    """

    def member(each: PlanStep) -> Member:
        place, step = folder.step(each.name).attempt(1), open_step(each)
        task = compose_task(
            step, run=f"{run}.{each.name}", experiment=experiment, number=1, store_id=store_id, secrets={},
            box=Box(place.box), log=place.log, layout=layout(Box(place.box), step), code=code(each.code),
        )  # fmt: skip
        return Member(each.name, replace(task, inputs=each.step.inputs), each.upstream, each.sweep)

    whole = Whole(
        tuple(member(each) for each in plan.steps), plan.outputs, plan.continue_on_step_failure, plan.force_rerun,
        single_sweep, plan.native,
    )  # fmt: skip
    place = folder.attempt(1)
    labels = {"runner.store": store_id, "runner.run": run, "runner.step": run, "runner.attempt": "1"}
    return Task(
        key=task_key(store_id, run, 1), argv=(), image=None, env={"RUNNER_EXPERIMENT": experiment}, inputs={}, outputs={},
        secrets={}, limits=Limits(), box=Box(place.box), log=place.log, labels=labels, remote=Remote(), whole=whole,
    )  # fmt: skip


def _tracked(step: Step, seen: str, run: str, experiment: str) -> dict[str, str]:
    """Where the script logs to. One that is given a tracking server of its own logs there by MLflow."""
    if not seen:
        return {}
    found = tracking.variables(seen, run=run, experiment=experiment)
    own = "MLFLOW_TRACKING_URI" in {*step.env, *step.secrets}
    return {name: value for name, value in found.items() if not own or not name.startswith("MLFLOW_")}


def _as_azure(
    run: str, experiment: str, parameters: Mapping[str, str], inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> dict[str, str]:
    """What scripts written for Azure ML look at (names as its containers have them). A child's run is `ROOT.STEP`."""
    return {
        "AZUREML_RUN_ID": run,
        "AZUREML_ROOT_RUN_ID": run.partition(".")[0],
        "AZUREML_EXPERIMENT_ID": experiment,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        **{f"AZURE_ML_INPUT_{name}": value for name, value in inputs.items()},
        **{f"AZUREML_PARAMETER_{name}": value for name, value in parameters.items()},
        **{f"AZURE_ML_OUTPUT_{name}": path for name, path in outputs.items()},
    }


def task_key(store_id: str, run: str, number: int) -> str:
    """Unique over all stores, and fit for a container's name."""
    return f"{store_id}-{file_name(run, 150)}-{number}"


def substitute(argv: Iterable[str], inputs: Mapping[str, str], outputs: Mapping[str, str | None]) -> Iterator[str]:
    """Replace `${{inputs.x}}`, `${{outputs.y}}`, `${{search_space.z}}`; everything else stays, byte for byte.

    Args:
        inputs: paths and literal values; what a sweep has drawn is among them.
    """
    for argument in argv:
        yield _EXPRESSION.sub(lambda found: _lookup(found[1], inputs, outputs), argument)


def _filled(text: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """A variable's text with what its expressions stand for; one that names nothing stays, as in Azure ML."""
    known = {
        **{f"inputs.{name}": value for name, value in inputs.items()},
        **{f"search_space.{name}": value for name, value in inputs.items()},
        **{f"outputs.{name}": path for name, path in outputs.items()},
    }
    return _EXPRESSION.sub(lambda found: known.get(found[1], found[0]), text) if "${{" in text else text


def _lookup(expression: str, inputs: Mapping[str, str], outputs: Mapping[str, str | None]) -> str:
    kind, _, name = expression.partition(".")
    known = {"inputs": inputs, "outputs": outputs, "search_space": inputs}.get(kind)
    if known is None:
        raise SpecError(
            f"${{{{{expression}}}}} is not known", "expected ${{inputs.NAME}} or ${{outputs.NAME}}", key="arguments"
        )
    if name not in known:
        have = ", ".join(known) or "none"
        raise SpecError(
            f"${{{{{expression}}}}} names no {kind[:-1]} (there are: {have})", f"add --{kind[:-1]} {name}=…",
            key="arguments",
        )  # fmt: skip
    return known[name] or ""
