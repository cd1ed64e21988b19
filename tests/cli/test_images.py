"""`runner image`: usage, help, and no engine. What it does to a real engine is in tests/e2e/test_images.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import NO_ENGINE, failed

if TYPE_CHECKING:
    from tests.conftest import Cli


def test_the_groups_stand_in_the_help(cli: Cli) -> None:
    done = cli("--help")
    assert "  image        Images that runner made." in done.out
    assert "  libs         Libraries of files, images and this machine." in done.out


@pytest.mark.parametrize(("group", "commands"), [("image", ["list", "show", "prune"]), ("libs", ["diff"])])
def test_a_group_shows_its_commands(cli: Cli, group: str, commands: list[str]) -> None:
    done = cli(group, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: runner {group} ")
    shown = done.out.partition("Commands:\n")[2]
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("  ") and line[2] != " "] == commands
    alone = cli(group)
    assert (alone.code, alone.out) == (2, "")
    assert "Commands:" in alone.err


def test_without_an_engine(cli: Cli) -> None:
    for command in (("list",), ("show", "churn"), ("prune", "--yes"), ("prune", "--dry-run", "--json")):
        failed(cli("image", *command, env=NO_ENGINE), 9)


def test_wrong_use(cli: Cli) -> None:
    failed(cli("image", "lst"), 2, "see: runner image --help")
    failed(cli("image", "show"), 2, "missing argument 'IMAGE'", "see: runner image show --help")
    failed(cli("image", "prune", "--keep", "-1", env=NO_ENGINE), 2)
    failed(cli("image", "prune", "--older-than", "soon", env=NO_ENGINE), 3, "'soon' is not a duration", "30")
