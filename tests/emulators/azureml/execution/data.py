"""A run's files: its code and inputs brought to the node, its outputs taken to their place in a datastore."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.emulators.azureml.blobs import files_below
from tests.emulators.azureml.execution.artifacts import FOLDERS
from tests.emulators.azureml.execution.context import Context, Places
from tests.emulators.azureml.execution.docker import Mount
from tests.emulators.azureml.execution.document import Command, Input, Output
from tests.emulators.azureml.execution.expressions import replace_known
from tests.emulators.azureml.execution.failures import RunError
from tests.emulators.azureml.uris import Place

_FILES = ("uri_file",)


@dataclass(slots=True)
class Staged:
    """values: of the command's expressions, `inputs.x` → text or None (absent). variables: names → paths."""

    values: dict[str, str | None] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)


def bring_code(context: Context, places: Places, command: Command) -> None:
    """The snapshot becomes the working directory; `outputs` and `logs` are there from the start, as on the service."""
    if command.code is not None:
        name, version = command.code.split("/")[-3::2]
        doc = context.state.get("code", f"{name}/{version}")
        if doc is None:
            raise RunError(f"The code snapshot {command.code} does not exist.", inner=("SnapshotNotFound",))
        place = context.blobs.resolve(doc["properties"]["codeUri"])
        context.blobs.download_folder(place.container, place.path, places.code)
    for folder in (places.code, *(places.code / name for name in FOLDERS)):
        folder.mkdir(parents=True, exist_ok=True)
    _open_up(places.code)


def _open_up(folder: Path) -> None:
    """For whoever the image's user is. Nothing is executable: blobs have no modes."""
    folder.chmod(0o777)
    for path in folder.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)


def hand_over(places: Places, user: tuple[int, int] | None) -> None:
    """What was brought to the node is the job's own: it may write everywhere below its working directory."""
    if user is None or os.geteuid() != 0:
        return
    for base, folders, files in os.walk(places.folder):
        for name in (*folders, *files):
            os.chown(Path(base, name), *user, follow_symlinks=False)


def bring_inputs(context: Context, places: Places, command: Command) -> Staged:
    """RunError: data that is not there."""
    staged = Staged()
    for name, value in command.inputs.items():
        staged.values[f"inputs.{name}"] = text = _bring(context, places, name, value, staged)
        if text is not None:
            staged.variables[f"AZURE_ML_INPUT_{name}"] = text
            if value.literal is not None:
                staged.variables[f"AZUREML_PARAMETER_{name}"] = text
    for name, output in command.outputs.items():
        inside = _output_inside(context, places, name, output, staged)
        staged.values[f"outputs.{name}"] = inside
        staged.variables[f"AZURE_ML_OUTPUT_{name}"] = inside
    staged.values |= {f"search_space.{name}": text for name, text in command.search_space.items()}
    return staged


def _bring(context: Context, places: Places, name: str, value: Input, staged: Staged) -> str | None:
    if value.absent or value.literal is not None:
        return value.literal
    assert value.uri is not None
    if value.mode == "direct":
        return value.uri
    target = places.data / f"INPUT_{name}"
    inside = f"{places.data_inside}/INPUT_{name}"
    target.mkdir(parents=True, exist_ok=True)
    staged.mounts.append(Mount(target, inside, read_only=not value.mode.endswith("download")))
    try:
        place = context.blobs.resolve(value.uri)
        if context.blobs.exists(*place):
            file = PurePosixPath(place.path).name
            context.blobs.download(*place, target / file)
            _open_up(target)
            return f"{inside}/{file}"
        if value.type not in _FILES and context.blobs.download_folder(*place, target):
            _open_up(target)
            return inside
    except ValueError as error:
        raise _not_found(name, value.uri, str(error)) from None
    raise _not_found(name, value.uri, "The requested stream was not found.")


def _not_found(name: str, uri: str, why: str) -> RunError:
    message = f"Failed to mount or download the data of input {name} from {uri}. StreamAccess: NotFound. {why}"
    return RunError(message, inner=("DataAccessError", "NotFound"))


def _output_inside(context: Context, places: Places, name: str, output: Output, staged: Staged) -> str:
    if output.mode == "direct":
        return destination(places.run_id, name, output)
    folder = places.data / name
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    inside = f"{places.data_inside}/{name}"
    staged.mounts.append(Mount(folder, inside))
    return f"{inside}/{_file_name(context, places, name, output)}" if output.type in _FILES else inside


def _file_name(context: Context, places: Places, name: str, output: Output) -> str:
    return PurePosixPath(_place(context, places, name, output).path).name or name


def destination(run_id: str, name: str, output: Output) -> str:
    """The URI that an output goes to: the job's, its templates replaced, or the service's default."""
    if output.uri is None:
        end = "" if output.type in _FILES else "/"
        return f"azureml://datastores/workspaceblobstore/paths/azureml/{run_id}/{name}{end}"
    known = {"name": run_id, "output_name": name, "default_datastore": "workspaceblobstore"}
    return replace_known(output.uri, known.get)


def _place(context: Context, places: Places, name: str, output: Output) -> Place:
    return context.blobs.resolve(destination(places.run_id, name, output))


def take_outputs(context: Context, places: Places, command: Command, *, completed: bool) -> None:
    """A mounted output is written as the job writes it; what is uploaded at the end is not if the job did not complete."""
    for name, output in command.outputs.items():
        if output.mode == "direct" or (output.mode == "upload" and not completed):
            continue
        place = _place(context, places, name, output)
        folder = places.data / name
        if output.type in _FILES:
            _take_file(context, folder / (PurePosixPath(place.path).name or name), place)
        else:
            prefix = place.path.rstrip("/") + "/" if place.path.strip("/") else ""
            context.blobs.upload_folder(folder, place.container, prefix)


def _take_file(context: Context, path: Path, place: Place) -> None:
    if path in files_below(path.parent):
        with path.open("rb") as stream:
            context.blobs.upload(*place, stream)
