"""People see how far a large upload has come, in bytes."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.azureml.conftest import Emulator
    from tests.conftest import Cli

pytestmark = pytest.mark.docker


def test_a_large_upload_says_how_far_it_has_come(cli: Cli, emulator: Emulator, pulled: str) -> None:
    cli.env |= emulator.service.env
    emulator.admin.switch(queue_s=3600)
    (cli.cwd / "data").mkdir()
    for name in ("a", "b", "c"):
        (cli.cwd / "data" / name).write_bytes(os.urandom(16 << 20))
    (cli.cwd / "job.yml").write_text(
        f"type: command\ncommand: echo\nenvironment: {{image: {pulled}}}\ncompute: cpu-cluster\n"
        "inputs: {data: {type: uri_folder, path: ./data}}\n"
    )
    done = cli("submit", "job.yml", "--backend", "azureml", "--name", "up")
    assert done.code == 0, done.err
    told = re.findall(r"upload\s+(\S+ ?\S*) of 48(?:\.0)? ?MiB", done.err)
    assert told, done.err
    assert len(told) <= 10
    assert "Uploading" not in done.err
