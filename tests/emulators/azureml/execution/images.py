"""From an environment to an image of the local engine: by name, by digest from a registry on loopback, or really built."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from threading import Lock

from tests.emulators.azureml.execution.context import Context
from tests.emulators.azureml.execution.failures import RunError, image_build, image_pull
from tests.emulators.azureml.execution.logs import BUILD_LOG, Log
from tests.emulators.azureml.execution.registry import pull, registry_of
from tests.emulators.azureml.state import Doc

_BUILD_S = 1800.0
_engine = Lock()
"""One build or pull at a time: two of the same would do the work twice."""


def environment_of(context: Context, name: str) -> Doc | None:
    """The document of an environment version by its ARM id, `azureml:name:version` or `azureml:name@latest`."""
    text = re.sub(r"^azureml:", "", name)
    forms = (
        r".*/environments/(?P<name>[^/]+)/versions/(?P<version>[^/]+)",
        r".*/environments/(?P<name>[^/]+)/labels/(?P<label>[^/]+)",
        r"(?P<name>[^/:@]+):(?P<version>[^/:@]+)",
        r"(?P<name>[^/:@]+)@(?P<label>[^/:@]+)",
    )
    for form in forms:
        if (found := re.fullmatch(form, text)) is None:
            continue
        parts = found.groupdict()
        if parts.get("version"):
            return context.state.get("environment", f"{parts['name']}/{parts['version']}")
        docs = [doc for doc in context.state.list("environment") if f"/environments/{parts['name']}/" in doc["id"]]
        return docs[-1] if docs and parts["label"] == "latest" else None
    return None


def image_for(context: Context, run_id: str, environment: str) -> str:
    """What the engine can run. RunError: there is none, with the reason in the build's log where one was built."""
    doc = environment_of(context, environment)
    if doc is None:
        raise RunError(f"The environment {environment} does not exist.", inner=("EnvironmentNotFound",))
    properties = doc["properties"]
    if properties.get("condaFile"):
        log = Log(context, run_id, BUILD_LOG)
        log.line("This emulator does not install conda environments: it has no channel. Not emulated.")
        raise image_build()
    if properties.get("build"):
        return _built(context, run_id, properties["build"])
    image = str(properties["image"])
    if registry_of(image) is None:
        return _local(context, image)
    with _engine:
        pull(context, image)
    return image


def _local(context: Context, image: str) -> str:
    if not context.engine.has_image(image):
        why = "Only images of the local engine and of registries on 127.0.0.1 can be had here."
        raise image_pull(image, why)
    return image


def _built(context: Context, run_id: str, build: Doc) -> str:
    """The image of a build context. One that was built before from the same place is not built again."""
    uri, dockerfile = str(build["contextUri"]), str(build.get("dockerfilePath") or "Dockerfile")
    tag = f"emu-build:{hashlib.sha256(f'{uri} {dockerfile} {context.work}'.encode()).hexdigest()[:24]}"
    with _engine:
        if context.engine.has_image(tag):
            return tag
        return _build(context, run_id, uri, dockerfile, tag)


def _build(context: Context, run_id: str, uri: str, dockerfile: str, tag: str) -> str:
    log = Log(context, run_id, BUILD_LOG)
    folder = context.work / run_id / "build"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        place = context.blobs.resolve(uri)
        count = context.blobs.download_folder(*place, folder)
    except ValueError as error:
        log.line(str(error))
        raise image_build() from None
    log.line(f"{count} files of the build context, from {uri}")
    command = ["docker", "build", "--tag", tag, "--label", context.engine.build_label, "--file", dockerfile, "."]
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=_BUILD_S, check=False,
    )  # fmt: skip
    log.write(done.stdout)
    log.line(f"docker build ended with {done.returncode}")
    shutil.rmtree(folder, ignore_errors=True)
    if done.returncode:
        raise image_build()
    return tag
