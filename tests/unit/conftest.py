"""Property tests here are bounded by their number of examples, not by time: the machine may be busy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.conftest import EVERYTHING
from tests.unit.r_sites import Site, serving

settings.register_profile(
    "runner",
    deadline=None,
    max_examples=1200 if EVERYTHING else 60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
settings.load_profile("runner")


@pytest.fixture
def r_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and no service that a test has not named."""
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("RUNNER_BIOCONDUCTOR", "RUNNER_PPM", "RUNNER_GITHUB_API"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/not-named")
    for name in ("RUNNER_CRAN", "GITHUB_TOKEN", "GITHUB_PAT", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site() -> Iterator[Site]:
    """A server on loopback with nothing on it."""
    with serving() as found:
        yield found
