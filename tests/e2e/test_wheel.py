"""The built wheel, installed into an environment of its own and used outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cli

pytestmark = pytest.mark.slow


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(one) for one in argv], cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def uv() -> str:
    from uv import find_uv_bin

    return find_uv_bin()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what the checkout holds, so that nothing is written into it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("runner", "bootstrap", "images"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, source / path.name)
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=source)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with the wheel and its dependencies, and nothing else."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(uv(), "venv", "--quiet", "--python", sys.executable, folder)
    run(uv(), "pip", "install", "--quiet", "--python", folder / "bin" / "python", wheel)
    return folder / "bin" / "python"


class Installed(Cli):
    """The installed command, as its script in `bin/` starts it, with no trace of the checkout around it."""

    def __init__(self, python: Path, home: Path, cwd: Path) -> None:
        super().__init__(home, cwd)
        self._command = python.parent / "runner"
        for name in ("PYTHONPATH", "VIRTUAL_ENV"):
            self.env.pop(name, None)

    def argv(self, *args: str | Path) -> list[str]:
        return [str(self._command), *(str(arg) for arg in args)]


@pytest.fixture
def command(installed: Path, home: Path, work: Path) -> Installed:
    assert not work.is_relative_to(ROOT)
    (work / "hello.py").write_text('import os, sys\nprint("hello", sys.argv[1:], os.environ["RUNNER_RUN"])\n')
    return Installed(installed, home, work)


def test_the_wheel_holds_the_assets_and_nothing_of_the_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "runner/_assets/bootstrap/bootstrap.py", "runner/_assets/bootstrap/profile.R",
        "runner/_assets/images/python-r/libs.yaml", "runner/_assets/images/debian/make.sh", "runner/py.typed",
        "runner/builder/steps/finish.py", "runner/spec/libs.schema.json",
    } <= names  # fmt: skip
    tops = {name.split("/")[0] for name in names}
    assert tops == {"runner", next(top for top in tops if top.endswith(".dist-info"))}
    assert not [name for name in names if "__pycache__" in name or "test" in name.split("/")[-1]]


def test_the_assets_are_found_and_the_bootstrapper_starts(installed: Path) -> None:
    code = "from runner.assets import asset; print(asset('images'), asset('bootstrap'))"
    images, bootstrap = run(installed, "-I", "-c", code, cwd=Path("/")).split()
    assert not Path(images).is_relative_to(ROOT)
    assert (Path(images) / "debian" / "make.sh").is_file()
    said = run(
        installed, "-I", "-S", Path(bootstrap) / "bootstrap.py", "--", "bash", "-c", "echo started", cwd=Path("/")
    )
    assert said == "started\n"


def test_every_module_can_be_imported_with_the_declared_dependencies_alone(installed: Path) -> None:
    code = """
import importlib, pkgutil, runner
for found in pkgutil.walk_packages(runner.__path__, "runner."):
    if not found.name.startswith(("runner.__main__", "runner._assets", "runner.builder.steps")):
        importlib.import_module(found.name)
        print(found.name)
"""
    names = run(installed, "-I", "-c", code, cwd=Path("/")).split()
    assert {"runner.engine", "runner.spec.libs", "runner.docker_api.images", "runner.builder.build"} <= set(names)


def test_version_and_help(command: Installed) -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert command("--version").out == f"{version}\n"
    assert command("--help").code == 0
    assert command("doctor").code == 0
    assert command("schema", "libs").json["title"] == "libs.yaml"


def test_a_script_as_a_process(command: Installed) -> None:
    done = command("submit", "hello.py", "--backend", "process", "--wait", "--name", "n", "--", "a b")
    assert done.out == "hello ['a b'] n\n", done.err
    assert done.code == 0
    assert command("logs", "n").out == done.out
    assert json.loads(command("show", "n", "--json").out_bytes)["status"] == "Completed"


def test_the_python_api(command: Installed, installed: Path) -> None:
    code = """
import runner
run = runner.submit("hello.py", "x", backend="process", name="api")
outcome = run.wait(60)
print(outcome.status, b"".join(run.logs()))
"""
    done = subprocess.run(
        [str(installed), "-c", code], cwd=command.cwd, env=command.env, capture_output=True, text=True, check=False
    )
    assert done.stdout == "Completed b\"hello ['x'] api\\n\"\n", done.stderr


@pytest.mark.docker
def test_build_and_run_in_the_image(command: Installed) -> None:
    shutil.copy(ROOT / "tests" / "images" / "small" / "libs.yaml", command.cwd / "libs.yaml")
    built = command("build", "--json", timeout=900, env={"HOME": os.environ.get("HOME", "/root")})
    assert built.code == 0, built.err
    image = built.json
    done = command("submit", "hello.py", "--backend", "docker", "--wait", "--name", "n", "--", "x")
    assert done.out == "hello ['x'] n\n", done.err
    row = command("show", "n", "--json").json
    assert (row["backend"], row["image"], row["status"]) == ("docker", image["id"], "Completed")
    again = command("build", "--json")
    assert (again.json["built"], again.json["id"]) == (False, image["id"])
