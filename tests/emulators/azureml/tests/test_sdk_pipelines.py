"""Pipelines, sweeps and image builds by the unmodified SDK, really executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulators.azureml.fixture import Service, eventually, running
from tests.emulators.azureml.tests.client import HISTORY, Client, Sdk

pytestmark = pytest.mark.docker

HEAD = """
    from azure.ai.ml import dsl, load_job
    from azure.ai.ml.sweep import Choice, Uniform
    environment = Environment(name="steps", image="{image}")
    folder = Output(type="uri_folder")
    make = command(name="make", command="echo ${{{{inputs.word}}}} > ${{{{outputs.out}}}}/w", environment=environment,
                   inputs={{"word": Input(type="string")}}, outputs={{"out": folder}}).component
    use = command(name="use", command="cat ${{{{inputs.data}}}}/w", environment=environment,
                  inputs={{"data": Input(type="uri_folder")}}).component
"""


def test_a_pipeline_with_one_within_it(azureml: Service, client: Client, sdk: Sdk, image: str) -> None:
    azureml.admin.switch(secrets="AccountKey", folder_type="uri_folder")  # what this SDK can download by
    shown = sdk.run(
        HEAD.format(image=image)
        + """
    @dsl.pipeline()
    def inner(text: str):
        made = make(word=text)
        return {"res": made.outputs.out}

    @dsl.pipeline(default_compute="cpu-cluster")
    def outer(text: str = "hello"):
        first = make(word=text)
        second = use(data=first.outputs.out)
        second.display_name = "shown name"
        nested = inner(text="deep")
        third = use(data=nested.outputs.res)
        return {"all": first.outputs.out}

    job = client.jobs.create_or_update(outer(), experiment_name="pipes")
    client.jobs.stream(job.name)
    client.jobs.download(job.name, download_path="down", output_name="all")
    children = {child.display_name: child.name for child in client.jobs.list(parent_job_name=job.name)}
    show(name=job.name, last=client.jobs.get(job.name).status, children=children)
    """
    )
    assert shown["last"] == "Completed"
    assert set(shown["children"]) == {"first", "shown name", "nested", "third"}
    assert shown["children"]["first"] in shown["printed"]  # the execution log was streamed
    for name, said in (("shown name", b"hello\n"), ("third", b"deep\n")):
        details = client.ask("GET", f"{HISTORY}/runs/{shown['children'][name]}/details").body
        assert client.open("GET", details["logFiles"]["user_logs/std_log.txt"]).body == said
    assert [path.read_text() for path in (sdk.folder / "down").rglob("w")] == ["hello\n"]


def test_a_pipeline_is_canceled_with_its_steps(azureml: Service, sdk: Sdk, image: str) -> None:
    azureml.admin.switch(cancel_grace_s=1.0)
    shown = sdk.run(
        HEAD.format(image=image)
        + """
    import time
    slow = command(name="slow", command="sleep 200", environment=environment).component

    @dsl.pipeline(default_compute="cpu-cluster")
    def waits():
        slow()

    def steps():
        return [child.status for child in client.jobs.list(parent_job_name=job.name)]

    job = client.jobs.create_or_update(waits())
    while steps() != ["Running"]:
        time.sleep(0.1)
    client.jobs.begin_cancel(job.name).result()
    show(last=client.jobs.get(job.name).status, children=steps())
    """
    )
    assert (shown["last"], shown["children"]) == ("Canceled", ["Canceled"])


def test_a_sweep_and_its_best_trial(azureml: Service, sdk: Sdk, image: str) -> None:
    azureml.admin.switch(secrets="AccountKey")
    process = sdk.start(
        HEAD.format(image=image)
        + """
    text = "while [ ! -e go ]; do sleep 0.1; done; echo ${{inputs.x}} | tee outputs/x"
    trial = command(command=text, environment=environment, inputs={"x": 1}, compute="cpu-cluster")
    sweep = trial(x=Choice([1, 2])).sweep(primary_metric="loss", goal="minimize", sampling_algorithm="grid",
                                          compute="cpu-cluster")
    sweep.set_limits(max_total_trials=2, max_concurrent_trials=2, timeout=600)
    sweep.experiment_name = "sweeps"
    job = client.jobs.create_or_update(sweep)
    show(name=job.name)
    client.jobs.stream(job.name)
    client.jobs.download(job.name, download_path="down")
    job = client.jobs.get(job.name)
    show(last=job.status, best=job.properties["best_child_run_id"])
    """
    )

    def running_trials() -> list[str]:
        runs = azureml.admin.documents("run")
        return [run["runId"] for run in runs if run.get("parentRunId") and run["status"] == "Running"]

    eventually(lambda: len(running_trials()) == 2, "two trials run")
    for trial, loss in zip(sorted(running_trials()), (0.5, 0.25), strict=True):
        azureml.admin.change("run", trial, _metrics={"loss": [{"value": loss, "step": 0, "timestamp": 0}]})
        (azureml.folder / "work" / trial / "wd" / "go").touch()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f'"last": "Completed", "best": "{trial}"' in out
    assert (sdk.folder / "down" / "artifacts" / "outputs" / "x").read_text() == "2\n"


def test_an_environment_is_built_from_its_context(azureml: Service, client: Client, sdk: Sdk, image: str) -> None:
    context = sdk.folder / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {image}\nCOPY greeting /greeting\n")
    (context / "greeting").write_text("from the image\n")
    shown = sdk.run("""
    from azure.ai.ml.entities import BuildContext
    environment = Environment(name="built", build=BuildContext(path="context"))
    job = client.jobs.create_or_update(command(command="cat /greeting", environment=environment, compute="cpu-cluster"))
    client.jobs.stream(job.name)
    show(name=job.name, last=client.jobs.get(job.name).status)
    """)
    details = client.ask("GET", f"{HISTORY}/runs/{shown['name']}/details").body
    assert shown["last"] == "Completed", details
    assert client.open("GET", details["logFiles"]["user_logs/std_log.txt"]).body == b"from the image\n"
    assert b"COPY greeting" in client.open("GET", details["logFiles"]["azureml-logs/20_image_build_log.txt"]).body


def test_a_job_with_a_network_reaches_the_service(azureml: Service, client: Client, sdk: Sdk, image: str) -> None:
    azureml.admin.switch(network="host")
    (sdk.folder / "code").mkdir()
    (sdk.folder / "code" / "ask.py").write_text(
        "import os, urllib.request as u\n"
        f"url = '{HISTORY}/runs/' + os.environ['AZUREML_RUN_ID']\n"
        "token = os.environ['AZUREML_RUN_TOKEN']\n"
        "print(u.urlopen(u.Request(url, headers={'Authorization': 'Bearer ' + token})).status)\n"
        "ask = u.Request(os.environ['IDENTITY_ENDPOINT'] + '?resource=https://vault.azure.net',\n"
        "                headers={'X-IDENTITY-HEADER': os.environ['IDENTITY_HEADER']})\n"
        "print(u.urlopen(ask).status)\n"
    )
    shown = sdk.run(
        HEAD.format(image=image)
        + """
    job = client.jobs.create_or_update(command(
        code="code", command="python3 ask.py", environment=environment, compute="cpu-cluster"))
    client.jobs.stream(job.name)
    show(name=job.name)
    """
    )
    details = client.ask("GET", f"{HISTORY}/runs/{shown['name']}/details").body
    assert client.open("GET", details["logFiles"]["user_logs/std_log.txt"]).body == b"200\n200\n"


def test_a_job_goes_on_while_the_emulator_is_killed(tmp_path: Path, image: str) -> None:
    with running(tmp_path / "state") as service:
        folder = tmp_path / "client"
        folder.mkdir()
        sdk = Sdk(service.env, folder)
        shown = sdk.run(
            HEAD.format(image=image)
            + """
    job = client.jobs.create_or_update(command(
        command="echo one; sleep 6; echo two", environment=environment, compute="cpu-cluster"))
    show(name=job.name)
    """
        )
        name = shown["name"]
        eventually(lambda: service.admin.documents("run")[0]["status"] == "Running", "it runs")
        service.kill()
        service.start()
        eventually(lambda: service.admin.documents("run")[0]["status"] == "Completed", "it ends")
        client = Client(service.env)
        details = client.ask("GET", f"{HISTORY}/runs/{name}/details").body
        assert client.open("GET", details["logFiles"]["user_logs/std_log.txt"]).body == b"one\ntwo\n"
