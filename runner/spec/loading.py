"""A libs file of any kind, checked and followed through all it names, as one `Libs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from runner.spec import items, rversion
from runner.spec.certificates import certificates
from runner.spec.credentials import variables
from runner.spec.environment import USUAL, channels
from runner.spec.libs import Libs, Package
from runner.spec.libs_file import LibsFile, R, checked
from runner.spec.named import image_name
from runner.spec.places import listed
from runner.spec.sources import gather, open_source
from runner.spec.yamldoc import Document, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from runner.spec.libs import Kind
    from runner.spec.places import Asked
    from runner.spec.sources import Gathered, Source

_EMPTY = Document("", {}, {}, {})


def load_libs(path: Path) -> Libs:
    """See `runner.spec.libs.load`."""
    source = open_source(path)
    document = source.document if source.kind == "libs" and source.document else _EMPTY
    model = checked(document) if document is not _EMPTY else LibsFile()
    wanted = gather(source)
    r, renv = model.r or R(), wanted.renv
    apt = tuple(_apt(item) for item in listed(document, ("apt",)))
    pip = tuple(_pip(item) for item in wanted.requirements.asked)
    conda = tuple(_conda(item) for item in _conda_items(document, wanted))
    r_packages = tuple(_r_packages(document, wanted))
    _refuse_twice([*apt, *conda, *r_packages, *(each for each in pip if each.key == "pip" and not each.marker)])
    python_line = document.line(("python",)) if model.python else None
    return Libs(
        path=path.absolute(),
        name=image_name(source),
        base=model.base,
        base_line=document.line(("base",)),
        apt=apt,
        pip=pip,
        pip_lines=wanted.pip_lines,
        pip_rest=tuple(wanted.requirements.rest),
        pip_variables=_pip_variables(wanted),
        pip_hashes=_pip_hashes(wanted),
        files=tuple(wanted.requirements.files),
        r=model.r is not None or renv is not None,
        r_packages=r_packages,
        repos=tuple(dict.fromkeys([*r.repos, *(renv.repos if renv else ())])),
        snapshot=r.snapshot,
        sysreqs=r.sysreqs == "auto",
        r_version_wanted=renv.r if renv else None,
        bioconductor_version=renv.bioconductor if renv else None,
        python=model.python or (renv.python if renv else None),
        python_line=python_line,
        conda=conda,
        conda_channels=_channels(document, model, wanted, source),
        run=tuple(model.run),
        run_lines=tuple(item.line for item in listed(document, ("run",))),
        user=model.user,
        registry=model.registry,
        env={**(wanted.environment.env if wanted.environment else {}), **model.env},
        imports=_imports(model, document, {each.name for each in pip} | {_canonical(each.name) for each in conda}),
        ca_bundle=_ca_bundle(model.ca_bundle, document, source.folder),
    )


def _conda_items(document: Document, wanted: Gathered) -> list[Asked]:
    return [*listed(document, ("conda", "packages")), *(wanted.environment.packages if wanted.environment else ())]


def _r_packages(document: Document, wanted: Gathered) -> Iterable[Package]:
    for kind in ("cran", "bioconductor"):
        for item in listed(document, ("r", kind)):
            yield _from_repository(kind, item)
    yield from wanted.remotes
    yield from wanted.renv.packages if wanted.renv else ()


def _channels(document: Document, model: LibsFile, wanted: Gathered, source: Source) -> tuple[str, ...]:
    """Own channels first; conda-forge where none is named though conda is wanted."""
    if model.conda is None and wanted.environment is None:
        return ()
    found = list(channels(listed(document, ("conda", "channels")), source.folder))
    if wanted.environment:
        found += channels(wanted.environment.channels, wanted.environment_folder)
    return tuple(dict.fromkeys(found)) or (USUAL,)


def _pip_variables(wanted: Gathered) -> frozenset[str]:
    requirements = wanted.requirements
    texts = [*wanted.pip_lines, *requirements.rest, *(item.text for item in requirements.asked)]
    return frozenset[str]().union(*(variables(text) for text in texts))


def _pip_hashes(wanted: Gathered) -> Mapping[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for item, hashes in wanted.requirements.hashed:
        name, _ = _pip_name(item)
        found[name] = found.get(name, frozenset()) | hashes
    return found


def _imports(model: LibsFile, document: Document, known: set[str]) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for written, value in model.imports.items():
        name = _canonical(written)
        if name not in known:
            near = nearest(name, known)
            message = f"{written!r} is not among the pip and conda packages"
            raise document.error(("imports", written), message, *([f"did you mean {near}?"] if near else []))
        found[name] = (value,) if isinstance(value, str) else tuple(value)
    return found


def _canonical(name: str) -> str:
    return str(canonicalize_name(name))


def _ca_bundle(value: str | None, document: Document, folder: Path) -> Path | None:
    if value is None:
        return None
    bundle = folder / value
    try:
        found = bundle.is_file()
    except OSError:  # longer than the file system allows
        found = False
    if not found:
        raise document.error(("ca_bundle",), f"no such file: {value}", f"looked in {bundle.parent}")
    if not certificates(bundle):
        raise document.error(
            ("ca_bundle",), f"{value} holds no certificates", "expected PEM: -----BEGIN CERTIFICATE-----"
        )
    return bundle


def _apt(item: Asked) -> Package:
    match = items.APT.fullmatch(item.text)
    assert match is not None  # noqa: S101 - the model has checked it
    return Package("apt", match[1], item.text, item.file, item.line, item.key, version=match[2])


def _conda(item: Asked) -> Package:
    return Package("conda", items.conda_name(item.text), item.text, item.file, item.line, item.key)


def _from_repository(kind: Kind, item: Asked) -> Package:
    match = items.CRAN.fullmatch(item.text)
    assert match is not None  # noqa: S101 - the model has checked it
    constraints = rversion.parse_constraints(match[2]) if match[2] else ()
    return Package(kind, match[1], item.text, item.file, item.line, item.key, constraints)


def _pip(item: Asked) -> Package:
    name, marker = _pip_name(item)
    return Package("pip", name, item.text, item.file, item.line, item.key, marker=marker)


def _pip_name(item: Asked) -> tuple[str, str | None]:
    """(normalized name, marker). Of a bare address the file name tells the name, else it must be given as `name @ …`."""
    try:
        requirement = Requirement(item.text)
        return _canonical(requirement.name), str(requirement.marker) if requirement.marker else None
    except InvalidRequirement as error:
        invalid = str(error).splitlines()[0]
    file = item.text.split(";", 1)[0].strip().split("#", 1)[0].rsplit("/", 1)[-1]
    try:
        parsed = parse_wheel_filename(file) if file.endswith(".whl") else parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        if "://" in item.text:
            invalid = "the package's name cannot be told from this address; write `NAME @ ADDRESS`"
        raise item.error(f"{item.text!r}: {invalid}") from None
    return str(parsed[0]), None


def _refuse_twice(packages: Iterable[Package]) -> None:
    """Within one kind; the same name in two kinds is two packages."""
    seen: dict[tuple[str, str], Package] = {}
    for package in packages:
        first = seen.setdefault((package.kind, package.name), package)
        if first is not package:
            where = f"in line {first.line}" if first.file == package.file else f"in {first.file}:{first.line}"
            raise package.error(f"{package.name} is listed twice (first {where})")
