"""Azure's own examples (Azure/azureml-examples, cli/jobs), submitted as they are: which run here, which are refused and why.

`python -m tests.pipelines.azureml_examples FOLDER` submits each and writes docs/examples.md; FOLDER is their cli/jobs. The
examples stay out of this repository: what is here is the runner.yaml of maps, made-up data, and the list of what is refused.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.pipelines.azureml_examples.expected import refusal
from tests.pipelines.azureml_examples.made import make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HERE = Path(__file__).parent
_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Result:
    """How one file fared. said: what runner said where it did not complete."""

    file: str
    code: int
    said: str = ""

    @property
    def outcome(self) -> str:
        """ran, refused (before anything started) or failed."""
        if self.code == 0:
            return "ran"
        return "refused" if self.said.startswith("error: ") else "failed"

    @property
    def wrong(self) -> str | None:
        """What is not as expected; None where all is."""
        wanted = refusal(self.file)
        if wanted is None:
            return None if self.outcome == "ran" else f"{self.outcome}:\n{self.said}"
        if self.outcome != wanted.outcome:
            return f"{self.outcome}, and should be {wanted.outcome} ({wanted.why}):\n{self.said}"
        missing = [word for word in wanted.says if word not in self.said.lower()]
        return f"{self.outcome}, but nothing is said of {', '.join(missing)}:\n{self.said}" if missing else None


def jobs(folder: Path) -> Iterator[Path]:
    """The job files below a folder: neither components nor what else is YAML there (conda, data, environments)."""
    for path in sorted((*folder.rglob("*.yml"), *folder.rglob("*.yaml"))):
        try:
            content = yaml.safe_load(path.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        if isinstance(content, dict) and _is_job(content):
            yield path


def _is_job(content: dict[str, Any]) -> bool:
    schema = str(content.get("$schema", ""))
    if schema:
        return schema.endswith("Job.schema.json")
    return "command" in content or "jobs" in content or content.get("type") == "finetuning"


def prepare(folder: Path, examples: Path) -> Path:
    """A folder with runner.yaml, its libs files and the made-up data; the path of runner.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in HERE.glob("*.yaml"):
        shutil.copyfile(path, folder / path.name)
    make(folder / "made")
    (folder / "examples").symlink_to(examples.absolute())
    return folder / "runner.yaml"


def submit(path: Path, config: Path, home: Path, *, root: Path) -> Result:
    """Submit one file on Docker, and wait for its end."""
    argv = [
        sys.executable,
        "-m",
        "runner",
        "submit",
        str(path),
        "--config",
        str(config),
        "--backend",
        "docker",
        "--wait",
    ]
    env = {**os.environ, "RUNNER_HOME": str(home), "NO_COLOR": "1"}
    file = path.relative_to(root).as_posix()
    try:
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Result(file, 1, f"not within {_TIMEOUT_S} s")
    if done.returncode == 0:
        return Result(file, 0)
    refused = done.stderr.startswith("error: ") or "\nerror: " in done.stderr
    said = done.stderr[done.stderr.find("error: ") :] if refused else done.stdout[-3000:] + done.stderr
    return Result(file, done.returncode, said.strip())


def score(
    folder: Path, config: Path, home: Path, files: Iterable[Path], tell: Callable[[Result], None]
) -> list[Result]:
    """Submit the files, one after the other."""
    results = []
    for path in files:
        result = submit(path, config, home, root=folder)
        tell(result)
        results.append(result)
    return results


def page(results: Iterable[Result]) -> str:
    """docs/examples.md."""
    rows = sorted(results, key=lambda each: each.file)
    count = Counter(each.outcome for each in rows)
    reasons = Counter((each.outcome, _why(each)) for each in rows)
    lines = [
        "# Azure's examples",
        "",
        f"The {len(rows)} job files below `cli/jobs` of Azure/azureml-examples, submitted unchanged on Docker with the maps",
        "in `tests/pipelines/azureml_examples/runner.yaml` (environments to one small image, data to made-up tables):",
        f"{count['ran']} ran, {count['refused']} were refused before anything started, {count['failed']} failed. Made by",
        "`python -m tests.pipelines.azureml_examples FOLDER`; the examples themselves are not in this repository.",
        "",
        "| result | why | files |",
        "| --- | --- | --- |",
        *(f"| {outcome} | {why} | {number} |" for (outcome, why), number in reasons.most_common()),
        "",
        "| file | result | why |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {each.file} | {each.outcome} | {_why(each)} |" for each in rows)]) + "\n"


def _why(result: Result) -> str:
    if result.code == 0:
        return ""
    wanted = refusal(result.file)
    if wanted is not None and result.wrong is None:
        return wanted.why
    lines = result.said.splitlines() or [""]
    return (lines[0] if result.outcome == "refused" else lines[-1]).removeprefix("error: ").replace("|", "\\|")[:160]
