"""Data for Azure's examples, made up: the columns that their scripts read, and nothing of the examples themselves."""

from __future__ import annotations

import csv
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_SPECIES = ("setosa", "versicolor", "virginica")
_FLOWER = ("sepal_length", "sepal_width", "petal_length", "petal_width", "species")
_PATIENT = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "target")
_PASSENGER = ("PassengerId", "Survived", "Pclass", "Name", "Sex", "Age", "Fare")


def make(folder: Path) -> None:
    """All that runner.yaml maps data, datastores and URLs to."""
    dice = random.Random(4)
    flowers = [_flower(dice, number % 3) for number in range(90)]
    _table(folder / "datasets" / "iris.csv", _FLOWER, flowers)
    _table(folder / "datasets" / "diabetes.csv", _PATIENT, (_patient(dice) for _ in range(80)))
    _table(folder / "demo" / "Titanic.csv", _PASSENGER, (_passenger(dice, number) for number in range(40)))
    _table(folder / "datastore" / "example-data" / "iris.csv", _FLOWER, flowers)
    path = folder / "datastore" / "azureml" / "4b_datastore_datapath_uri" / "hello-world.txt"
    path.parent.mkdir(parents=True)
    path.write_text("hello\n")
    _table(folder / "folder" / "sample.csv", ("name", "count"), [("a", 1), ("b", 2)])


def _table(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def _flower(dice: random.Random, kind: int) -> tuple[object, ...]:
    return (*(round(dice.gauss(3 + kind, 0.4), 1) for _ in range(4)), _SPECIES[kind])


def _patient(dice: random.Random) -> tuple[object, ...]:
    values = [round(dice.gauss(0, 0.05), 4) for _ in range(10)]
    return (*values, round(150 + 900 * values[2] + dice.gauss(0, 10), 1))


def _passenger(dice: random.Random, number: int) -> tuple[object, ...]:
    return (number, dice.randint(0, 1), dice.randint(1, 3), f"P. {number}", dice.choice("fm"), dice.randint(1, 80), 8.5)
