"""Submit all of Azure's examples and write docs/examples.md."""

from __future__ import annotations

import sys
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from tests.pipelines.azureml_examples.score import HERE, jobs, page, prepare, score

if TYPE_CHECKING:
    from tests.pipelines.azureml_examples.score import Result

PAGE = HERE.parents[2] / "docs" / "examples.md"


def main(folder: Path, pattern: str) -> int:
    """All files that match the pattern; docs/examples.md is written only where that is all of them. The exit code."""
    files = [path for path in jobs(folder) if fnmatchcase(path.relative_to(folder).as_posix(), pattern)]
    with tempfile.TemporaryDirectory(prefix="runner-examples-") as name:
        config = prepare(Path(name) / "config", folder)
        results = score(folder, config, Path(name) / "home", files, _tell)
    if pattern == "*":
        PAGE.write_text(page(results))
    return int(any(each.wrong for each in results))


def _tell(result: Result) -> None:
    print(
        f"{result.outcome:8} {result.file}",
        *([f"  WRONG {result.wrong}"] if result.wrong else []),
        sep="\n",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "*"))
