"""Environments as the images that they are now, for jobs that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import environments
from runner.backends import open_backend
from runner.job import Environment
from runner.spec import names
from runner.submission.choices import choose_backend

if TYPE_CHECKING:
    from runner.registered import Pin
    from runner.spec.config import Config
    from runner.store import Store
    from runner.submission.accepting import Say


def pinning(config: Config, backend: str | None, store: Store, say: Say) -> Pin:
    """From an environment to the same by its image's id, pulled or built now; for a backend without images, or
    elsewhere, as it is.

    Raises:
        RunnerError: from the function too: what is named cannot be had.
    """
    opened = open_backend(choose_backend(backend, None, say), store)
    images = opened.capabilities.images and not opened.capabilities.remote
    opened.close()

    def lookup(name: str) -> Environment | None:
        found = names.environment(config, name)
        return Environment(found.image, libs=found.libs, local=found.local, where=found.origin.where) if found else None

    def pin(environment: Environment) -> Environment:
        if not images:
            return environment
        return Environment(image=environments.resolve(environments.mapped(environment, lookup), say, build=True).id)

    return pin
