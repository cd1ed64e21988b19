"""How a run ends badly: the status and the error document of run history, in the shapes of recordings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from tests.emulators.azureml.execution.clock import now

END_STATUSES = frozenset({"Completed", "Failed", "Canceled"})


@dataclass(unsafe_hash=True)
class RunError(Exception):
    """A run cannot go on. code: of the error's root; inner: the codes below it, outermost first."""

    message: str
    code: Literal["UserError", "ServiceError"] = "UserError"
    inner: tuple[str, ...] = ()
    status: Literal["Failed", "Canceled"] = "Failed"


def error_document(failure: RunError, location: str) -> dict[str, Any]:
    """The member `error` of a run."""
    inner: dict[str, Any] | None = None
    for code in reversed(failure.inner):
        inner = {"code": code, "innerError": inner}
    return {
        "error": {
            "code": failure.code, "severity": None, "message": failure.message, "messageFormat": "",
            "messageParameters": {}, "referenceCode": None, "detailsUri": None, "target": None, "details": [],
            "innerError": inner, "debugInfo": None, "additionalInfo": None,
        },
        "correlation": {"operation": None, "request": None}, "environment": location, "location": location,
        "time": now(), "componentName": "CommonRuntime",
    }  # fmt: skip


def exit_code(code: int) -> RunError:
    """The user's process ended by itself with a code other than 0; what a signal did shows as 128 + its number."""
    process = f"Execution failed. User process exited with status code {code}. Please check log file"
    message = json.dumps(
        {"NonCompliant": f"Process 'worker-0' exited with code {code} and error message '{process} "
         "'user_logs/std_log.txt' for error details.'"}
    )  # fmt: skip
    details = [{"key": "exit_codes", "value": str(code)}]
    rest = {"code": "ExecutionFailed", "target": "", "category": "UserError", "error_details": details}
    return RunError(f"{message}\n{json.dumps(rest, indent=2)}", inner=("ExecutionFailed",))


def out_of_memory() -> RunError:
    message = "Process 'worker-0' was killed (exit code 137): the container used more memory than it has"
    return RunError(message, inner=("ExecutionFailed", "OutOfMemory"))


def image_build() -> RunError:
    message = "Image build failed. For more details, check log file azureml-logs/20_image_build_log.txt."
    return RunError(message, inner=("BadArgument", "ImageBuildFailure"))


def image_pull(image: str, why: str) -> RunError:
    message = f"Failed to pull Docker image {image}. This error may occur because the compute could not authenticate"
    return RunError(f"{message} with the Docker registry to pull the image. {why}", inner=("ImagePullFailure",))


def timeout(limit_s: float) -> RunError:
    """Nothing published records it; the documents say that such a job is canceled."""
    message = f"The job was canceled: it ran for longer than its limit of {limit_s:g} seconds (limits.timeout)."
    return RunError(message, inner=("JobTimeout",), status="Canceled")


def preempted() -> RunError:
    message = (
        "AzureMLCompute job failed. PreemptionError: Nodes of this job got pre-empted. Check if the run has failed or"
        " restarted. Reason: Received pre-emption warning signal"
    )
    return RunError(message, inner=("PreemptionError",))


def node_lost() -> RunError:
    return RunError("The node that ran this job is gone.", code="ServiceError", inner=("NodeLost",))


def canceled() -> RunError:
    return RunError("", status="Canceled")
