"""Who may import whom, derived from the sources: the layers of the design, and the price of the commands used most.

A row imports rows below it, never above. At run time it imports nothing beside it either, except within one package
(`builder`, `spec`, `backends`, …). An import for types alone may look sideways, since it is gone when the code runs; but
it may not look up either, or the lower part could not be read without the upper.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Cli

ROOT = Path(__file__).resolve().parent.parent

ROWS = (
    ("__main__",),
    ("cli",),
    ("console",),
    ("",),  # `runner` itself: the public names, and where each is
    ("pipeline",),
    ("api",),
    ("run", "images"),
    ("steplogs", "export"),
    ("cleanup", "diagnosis", "logs", "submission", "why"),
    ("supervisor", "registered"),
    ("engine", "environments"),
    ("codes",),
    ("gitcode",),
    ("composer", "drafts", "verdict", "graph", "reuse", "job_json", "quoting", "builder", "backends"),
    ("data",),
    ("artifacts", "digests", "sweeps.rows", "sweeps.summary"),
    ("store", "snapshot", "spec", "bootstrapper", "docker_api", "backends.base"),
    ("sweeps",),
    ("plan",),
    ("job",),
    ("model", "assets", "names", "tracking"),
    ("errors",),
)

OWNERS = {
    "docker": ("docker_api",),
    "urllib3": ("backends.azureml.rest",),
    "azure": ("backends.azureml", "builder.registry.sign_in", "data.azure"),
    "fsspec": ("data.others",),
    "rattler": ("builder.conda",),
    "typer": ("cli", "console"),
    "rich": ("cli", "console"),
    "yaml": ("spec", "builder"),
    "pydantic": ("spec",),
    "pathspec": ("snapshot",),
    "sqlite3": ("store",),
    "optuna": ("sweeps.bayesian",),
}
"""Who may import what. A dependency with one owner can be replaced, and its errors are translated in one place."""


@dataclass(frozen=True)
class Import:
    """`importer` imports `target` (a name within runner, or of another package), in that line of its file."""

    importer: str
    target: str
    names: tuple[str, ...]
    line: int
    types_only: bool

    def __str__(self) -> str:
        return f"{self.importer or 'runner'}:{self.line} imports {self.target}"


@cache
def modules() -> dict[str, ast.Module]:
    """Every module below runner/, by its name without `runner.`; steps of the builder run in a container and are none."""
    found = {}
    for path in sorted((ROOT / "runner").rglob("*.py")):
        parts = path.relative_to(ROOT / "runner").with_suffix("").parts
        if parts[:2] == ("builder", "steps"):
            continue
        name = ".".join(parts).removesuffix("__init__").removesuffix(".")
        found[name] = ast.parse(path.read_text("utf-8"), str(path))
    return found


def _imports(importer: str, node: ast.AST, *, types_only: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            for statement in child.body:
                yield from _imports(importer, ast.Module([statement], []), types_only=True)
            for statement in child.orelse:
                yield from _imports(importer, ast.Module([statement], []), types_only=types_only)
        elif isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(importer, alias.name, (), child.lineno, types_only)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{importer}:{child.lineno}: imports are absolute here"
            names = tuple(alias.name for alias in child.names)
            yield from _from(importer, str(child.module), names, child.lineno, types_only=types_only)
        else:
            yield from _imports(importer, child, types_only=types_only)


def _from(importer: str, module: str, names: tuple[str, ...], line: int, *, types_only: bool) -> Iterator[Import]:
    """`from runner import store` means the module runner.store; `from runner.store import Store` a name of it."""
    for name in names:
        whole = f"{module}.{name}"
        if module.split(".", maxsplit=1)[0] == "runner" and whole.removeprefix("runner.") in modules():
            yield Import(importer, whole, (), line, types_only)
        else:
            yield Import(importer, module, (name,), line, types_only)


@cache
def graph() -> tuple[Import, ...]:
    return tuple(found for name, tree in modules().items() for found in _imports(name, tree))


def inner(name: str) -> str | None:
    """`runner.store` → `store`, `runner` → ``, everything else → None."""
    if name == "runner":
        return ""
    return name.removeprefix("runner.") if name.startswith("runner.") else None


def row(name: str) -> int:
    """The row that a module stands in, by its longest entry there."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        for number, entries in enumerate(ROWS):
            if ".".join(parts[:length]) in entries:
                return number
    pytest.fail(f"the module runner.{name} stands in no row of tests/test_architecture.py")


