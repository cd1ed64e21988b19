"""What is written about a step in Python, checked: each mistake is a UsageError that names the step."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from runner.errors import SpecError, UsageError
from runner.job import Code, Data, DataType, Environment, Mode, Output
from runner.model import Limits, Reason, RetryPolicy, Status, status_of
from runner.spec import values
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.job import Command

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
Word = TypeVar("Word", bound=StrEnum)


def fit_name(text: str) -> str:
    """A text as a step's name, as Azure ML takes it: `Train 0.1` → `train_0_1`."""
    name = "_".join(re.findall(r"[a-z0-9]+", text.lower()))
    return name if name[:1].isalpha() else f"step_{name}".rstrip("_")


def check_name(name: object, what: str, where: str) -> None:
    """
    Raises:
        UsageError: it is no name of an input or output.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{where}: {what} {name!r}: not a name", "expected letters, digits and _ (a letter or _ first)"
        )


def one_of(kind: type[Word], text: object, what: str) -> Word:
    """A word of a closed list.

    Raises:
        UsageError: another one.
    """
    for word in kind:
        if word.value == text:
            return word
    near = nearest(str(text), kind)
    raise UsageError(
        f"{what}: {text!r} is none", *([f"did you mean {near}?"] if near else []), f"expected one of: {', '.join(kind)}"
    )


def near(place: Path) -> list[str]:
    """Hints for a path that is not there."""
    try:
        found = nearest(place.name, (each.name for each in place.parent.iterdir()))
    except OSError:
        return [f"there is no folder {place.parent}"]
    return [f"did you mean {place.with_name(found)}?"] if found else []


def literal(value: object, where: str) -> tuple[str, DataType]:
    """A value as the text that stands for it in a job, and its type.

    Raises:
        UsageError: it is none that a command can be given.
    """
    match value:
        case bool():
            return str(value), DataType.BOOLEAN  # True and False, as Azure ML writes them into a command
        case int():
            return str(value), DataType.INTEGER
        case float() if math.isfinite(value):
            text = repr(value)
            # YAML takes 1e-05 for a text, 1.0e-05 for a number; the job's file is to say the same.
            return (text.replace("e", ".0e") if "e" in text and "." not in text else text), DataType.NUMBER
        case str():
            if "\0" in value or "${{" in value:
                raise UsageError(f"{where}: a text may hold neither NUL nor ${{{{")
            return value, DataType.STRING
        case _:
            raise UsageError(
                f"{where}: {type(value).__name__} is not a value",
                "expected a text, number, True or False, Data(…), or an output of another step",
            )


def data(value: Data, where: str) -> Data:
    """A file or folder as the job has it: an absolute path, whose type can be seen, or an address with a type.

    Raises:
        UsageError: there is nothing; or no type is said of an address.
    """
    kind = None if value.type is None else one_of(DataType, value.type, f"{where}: type")
    way = None if value.mode is None else one_of(Mode, value.mode, f"{where}: mode")
    if kind is not None and kind.literal:
        raise UsageError(f"{where}: {kind} is the type of a value", "give the value itself as the input")
    if _SCHEME.match(str(value.uri)):
        if kind is None:
            raise UsageError(f"{where}: {value.uri}: say what is there", 'type="uri_file", "uri_folder" or "mltable"')
        return Data(value.uri, kind, way)
    place = Path(value.uri).expanduser().absolute()
    if not place.exists():
        raise UsageError(f"{where}: no such file or folder: {value.uri}", *near(place))
    return Data(str(place), kind or (DataType.URI_FOLDER if place.is_dir() else DataType.URI_FILE), way)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of one step. where: how errors call it."""

    where: str

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A wrong value as a mistake in this step."""
        try:
            yield
        except (SpecError, UsageError) as error:
            raise UsageError(f"{self.where}: {error.message}", *error.hints) from None

    def error(self, message: str, *hints: str) -> UsageError:
        """A UsageError that names the step."""
        return UsageError(f"{self.where}: {message}", *hints)

    def command(
        self, script: str | Path | None, args: Sequence[Any], command: str | None, code: str | Path | None
    ) -> dict[str, Any]:
        """The members `command`, or `script` and `args`, and `code` of a `Command`."""
        if (script is None) == (command is None):
            raise self.error(
                "expected a script, or command=…" if script is None else "a script and a command are both given"
            )
        if command is not None:
            if args:
                raise self.error("args go with a script", "write them into the command")
            if not command.strip():
                raise self.error("the command is empty")
            return {"command": command, "code": self._code(code)}
        path = Path(str(script))
        if code is None:
            place = path.expanduser().absolute()
            self._check_script(place, script)
            code, name = place.parent, place.name
        else:
            if path.is_absolute() or ".." in path.parts:
                raise self.error(
                    f"{path} is not a path in the code folder", f"with code={str(code)!r} it counts from there"
                )
            name = path.as_posix()
        made = self._code(code)
        if made is not None and made.path is not None and made.path.is_dir():
            self._check_script(made.path / name, script)
        return {"script": name, "args": tuple(self._argument(each) for each in args), "code": made}

    def _check_script(self, place: Path, written: str | Path | None) -> None:
        if place.is_dir():
            raise self.error(f"{written} is a folder", "name the script in it")
        if not place.is_file():
            raise self.error(f"no such script: {written}", *near(place))

    def _code(self, code: str | Path | None) -> Code | None:
        if code is None:
            return None
        if isinstance(code, str) and code.startswith("git+"):
            return Code(git=code)
        place = Path(code).expanduser().absolute()
        if not place.exists():
            raise self.error(f"no such code folder: {code}", *near(place))
        return Code(place)

    def _argument(self, value: object) -> str:
        if isinstance(value, str):
            if "\0" in value:
                raise self.error("an argument holds a NUL byte")
            return value
        if isinstance(value, bool | int | float):
            return str(value)
        raise self.error(
            f"an argument is a {type(value).__name__}",
            'give it as an input, inputs={"NAME": …}, and write "${{inputs.NAME}}" among the arguments',
        )

    def outputs(self, given: Sequence[str] | Mapping[str, str]) -> dict[str, Output]:
        """Outputs as a component declares them."""
        from collections.abc import Mapping as Map

        if isinstance(given, str):
            raise self.error(f"outputs: {given!r} is one text", f"expected a list: outputs=[{given!r}]")
        names = [*given]
        if len(set(names)) != len(names):
            raise self.error("an output is listed twice")
        made = {}
        for name in names:
            check_name(name, "output", self.where)
            kind = one_of(DataType, given[name], f"{self.where}: output {name}") if isinstance(given, Map) else None
            if kind is not None and kind.literal:
                raise self.error(
                    f"output {name}: a step leaves files and folders, no {kind}", "expected uri_file or uri_folder"
                )
            made[name] = Output(kind or DataType.URI_FOLDER)
        return made

    def environment(
        self, libs: str | Path | None, image: str | None, environment: str | Environment | None
    ) -> Environment | None:
        """What the step runs in."""
        given = [
            name for name, each in (("libs", libs), ("image", image), ("environment", environment)) if each is not None
        ]
        if len(given) > 1:
            raise self.error(f"{' and '.join(given)} are both given", "expected one of libs, image and environment")
        if isinstance(environment, Environment):
            return environment
        if environment is not None:
            if not environment.startswith("azureml:"):
                raise self.error(
                    f"{environment!r} is not a name of Azure ML", "expected azureml:NAME@LABEL; for an image: image=…"
                )
            return Environment(reference=environment)
        if libs is not None:
            place = Path(libs).expanduser().absolute()
            if not place.is_file():
                raise self.error(f"no such libs file: {libs}", *near(place))
            return Environment(libs=place)
        return Environment(image=image) if image is not None else None

    def variables(self, env: Mapping[str, object]) -> dict[str, str]:
        """Environment variables."""
        with self._told():
            return {values.variable(name, "env"): literal(value, f"env {name}")[0] for name, value in env.items()}

    def limits(
        self, *, cpus: float | None, memory: str | None, shm_size: str | None, timeout: str | float | None
    ) -> Limits:
        """What the step may use. Seconds are whole, as a job's file has them."""
        with self._told():
            return Limits(
                cpus=None if cpus is None else values.cpus(str(cpus), "cpus"),
                memory_bytes=None if memory is None else values.size(str(memory), "memory"),
                shm_bytes=None if shm_size is None else values.size(str(shm_size), "shm_size"),
                timeout_s=None if timeout is None else float(math.ceil(values.duration(str(timeout), "timeout"))),
            )

    def retry(self, count: int, on: Sequence[str]) -> RetryPolicy:
        """When it is tried again."""
        if type(count) is not int or count < 0:
            raise self.error(f"retries: {count!r} is not a number of attempts", "expected 0 or more")
        failed = {reason.value: reason for reason in Reason if status_of(reason) is Status.FAILED}
        return RetryPolicy(count, tuple(self._reason(word, failed) for word in on))

    def _reason(self, word: str, known: Mapping[str, Reason]) -> Reason:
        if word not in known:
            close = nearest(word, known)
            hints = [f"did you mean {close}?"] if close else []
            raise self.error(
                f"retry_on: {word!r} is not a reason to retry", *hints, f"expected one of: {', '.join(known)}"
            )
        return known[word]

    def check_expressions(self, command: Command) -> None:
        """That every `${{…}}` names an input or output of the step.

        Raises:
            UsageError: naming the first that does not.
        """
        known = [*(f"inputs.{name}" for name in command.inputs), *(f"outputs.{name}" for name in command.outputs)]
        for text in command.args if command.command is None else (command.command,):
            for expression in _EXPRESSION.findall(text):
                if expression not in known and expression != "name":
                    close = nearest(expression, known)
                    hints = [f"did you mean ${{{{{close}}}}}?"] if close else []
                    have = ", ".join(known) or "none"
                    raise self.error(f"${{{{{expression}}}}} names nothing of it", *hints, f"there are: {have}")
