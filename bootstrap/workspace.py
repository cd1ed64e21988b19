"""The MLflow endpoint of an Azure ML workspace, as a job's own environment names it. Python 3.8 syntax."""

import base64
import json
import re
import time

import rest

RENEW_S = 600.0  # a token that expires within this time is replaced
AGAIN_S = 60.0  # between two tries to have it replaced
TRACKING = re.compile(r"(?:azureml|https)(://[^/?#\s]+/)mlflow/(v[\d.]+)(/subscriptions/[^?#\s]+)")


class RefusedError(Exception):
    """The service will not have it; trying again changes nothing. of_content: it is about what was sent, not about us."""

    def __init__(self, why: str, of_content: bool) -> None:
        super().__init__(why)
        self.of_content = of_content


class LaterError(Exception):
    """Not now. wait: seconds, as the service asks, or None."""

    def __init__(self, why: str, wait=None) -> None:
        super().__init__(why)
        self.wait = wait


class Service:
    """The workspace's own MLflow endpoint, as the run that Azure started."""

    def __init__(self, url: str, token: str, run: str, renewal: str) -> None:
        self.url, self.token, self.run, self.renewal = url, token, run, renewal
        self.expires, self.next_try = expiry(token), 0.0

    @classmethod
    def of(cls, job: dict):
        """From a job's environment; None outside Azure ML."""
        found = TRACKING.match(job.get("MLFLOW_TRACKING_URI", ""))
        token, run = job.get("MLFLOW_TRACKING_TOKEN", ""), job.get("MLFLOW_RUN_ID", "")
        if found is None or not token.isprintable() or not token or not re.fullmatch(r"[\w.-]+", run):
            return None
        host, version, scope = "https" + found.group(1), found.group(2), found.group(3).rstrip("/")
        kept = f"{host}history/v1.0{scope}/experimentids/{job.get('MLFLOW_EXPERIMENT_ID', '')}/runs/{run}/token"
        return cls(f"{host}mlflow/{version}{scope}/api/2.0/mlflow/runs/log-batch", token, run, kept)

    def send(self, batch: dict) -> None:
        """Logs metrics, params and tags, as `runs/log-batch` takes them. Raises RefusedError or LaterError."""
        answer = self.ask("POST", self.url, dict(batch, run_id=self.run))
        if answer.status == 401 and self.renew(float("inf")):
            answer = self.ask("POST", self.url, dict(batch, run_id=self.run))
        if answer.status in (401, 408, 429) or answer.status >= 500:
            raise LaterError(self.clean(answer.words()), answer.retry_after)
        if answer.status >= 300:
            raise RefusedError(self.clean(answer.words()), answer.status in (400, 413))

    def ask(self, method: str, url: str, body=None):
        """One request with our token. Raises LaterError where nothing answers."""
        try:
            return rest.request(method, url, {"Authorization": "Bearer " + self.token}, body)
        except rest.UnreachableError as error:
            raise LaterError(self.clean(str(error))) from None

    def clean(self, text: str) -> str:
        """Without the token, whoever repeated it."""
        return text.replace(self.token, "***")

    def renew(self, within: float = RENEW_S) -> bool:
        """Has the token replaced if it expires within so many seconds; whether it was. Only a valid one can be."""
        if self.expires is None or self.expires - time.time() > within or time.monotonic() < self.next_try:
            return False
        self.next_try = time.monotonic() + AGAIN_S
        try:
            token = self.ask("GET", self.renewal).json().get("token")
        except LaterError:
            return False
        if not isinstance(token, str) or not token or not token.isprintable() or token == self.token:
            return False
        self.token, self.expires = token, expiry(token)
        return True


def expiry(token: str):
    """When a JWT expires, in seconds since the epoch; None where it does not say."""
    try:
        part = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))["exp"])
    except (ValueError, IndexError, KeyError, TypeError):
        return None
