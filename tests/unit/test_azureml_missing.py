"""Without the extra, the backend says the command that installs it, before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

ID = "00000000-0000-0000-0000-000000000001"

_CODE = """
import importlib.util, pathlib, sys
hidden, find, is_dir = {missing!r}, importlib.util.find_spec, pathlib.Path.is_dir
importlib.util.find_spec = lambda name, *args: None if name == hidden else find(name, *args)
pathlib.Path.is_dir = lambda self, **more: hidden.replace(".", "/") + "/" not in f"{{self}}/" and is_dir(self, **more)
from runner.backends import open_backend
from runner.errors import CapabilityError
from runner.store import Store
from pathlib import Path
try:
    open_backend("azureml", Store(Path(sys.argv[1])), {{"subscription": "s", "resource_group": "g", "workspace": "w"}})
except CapabilityError as error:
    print(error)
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & {{"azure", "urllib3", "msal", "requests"}}))
"""


def opened(tmp: object, missing: str) -> str:
    code = _CODE.format(missing=missing)
    return subprocess.run([sys.executable, "-c", code, str(tmp)], capture_output=True, text=True, check=True).stdout


def test_what_is_missing_is_named_with_the_fix(tmp_path: object) -> None:
    for name in ("azure.ai", "azure.identity", "urllib3"):
        said = opened(tmp_path, name)
        assert "pip install 'runner[azure]'" in said, name
        assert name in said


def test_opening_it_imports_nothing_of_azure(tmp_path: object) -> None:
    """Beside the packages that only hold others."""
    assert set(opened(tmp_path, "nothing").split()) <= {"azure"}


@pytest.mark.parametrize(
    "command",
    ["compute list", "list --backend azureml", "pipeline list --backend azureml", "submit x.sh --compute c", "backends",
     "doctor --backend azureml"],
)  # fmt: skip
@pytest.mark.parametrize("named", [True, False], ids=["workspace", "no workspace"])
def test_every_command_says_it_first(tmp_path: Path, command: str, named: bool) -> None:
    """Without azure, as after a plain `pip install runner`; a workspace is of no use yet."""
    (tmp_path / "x.sh").write_text("true")
    code = _CODE.partition("from runner.backends")[0].format(missing="azure") + (
        f"from runner.cli import main\nsys.argv = ['runner', *{command.split()!r}]\nsys.exit(main())"
    )
    values = ("ws", "g", ID) if named else ("", "", "")
    env = dict(zip(("AZURE_WORKSPACE", "AZURE_RESOURCE_GROUP", "AZURE_SUBSCRIPTION_ID"), values, strict=True))
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env, "RUNNER_HOME": str(tmp_path)}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    wanted = {"backends": 0, "doctor": 1}.get(command.partition(" ")[0], 6)
    assert done.returncode == wanted, done.stderr
    said = done.stdout + done.stderr
    assert "pip install 'runner[azure]'" in said
    if wanted:
        assert "azure.identity, azure.storage.blob, azure.ai.ml" in said
    assert wanted == 1 or "workspace" not in said.partition("pip install")[0]
