"""The unmodified azure-ai-ml and azure-identity against the emulator: jobs that really run, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulators.azureml import names
from tests.emulators.azureml.fixture import Service
from tests.emulators.azureml.tests.client import HISTORY, Client, Sdk

pytestmark = pytest.mark.docker


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "main.py").write_text(
        "import os, sys\nprint('hello from', os.environ['AZUREML_RUN_ID'], sys.argv[1], flush=True)\n"
        "os.makedirs('outputs', exist_ok=True)\nopen('outputs/art.txt', 'w').write('art')\n"
        "open(sys.argv[2] + '/named.txt', 'w').write('named')\n"
    )
    return folder


SUBMIT = """
    environment = client.environments.create_or_update(Environment(name="{image_name}", image="{image}"))
    job = client.jobs.create_or_update(command(
        code="{code}", command="python3 main.py ${{{{inputs.word}}}} ${{{{outputs.named}}}}", compute="cpu-cluster",
        environment=f"{{environment.name}}:{{environment.version}}", experiment_name="sdk",
        inputs={{"word": "given"}}, outputs={{"named": Output(type="uri_folder")}}, tags={{"kind": "x"}},
    ))
    show(name=job.name, first=job.status)
"""


def test_a_command_job_from_submit_to_download(
    azureml: Service, client: Client, sdk: Sdk, code: Path, image: str
) -> None:
    azureml.admin.switch(secrets="AccountKey")  # what stream and download of this SDK can deal with
    submit = SUBMIT.format(image_name="sdk", image=image, code=code)
    shown = sdk.run(
        submit
        + """
    client.jobs.stream(job.name)
    client.jobs.download(job.name, download_path="down", all=True)
    show(last=client.jobs.get(job.name).status, default=client.datastores.get_default().name)
    show(listed=[job.name for job in client.jobs.list(max_results=5)])
    """
    )
    assert shown["first"] in {"NotStarted", "Starting", "Preparing"}  # a busy machine is seen later
    assert shown["last"] == "Completed"
    assert f"hello from {shown['name']} given\n" in shown["printed"]
    assert (shown["default"], shown["listed"][0]) == ("workspaceblobstore", shown["name"])
    artifacts = sdk.folder / "down" / "artifacts"
    assert (artifacts / "outputs" / "art.txt").read_text() == "art"
    assert (artifacts / "user_logs" / "std_log.txt").read_text() == f"hello from {shown['name']} given\n"
    run = client.ask("POST", f"{HISTORY}/rundata", {"runId": shown["name"]}).body["runMetadata"]
    asset = run["outputs"]["named"]["assetId"]
    url = f"{HISTORY.replace('/history/', '/data/')}/dataversion/batchGetResolvedUris"
    assert (
        client.ask("POST", url, {"values": [asset]}).body["values"][asset]["uri"].startswith("azureml://subscriptions/")
    )
    details = client.ask("GET", f"{HISTORY}/runs/{shown['name']}/details").body
    log = client.open("GET", details["logFiles"]["user_logs/std_log.txt"])
    assert log.body == f"hello from {shown['name']} given\n".encode()


def test_a_snapshot_goes_up_once(azureml: Service, sdk: Sdk, code: Path, image: str) -> None:
    submit = SUBMIT.format(image_name="once", image=image, code=code) + "    client.jobs.begin_cancel(job.name)\n"
    sdk.run(submit)
    after = len(azureml.admin.requests())
    sdk.run(submit)
    again = azureml.admin.requests(after)
    assert not [entry for entry in again if entry["host"].endswith(".blob.core.windows.net")]


def test_the_same_job_again_is_the_same_job_and_another_is_refused(
    client: Client, sdk: Sdk, code: Path, image: str
) -> None:
    shown = sdk.run(SUBMIT.format(image_name="same", image=image, code=code))
    path = f"/jobs/{shown['name']}"
    there = client.arm("GET", path).body["properties"]
    assert there["services"]["Studio"]["endpoint"].startswith(f"https://ml.azure.com/runs/{shown['name']}?wsid=")
    assert there["outputs"]["default"]["uri"].endswith(f"ExperimentRun/dcid.{shown['name']}")
    tagged = client.arm("GET", "/jobs?tag=kind%3Dx").body["value"]
    assert shown["name"] in {job["name"] for job in tagged}
    sent = {
        member: there[member]
        for member in ("jobType", "command", "codeId", "environmentId", "computeId", "experimentName", "tags")
    }
    sent |= {
        "inputs": {"word": {"jobInputType": "literal", "value": "given"}},
        "outputs": {"named": {"jobOutputType": "uri_folder"}},
    }
    again = client.arm("PUT", path, {"properties": sent | {"description": "said"}})
    assert (again.status, again.body["properties"]["description"]) == (200, "said")
    changed = client.arm("PUT", path, {"properties": sent | {"command": "true"}})
    assert changed.status == 400
    assert "A job with this name already exists." in changed.error
    assert "the existing job's Command" in changed.error


def test_a_failing_job_is_an_exception_of_the_sdk(azureml: Service, sdk: Sdk, image: str) -> None:
    azureml.admin.switch(secrets="AccountKey")
    shown = sdk.run(f"""
        from azure.ai.ml.exceptions import JobException
        environment = client.environments.create_or_update(Environment(name="failing", image="{image}"))
        job = client.jobs.create_or_update(command(command="exit 3", environment=environment, compute="cpu-cluster"))
        try:
            client.jobs.stream(job.name)
        except JobException as error:
            show(error=str(error), last=client.jobs.get(job.name).status)
    """)
    assert shown["last"] == "Failed"
    assert "exited with code 3" in shown["error"]


def test_a_running_job_is_canceled(client: Client, sdk: Sdk, image: str) -> None:
    shown = sdk.run(f"""
        import time
        environment = client.environments.create_or_update(Environment(name="long", image="{image}"))
        job = client.jobs.create_or_update(command(command="sleep 600", environment=environment, compute="cpu-cluster"))
        while client.jobs.get(job.name).status != "Running":
            time.sleep(0.2)
        begin = time.monotonic()
        client.jobs.begin_cancel(job.name).wait()
        show(name=job.name, last=client.jobs.get(job.name).status, took=time.monotonic() - begin)
    """)
    assert shown["last"] == "Canceled"
    assert shown["took"] < 30  # the poller's own pace without Retry-After
    again = client.arm("POST", f"/jobs/{shown['name']}/cancel", version="2023-04-01-preview")
    assert (again.status, "cannot be canceled" in again.error) == (400, True)


def test_a_pipeline_hands_data_from_step_to_step(azureml: Service, client: Client, sdk: Sdk, image: str) -> None:
    azureml.admin.switch(secrets="AccountKey")
    shown = sdk.run(f"""
        from azure.ai.ml import dsl
        environment = client.environments.create_or_update(Environment(name="pipe", image="{image}"))
        env = f"{{environment.name}}:{{environment.version}}"
        one = command(name="one", command="echo data > ${{{{outputs.out}}}}/a.txt", environment=env,
                      outputs={{"out": Output(type="uri_folder")}})
        two = command(name="two", command="cat ${{{{inputs.given}}}}/a.txt > ${{{{outputs.end}}}}/b.txt", environment=env,
                      inputs={{"given": Input(type="uri_folder")}}, outputs={{"end": Output(type="uri_folder")}})

        @dsl.pipeline(default_compute="cpu-cluster")
        def both():
            first = one()
            second = two(given=first.outputs.out)
            return {{"result": second.outputs.end}}

        job = client.jobs.create_or_update(both(), experiment_name="sdk")
        client.jobs.stream(job.name)
        children = list(client.jobs.list(parent_job_name=job.name))
        show(name=job.name, last=client.jobs.get(job.name).status)
        show(children={{child.display_name: child.status for child in children}})
        show(child=client.jobs.get(children[0].name).type)
        client.jobs.download(job.name, download_path="down", output_name="result")
    """)
    assert (shown["last"], shown["children"]) == ("Completed", {"first": "Completed", "second": "Completed"})
    nodes = client.ask("GET", f"{HISTORY}/runs/{shown['name']}/children").body["value"]
    assert {run["parentRunId"] for run in nodes} == {shown["name"]}
    log = client.ask("GET", f"{HISTORY}/runs/{shown['name']}/details").body["logFiles"]
    assert "logs/azureml/executionlogs.txt" in log


def test_a_pipeline_from_yaml_with_a_failing_step(sdk: Sdk, image: str) -> None:
    (sdk.folder / "pipeline.yml").write_text(
        "type: pipeline\nexperiment_name: sdk\nsettings: {default_compute: 'azureml:cpu-cluster'}\njobs:\n"
        f"  good: {{type: command, command: 'true', environment: {{image: '{image}'}}}}\n"
        f"  bad: {{type: command, command: exit 4, environment: {{image: '{image}'}}}}\n"
    )
    shown = sdk.run("""
        import time
        from azure.ai.ml import load_job
        job = client.jobs.create_or_update(load_job("pipeline.yml"))
        while (status := client.jobs.get(job.name).status) not in ("Completed", "Failed", "Canceled"):
            time.sleep(0.3)
        show(last=status, children={run.display_name: run.status for run in client.jobs.list(parent_job_name=job.name)})
    """)
    assert shown["last"] == "Failed"
    assert shown["children"]["bad"] == "Failed"


@pytest.mark.parametrize("secrets", ["Sas", "AccountKey", "None"])
def test_data_goes_up_with_every_kind_of_credentials(azureml: Service, client: Client, sdk: Sdk, secrets: str) -> None:
    azureml.admin.switch(secrets=secrets)
    (sdk.folder / "data.csv").write_text(f"by {secrets}")
    shown = sdk.run(f"""
        from azure.ai.ml.entities import Data
        data = client.data.create_or_update(Data(name="by{secrets}", path="data.csv", type="uri_file"))
        show(path=data.path.rpartition("/paths/")[2])
    """)
    container = names.CONTAINERS[names.DEFAULT_STORE]
    azureml.admin.switch(secrets="Sas")
    sas = client.arm("POST", f"/datastores/{names.DEFAULT_STORE}/listSecrets", {}).body["sasToken"]
    blob = client.open("GET", f"https://emustore.blob.core.windows.net/{container}/{shown['path']}{sas}")
    assert blob.body == f"by {secrets}".encode()


def test_assets_by_the_sdk(sdk: Sdk) -> None:
    (sdk.folder / "data.csv").write_text("a\n1\n")
    shown = sdk.run("""
        from azure.ai.ml.entities import Data
        for image in ("one", "two"):
            client.environments.create_or_update(Environment(name="auto", image=image))
        show(versions=sorted(each.version for each in client.environments.list("auto")))
        show(latest=client.environments.get("auto", label="latest").image)
        client.environments.archive("auto", version="1")
        show(active=[each.version for each in client.environments.list("auto")])
        data = client.data.create_or_update(Data(name="table", path="data.csv", type="uri_file"))
        show(data=client.data.get("table", label="latest").path, computes=[each.name for each in client.compute.list()])
        show(workspace=client.workspaces.get().discovery_url)
    """)
    assert (shown["versions"], shown["latest"], shown["active"]) == (["1", "2"], "two", ["2"])
    assert shown["data"].startswith("azureml://subscriptions/")
    assert shown["computes"] == list(names.COMPUTES)
