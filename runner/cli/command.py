"""What the command line consists of, and how what the parser finds wrong is said."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, get_type_hints

import typer

from runner import console
from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_EPILOG = (
    "Exit codes: `submit --wait` and `wait` exit with the script's own code (128+n for signal n, 124 timeout, 137 out of "
    "memory or killed, 143 canceled, 125 where there is none). Else: 0 done, 2 usage, 3 wrong file or value, 4 not "
    "found, 5 conflict, 6 the backend cannot, 7 code folder, 8 backend, 9 unreachable, 10 build, 11 image, 12 run store, "
    "70 fault of runner, 130 Ctrl-C; `build` and `push` also 143 SIGTERM, 129 SIGHUP. RUN is a name, its unique beginning, "
    "or @last; a step of a pipeline is RUN.STEP."
)

_COMMANDS = {
    "build": "build:build",
    "push": "push:push",
    "schema": "schema:schema",
    "submit": "submit:submit",
    "logs": "logs:logs",
    "status": "runs:status",
    "wait": "runs:wait",
    "show": "show:show",
    "list": "runs:list_",
    "experiments": "runs:experiments",
    "why": "reuse:why",
    "resume": "reuse:resume",
    "graph": "graph:graph",
    "export": "export:export",
    "open": "elsewhere:open_",
    "cancel": "runs:cancel",
    "download": "runs:download",
    "delete": "runs:delete",
    "prune": "runs:prune",
    "doctor": "doctor:doctor",
    "backends": "doctor:backends",
}
"""Command → where it is, in the order in which --help shows them."""


_GROUPS = {
    "image": (
        "Images that runner made. Listed, described, removed.",
        {"list": "image:list_", "show": "image:show", "prune": "image:prune"},
    ),
    "pipeline": (
        "Pipelines under a name and a version. Registered, listed, described.",
        {"register": "pipeline:register", "list": "pipeline:list_", "show": "pipeline:show"},
    ),
    "compute": (
        "What jobs on Azure ML can run on. Listed, described.",
        {"list": "compute:list_", "show": "compute:show"},
    ),
    "libs": ("Libraries of files, images and this machine. Compared.", {"diff": "libs:diff"}),
}
"""Group → what it is for, and its commands."""


def commands() -> frozenset[str]:
    """Every command and group of commands, by its first word."""
    return frozenset({*_COMMANDS, *_GROUPS})


def application(only: str | None = None) -> typer.Typer:
    """The whole command line; or with the command `only` alone, since typer reads every signature it is given (40 ms)."""
    app = typer.Typer(
        name="runner",
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    _add(app, {name: where for name, where in _COMMANDS.items() if only in (None, name)})
    for name, (purpose, commands) in _GROUPS.items():
        if only in (None, name):
            group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=purpose)
            group.callback()(_group)
            _add(group, commands)
            app.add_typer(group, name=name)
    return app


def _add(app: typer.Typer, commands: Mapping[str, str]) -> None:
    for name, where in commands.items():
        module, _, function = where.partition(":")
        command = getattr(import_module(f"runner.cli.{module}"), function)
        # typer evaluates each annotation four times, and each makes an option anew (10 ms of a `submit`); so once, here.
        command.__annotations__ = get_type_hints(command, include_extras=True)
        app.command(name)(command)


def _group() -> None:
    """Makes a group of what has one command only, too."""


def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Build an image with your libraries, run scripts and pipelines in it, and learn the whole truth about their end."""
    if version:
        from importlib.metadata import version as of

        console.result(of("runner"))
        raise typer.Exit


def execute(argv: list[str]) -> int:
    """Run one command; its exit code.

    Raises:
        RunnerError: what the command raised; UsageError for what the parser found wrong.
    """
    # Whatever follows the first `--` is the script's, byte for byte: no parser of ours may look at it.
    if "--" in argv and argv[0] == "submit":
        from runner.cli.submit import script_args

        cut = argv.index("--")
        argv, script_args[:] = argv[:cut], argv[cut + 1 :]
    if argv and argv[0] == "build":
        from runner.cli.build import OPTIONAL_VALUES

        argv = list(_with_values(argv, OPTIONAL_VALUES))
    try:
        app = application(argv[0] if argv and argv[0] in {*_COMMANDS, *_GROUPS} else None)
        result = app(args=argv, prog_name="runner", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # typer has an exit code of its own for it; ours is the usual
            raise BrokenPipeError from None
        return stop.code if isinstance(stop.code, int) else 0
    except Exception as problem:
        if isinstance(problem, OSError) and _came_from_typer(problem):
            problem.filename = console.STDOUT  # the help, with a full disk behind `>`
        # typer's own errors share a base class that it does not export under a stable name.
        if not any(base.__name__ == "ClickException" for base in type(problem).__mro__):
            raise
        if type(problem).__name__ == "NoArgsIsHelpError":
            console.say("", str(problem))
            return UsageError.exit_code
        raise _wrong_usage(problem, argv) from None
    return result if isinstance(result, int) else 0


def _with_values(argv: list[str], defaults: Mapping[str, str]) -> Iterator[str]:
    """The arguments, with a value for each option that may stand without one."""
    for index, argument in enumerate(argv):
        alone = index + 1 == len(argv) or argv[index + 1].startswith("-")
        yield f"{argument}={defaults[argument]}" if argument in defaults and alone else argument


def _came_from_typer(problem: Exception) -> bool:
    trace = problem.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("typer.")


def _wrong_usage(problem: Exception, argv: list[str]) -> UsageError:
    kind = type(problem).__name__
    # NoSuchOption puts its suggestions into the text; ours go into a line of their own.
    text = str(problem) if kind == "NoSuchOption" else str(getattr(problem, "format_message", problem.__str__)())
    text, _, near = text.partition(" Did you mean ")
    text = text.rstrip(".").replace("is not a valid int range", "is not a whole number")
    near = near.rstrip("?").replace("'", "")
    hints = [f"did you mean {near}?"] if near else []
    if found := getattr(problem, "possibilities", None):
        hints = [f"did you mean {' or '.join(found)}?"]
    if argv and argv[0] == "submit" and ("extra argument" in text or kind == "NoSuchOption"):
        hints.append("the script's own arguments go after --:  runner submit SCRIPT -- ARGS")
    context = getattr(problem, "ctx", None)
    hints.append(f"see: {context.command_path if context else 'runner'} --help")
    return UsageError(text[:1].lower() + text[1:], *hints)
