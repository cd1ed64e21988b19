"""The switches of the service: what differs between workspaces, and what goes wrong in them. Kept in the state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from tests.emulators.azureml.state import State

Secrets = Literal["Sas", "AccountKey", "None"]


@dataclass(slots=True)
class Profile:
    """One object for the life of the emulator, changed in place (admin port), read by all anew each time.

    secrets: what listSecrets answers, "None": identity-based datastores. folder_type: how run history calls a folder.
    default_output: command jobs show `outputs.default`. latency_s: added to every answer. token_lifetime_s: of tokens
    given from now on. sas_lifetime_s: of SAS URLs of logs and secrets. kill_at_limit: the service ends a job at its
    limits.timeout. cancel_lingers_s: how long a canceled job stays CancelRequested. cancel_grace_s: from SIGTERM to
    SIGKILL, also at the limit. ending_s: how long a job stays Finalizing. queue_s: how long a job stays Queued.
    preemption: what becomes of a job whose node was taken, "fail" or "requeue". reuse: steps of pipelines that ran before
    are not run again. network: Docker's --network of jobs ("none": they have none; "host": they reach the service too).
    vault_role: the identity of a compute may read secrets.
    """

    secrets: Secrets = "Sas"
    folder_type: Literal["UriFolder", "uri_folder"] = "UriFolder"
    default_output: bool = True
    latency_s: float = 0.0
    token_lifetime_s: float = 3600.0
    sas_lifetime_s: float = 3600.0
    kill_at_limit: bool = True
    cancel_lingers_s: float = 0.0
    cancel_grace_s: float = 10.0
    ending_s: float = 0.0
    queue_s: float = 0.0
    preemption: Literal["fail", "requeue"] = "fail"
    reuse: bool = False
    network: str = "none"
    vault_role: bool = True

    def change(self, values: dict[str, Any]) -> None:
        """All or nothing. ValueError: an unknown switch, or a value that it cannot have."""
        hints = get_type_hints(Profile)
        for name, value in values.items():
            if name not in hints:
                raise ValueError(f"no switch {name!r}; there are {', '.join(sorted(hints))}")
            if not _fits(hints[name], value):
                raise ValueError(f"switch {name!r} cannot be {value!r}")
        for name, value in values.items():
            setattr(self, name, value)

    def reset(self) -> None:
        for field in fields(self):
            setattr(self, field.name, field.default)

    def save(self, state: State) -> None:
        state.put("profile", "profile", asdict(self))

    def load(self, state: State) -> None:
        self.change(state.get("profile", "profile") or {})


def _fits(hint: Any, value: object) -> bool:
    if choices := get_args(hint):
        return value in choices
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint)
