"""The R samples below pipelines/: their images built by the command, their scripts run in them, and what these leave."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.build_material import docker

if TYPE_CHECKING:
    from tests.conftest import Cli

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1500)]

SAMPLES = Path(__file__).parents[2] / "pipelines"
ARTICLE = {
    "DBI", "NMF", "RPostgreSQL", "RSQLite", "RcppRoll", "cowplot", "factoextra", "fpc", "lubridate", "magrittr", "tsne",
    "zoo",
}  # fmt: skip
"""What of the article's R libraries Debian has."""


def test_the_libraries_of_the_article_in_one_image_and_a_script_that_uses_them(cli: Cli, engine: None) -> None:
    shutil.copytree(SAMPLES / "segments-r", cli.cwd / "segments", ignore=shutil.ignore_patterns("*.lock"))

    built = cli("build", "--libs", "segments/libs.yaml", "--json", timeout=1200)
    assert built.code == 0, built.err
    image = json.loads(built.out)
    assert {each["name"] for each in image["libraries"]} == ARTICLE
    done = cli("submit", "segments/segments.R", "--backend", "docker", "--wait", "--name", "segments", timeout=240)

    assert done.code == 0, done.err
    assert "3 groups of shops" in done.out
    assert cli("download", "segments", "--to", "got").code == 0
    (plot,) = (cli.cwd / "got").rglob("*.png")
    assert plot.read_bytes().startswith(b"\x89PNG")
    (table,) = (cli.cwd / "got").rglob("segments.csv")
    (database,) = (cli.cwd / "got").rglob("segments.sqlite")
    with table.open(newline="") as stream:
        shops = [row["shop"] for row in csv.DictReader(stream)]
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT count(*) FROM segments").fetchone() == (len(shops),) == (120,)
    connection.close()
    docker("rmi", image["tag"])
