"""What is known of a job before anything is uploaded: computes, quota, names; all that is wrong at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from runner.backends.azureml import computes
from runner.backends.azureml.arm import Arm
from runner.backends.azureml.checks import check, lacking
from runner.errors import BackendError, CapabilityError, NotFoundError, UnavailableError
from runner.model import Remote, Step
from tests.unit.azure_arm import SUBSCRIPTION, TARGET, Document, Workspace, cluster, instance, page, region


def step(name: str = "train", *, instances: int | None = None, **remote: Any) -> Step:
    members = {} if instances is None else {"resources": {"instance_count": instances}}
    return Step(name, ("true",), remote=Remote(members=members, **remote))


COMPUTES = {
    "/computes": page(cluster("cpu-cluster"), instance("mine", "Stopped")),
    "/computes/cpu-cluster": cluster("cpu-cluster"),
    "/computes/mine": instance("mine", "Stopped"),
}


def texts(documents: dict[str, Any], *steps: Step) -> list[str]:
    found = lacking(Arm(Workspace(documents)), TARGET, steps)
    return [f"{', '.join(each.where)}: {each.text} → {'; '.join(each.ways)}" for each in found]


def test_a_job_that_can_run_is_let_through_and_asks_little() -> None:
    workspace = Workspace({**COMPUTES, "/environments/e/versions/1": {}, "/data/d": {}, "/datastores/lake": {}})
    ready = step(
        compute="azureml:cpu-cluster",
        environment="azureml:e:1",
        inputs={"d": {"type": "uri_file", "path": "azureml:d@latest"}},
        outputs={"o": {"type": "uri_folder", "path": "azureml://datastores/lake/paths/o"}},
    )
    check(Arm(workspace), TARGET, [ready, ready])
    assert sorted(workspace.asked) == [
        "/computes/cpu-cluster",
        "/data/d",
        "/datastores/lake",
        "/environments/e/versions/1",
    ]


def test_something_else_is_done_while_the_answers_are_on_their_way() -> None:
    went_on = threading.Event()

    class Slow(Workspace):
        def ask(self, method: str, url: str, what: str, *, query: Mapping[str, str] | None = None) -> Document:
            assert went_on.wait(10), "it waited for the answer first"
            return super().ask(method, url, what, query=query)

    check(Arm(Slow(COMPUTES)), TARGET, [step(compute="cpu-cluster")], meanwhile=went_on.set)


@pytest.mark.parametrize("name", [None, "serverless", "azureml:serverless"])
def test_a_serverless_job_has_no_compute_to_look_at(name: str | None) -> None:
    workspace = Workspace({})
    check(Arm(workspace), TARGET, [step(compute=name)])
    assert workspace.asked == []


def test_everything_that_is_wrong_is_told_at_once_with_the_nearest_right_word() -> None:
    documents = {
        **COMPUTES,
        "/environments": page({"name": "sklearn"}, {"name": "torch"}),
        "/data": page({"name": "titanic"}),
        "/data/titanic": {"properties": {"latestVersion": "2"}},
        "/data/titanic/versions": page({"name": "1"}, {"name": "2"}),
        "/datastores": page({"name": "workspaceblobstore"}),
        "/models": page(),
    }
    inputs = {
        "a": {"type": "uri_file", "path": "azureml:titanic:7"},
        "b": {"type": "uri_folder", "path": "azureml://datastores/workspaceblobstor/paths/x"},
        "c": {"type": "mlflow_model", "path": "azureml:m@latest"},
    }
    wanted = step("one", compute="cpu-clustr", environment="azureml:sklern@latest", inputs=inputs)
    with pytest.raises(CapabilityError) as caught:
        check(Arm(Workspace(documents)), TARGET, [wanted, step("two", compute="cpu-clustr")])
    text = str(caught.value)
    assert text.startswith("5 things of this job cannot be had in the workspace ws; nothing was uploaded")
    assert "one: compute, two: compute: the workspace ws has no compute 'cpu-clustr'" in text
    assert "did you mean cpu-cluster?" in text
    assert "one: environment: the workspace ws has no environment 'sklern'" in text
    assert "did you mean sklearn?" in text
    assert "the data asset titanic has no version '7'" in text
    assert "there are: 1, 2; the newest is 2" in text
    assert "did you mean workspaceblobstore?" in text
    assert "the workspace ws has no model 'm'" in text


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (instance("c", "Stopped"), "c: it is Stopped → start it: az ml compute start --name c"),
        (cluster("c", most=0), "c: it may have no nodes → az ml compute update --name c --max-instances N"),
        (
            cluster(
                "c", provisioningState="Failed", provisioningErrors=[{"error": {"code": "x", "message": "no subnet"}}]
            ),
            "c: it is Failed: no subnet → choose another: runner compute list",
        ),
        (
            cluster("c", computeType="AKS"),
            "c: it is of the kind AKS, which runs no jobs → choose another: runner compute list",
        ),
    ],
)
def test_a_compute_that_cannot_take_a_job(found: dict[str, Any], why: str) -> None:
    assert texts({"/computes/c": found}, step(compute="c")) == [f"compute: {why}"]


def test_more_machines_than_a_compute_can_have() -> None:
    (told,) = texts({"/computes/c": cluster("c", most=2)}, step("a", compute="c"), step("b", compute="c", instances=3))
    assert told.startswith("b: compute: c: it has at most 2 nodes, and 3 were asked for → ask for 2 or fewer")
    assert "--max-instances 3" in told
    (told,) = texts({"/computes/c": instance("c", "Running")}, step(compute="c", instances=2))
    assert told.endswith("it has at most 1 node, and 2 were asked for → ask for 1 or fewer")


def test_more_cores_than_the_subscription_may_use() -> None:
    found = {"/computes/c": cluster("c", most=10)}
    (told,) = texts({**found, **region(limit=8)}, step(compute="c", instances=3))
    assert "3 machines of STANDARD_DS3_V2 need 12 cores, and the subscription may use 8 of standardDSv2Family" in told
    assert texts({**found, **region(limit=12)}, step(compute="c", instances=3)) == []
    (again,) = texts({**found, **region(limit=8, family="standardDSv2Family")}, step(compute="c", instances=3))
    assert again == told, "Azure writes families in more than one way"
    assert texts({**found, **region(limit=8)}, step(compute="c")) == [], "one machine is worth no further questions"
    assert texts(found, step(compute="c", instances=3)) == [], "a quota that is not told is not held against the job"


def test_what_an_account_may_not_see_is_not_held_against_a_job() -> None:
    hidden = BackendError("this account may not use it", code=403)
    documents = {"/computes/c": hidden, "/environments/e/versions/1": hidden}
    assert texts(documents, step(compute="c", environment="azureml:e:1")) == []


@pytest.mark.parametrize("error", [BackendError("sign in", code=401), UnavailableError("nobody answers")])
def test_that_nobody_answers_is_said_and_not_taken_for_a_wrong_name(error: Exception) -> None:
    with pytest.raises(type(error)):
        texts({"/computes/c": error}, step(compute="c"))


@pytest.mark.parametrize(
    "reference",
    [
        "azureml://registries/azureml/environments/sklearn-1.5/versions/1",
        "azureml:/subscriptions/0/resourceGroups/other/providers/Microsoft.MachineLearningServices/workspaces/w/environments/e/versions/1",
        "registry.example.com/image:1",
    ],
)
def test_names_of_other_places_are_theirs(reference: str) -> None:
    workspace = Workspace({})
    assert lacking(Arm(workspace), TARGET, [step(environment=reference)]) == []
    assert workspace.asked == []


def test_the_long_name_of_something_of_the_workspace_is_looked_at() -> None:
    workspace = Workspace({"/environments": page()})
    long = f"azureml:{TARGET.path}/environments/e/versions/1"
    assert len(lacking(Arm(workspace), TARGET, [step(environment=long)])) == 1
    assert workspace.asked[0] == "/environments/e/versions/1"


def test_computes_with_their_quota() -> None:
    more = "https://management.azure.com/next?api-version=1"
    documents = {
        "/computes": page(cluster("b", nodes=1), following=more),
        "/next?api-version=1": page(instance("a", "Running")),
    }
    found = Arm(Workspace({**documents, **region(limit=12, used=4)}))
    listed = computes.listed(found, TARGET)
    assert [each.name for each in listed] == ["a", "b"], "pages are followed"
    quotas = computes.quotas(found, TARGET, listed)
    assert {name: (quota.used, quota.limit, quota.machines) for name, quota in quotas.items()} == {
        "a": (4, 12, 2), "b": (4, 12, 2),
    }  # fmt: skip
    with pytest.raises(NotFoundError, match="has no compute 'c'"):
        computes.find(found, TARGET, "c")


def test_a_list_that_never_ends_is_left() -> None:
    again = "https://management.azure.com/computes?api-version=1"
    path = "/computes?api-version=1"
    documents = {"/computes": page(cluster("a"), following=again), path: page(cluster("a"), following=again)}
    assert len(computes.listed(Arm(Workspace(documents)), TARGET)) == 100


def test_a_server_that_answers_nonsense_does_no_harm() -> None:
    odd: dict[str, Any] = {
        "value": [
            None,
            "x",
            {"properties": []},
            {"name": 3, "properties": {"properties": {"currentNodeCount": "many"}}},
        ]
    }
    assert [each.name for each in computes.listed(Arm(Workspace({"/computes": odd})), TARGET)] == ["", ""]
    assert SUBSCRIPTION in TARGET.path


def test_a_workspace_that_is_not_there_is_not_told_as_a_wrong_compute() -> None:
    """And asked for computes, it is the workspace that is named."""
    for ask in (lambda arm: check(arm, TARGET, [step(compute="gpu")]), lambda arm: computes.listed(arm, TARGET)):
        with pytest.raises(BackendError, match="there is no workspace") as caught:
            ask(Arm(Workspace({})))
        assert caught.value.code == 404
        assert any("runner doctor --backend azureml" in hint for hint in caught.value.hints)
