"""The nodes of a compute are given in the order of asking; who gives up waiting holds nobody up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.emulators.azureml.execution.nodes import Nodes
from tests.emulators.azureml.execution.signals import Signals
from tests.emulators.azureml.fixture import eventually
from tests.emulators.azureml.state import State


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path)
    scale = {"properties": {"scaleSettings": {"maxNodeCount": 1}}, "computeType": "AmlCompute"}
    made.put("compute", "one", {"name": "one", "properties": scale})
    made.put("compute", "mine", {"name": "mine", "properties": {"computeType": "ComputeInstance"}})
    yield made
    made.close()


def test_in_the_order_of_asking(state: State) -> None:
    nodes, order = Nodes(state), list[str]()
    release = {name: Signals() for name in "abc"}
    told = {name: Signals() for name in "abc"}

    def job(name: str) -> None:
        with nodes.held("one", 1, told[name]) as had:
            order.append(f"{name} {had}")
            release[name].wait(30)

    threads = []
    for place, name in enumerate("abc"):
        threads.append(Thread(target=job, args=(name,)))
        threads[-1].start()
        if place == 0:
            eventually(lambda: order == ["a True"], "the first has it")
        else:
            eventually(lambda place=place: len(nodes._queues["one"]) == place, "it waits")  # type: ignore[misc]
    told["b"].ask("cancel")
    eventually(lambda: order == ["a True", "b False"], "the canceled one is told")
    release["a"].ask("cancel")
    eventually(lambda: order[2:] == ["c True"], "the next has it")
    for one in release.values():
        one.ask("cancel")
    for thread in threads:
        thread.join(30)
    assert nodes._taken["one"] == 0


def test_how_many_there_are(state: State) -> None:
    nodes = Nodes(state)
    assert (nodes.size("one"), nodes.size("mine"), nodes.size(None)) == (1, 1, nodes.size("serverless"))
    with nodes.held("one", 5, Signals()) as had, nodes.held("one", 1, Signals(), at_once=True) as at_once:
        assert (had, at_once) == (True, True)
