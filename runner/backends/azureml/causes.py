"""What the service's own words of an end mean, where they tell more than that it failed. Pure.

The codes and messages are those that Azure ML's computes, Azure Batch below them and Kubernetes computes are known to send,
from public reports and Microsoft's reference; a service may word them anew, and then the end is told in its words as it is.
A script's own error text comes within a message too, so what a script may print decides nothing: for want of memory only a
code counts, and the words that begin a message.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.model import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODES = {
    Reason.PREEMPTED: r"\w*Preempt\w*|LowPriorityEvicted",
    Reason.IMAGE_UNAVAILABLE: (
        "FailedPullingImage|ImagePullFailure|ImagePullBackOff|ErrImagePull|InvalidImageName|ImageBuildFailure|"
        "AggregatedUnauthorizedAccessError|AcrRefreshTokenRetrievalError|ContainerInvalidImage|ContainerInvalidRegistry"
    ),
    Reason.OUT_OF_MEMORY: "OutOfMemory|OutOfMemoryError|OOMKilled|ContainerOOM",
    Reason.TIMEOUT: "JobTimeout|MaxWallClockTimeExpiry|MaxRunDurationExceeded|JobTimeLimitExceeded",
    Reason.START_FAILED: (
        r"\w*QuotaExceeded|\w*QuotaReached|InsufficientQuota|NotEnoughCores|SkuNotAvailable|AllocationFailed|"
        r"ZonalAllocationFailed|OverconstrainedAllocationRequest|ScriptExecution\.StreamAccess\.NotFound"
    ),
}
_WORDS = {
    Reason.PREEMPTED: r"\bpre-?empt(ed|ion)|low.?priority.*evict",
    Reason.IMAGE_UNAVAILABLE: (
        r"(failed|unable) to pull (the )?(docker )?image|docker command to pull \w+ image failed|^image build failed"
        r"|unable to retrieve acr refresh token"
    ),
    Reason.TIMEOUT: r"(exceeded|longer than|reached) (its|the) (maximum |max )?(run duration|limit|time ?limit|time-?out)",
    Reason.START_FAILED: (
        r"\b(exceed(s|ing|ed)|reached)\b.{0,80}\bquota\b|\bquota\b.{0,80}\b(exceeded|reached)\b|StreamAccess\W{1,2}NotFound"
    ),
}
_LEAD = re.compile(r"^\s*(?:AzureMLCompute job failed\.?\s*)?(\w+): ")
"""A compute names its code within the message."""
_FOR_GOOD = re.compile(
    r"unauthorized|authenticat|denied|forbidden|not found|unknown|invalid|build failed|ImageBuildFailure|refresh token",
    re.IGNORECASE,
)


def cause(errors: Sequence[tuple[str, str]]) -> Reason | None:
    """The reason that the service tells; None: it tells none.

    Args:
        errors: (code, message) of its error, the outermost first, and of what is inside.
    """
    codes = {code for code, _ in errors} | {found[1] for _, text in errors if (found := _LEAD.match(text))}
    for reason, pattern in _CODES.items():
        if any(re.fullmatch(pattern, code) for code in codes):
            return reason
    texts = [text for _, text in errors if not _of_script(text)]
    for reason, pattern in _WORDS.items():
        if any(re.search(pattern, text, re.IGNORECASE) for text in texts):
            return reason
    return None


def may_pass(errors: Sequence[tuple[str, str]]) -> bool:
    """Whether an image that could not be had may be had later: nobody said that it is not there, or not to be given."""
    return not any(_FOR_GOOD.search(f"{code} {text}") for code, text in errors)


def _of_script(text: str) -> bool:
    """Whether a message tells of the user's process, whose own words may be in it."""
    return re.search(r"exited with (status )?code|User process exited|ExecutionFailed", text) is not None
