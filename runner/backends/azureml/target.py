"""Which workspace, and how to sign in there: what a run elsewhere records of itself. Never a secret."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.spec.mappings import AzureAuth

    Auth = AzureAuth


@dataclass(frozen=True, slots=True)
class Target:
    """A workspace of Azure ML."""

    subscription: str
    resource_group: str
    workspace: str
    auth: Auth = "default"

    @property
    def path(self) -> str:
        """Its ARM id: `/subscriptions/…/workspaces/NAME`."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )

    def to_json(self) -> dict[str, str]:
        """Plain data; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Self:
        """The inverse of `to_json`."""
        return cls(**data)  # type: ignore[arg-type]  # what we wrote ourselves
