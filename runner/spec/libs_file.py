"""What may stand in a libs.yaml: the models, from which its JSON Schema is made, and the check of a document.

Imports pydantic (40 ms), so import this module only where a libs.yaml is really checked. Descriptions and examples are
what editors show.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from runner.spec import items
from runner.spec.remotes import remote_item
from runner.spec.requirements import NAME
from runner.spec.slips import translated

if TYPE_CHECKING:
    import re

    from runner.spec.yamldoc import Document, KeyPath


def _matching(pattern: re.Pattern[str], wanted: str) -> AfterValidator:
    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(f"{value!r} is not {wanted}")
        return value

    return AfterValidator(check)


def _text(pattern: re.Pattern[str], description: str = "") -> WithJsonSchema:
    """A text of that pattern, for editors. Only patterns that mean the same in JavaScript."""
    schema = {"type": "string", "pattern": f"^(?:{pattern.pattern})$"}
    return WithJsonSchema(schema | ({"description": description} if description else {}))


_Module = Annotated[str, _matching(items.MODULE, "a name to import")]
_Value = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""A value of `env`: taken as it is written, whatever YAML makes of it."""


_VARIABLE = "a name of an environment variable that may be set (PATH, HOME and PYTHONHOME may not)"


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        field_title_generator=lambda name, _: name,
    )


class Conda(_Model):
    """Packages from conda channels."""

    channels: list[Annotated[str, AfterValidator(items.channel)]] = Field(
        default=[], examples=[["conda-forge"], ["./channel", "https://repo.example.org/conda"]]
    )
    """Where packages are looked for, in order: names, addresses, or folders on this machine (./…). None: conda-forge."""
    packages: list[Annotated[str, AfterValidator(items.conda_item)]] = Field(
        default=[], examples=[["numpy=1.26", "scipy >=1.11,<2", "conda-forge::xz"]]
    )
    """Match specs as conda writes them: NAME, NAME=1.26, NAME >=1.20,<2, CHANNEL::NAME."""
    file: Annotated[str, Field(min_length=1)] | None = Field(default=None, examples=["environment.yml"])
    """An environment.yml; what it lists comes on top of `channels` and `packages`."""


class R(_Model):
    """R and its packages. Empty (`r:`): R alone."""

    cran: list[Annotated[str, AfterValidator(items.cran_item)]] = Field(
        default=[], examples=[["data.table", "DBI==1.2.3", "ggplot2>=3.4"]]
    )
    """Packages of CRAN-like repositories: NAME, NAME==1.2.3, NAME>=1.2. Debian's binary is taken where it fits."""
    bioconductor: list[Annotated[str, AfterValidator(items.cran_item)]] = Field(default=[], examples=[["limma"]])
    """Packages of Bioconductor, in the release that belongs to the R of the image; written as under `cran`."""
    github: list[Annotated[str, AfterValidator(remote_item)]] = Field(
        default=[], examples=[["r-lib/cli@v3.6.0", "https://example.org/pkg_1.0.tar.gz", "./mypkg"]]
    )
    """Packages that no repository offers: [NAME=]owner/repo[/folder][@ref], the address of a source archive, or a path."""
    repos: list[Annotated[str, AfterValidator(items.repository)]] = Field(
        default=[], examples=[["https://cran.example.org"]]
    )
    """CRAN-like repositories in the order in which they are asked. None: those of RUNNER_CRAN."""
    snapshot: Annotated[str, AfterValidator(items.snapshot), _text(items.SNAPSHOT)] | None = Field(
        default=None, examples=["2026-06-01"]
    )
    """The day whose state of CRAN is taken, from a dated binary repository."""
    sysreqs: Literal["auto", "none"] = Field(default="auto", examples=["auto", "none"])
    """Whether system libraries that source packages need are found out and installed (`auto`), or named under `apt`."""
    file: Annotated[str, Field(min_length=1)] | None = Field(default=None, examples=["renv.lock"])
    """A renv.lock; its packages come in exactly its versions, its repositories after `repos`."""


