"""How a job reaches the emulated service from its container: only where jobs share this machine's network.

The real service's nodes need none of this but the identity: there the host names lead to Azure by themselves.
"""

from __future__ import annotations

from pathlib import Path

from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.docker import Mount

_CA = "/mnt/azureml/emulator-ca.pem"
KIND = KEY = "reach"
"""The document, made at each start: {"proxy", "ca", "identity", "header"}."""


def reach(context: Context, compute: str | None) -> tuple[dict[str, str], list[Mount]]:
    """Variables and mounts. The identity is that of the compute, if it has one."""
    known = context.state.get(KIND, KEY)
    if context.profile.network != "host" or known is None:
        return {}, []
    variables = {
        "HTTPS_PROXY": known["proxy"], "https_proxy": known["proxy"], "REQUESTS_CA_BUNDLE": _CA, "SSL_CERT_FILE": _CA,
    }  # fmt: skip
    found = context.state.get("compute", compute) if compute else None
    if found is None or found.get("identity"):  # serverless jobs have the workspace's
        variables |= {"MSI_ENDPOINT": known["identity"], "MSI_SECRET": known["header"]}
    return variables, [Mount(Path(known["ca"]), _CA, read_only=True)]
