"""What Azure ML is given as a job's `command`: the launcher, and below it, on descriptor 3, what to run.

Azure replaces `${{…}}` by text in a command, knows nothing of quotes, and then hands it to bash. So that every string
arrives as it is, the words stand in one line of JSON without any `$`, in a heredoc that bash leaves alone; and each thing
that Azure puts in stands alone in a section of its own, out of which the launcher fills the words:

    exec 3<<'RUNNER-1f…'; …
    {"mark": "RUNNER-1f…", "argv": ["train.py", ["--in=", "inputs.data", ""]], …}
    RUNNER-1f… inputs.data
    ${{inputs.data}}
    RUNNER-1f…

A `command:` of the user is a section too, in which Azure replaces as it does in every job. Nothing in here belongs to one
run alone, which comes in `variables`: so the same step is the same component, and Azure can take an earlier run for it.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from runner.backends.azureml import secrets
from runner.bootstrapper import direct_argv
from runner.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runner.backends.base import Task

KEY = "RUNNER_KEY"
"""Variable with the attempt's key. Where it cannot be given, the launcher takes the run's own id."""

EMPTY = ".runner-empty"
"""The file that the launcher puts into an output folder in which there is nothing; it is never brought to the user."""

_LARGEST = 128 * 1024 - 1
"""What the kernel takes for one argument, and all of it is the argument of `bash -c`."""
_PLACEHOLDER = re.compile(r"\$\{\{\s*((?:inputs|outputs|search_space)\.[A-Za-z0-9_.-]+)\s*\}\}")
_TEXT = "command"
_PLAIN = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]*")
"""What every shell reads from a heredoc as it is; anything else goes as JSON."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LAUNCHING = frozenset(
    {"PATH", "BASH_ENV", "ENV", "IFS", "HOME", "TMPDIR", "LD_PRELOAD", "LD_LIBRARY_PATH", "SHELLOPTS"}
)
"""Variables that decide how the launcher itself starts; the script gets them, it does not."""
_MLFLOW = "MLFLOW_TRACKING_URI"
_TRACKED = frozenset(
    {_MLFLOW, "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "MLFLOW_ALLOW_FILE_STORE"}
)
_RUN = "RUNNER_RUN"

_Word = str | list[str]
"""A text, or texts and names of sections in turn."""


@dataclass(frozen=True, slots=True)
class Given:
    """How a task is started on Azure. command: the whole text. variables: `environment_variables` beside it."""

    command: str
    variables: Mapping[str, str]


@dataclass(slots=True)
class _Sections:
    """The sections that words name, in the order of their first use."""

    known: frozenset[str]
    renamed: Mapping[str, str]
    bodies: dict[str, str] = field(default_factory=dict)

    def word(self, text: str) -> _Word:
        """The text, with a section in the place of each of Azure's expressions that names something of this job."""
        parts = [""]
        end = 0
        for found in _PLACEHOLDER.finditer(text):
            name = self.renamed.get(found[1], found[1])
            if name not in self.known:
                continue
            self.bodies.setdefault(name, f"${{{{{name}}}}}")
            parts[-1] += text[end : found.start()]
            parts += [name, ""]
            end = found.end()
        parts[-1] += text[end:]
        return parts if len(parts) > 1 else parts[0]

    def texts(self, text: str) -> _Word:
        """The text as a section of its own, in which Azure itself replaces."""
        self.bodies[_TEXT] = _PLACEHOLDER.sub(lambda found: f"${{{{{self.renamed.get(found[1], found[1])}}}}}", text)
        return ["", _TEXT, ""]


def given(
    task: Task,
    *,
    upstream: Iterable[str] = (),
    searched: Iterable[str] = (),
    component: bool = False,
    native: bool = True,
    shared: bool = False,
) -> Given:
    """How the task is started.

    Args:
        upstream: inputs that other steps write. searched: names of a sweep's search space.
        component: it is a node of a pipeline, where what a sweep has drawn is an input.
        native: variables can be given beside the command; else all of them stand in it.
        shared: other runs are the same job: trials of a sweep, or a step that Azure may reuse. So it is not told which run
            it is; the launcher takes Azure's own id for its key and its name.

    Raises:
        SpecError: it is larger than what Linux can be given as one command.
    """
    remote = task.remote
    data = remote.inputs if remote is not None else {}
    drawn = {f"search_space.{name}": f"inputs.{name}" for name in searched} if component else {}
    known = {f"inputs.{name}" for name in (*task.inputs, *upstream)}
    known |= {f"inputs.{name}" for name, entry in data.items() if "value" not in entry}  # those stand there already
    known |= {f"outputs.{name}" for name in task.outputs}
    known |= set(drawn.values()) if component else {f"search_space.{name}" for name in searched}
    sections = _Sections(frozenset(known), drawn)
    inside, beside = _variables(task, native=native, shared=shared or bool(searched))
    config = {
        "argv": _argv(task.argv, sections),
        "env": {name: sections.word(text) for name, text in inside.items()},
        "options": _options(task),
        "outputs": [
            [folder, sections.word(f"${{{{outputs.{name}}}}}")] for name, folder in task.outputs.items() if folder
        ],
        **_made(task, sections),
        "mlflow": bool(task.tracking) and "MLFLOW_RUN_ID" in task.env,
        "distributed": "distribution" in (remote.members if remote is not None else {}),
        **({"secrets": secrets.places(remote)} if remote is not None and remote.secrets else {}),
    }
    return Given(_text(config, sections.bodies), beside)


def _argv(argv: tuple[str, ...], sections: _Sections) -> list[_Word]:
    if argv[:2] == ("bash", "-c") and len(argv) == 3 and _PLAIN.fullmatch(argv[2]):
        return ["bash", "-c", sections.texts(argv[2])]
    return [sections.word(each) for each in argv]


def _options(task: Task) -> list[str]:
    limits = task.limits
    timeout = [] if limits.timeout_s is None else ["--timeout", f"{limits.timeout_s:g}"]
    return ["--grace", f"{limits.grace_s:g}", *timeout]


def _made(task: Task, sections: _Sections) -> dict[str, list[_Word]]:
    """Folders that are there when the script starts, and files whose folder is."""
    outputs = task.remote.outputs if task.remote is not None else {}
    made: dict[str, list[_Word]] = {"folders": [], "files": []}
    for name, folder in task.outputs.items():
        if folder is None:
            kind = "files" if outputs.get(name, {}).get("type") == "uri_file" else "folders"
            made[kind].append(sections.word(f"${{{{outputs.{name}}}}}"))
    return made


def _variables(task: Task, *, native: bool, shared: bool) -> tuple[dict[str, str], dict[str, str]]:
    """(those that the launcher sets, those that Azure sets). MLflow's are the launcher's own: it knows where it logs to."""
    ours = _TRACKED | {"RUNNER_TRACKING"} if "MLFLOW_RUN_ID" in task.env else {"RUNNER_TRACKING"}
    inside: dict[str, str] = {}
    beside = {KEY: task.key} if native and not shared else {}
    for name, text in task.env.items():
        if name in ours or (shared and name == _RUN):
            continue
        plain = _PLAIN.fullmatch(text) and "$" not in text and _NAME.fullmatch(name) and name not in _LAUNCHING
        (beside if native and plain else inside)[name] = text
    return inside, beside


def _text(config: dict[str, Any], bodies: Mapping[str, str]) -> str:
    shell = None if "secrets" in config else _shell(config, list(bodies))
    with_shell = dict(bodies) if shell is None else {**bodies, "sh": shell}
    text = _heredoc(config, with_shell)
    if len(text.encode()) > _LARGEST:
        text = _heredoc(config, bodies)
    if (size := len(text.encode())) > _LARGEST:
        raise SpecError(
            f"the command with its arguments and variables has {size} bytes; Linux takes at most 128 KiB for one",
            "put what is long into a file of the code folder",
            key="command",
        )
    return text


def _heredoc(config: dict[str, Any], bodies: Mapping[str, str]) -> str:
    digest = sha256(json.dumps([config, bodies]).encode()).hexdigest()
    mark = f"RUNNER-{digest[:16]}"
    head = json.dumps({"mark": mark, **config}, separators=(",", ":")).replace("$", "\\u0024")
    # Only a command that is found is executed; bash must not stay between the service's signals and the bootstrapper.
    start = (
        f"exec 3<<'{mark}'; command -v python3 >/dev/null && exec python3 -I -S -B -X utf8 .runner/launch.py {mark}; "
        f"exec sh .runner/launch.sh {mark}"
    )
    sections = "".join(f"{mark} {name}\n{body}\n" for name, body in bodies.items())
    return f"{start}\n{head}\n{sections}{mark}\n"


# -- without Python (row E0) ----------------------------------------------------------------------------------------


def _shell(config: Mapping[str, Any], sections: list[str]) -> str | None:
    """What launch.sh sets, as shell; None where a shell cannot read it as it is."""
    variables = {name: f"$v{number}" for number, name in enumerate(sections, 1)}

    def quoted(word: _Word) -> str:
        parts = [word] if isinstance(word, str) else word
        return "".join(
            _quoted(part) if number % 2 == 0 else f'"{variables[part]}"' for number, part in enumerate(parts)
        )

    argv = _direct(config["argv"])
    saved = [f"mkdir -p {quoted(to)} && cp -R ./{_quoted(folder)}/. {quoted(to)}" for folder, to in config["outputs"]]
    # What holds no file is not there for Azure ML, and its reader would fail; as launch.py does.
    folders = [*config["folders"], *(to for _, to in config["outputs"])]
    marked = [f'[ "$(ls -A {quoted(to)})" ] || : > {quoted(to)}/{EMPTY}' for to in folders]
    lines = [
        *(f"export {name}={quoted(word)}" for name, word in config["env"].items() if _NAME.fullmatch(name)),
        *(f"mkdir -p {quoted(word)}" for word in config["folders"]),
        *(f"mkdir -p ./{_quoted(folder)}" for folder, _ in config["outputs"]),
        f"save() {{ {'; '.join([*saved, *marked, ':'])}; }}",
        "set -- " + " ".join(quoted(word) for word in argv),
    ]
    text = "\n".join(lines)
    return text if _PLAIN.fullmatch(text) else None


def _direct(argv: list[_Word]) -> list[_Word]:
    """The command with its interpreter. Only the first word decides, and it holds no expression."""
    first = argv[0]
    if not isinstance(first, str):
        return argv
    return [*direct_argv([first]), *argv[1:]]


def _quoted(text: str) -> str:
    """A text as one word of a shell, without a `$` that Azure could take for its own."""
    return "".join(_pieces(text)) or "''"


def _pieces(text: str) -> Iterator[str]:
    for number, part in enumerate(text.split("$")):
        if number:
            yield '"$d"'
        if part:
            yield shlex.quote(part)
