"""Two clients of the emulator: plain requests, and the unmodified SDK in a process of its own."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from tests.emulators.azureml import names

API = f"https://{names.API_HOST}"
ARM = "https://management.azure.com"
HISTORY = f"{API}/history/v1.0{names.WORKSPACE_ARM}"
VERSION = "2025-01-01-preview"


class Reply(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]

    @property
    def error(self) -> str:
        """Code, message and inner messages, as one text."""
        error = self.body["error"]
        return " ".join((error["code"], error["message"], *(inner["message"] for inner in error["details"])))


@dataclass(slots=True)
class Client:
    env: dict[str, str]
    token: str = ""

    def open(self, method: str, url: str, data: bytes | None = None, **headers: str) -> Reply:
        """Any request. Connection errors come out as they are."""
        context = ssl.create_default_context(cafile=self.env["REQUESTS_CA_BUNDLE"])
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"https": self.env["HTTPS_PROXY"]}),
            urllib.request.HTTPSHandler(context=context),
        )
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with opener.open(urllib.request.Request(url, data, fields, method=method), timeout=60) as answer:
                return Reply(answer.status, _read(answer.read(), answer.headers), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, _read(error.read(), error.headers), dict(error.headers))

    def signed_in(self, scope: str = "https://management.azure.com/.default") -> str:
        """A token for the client's secret."""
        form = {
            "grant_type": "client_credentials", "client_id": names.CLIENT, "scope": scope,
            "client_secret": self.env["AZURE_CLIENT_SECRET"],
        }  # fmt: skip
        url = f"https://login.microsoftonline.com/{names.TENANT}/oauth2/v2.0/token"
        reply = self.open("POST", url, urlencode(form).encode())
        assert reply.status == 200, reply.body
        return str(reply.body["access_token"])

    def ask(self, method: str, url: str, body: object = None, **headers: str) -> Reply:
        """With a token and JSON."""
        self.token = self.token or self.signed_in()
        fields = {"Authorization": f"Bearer {self.token}", **headers}
        data = None
        if body is not None:
            data, fields["Content-Type"] = json.dumps(body).encode(), "application/json"
        return self.open(method, url, data, **fields)

    def arm(self, method: str, path: str, body: object = None, version: str = VERSION) -> Reply:
        """path: behind the workspace, `/jobs/a`; a query may follow."""
        joint = "&" if "?" in path else "?"
        return self.ask(method, f"{ARM}{names.WORKSPACE_ARM}{path}{joint}api-version={version}", body)


def _read(data: bytes, headers: Any) -> Any:
    return json.loads(data) if "json" in (headers.get("Content-Type") or "") else data


@dataclass(slots=True)
class Sdk:
    """`run` writes and starts a script that has `client` (an MLClient), `show(**values)`, and what it imports itself."""

    env: dict[str, str]
    folder: Path

    def run(self, text: str, timeout: float = 240, **env: str) -> dict[str, Any]:
        """What the script showed."""
        done = self.start(text, **env)
        out, err = done.communicate(timeout=timeout)
        assert done.returncode == 0, err[-4000:]
        shown: dict[str, Any] = {"printed": ""}
        for line in out.splitlines(keepends=True):
            if line.startswith("SHOWN "):
                shown |= json.loads(line[6:])
            else:
                shown["printed"] += line
        return shown

    def start(self, text: str, **env: str) -> subprocess.Popen[str]:
        script = self.folder / "script.py"
        script.write_text(_HEAD + textwrap.dedent(text))
        fast = {"AZUREML_RUN_POLLING_INTERVAL_MIN": "1", "AZUREML_RUN_POLLING_INTERVAL_MAX": "1"}
        return subprocess.Popen(
            [sys.executable, str(script)], cwd=self.folder, env={**os.environ, **self.env, **fast, **env}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip


_HEAD = """
import json, os
from azure.ai.ml import MLClient, Input, Output, command
from azure.ai.ml.entities import Environment
from azure.identity import DefaultAzureCredential

def show(**values):
    print("SHOWN", json.dumps(values, default=str), flush=True)

place = (os.environ["AZURE_SUBSCRIPTION_ID"], os.environ["AZURE_RESOURCE_GROUP"], os.environ["AZURE_WORKSPACE"])
client = MLClient(DefaultAzureCredential(), *place)
"""
