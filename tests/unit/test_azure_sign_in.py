"""What is said where no sign-in to Azure works: the way that would help."""

from __future__ import annotations

import pytest

from runner.backends.azureml.credential import translated

_TRIED = """DefaultAzureCredential failed to retrieve a token from the included credentials.
Attempted credentials:
\tEnvironmentCredential: {}
\tAzureCliCredential: Azure CLI not found on path
"""


@pytest.mark.parametrize(
    ("said", "hint", "no_hint"),
    [
        ("EnvironmentCredential authentication unavailable. Environment variables are not fully configured.",
         "sign in: az login", "correct or unset"),
        ("Authentication failed: AADSTS7000215: Invalid client secret provided.", "correct or unset AZURE_TENANT_ID",
         "az login"),
    ],
    ids=["nothing set", "wrong variables"],
)  # fmt: skip
def test_variables_that_are_wrong_are_tried_before_all_else(said: str, hint: str, no_hint: str) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    told = str(translated(ClientAuthenticationError(message=_TRIED.format(said)), "default"))
    assert hint in told
    assert no_hint not in told
