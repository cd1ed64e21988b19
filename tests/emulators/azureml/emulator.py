"""The whole emulator in one process: what it consists of, in which order it starts, and what a client has to export."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from secrets import token_urlsafe

from tests.emulators.azureml import names
from tests.emulators.azureml.aad import Tokens
from tests.emulators.azureml.admin import IDENTITY_PATH, Admin
from tests.emulators.azureml.assets import Assets
from tests.emulators.azureml.blobfront import BlobFront
from tests.emulators.azureml.blobs import Blobs
from tests.emulators.azureml.execution import Execution
from tests.emulators.azureml.faults import Faults
from tests.emulators.azureml.history import History
from tests.emulators.azureml.jobs import Jobs
from tests.emulators.azureml.journal import Journal
from tests.emulators.azureml.mlflow import MlFlow
from tests.emulators.azureml.pki import pki
from tests.emulators.azureml.profile import Profile
from tests.emulators.azureml.proxy import Proxy
from tests.emulators.azureml.references import References
from tests.emulators.azureml.registries import Registries
from tests.emulators.azureml.server import Server
from tests.emulators.azureml.state import State
from tests.emulators.azureml.vault import Vaults
from tests.emulators.azureml.wire import DATA_PLANE, Route
from tests.emulators.azureml.workspace import Workspace


class Emulator:
    """On a state folder that no other process uses (see cli.py)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = State(folder)
        self.pki = pki(folder)
        self.profile = Profile()
        self.profile.load(self.state)
        self.journal = Journal(folder)
        self.faults = Faults()
        self.tokens = Tokens(folder, self.profile)
        self.admin_token = token_urlsafe(24)
        self.blobs = Blobs(folder, self.pki, self.state)
        self.execution = Execution(self.state, self.blobs, self.profile, folder)
        self._ports: dict[str, int] = {}

    def routes(self) -> list[Route]:
        """Every request that is answered, first match first. A further part of the service is one more line here; a host
        of its own goes into proxy.HOSTS and pki.HOSTS too."""
        references = References(self.state)
        return [
            *self.tokens.routes(),
            *Workspace(self.state, self.blobs, self.profile).routes(),
            *Registries(self.state).routes(),
            *Assets(self.state, self.blobs, self.profile, references).routes(),
            *Jobs(self.state, self.execution, self.profile, references).routes(),
            *History(self.state, self.blobs, self.execution, self.profile).routes(),
            *MlFlow(self.state, self.tokens).routes(),
            *Vaults(self.state, self.tokens, self.profile).routes(),
        ]

    async def start(self) -> None:
        """Ready for clients when it returns. Ports are those of last time where they are free."""
        old = _read(self.folder / "ports.json")
        self.blobs.start()
        for container in names.CONTAINERS.values():
            self.blobs.ensure(container)
        front = BlobFront(self.blobs.port, self.pki)
        self._server = Server(self.pki, self.profile, self.tokens, self.journal, self.faults, front)
        tls = await self._server.start(self.routes(), _free(old.get("tls")))
        self._proxy = Proxy(tls, self.journal.refused)
        proxy = await self._proxy.start(_free(old.get("proxy")))
        self._admin = Admin(
            self.admin_token, self.state, self.profile, self.faults, self._server.pauses, self.journal, self.tokens,
            self.execution.preempt,
        )  # fmt: skip
        admin = await self._admin.start(_free(old.get("admin")))
        self._ports = {"tls": tls, "proxy": proxy, "admin": admin}
        (self.folder / "ports.json").write_text(json.dumps(self._ports))
        self.execution.reachable(self.exports(), lambda: str(self.tokens.give(DATA_PLANE[-1])["access_token"]))
        self.execution.resume()
        exports = self.folder / "env.sh"
        exports.touch(0o600)
        exports.write_text("".join(f"export {name}='{value}'\n" for name, value in self.exports().items()))

    async def stop(self, *, keep_jobs: bool = False) -> None:
        await self._admin.stop()
        await self._proxy.stop()
        await self._server.stop()
        self.execution.stop(keep=keep_jobs)
        self.blobs.stop()
        self.journal.close()
        self.state.close()

    def exports(self) -> dict[str, str]:
        """The environment of a client."""
        proxy = f"http://127.0.0.1:{self._ports['proxy']}"
        admin = f"http://127.0.0.1:{self._ports['admin']}"
        ca = str(self.pki.ca.resolve())
        return {
            "HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": "", "https_proxy": proxy, "http_proxy": proxy,
            "no_proxy": "", "REQUESTS_CA_BUNDLE": ca, "SSL_CERT_FILE": ca, "NODE_EXTRA_CA_CERTS": ca,
            "AZURE_TENANT_ID": names.TENANT, "AZURE_CLIENT_ID": names.CLIENT, "AZURE_CLIENT_SECRET": self.tokens.secret,
            "AZURE_SUBSCRIPTION_ID": names.SUBSCRIPTION, "AZURE_RESOURCE_GROUP": names.GROUP,
            "AZURE_WORKSPACE": names.WORKSPACE, "RUNNER_EMULATOR_ADMIN": admin,
            "RUNNER_EMULATOR_ADMIN_TOKEN": self.admin_token,
            # App Service's managed identity, for those who ask for it: IDENTITY_ENDPOINT and IDENTITY_HEADER.
            "RUNNER_EMULATOR_IDENTITY_ENDPOINT": admin + IDENTITY_PATH,
            "RUNNER_EMULATOR_IDENTITY_HEADER": self.tokens.identity,
        }  # fmt: skip


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {str(name): int(port) for name, port in found.items()}


def _free(port: int | None) -> int:
    """The port if nobody has it, else 0: any."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port or 0))
        except OSError:
            return 0
    return port or 0