class LibsFile(_Model):
    """The libraries of an image: `runner build` makes it, and loads each library before the image gets its name."""

    name: (
        Annotated[
            str,
            AfterValidator(items.image_name),
            _text(NAME),
        ]
        | None
    ) = Field(default=None, examples=["churn-r"])
    """The image's name. None: that of the folder."""
    base: Annotated[str, AfterValidator(items.base), _text(items.BASE)] | None = Field(
        default=None, examples=["debian:bookworm-slim", "python:3.12-slim", "rocker/r-ver:4.4"]
    )
    """The image to start from; any with apt. None: debian:bookworm-slim."""
    python: Annotated[str, AfterValidator(items.python), _text(items.PYTHON)] | None = Field(
        default=None, examples=["3.11", "3.11.2"]
    )
    """The version of Python, in quotes. The base or its packages must be able to give it. None: whichever they give."""
    apt: list[Annotated[str, AfterValidator(items.apt_item)]] = Field(
        default=[], examples=[["libpq5", "libxml2=2.9.*"]]
    )
    """Debian packages: NAME or NAME=VERSION (* allowed)."""
    pip: list[Annotated[str, AfterValidator(items.pip_item)]] = Field(
        default=[], examples=[["pandas==2.2.*", "scikit-learn", "-r requirements.txt"]]
    )
    """Python packages as pip writes them: versions, extras, markers, addresses, ./local.whl, -r FILE, index options."""
    conda: Conda | None = None
    """Packages from conda channels."""
    r: R | None = None
    """R and its packages. Empty (`r:`): R alone."""
    env: dict[
        Annotated[
            str,
            _matching(
                items.ENV_NAME, "a name of an environment variable that may be set (PATH, HOME, PYTHONHOME may not)"
            ),
        ],
        _Value,
    ] = Field(default={}, examples=[{"TZ": "UTC"}])
    """Environment variables of the image."""
    run: list[Annotated[str, AfterValidator(items.command)]] = Field(default=[], examples=[["locale-gen de_DE.UTF-8"]])
    """Shell commands, run in order as root once the libraries are there."""
    user: Annotated[str, AfterValidator(items.user), WithJsonSchema({"type": ["string", "integer"]})] | None = Field(
        default=None, examples=["runner", "1000:1000"]
    )
    """The user that scripts run as: a name, UID or UID:GID. None: `runner`."""
    registry: Annotated[str, AfterValidator(items.registry), _text(items.REGISTRY)] | None = Field(
        default=None, examples=["myregistry.azurecr.io/team"]
    )
    """Where the image is pushed to after each build, as REGISTRY/NAME: HOST[:PORT]/PATH without tag."""
    imports: dict[str, _Module | list[_Module]] = Field(default={}, examples=[{"opencv-python": "cv2"}])
    """What to import to see that a pip or conda package works, where that cannot be found out from the package."""
    ca_bundle: Annotated[str, Field(min_length=1)] | None = Field(default=None, examples=["corp.pem"])
    """Certificates (PEM) that are trusted while building; no trace of them stays in the image."""


def checked(document: Document) -> LibsFile:
    """The content of a libs.yaml.

    Raises:
        SpecError: whatever is wrong in it, all at once, the first by line as the message.
    """
    try:
        return LibsFile.model_validate(_normalized(document))
    except ValidationError as error:
        models: dict[KeyPath, type[_Model]] = {(): LibsFile, ("conda",): Conda, ("r",): R}
        known = {path: tuple(model.model_fields) for path, model in models.items()}
        raise translated(error.errors(), document, known) from None


def schema() -> str:
    """The JSON Schema of a libs.yaml as it is shipped."""
    made = LibsFile.model_json_schema()
    for model in (made, *made["$defs"].values()):
        model["properties"] = {key: _or_empty(value) for key, value in model["properties"].items()}
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "libs.yaml"}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _or_empty(value: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key that may also stand empty, as every key may: in the short form that editors show well."""
    kept = {key: item for key, item in value.items() if not (key == "default" and item is None)}
    branches = kept.get("anyOf", ())
    if len(branches) == 2 and branches[1] == {"type": "null"} and "type" in branches[0]:
        kept = {**branches[0], **{key: item for key, item in kept.items() if key != "anyOf"}}
    if "type" in kept:
        types = kept["type"] if isinstance(kept["type"], list) else [kept["type"]]
        kept["type"] = [*types, "null"]
    if "enum" in kept:
        kept["enum"] = [*kept["enum"], None]
    return dict(sorted(kept.items()))


def _normalized(document: Document) -> dict[str, Any]:
    """The data as the model takes it: empty keys left out, and as written what YAML would guess (`no`, a day, 1000:50)."""
    data = _without_empty(document.data)
    for section in ("r", "conda"):
        if isinstance(values := data.get(section), dict):
            data[section] = _without_empty(values)
    if "r" in document.data and document.data["r"] is None:
        data["r"] = {}
    if isinstance(env := data.get("env"), dict):
        data["env"] = {key: _as_written(document, ("env", key), value) for key, value in env.items()}
    if "user" in data:
        data["user"] = _as_written(document, ("user",), data["user"])
    if isinstance(r := data.get("r"), dict) and "snapshot" in r:
        r["snapshot"] = _as_written(document, ("r", "snapshot"), r["snapshot"])
    return data


def _as_written(document: Document, path: tuple[str, ...], value: Any) -> Any:
    return value if isinstance(value, dict | list) else document.text(path)


def _without_empty(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
