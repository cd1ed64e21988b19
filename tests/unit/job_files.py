"""Writing job files in tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.job import Job
from runner.spec.job import load


class Files:
    """A folder with job files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, text: str, name: str = "job.yml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def load(self, text: str, *sets: str) -> Job:
        pairs = [(key, value) for key, _, value in (one.partition("=") for one in sets)]
        return load(self.write(text), pairs)

    def error(self, text: str, *sets: str) -> str:
        """The error, with the folder left out."""
        with pytest.raises(SpecError) as caught:
            self.load(text, *sets)
        return str(caught.value).replace(f"{self.folder}/", "")
