"""Submits a job by azure-ai-ml, which knows how code, data and environments are uploaded: the only module that imports it.

It works with 1.34.1 and with 1.35, unpatched. Everything after the submit is plain REST, elsewhere.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import sys
import threading
import time
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

from runner.backends.azureml import snapshot
from runner.backends.azureml.uploads import Bars
from runner.errors import (
    BackendError,
    CapabilityError,
    ImageError,
    InternalError,
    NotFoundError,
    RunnerError,
    SpecError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.backends.azureml.credential import Tokens
    from runner.backends.azureml.target import Target
    from runner.backends.base import Task

_PIPELINES = "https://ml.azure.com/.default"
"""Scope of the token that goes along with a pipeline, for what its steps do in the user's name."""
_GOOD_FOR_S = 240
"""What is told of a token's life: `Tokens` never gives one that ends within five minutes."""

_RETRIES: dict[str, Any] = {
    "retry_total": 6,
    "retry_connect": 6,
    "retry_read": 6,
    "retry_status": 6,
    "retry_backoff_max": 20,
}
_ESCAPED = re.compile(r"[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML does not take as it is within quotes, although JSON does."""

_one_at_a_time = threading.Lock()


class Credential:
    """The sign-in of a target, as azure-core asks for it."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def get_token(self, *scopes: str, claims: str | None = None, **_: Any) -> Any:
        """A token for one scope. claims: the service has refused the one before."""
        from azure.core.credentials import AccessToken

        return AccessToken(self._tokens.get(scopes[0], fresh=claims is not None), int(time.time()) + _GOOD_FOR_S)


def ready() -> None:
    """Import azure-ai-ml, which takes a second and more, ahead of its use.

    Raises:
        CapabilityError: it is not installed.
    """
    with _one_at_a_time, _quiet():
        _imported()


class Client:
    """azure-ai-ml for one workspace. Its own client, with its connections, is made once and kept for what follows."""

    def __init__(self, target: Target, tokens: Tokens, *, bars: bool = False) -> None:
        """Ask nobody yet. tokens: closed by who made them. bars: let it say how far uploads have come."""
        self._bars = bars
        self._target = target
        self._tokens = tokens
        self._kept: Any = None

    def submit(self, document: Mapping[str, Any], task: Task) -> None:
        """Upload what the job needs and create it; the same document twice is one job.

        The service looks at the job, and azure-ai-ml's schema does when it is loaded. What azure-ai-ml would look at in
        between is passed over: it makes the schemas twice more, and asks for the compute of every step.

        Args:
            document: as `runner.backends.azureml.document` makes it of the task.

        Raises:
            SpecError: Azure ML takes no such job. NotFoundError: what it names is not there.
            ImageError: its environment cannot be had. CodeFolderError: its code cannot be taken along.
            UnavailableError: no answer; the job may exist, and is found by its name when this is called again.
            BackendError: refused. CapabilityError: azure-ai-ml is not installed.
        """
        self._tokens.get()  # here, where a way to sign in that asks somebody may still say so
        if document["type"] == "pipeline":
            self._tokens.get(_PIPELINES)
        with _one_at_a_time, _quiet(Bars(task.box.root)):
            snapshot.make(task)
            _create(self._client(), _loaded(document), task)

    def register(self, document: Mapping[str, Any]) -> None:
        """Make a component of the workspace. One of that name and version may be there if it is the same.

        Args:
            document: a component as Azure ML's YAML has it; paths of this machine are absolute.

        Raises:
            SpecError: Azure ML takes no such component. Else as `submit`.
        """
        self._tokens.get()
        with _one_at_a_time, _quiet():
            try:
                component = _imported().load_component(StringIO(_yaml(document)), relative_origin="/")
                self._client().components.create_or_update(component)
            except RunnerError:  # of the sign-in
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is translated
                raise translated(error) from None

    def _client(self) -> Any:
        if self._kept is None:
            self._kept = _imported().MLClient(
                Credential(self._tokens), self._target.subscription, self._target.resource_group,
                self._target.workspace, show_progress=self._bars, enable_telemetry=False, **_RETRIES,
            )  # fmt: skip
        return self._kept


def load(document: Mapping[str, Any]) -> Any:
    """The document as a job of azure-ai-ml, checked by its schema.

    Raises:
        SpecError: with what the schema says. CapabilityError: azure-ai-ml is not installed.
    """
    with _one_at_a_time, _quiet():
        return _loaded(document)


def _imported() -> Any:
    """The package. Whatever it makes while it is imported stays, so looking for garbage would only cost a quarter more."""
    if (ml := sys.modules.get("azure.ai.ml")) is not None:
        return ml
    collecting, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    try:
        from azure.ai import ml
    except ImportError as error:
        raise _missing(error) from None
    finally:
        if collecting:
            gc.enable()
    if not frozen:
        gc.freeze()  # and back: what is there counts as old, without having been looked at
        gc.unfreeze()
    return ml


def _loaded(document: Mapping[str, Any]) -> Any:
    ml = _imported()
    try:
        return ml.load_job(StringIO(_yaml(document)), relative_origin="/")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is translated
        raise translated(error) from None


def _yaml(document: Mapping[str, Any]) -> str:
    """JSON that is YAML too."""
    text = json.dumps(document, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _create(client: Any, job: Any, task: Task) -> None:
    try:
        client.jobs.create_or_update(job, skip_validation=True)
    except RunnerError:  # of the sign-in
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is translated
        # The answer to the request that made the job may be the one that was lost, and its repetition refused.
        if _there(client, job.name, task.key):
            return
        raise translated(error) from None


def _there(client: Any, name: str, key: str) -> bool:
    """Whether this very job exists."""
    try:
        return bool((client.jobs.get(name).tags or {}).get("runner.key") == key)
    except Exception:  # noqa: BLE001 - whatever is wrong, the error of the submit says it better
        return False


@contextmanager
def _quiet(bars: TextIO | None = None) -> Iterator[None]:
    """Nothing of azure-ai-ml on our streams, and nothing of the current folder's git repository in the job.

    bars: where it may draw how far its uploads have come.

    It writes there as it likes, by handlers of its own and by print; and the git that it starts reads GIT_DIR.
    """
    before = os.environ.get("GIT_DIR")
    os.environ["GIT_DIR"] = os.devnull
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(bars or StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        if before is None:
            os.environ.pop("GIT_DIR", None)
        else:
            os.environ["GIT_DIR"] = before


# -- errors ---------------------------------------------------------------------------------------------------------


def _missing(error: ImportError) -> CapabilityError:
    if error.name == "six":  # which 1.34 uses and does not declare
        return CapabilityError("this azure-ai-ml needs the package six", "pip install six, or a newer azure-ai-ml")
    return CapabilityError(
        f"azure-ai-ml is not installed ({error})",
        "install it: pip install 'runner[azure]'",
        "or run with --backend docker",
    )


def translated(error: Exception) -> RunnerError:
    """An error of azure-ai-ml or azure-core as one of runner's."""
    from azure.core.exceptions import AzureError, HttpResponseError, ServiceRequestError, ServiceResponseError

    text = _text(error)
    if isinstance(error, RunnerError):
        return error
    # azure-ai-ml wraps what went wrong while it uploads in errors of its own.
    if any(isinstance(each, (ServiceRequestError, ServiceResponseError)) for each in _chain(error)):
        return UnavailableError(f"Azure cannot be reached: {text}", "check network, proxy and CA bundle")
    if isinstance(error, HttpResponseError):
        return _refused(error.status_code or 0, text)
    if type(error).__module__.startswith(("azure.ai.ml", "marshmallow")) or isinstance(error, AzureError):
        return SpecError(f"Azure ML takes no such job: {text}", "runner export JOB --to azureml shows what it is given")
    return InternalError(f"azure-ai-ml failed: {type(error).__name__}: {text}", "report this, please")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from."""
    inner: BaseException | None = error
    for _ in range(10):
        if inner is None:
            return
        yield inner
        inner = inner.__cause__ or inner.__context__


def _refused(status: int, text: str) -> RunnerError:
    about = text.lower()
    if status in {408, 429} or status >= 500:
        return UnavailableError(f"Azure cannot answer now ({status}): {text}", "try again in some minutes", code=status)
    if status == 401:
        return BackendError(f"Azure does not accept this sign-in: {text}", "sign in again: az login", code=status)
    if status == 403:
        return BackendError(
            f"this account may not submit there: {text}",
            "it needs a role on the workspace such as AzureML Data Scientist: ask its owner", code=status,
        )  # fmt: skip
    if "compute" in about and (status == 404 or re.search(r"not (be )?found|unknown|does ?n.t exist|not exist", about)):
        return NotFoundError(f"no such compute: {text}", "see what there is: runner compute list")
    if "image" in about or "container registry" in about:
        return ImageError(f"Azure ML cannot have the image: {text}", retryable=False)
    if "environment" in about and (status == 404 or "not found" in about):
        return NotFoundError(
            f"no such environment in the workspace: {text}", "map its name in runner.yaml, or correct it"
        )
    if status == 404:
        return NotFoundError(f"not there: {text}", "see which of its parts is wrong: runner doctor --backend azureml")
    return BackendError(f"Azure ML refused the job: {text}", code=status)


def _text(error: Exception) -> str:
    """What an error says, on one line; the service's own message where it is one of its errors."""
    inner = getattr(getattr(error, "error", None), "message", None)
    whole = str(inner or getattr(error, "message", None) or error)
    whole = re.sub(r"\x1b\[[0-9;]*m", "", whole)
    whole = re.sub(r"https?://\S+\?\S+", "(address)", whole)  # which may hold a signature
    whole = whole.partition("If you are trying to configure")[0] or whole  # pages of advice about editors and schemas
    return " ".join(whole.split()).rstrip(" \\n")[:2000] or type(error).__name__
