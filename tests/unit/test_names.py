"""Names that people can say."""

from __future__ import annotations

import re

from runner.names import fresh_name
from runner.spec.values import run_name


def test_a_fresh_name_is_a_valid_one_that_people_can_say() -> None:
    for _ in range(200):
        name = fresh_name()
        assert run_name(name, "--name") == name
        assert re.fullmatch(r"[a-z]+-[a-z]+-[2-9a-hjkmnp-z]{4}", name)


def test_fresh_names_do_not_repeat() -> None:
    """2000 of 5e9: one pair alike has a chance of 0.04 %."""
    assert len({fresh_name() for _ in range(2000)}) >= 1999
