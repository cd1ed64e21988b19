"""Which files decide an image's content, and how the image is called. Cheap, since every `submit` asks: no pydantic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.spec import items
from runner.spec.requirements import default_name, fit_name
from runner.spec.sources import gather, open_source

if TYPE_CHECKING:
    from pathlib import Path

    from runner.spec.sources import Source


@dataclass(frozen=True, slots=True)
class Named:
    """name: the image's, without registry and tag. folder: of the libs file, resolved; every file lies below it.

    raw: the bytes of the libs file. files: absolute path of every further file that decides the content (requirements,
    constraints, wheels, environment.yml, renv.lock, local R packages file by file), each once; not the CA bundle.
    """

    name: str
    folder: Path
    raw: bytes
    files: tuple[Path, ...]


def named(libs: Path) -> Named:
    """Look no further than it takes to find the files.

    Raises:
        SpecError: the libs file, or one that it names, cannot be read or is missing.
    """
    source = open_source(libs)
    return Named(image_name(source), source.folder, source.raw, gather(source).files)


def image_name(source: Source) -> str:
    """The name in the file, else that of its folder, made fit.

    Raises:
        SpecError: the name in a libs.yaml is none.
    """
    document = source.document
    name = document.data.get("name") if document else None
    if document is None or name is None or source.kind == "renv":
        return default_name(source.path)
    if source.kind == "environment":  # conda's names are freer than an image's
        return fit_name(document.text(("name",))) or default_name(source.path)
    if not isinstance(name, str):
        raise document.error(("name",), "not an image name")
    try:
        return items.image_name(name)
    except ValueError as error:
        raise document.error(("name",), *str(error).split("\n")) from None
