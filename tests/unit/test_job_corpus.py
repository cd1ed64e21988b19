"""Other people's job files, from a folder that is not ours: RUNNER_AZUREML_EXAMPLES names a checkout of azureml-examples.

Every YAML below it is a job, has problems with a reason, or is no job; everything else is a fault of ours.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.job import load
from runner.spec.job.parity import ROWS, Fate

ROOT = os.environ.get("RUNNER_AZUREML_EXAMPLES")

NOT_A_JOB = re.compile(
    r"it describes an? \w+, not a job|type is missing|the file is empty|is no kind of (job|component)|not valid YAML"
    r"|a key must be a plain word|the key is given twice|found a list"
)
NEEDS_INPUTS = re.compile(r"(the input '\w+' is missing|has no value)\n  --set inputs\.")
THEIRS = {
    "cli/jobs/nebulaml/cifar10_deepspeed/job.yml": "a placeholder stands for the environment",
    "cli/jobs/pipelines-with-components/image_classification_with_densenet/pipeline.yml": "224 for an enum of True, False",
}
"""Files that are wrong in themselves."""


@pytest.mark.skipif(not ROOT, reason="RUNNER_AZUREML_EXAMPLES is not set")
def test_every_example_is_read_or_refused_with_a_reason() -> None:
    root = Path(ROOT or "")
    count: Counter[str] = Counter()
    wrong = []
    for path in sorted([*root.rglob("*.yml"), *root.rglob("*.yaml")]):
        name = str(path.relative_to(root))
        try:
            job = load(path)
        except SpecError as error:
            text = str(error)
            if NOT_A_JOB.search(text):
                count["no job"] += 1
            elif NEEDS_INPUTS.search(text):
                count["inputs must be set"] += 1
            elif any(theirs.endswith(name) for theirs in THEIRS):
                count["wrong in itself"] += 1
            else:
                wrong.append(f"{name}: {text}")
            continue
        assert all(ROWS[problem.feature].fate is Fate.REFUSED and problem.reason for problem in job.problems), name
        count["refused with a reason" if job.problems else "read"] += 1
    print(dict(count), *wrong, sep="\n")
    assert wrong == []
    assert count["read"] > 0