def package(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def test_every_module_stands_in_a_row_and_every_entry_is_a_module() -> None:
    for name in modules():
        row(name)
    missing = [entry for entries in ROWS for entry in entries if entry not in modules()]
    assert missing == []


def test_the_document_has_the_same_rows() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("| module | does |\n|---|---|\n")[2]
    told: list[set[str]] = []
    for first in re.findall(r"^\| ([^|]+) \|", text.partition("\n\n")[0], re.MULTILINE):
        if not first.startswith("—"):
            told.append(set())
        told[-1] |= {"" if name == "runner" else name for name in re.findall(r"`([\w.]+)`", first)}
    assert told == [set(entries) for entries in reversed(ROWS) if entries != ("__main__",)]


def test_a_row_imports_below() -> None:
    wrong = []
    for found in graph():
        target = inner(found.target)
        if target is None:
            continue
        up = row(target) < row(found.importer)
        sideways = row(target) == row(found.importer) and package(target) != package(found.importer)
        if (up and package(target) != package(found.importer)) or (sideways and not found.types_only):
            wrong.append(str(found))
    assert wrong == []


def test_the_rule_sees_what_it_forbids() -> None:
    """The check above on a graph that breaks it: a rule that cannot fail proves nothing."""
    assert row("store") > row("engine") > row("api") > row("cli")
    assert row("backends.base") > row("backends.docker")
    tree = ast.parse("def f():\n    from runner import engine\nif TYPE_CHECKING:\n    from runner.api import Run\n")
    found = list(_imports("store", tree))
    assert [(one.target, one.types_only) for one in found] == [("runner.engine", False), ("runner.api", True)]


@pytest.mark.parametrize("dependency", OWNERS)
def test_a_dependency_is_imported_by_its_owner_only(dependency: str) -> None:
    allowed = OWNERS[dependency]
    wrong = [
        str(found)
        for found in graph()
        if found.target.split(".")[0] == dependency
        and not any(found.importer == owner or found.importer.startswith(f"{owner}.") for owner in allowed)
    ]
    assert wrong == []


def test_every_foreign_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9_-]", text)[0].lower() for text in declared}
    importable = {
        "pyyaml": "yaml",
        "azure-ai-ml": "azure",
        "azure-identity": "azure",
        "py-rattler": "rattler",
        "azure-storage-blob": "azure",
    }
    known = {importable.get(name, name) for name in names} | {"runner"} | sys.stdlib_module_names
    if "pydantic" in names:
        known.add("pydantic_core")  # one cannot be had without the other
    foreign = {found.target.split(".")[0] for found in graph()} - known
    assert foreign == set()


def test_no_module_takes_private_names_of_another() -> None:
    wrong = [
        str(found)
        for found in graph()
        if inner(found.target) is not None and any(name.startswith("_") for name in found.names)
    ]
    assert wrong == []


def test_every_module_says_what_it_is_for() -> None:
    empty = [name for name, tree in modules().items() if tree.body and not ast.get_docstring(tree)]
    assert empty == []


def test_steps_of_the_builder_need_nothing_of_runner() -> None:
    """They run in a container that has neither runner nor its dependencies; one has py-rattler mounted."""
    mounted = {"conda_install.py": {"rattler"}}
    for path in (ROOT / "runner" / "builder" / "steps").glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        roots = {found.target.split(".")[0] for found in _imports("steps", tree)}
        assert roots <= sys.stdlib_module_names | mounted.get(path.name, set()), path.name
        assert ast.get_docstring(tree), path.name


# -- errors ---------------------------------------------------------------------------------------------------------


def _classes() -> dict[str, type[errors.RunnerError]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.RunnerError)
    }


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in _classes().values()]
    assert len(set(codes)) == len(codes)
    # 0 is success, 124-143 are taken by the status contract, 128+n by signals.
    assert all(0 < code < 124 for code in codes)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    tree = {}
    parents = ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"    ([│├└─ ]*)(\w+Error)\s+(\d+)  +\S.*", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        parents[depth + 1 :] = [found[2]]
        tree[found[2]] = (parents[depth], int(found[3]))
    real = {name: (kind.__mro__[1].__name__, kind.exit_code) for name, kind in _classes().items()}
    assert tree == real


