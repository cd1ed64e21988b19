"""What Azure's own words of an end mean: the messages are those of public reports, with other names in them."""

from __future__ import annotations

import pytest

from runner.backends.azureml.observe import observation
from runner.model import Reason

PULL = (
    "AzureMLCompute job failed.\nFailedPullingImage: Unable to pull docker image\n\timageName: x.azurecr.io/custom:v1\n"
    "\terror: Run docker command to pull public image failed with error: Error response from daemon: "
)
REFUSED = f'{PULL}Head "https://x.azurecr.io/v2/custom/manifests/v1": unauthorized: authentication required'
TOKEN = (
    "AzureMLCompute job failed.\nAcrRefreshTokenRetrievalError: Unable to retrieve ACR refresh token using Compute Identity"
    " 0f0f, please check if compute identity has access to ACR."
)
TAKEN = (
    "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted. Check if the run has failed or restarted."
    " Reason: Received pre-emption warning signal"
)
SCRIPT = (
    "Execution failed. User process 'python' exited with status code 1. Please check log file 'user_logs/std_log.txt' for "
    "error details. Error: torch.cuda.OutOfMemoryError: out of memory; failed to pull image; preempted; exceeded its limit"
)


@pytest.mark.parametrize(
    ("code", "message", "told"),
    [
        ("UserError", REFUSED, Reason.IMAGE_UNAVAILABLE),
        ("UserError", TOKEN, Reason.IMAGE_UNAVAILABLE),
        ("AggregatedUnauthorizedAccessError", "Failed to pull Docker image x.azurecr.io/a.", Reason.IMAGE_UNAVAILABLE),
        ("ImagePullBackOff", "", Reason.IMAGE_UNAVAILABLE),
        ("UserError", "Image build failed. For more details, check log file x.", Reason.IMAGE_UNAVAILABLE),
        ("UserError", TAKEN, Reason.PREEMPTED),
        ("OOMKilled", "", Reason.OUT_OF_MEMORY),
        ("MaxWallClockTimeExpiry", "", Reason.TIMEOUT),
        ("UserError", "The job exceeded its maximum run duration of 60 s", Reason.TIMEOUT),
        ("ClusterCoreQuotaReached", "", Reason.START_FAILED),
        (
            "UserError",
            "Operation results in exceeding the approved standardDSv2Family Cores quota",
            Reason.START_FAILED,
        ),
        ("UserError", "Failed to mount the data of input x. StreamAccess: NotFound.", Reason.START_FAILED),
        ("ExecutionFailed", SCRIPT, None),
        ("UserError", "AzureMLCompute job failed. JobFailed: Job failed with non-zero exit Code", None),
        ("ServiceError", "InternalServerError", None),
    ],
)
def test_what_it_tells(code: str, message: str, told: Reason | None) -> None:
    run = {
        "status": "Failed",
        "error": {"error": {"code": "UserError", "message": message, "innerError": {"code": code}}},
    }
    end = observation(run).platform
    assert end is not None
    assert end.told is told


@pytest.mark.parametrize(("message", "passes"), [(REFUSED, False), (TOKEN, False), (f"{PULL}toomanyrequests", True)])
def test_whether_an_image_may_be_had_later(message: str, *, passes: bool) -> None:
    end = observation({"status": "Failed", "error": {"error": {"code": "UserError", "message": message}}}).platform
    assert end is not None
    assert end.retryable is passes
