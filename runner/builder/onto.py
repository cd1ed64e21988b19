"""Conda packages on top of an image that the user names: a libs file of ours, so that it is locked, verified and cached."""

from __future__ import annotations

import hashlib
import json
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.builder.cache import cache_dir
from runner.errors import SpecError
from runner.spec import yamldoc
from runner.spec.environment import read_environment
from runner.spec.named import named
from runner.spec.requirements import fit_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.job import Where

_FILE = "environment.yml"


def libs_of(image: str, conda: Path | Mapping[str, Any], where: Where) -> Path:
    """The libs file that stands for `conda` on top of `image`; the same content, the same file, and so the same lock.

    Args:
        conda: an environment.yml, or its content. where: the place that names it, for errors.

    Raises:
        SpecError: it is no environment.yml, or asks for what cannot be had.
        BuildError: the cache folder cannot be made.
    """
    files, name = _from_file(conda) if isinstance(conda, Path) else _inline(conda, where)
    libs = {"name": name, "base": image, "conda": {"file": next(iter(files))}}
    files["libs.yaml"] = json.dumps(libs).encode()  # JSON is YAML, whatever the texts hold
    digest = hashlib.sha256()
    for path, raw in sorted(files.items()):
        digest.update(f"{path}\0{len(raw)}\0".encode())
        digest.update(raw)
    folder = cache_dir() / "environments" / digest.hexdigest()[:32]
    if not (folder / "libs.yaml").is_file():
        _write(folder, files)
    return folder / "libs.yaml"


@contextmanager
def told_of(libs: Path, conda: Path | Mapping[str, Any], where: Where) -> Iterator[None]:
    """Errors about our copy as errors about what the user wrote: the file, or the place of the inline mapping."""
    try:
        yield
    except SpecError as error:
        if error.file is None or not (libs.parent / error.file).is_relative_to(libs.parent):
            raise
        message = _bare(error)
        if isinstance(conda, Path):
            file = conda.parent / (libs.parent / error.file).relative_to(libs.parent)
            if file.exists():
                raise SpecError(message, *error.hints, file=str(file), line=error.line, key=error.key) from None
        raise where.error(f"conda_file: {message}", *error.hints) from None


def _bare(error: SpecError) -> str:
    """The message without the place that SpecError puts in front."""
    where = ":".join(str(part) for part in (error.file, error.line) if part is not None)
    message = error.message.removeprefix(f"{where}: ")
    return message.removeprefix(f"{error.key}: ") if error.key else message


def _from_file(conda: Path) -> tuple[dict[str, bytes], str]:
    """Its bytes and those of what its pip section names, by paths from its folder, itself first; the image's name."""
    document = yamldoc.read(conda)
    if "dependencies" not in document.data:
        raise document.error((), "no environment.yml of conda: it has no `dependencies`")
    _refuse_relative(document)
    found = named(conda)
    files = {conda.name: found.raw}
    files |= {path.relative_to(found.folder).as_posix(): path.read_bytes() for path in found.files}
    return files, fit_name(document.text(("name",))) or "environment"


def _inline(conda: Mapping[str, Any], where: Where) -> tuple[dict[str, bytes], str]:
    text = json.dumps(conda, indent=1)
    try:
        document = yamldoc.parse(text, _FILE)
        environment = read_environment(document)
        _refuse_relative(document)
    except SpecError as error:
        key = f"{error.key}: " if error.key else ""
        raise where.error(f"conda_file: {key}{_bare(error)}", *error.hints) from None
    if local := [item.text for item in environment.pip if item.text.startswith(("-r", "-c", "./", "../"))]:
        raise where.error(f"conda_file: an inline one can name no files ({local[0]})", "put it into a file of its own")
    return {_FILE: text.encode()}, fit_name(environment.name or "") or "environment"


def _refuse_relative(document: yamldoc.Document) -> None:
    for number, channel in enumerate(document.data.get("channels") or ()):
        if str(channel).startswith("."):
            raise document.error(
                ("channels", number),
                f"{channel} would count from a copy of this file",
                "write file:///… with the whole path",
            )


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """All of it or nothing: another process may look meanwhile."""
    folder.parent.mkdir(exist_ok=True, mode=0o700)
    aside = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    for name, raw in files.items():
        target = aside / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.write_bytes(raw)
    with suppress(OSError):
        aside.rename(folder)
        return
    import shutil

    shutil.rmtree(aside)
