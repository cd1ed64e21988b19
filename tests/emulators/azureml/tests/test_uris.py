"""URIs of data, expressions in commands, durations: what the execution reads, without executing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.azureml import names
from tests.emulators.azureml.execution.clock import duration_s
from tests.emulators.azureml.execution.expressions import replace
from tests.emulators.azureml.state import State
from tests.emulators.azureml.uris import Place, resolve

HOST = "emustore.blob.core.windows.net"
LONG = f"azureml://subscriptions/{names.SUBSCRIPTION}/resourcegroups/{names.GROUP}/workspaces/{names.WORKSPACE}"
ASSET = f"azureml://locations/eastus/workspaces/{names.WORKSPACE_ID}/data/azureml_j_output_data_o/versions/1"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = State(tmp_path)
    for name in ("store", "workspaceartifactstore"):
        made.put("datastore", name, {"properties": {"containerName": f"c-{name}"}})
    for version in ("1", "2"):
        uri = f"{LONG}/datastores/store/paths/data/v{version}/"
        made.put(
            "data", f"d/{version}", {"id": names.arm("data", "d", "versions", version), "properties": {"dataUri": uri}}
        )
    made.put("data", "loop/1", {"id": "", "properties": {"dataUri": "azureml:loop:1"}})
    outputs = {"o": {"assetId": ASSET, "type": "UriFolder"}}
    made.put("run", "j", {"outputs": outputs, "_outputs": {ASSET: {"uri": f"{LONG}/datastores/store/paths/out/"}}})
    yield made
    made.close()


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("azureml://datastores/store/paths/a/b.txt", ("c-store", "a/b.txt")),
        ("azureml://datastores/store/paths/", ("c-store", "")),
        ("azureml://datastores/store", ("c-store", "")),
        (f"{LONG}/datastores/store/paths/a/", ("c-store", "a/")),
        (
            "azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.j",
            ("c-workspaceartifactstore", "ExperimentRun/dcid.j"),
        ),
        (names.arm("data", "d", "versions", "1"), ("c-store", "data/v1/")),
        (f"azureml:{names.arm('data', 'd', 'versions', '2')}", ("c-store", "data/v2/")),
        (f"{LONG}/data/d/versions/1", ("c-store", "data/v1/")),
        ("azureml:d:1", ("c-store", "data/v1/")),
        ("azureml:d@latest", ("c-store", "data/v2/")),
        ("azureml://jobs/j/outputs/o", ("c-store", "out/")),
        ("azureml://jobs/j/outputs/o/paths/sub/x", ("c-store", "out/sub/x")),
        (
            "azureml://jobs/j/outputs/artifacts/paths/outputs/x",
            ("c-workspaceartifactstore", "ExperimentRun/dcid.j/outputs/x"),
        ),
        (ASSET, ("c-store", "out/")),
        (f"https://{HOST}/box/a%20b/c?sig=x", ("box", "a b/c")),
        (f"wasbs://box@{HOST}/a/b", ("box", "a/b")),
    ],
)
def test_every_form_leads_to_its_place(state: State, uri: str, place: tuple[str, str]) -> None:
    assert resolve(uri, state, HOST) == Place(*place)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("azureml://datastores/none/paths/x", "no datastore none"),
        ("azureml:d:9", "leads nowhere"),
        ("azureml:none@latest", "leads nowhere"),
        ("azureml://jobs/none/outputs/o", "leads nowhere"),
        ("azureml://jobs/j/outputs/none", "leads nowhere"),
        ("https://other.blob.core.windows.net/c/x", "no storage account of this workspace"),
        ("azureml:loop:1", "circle"),
        ("ftp://x/y", "leads nowhere"),
    ],
)
def test_what_leads_nowhere_is_said(state: State, uri: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resolve(uri, state, HOST)


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("a ${{inputs.x}} b", "a it's $HOME b"),
        ("${{ inputs.x }}${{outputs.o}}", "it's $HOME/o"),
        ("$[[--flag ${{inputs.x}}]] end", "--flag it's $HOME end"),
        ("$[[--flag ${{inputs.gone}} ${{inputs.x}}]] end", " end"),
        ("$[[ plain ]] ${HOME} $(x) ${ {inputs.x}}", " plain  ${HOME} $(x) ${ {inputs.x}}"),
    ],
)
def test_expressions_become_text_as_it_is(text: str, replaced: str) -> None:
    assert replace(text, {"inputs.x": "it's $HOME", "inputs.gone": None, "outputs.o": "/o"}) == replaced


@pytest.mark.parametrize("text", ["${{inputs.nope}}", "${{inputs.gone}}", "$[[${{inputs.nope}}]]"])
def test_what_has_no_value_is_no_text(text: str) -> None:
    with pytest.raises(KeyError, match=r"inputs\.(nope|gone)"):
        replace(text, {"inputs.gone": None})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT1M", 60), ("PT1H30M", 5400), ("P1DT1S", 86401), ("PT0.5S", 0.5), (7, 7), (None, None)],
)
def test_durations(text: str | float | None, seconds: float | None) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "1M", "PT1X"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        duration_s(text)
