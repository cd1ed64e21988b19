"""The api-versions of the resource provider, as Microsoft publishes them."""

from __future__ import annotations

from tests.emulators.azureml.names import LOCATION, PROVIDER
from tests.emulators.azureml.wire import Call, ServiceError

KNOWN = (
    "2022-02-01-preview", "2022-05-01", "2022-06-01-preview", "2022-10-01-preview", "2022-10-01", "2022-12-01-preview",
    "2023-02-01-preview", "2023-04-01-preview", "2023-04-01", "2023-06-01-preview", "2023-08-01-preview", "2023-10-01",
    "2024-01-01-preview", "2024-04-01-preview", "2024-04-01", "2024-07-01-preview", "2024-10-01-preview", "2024-10-01",
    "2025-01-01-preview", "2025-04-01-preview", "2025-04-01", "2025-06-01", "2025-07-01-preview", "2025-09-01",
    "2025-10-01-preview", "2025-12-01",
)  # fmt: skip


def check_version(call: Call) -> None:
    """ServiceError 400: none is given, or one that the provider does not have (others are taken as they come)."""
    if not call.version:
        raise ServiceError(
            400,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    if PROVIDER.lower() in call.path.lower() and call.version not in KNOWN:
        raise ServiceError(
            400,
            "NoRegisteredProviderFound",
            f"No registered resource provider found for location '{LOCATION}' and API version '{call.version}' for type "
            f"'workspaces'. The supported api-versions are '{', '.join(KNOWN)}'.",
        )
