"""The certificate authority of the emulator, and one certificate for every host it answers for. Kept in the state."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

HOSTS = (
    "management.azure.com",
    "login.microsoftonline.com",
    "*.api.azureml.ms",
    "*.blob.core.windows.net",
    "*.dfs.core.windows.net",
    "*.vault.azure.net",
    "ml.azure.com",
    "localhost",
    "127.0.0.1",
)


@dataclass(frozen=True, slots=True)
class Pki:
    """ca: what clients trust (PEM). cert, key: what the servers show, one PEM file each; cert holds the whole chain."""

    ca: Path
    cert: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


def pki(state: Path) -> Pki:
    """Made at the first start; a restart finds the same, so clients that trust the old one go on."""
    folder = state / "pki"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = Pki(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    if not made.ca.exists():
        authority = trustme.CA(organization_name="runner's Azure ML emulator")
        issued = authority.issue_cert(*HOSTS)
        issued.private_key_pem.write_to_path(str(made.key))
        made.key.chmod(0o600)
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(made.cert), append=number > 0)
        authority.cert_pem.write_to_path(str(made.ca))  # last: its presence says that all is there
    return made
