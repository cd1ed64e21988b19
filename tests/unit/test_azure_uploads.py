"""How far an upload has come, read off the bars of azure-ai-ml."""

from __future__ import annotations

from pathlib import Path

from runner.backends.azureml.uploads import Bars
from runner.backends.base import UPLOADING


def test_bytes_of_all_uploads_together(tmp_path: Path) -> None:
    bars = Bars(tmp_path)
    bars.write("\r\x1b[32mUploading code (0.0 MBs): 100%|███| 10/10 [00:00<00:00, 97.05it/s]\n\x1b[39m\n")
    assert (tmp_path / UPLOADING).read_text() == "10 10"
    bars.write("\r\x1b[32mUploading data (70.0 MBs):  43%|████▎     | 300/700 [00:04<00:05, 7.8it/s]")
    bars.write("\r\x1b[32mUploading data (70.0 MBs): 100%|██████████| 700/700 [00:06<00:00, 11.2it/s]")
    assert (tmp_path / UPLOADING).read_text() == "710 710"


def test_what_else_is_said_is_dropped(tmp_path: Path) -> None:
    bars = Bars(tmp_path)
    assert bars.write("Class X: this is an experimental class") > 0
    assert not (tmp_path / UPLOADING).exists()


def test_a_disk_that_is_full_fails_no_upload(tmp_path: Path) -> None:
    assert Bars(tmp_path / "none").write("Uploading code (0.0 MBs): 100%|███| 10/10 [00:00") > 0