def test_the_base_is_never_raised() -> None:
    raised = [
        f"{name}:{node.lineno}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc).startswith("RunnerError(")
    ]
    assert raised == []


# -- what a command costs -------------------------------------------------------------------------------------------

HEAVY = (
    "docker",
    "azure",
    "urllib3",
    "pydantic",
    "pydantic_core",
    "yaml",
    "rich",
    "requests",
    "asyncio",
    "rattler",
    "fsspec",
    "optuna",
)

_DUMP = """
import sys
from runner.cli import main
sys.argv = ["runner", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    code = stop.code
sys.stderr.write("\\nMODULES " + " ".join(sorted({name.partition(".")[0] for name in sys.modules})))
sys.exit(code)
"""


@pytest.fixture
def finished(cli: Cli) -> str:
    (cli.cwd / "a.sh").write_text("echo hello\n")
    done = cli("submit", "a.sh", "--backend", "process", "--wait", "--name", "done")
    assert done.code == 0, done.err
    return "done"


def test_commands_on_runs_import_nothing_heavy(cli: Cli, finished: str) -> None:
    for argv in (["--help"], ["list"], ["status", finished], ["logs", finished], ["show", finished]):
        done = subprocess.run(
            [sys.executable, "-c", _DUMP, *argv], cwd=cli.cwd, env=cli.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        loaded = set(done.stderr.rpartition("MODULES ")[2].split())
        assert {"runner", "typer"} <= loaded
        assert loaded.isdisjoint(HEAVY), argv


_SPARED = ("job", "plan", "steplogs", "data", "environments", "engine.graph", "engine.whole", "sweeps.decide", "spec.config",
           "spec.yamldoc", "spec.job", "submission.elsewhere", "submission.job", "cli.board", "backends.docker")  # fmt: skip


def test_a_script_pays_for_no_pipeline_and_no_service_elsewhere(cli: Cli) -> None:
    """What a plain submit imports was half of its cost: until the run is accepted it needs none of these."""
    (cli.cwd / "a.sh").write_text("echo hello\n")
    dump = _DUMP.replace('name.partition(".")[0] for name', "name for name")
    done = subprocess.run(
        [sys.executable, "-c", dump, "submit", "a.sh", "--backend", "process"], cwd=cli.cwd, env=cli.env,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.rpartition("MODULES ")[2].split())
    assert "runner.submission.script" in loaded
    assert loaded.isdisjoint({f"runner.{name}" for name in _SPARED} | {"logging", "secrets", "asyncio"})
    cli("wait", done.stdout.strip())


HERE = (
    "--help", "build --help", "push --help", "schema job", "submit a.sh --backend process --dry-run",
    "submit p.yml --backend process --wait --name pipe", "list", "status done", "logs done", "show done", "wait done",
    "experiments", "why pipe.a", "resume pipe --wait", "graph p.yml", "export p.yml --to azureml", "open done",
    "cancel done", "download done --to x",
    "delete done", "prune", "doctor", "backends", "image list", "pipeline list", "compute --help", "libs diff --help",
)  # fmt: skip
"""Every command, at work on this machine. What a command costs that asks Azure is looked at in tests/azureml."""


def test_no_command_pays_for_azure_on_this_machine(cli: Cli, finished: str) -> None:
    from runner.cli.command import commands

    assert {argv.split()[0] for argv in HERE} - {"--help"} == commands()
    (cli.cwd / "p.yml").write_text("type: pipeline\njobs:\n  a: {command: echo hi, environment: azureml:x}\n")
    (cli.cwd / "runner.yaml").write_text('environments: {"azureml:x": {local: true}}\n')
    assert finished == "done"
    for argv in HERE:
        done = subprocess.run(
            [sys.executable, "-c", _DUMP, *argv.split()], cwd=cli.cwd, env=cli.env, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        loaded = set(done.stderr.rpartition("MODULES ")[2].split())
        assert "runner" in loaded, argv
        assert loaded.isdisjoint({"azure", "urllib3", "msal"}), argv


def test_importing_runner_imports_nothing_of_it(cli: Cli) -> None:
    code = "import sys, runner; print(*[name for name in sys.modules if name.startswith('runner')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=cli.cwd, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["runner"]


def test_every_public_name_can_be_had_and_nothing_else() -> None:
    import runner

    assert runner.__all__ == sorted(runner.__all__)
    assert all(hasattr(runner, name) for name in runner.__all__)
    with pytest.raises(AttributeError):
        runner.nothing  # noqa: B018
