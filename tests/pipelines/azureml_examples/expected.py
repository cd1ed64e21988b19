"""Which of Azure's examples are refused, and why: each file's reason, and the words of runner that say it.

A file that stands in no line here must complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Refusal:
    """files: patterns below cli/jobs. why: for the table. says: each of these stands in what runner says (small letters).

    outcome: refused before anything started; or failed, where only the script could know.
    """

    why: str
    says: tuple[str, ...]
    files: tuple[str, ...]
    outcome: str = "refused"


REFUSALS = (
    Refusal("automl", ("automl",), (
        "automl-standalone-jobs/*", "basics/hello-automl/*", "pipelines/automl/*-pipeline/pipeline.yml",
    )),
    Refusal("AutoML's components of Azure's registry", ("not mapped",), (
        "pipelines/automl/cli-aml-demand-forecast-pipeline/*",
    )),
    Refusal("spark", ("spark",), (
        "spark/*", "pipelines/add-column-and-word-count-using-spark/*",
        "pipelines-with-components/shakespear_*",
    )),
    Refusal("parallel", ("parallel",), (
        "parallel/*", "pipelines/*-using-parallel/*", "pipelines-with-components/pipeline_job_with_flow_as_component/*",
    )),
    Refusal("fine-tuning of Azure's models", ("finetuning",), ("finetuning/*",)),
    Refusal("more than one machine or process", ("distribution",), (
        "deepspeed/deepspeed-training/*", "pipelines/cifar-10/*",
        "pipelines/tensorflow-image-segmentation/*", "pipelines-with-components/basics/6a_*",
        "pipelines-with-components/basics/6b_*",
        "single-step/dask/*", "single-step/gpu_perf/*", "single-step/pytorch/cifar-distributed/*",
        "single-step/tensorflow/mnist-distributed/*",
    )),
    Refusal("a placeholder in place of its environment", ("is not an environment",), ("nebulaml/cifar10_deepspeed/*",)),
    Refusal("a value that its own component does not allow", ("is none of",), (
        "pipelines-with-components/image_classification_with_densenet/*",
    )),
    Refusal("its base image is in a registry that is out of reach here", ("pull",), (
        "pipelines-with-components/basics/5c_*", "single-step/on-behalf-of/*", "single-step/spark/*",
    )),
    Refusal("its Dockerfile's base image is in a registry that is out of reach here", ("dockerfile:", "from "), (
        "pipelines-with-components/basics/6c_*", "single-step/julia/*", "single-step/r/*",
        "single-step/scikit-learn/iris/job-docker-context.yml", "single-step/scikit-learn/iris-notebook/*",
    )),
    Refusal("its code folder is not among the examples", ("no such file or folder",), ("single-step/java/*",)),
    Refusal("the script itself reads from the internet, out of reach here", ("urlopen error",), (
        "basics/hello-iris-literal.yml",
    ), outcome="failed"),
    Refusal("it installs PyTorch from PyPI as it runs, out of reach here", ("requirements.txt", "adlfs"), (
        "single-step/pytorch/iris/*",
    ), outcome="failed"),
    Refusal("a GPU image", ("not mapped",), (
        "basics/hello-interactive.yml", "nebulaml/PyTorch_CNN_MNIST/*", "single-step/pytorch/word-language-model/*",
        "single-step/tensorflow/mnist/*",
    )),
)  # fmt: skip


def refusal(file: str) -> Refusal | None:
    """The reason for which a file is refused; None where it must complete."""
    return next((each for each in REFUSALS if any(fnmatchcase(file, pattern) for pattern in each.files)), None)
