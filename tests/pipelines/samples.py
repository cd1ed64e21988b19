"""What each sample below pipelines/ is expected to leave."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Sample:
    """One file. leaves: step/output/path → text; of a command job the step is empty. steps: status by step, other than
    Completed. code: exit code of submit --wait. refused: what Azure ML's refusal says; "": it runs there."""

    file: str
    leaves: Mapping[str, str]
    steps: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    options: tuple[str, ...] = ()
    refused: str = ""

    def __str__(self) -> str:
        return self.file


_ARGUMENTS = [
    "a  b", "'single' \"double\" `back`", "$HOME $(id) ; rm -rf x & | > y", "tab\tnew\nline", "-e", "--args", "",
    "Ärger ☃ 日本", "*", "\\n",
]  # fmt: skip
_VALUES = "text=two words\ncount=42\nrate={rate}\nflag={flag}\nold=true\nGREETING=good morning, $USER\none\ntwo\n"
_FILES = "./lines.txt\n./more/deep.txt\n"

EVERYWHERE = (
    Sample("hello-io/pipeline.yml", {"read/letter/letter": "HELLO, WORLD\n", "write/note/note.txt": "hello, world\n"}),
    Sample("hello-io/pipeline.yml", {"read/letter/letter": "BYE, WORLD\n"}, options=("--set", "inputs.greeting=bye")),
    Sample("mixed/pipeline.yml", {"compare/report/report.json": '{\n  "best": "parabola",'}),
    Sample("nested/pipeline.yml", {
        "plain.sentence/text/text": "The mean is 20.\n", "robust.sentence/text/text": "The robust mean is 3.\n",
    }),
    Sample("values/job.yml", {
        "table/table": _VALUES.format(rate="0.25", flag="True"), "folder/files.txt": _FILES,
        "outputs/left.txt": "collected\n", "logs/own.txt": "a log of the script's own\n",
    }),
    Sample("values/job.yml", {"table/table": _VALUES.format(rate="0.5", flag="True")},
           options=("--set", "inputs.rate=0.5")),
    Sample("values/script.yml", {"seen/seen": "".join(
        json.dumps(text, ensure_ascii=False) + "\n" for text in _ARGUMENTS)}),
    # runner.yaml says what its names are here; there they are the workspace's own, which has none of that name.
    Sample("datastore/pipeline.yml", {"count/counts/counts.txt": "1 blue\n2 green\n3 red\n"},
           refused="words"),
    Sample("going-on/pipeline.yml", {"ends/good/good": "to be\nnot\n"},
           {"breaks": "Failed", "needs_it": "Skipped"}, code=3),
    Sample("retry/job.yml", {"last/last": "attempt 3\n"}),
    Sample("sweep/pipeline.yml", {"use/best/best": "best span 2: 0\n"}),
)  # fmt: skip
DOCKER = (
    Sample("values/docker.yml", {"limits/limits": "32\n268435456\n512\n"}),
    Sample("retry/memory.yml", {"used/used": "120 MiB\n"}, refused="retry.memory"),
    Sample("mixed/with-libs.yml", {"show/table/table": "| name        |    value |"}),
)


def left(run: Path) -> Files:
    """What a run left, of the last attempt of each step: step/output/path → bytes."""
    found: Files = {}
    for artifacts in run.rglob("artifacts"):
        attempt = artifacts.parent
        if attempt.parent.name != "attempts" or int(attempt.name) != _last(attempt.parent):
            continue
        step = attempt.parent.parent.relative_to(run).as_posix().removeprefix("steps/")
        for path in artifacts.rglob("*"):
            if path.is_file():
                found[f"{step}/{path.relative_to(artifacts).as_posix()}".removeprefix("./")] = path.read_bytes()
    return found


def _last(attempts: Path) -> int:
    return max(int(each.name) for each in attempts.iterdir())
