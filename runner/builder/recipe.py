"""What an image is made of, as hashes: the content tag of a libs file and the keys of its layers. Pure; no engine.

Only what decides the content counts: not proxies, CA bundles or mirrors, and no clock.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.assets import asset
from runner.errors import SpecError
from runner.spec.requirements import Asked, collect, default_name, local_archive
from runner.spec.yamldoc import Document, decode, parse, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.spec.libs import Libs

STEPS = Path(__file__).parent / "steps"
"""The scripts that run inside build containers."""

_HELPERS = {"r_source.sh": ("r_build.sh", "install.R")}
_CONTRACT = re.compile(r"^CONTRACT(?:\s*:\s*[\w.\[\]]+)?\s*=\s*(\d+)", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer to be: a script of STEPS and its inputs (file name below /mnt/in → bytes).

    key: hash of all that decides the content, the parent's key first. items: the libraries declared for it. family: hash
    of all but the items, so that a layer of the same family with fewer items is one that these can be added to.
    """

    stage: str
    script: str
    key: str
    inputs: Mapping[str, bytes] = field(default_factory=dict)
    family: str = ""
    items: frozenset[str] = frozenset()

    @property
    def tag(self) -> str:
        """The name under which the engine keeps the layer."""
        return layer_tag(self.key)


def layer_tag(key: str) -> str:
    """The name under which the engine keeps the layer of that key."""
    return f"localhost/runner-layer:{key[:24]}"


def content_tag(libs: Path) -> str:
    """The name that the image of this libs file has: `localhost/NAME:HASH`. The same bytes give the same name.

    Cheap on purpose (no pydantic, no engine): every `submit` asks. It checks no more than it must to find the files.

    Raises:
        SpecError: the file, or one that it names, cannot be read.
    """
    raw = read_bytes(libs, shown=str(libs))
    document = parse(decode(raw, str(libs)), str(libs))
    digest = hashlib.sha256(f"{steps_hash()} {bootstrap_hash()}\n".encode())
    digest.update(raw)
    for name, content in named_files(_files(document, libs), libs.resolve().parent).items():
        digest.update(f"\n{name} {len(content)}\n".encode())
        digest.update(content)
    return f"localhost/{_image_name(document, libs)}:{digest.hexdigest()[:16]}"


def plan(libs: Libs, base_id: str) -> tuple[Layer, ...]:
    """The layers of an image, from stable to volatile. Those that many images share come first."""
    files = named_files(libs.files, libs.path.resolve().parent)
    source = {f"src/{name}": raw for name, raw in files.items()}
    apt = tuple(package.spec for package in libs.apt)
    cran = tuple(package.spec for package in libs.r_packages)
    layers: list[Layer] = []

    def add(stage: str, script: str, inputs: Mapping[str, bytes], items: Iterable[str] = (), rest: object = "") -> None:
        parent = layers[-1].key if layers else base_id
        key = _key(parent, stage, script, inputs, rest)
        layers.append(Layer(stage, script, key, inputs, _key(parent, stage, script, {}, rest), frozenset(items)))

    add("python", "system.sh", {})
    if libs.r:
        add("r", "r_core.sh", {})
    if apt:
        add("apt", "apt.sh", {"packages": _lines(apt)}, apt)
    if cran:
        # What is installed from Debian and what from source is found out in the build; the declaration decides it.
        add("r-binary", "apt.sh", {"cran": _lines(cran)}, cran, libs.repos)
        add("r-source", "r_source.sh", {"cran": _lines(cran)}, (), libs.repos)
    if libs.pip:
        inputs = {"requirements.txt": _lines(_as_mounted(libs)), **source}
        add("pip", "pip.sh", inputs, _pip_items(libs, files), libs.pip_rest)
    return tuple(layers)


def _pip_items(libs: Libs, files: Mapping[str, bytes]) -> Iterable[str]:
    """The requirements; one that is a file on this machine with the hash of its bytes."""
    for package in libs.pip:
        path = local_archive(package.spec)
        name = None if path is None else posixpath.normpath(path)
        yield package.spec if name is None else f"{package.spec} {hashlib.sha256(files.get(name, b'')).hexdigest()}"


def child(parent: Layer, stage: str, script: str) -> Layer:
    """A layer that depends on nothing but its parent."""
    return Layer(stage, script, _key(parent.key, stage, script, {}, ""))


def named_files(files: Iterable[Path], folder: Path) -> dict[str, bytes]:
    """path relative to the folder → bytes. Local wheels may be large, so the limit of spec files does not hold."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@cache
def steps_hash() -> str:
    """The hash of the scripts that build."""
    return _folder_hash(STEPS)


@cache
def bootstrap_hash() -> str:
    """The hash of what is copied to /opt/runner."""
    return _folder_hash(asset("bootstrap"))


def bootstrap_files() -> dict[str, bytes]:
    """What is copied to /opt/runner: relative path → bytes."""
    folder = asset("bootstrap")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files_in(folder)}


def contract() -> int:
    """The version of the contract that the installed bootstrapper keeps, read from its text: it is never imported."""
    match = _CONTRACT.search((asset("bootstrap") / "bootstrap.py").read_text(encoding="utf-8"))
    return int(match[1]) if match else 1


def _files_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in {".py", ".R", ".sh", ".conf"} and "__pycache__" not in path.parts
    )


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _files_in(folder):
        raw = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(raw)}\n".encode())
        digest.update(raw)
    return digest.hexdigest()


def _key(parent: str, stage: str, script: str, inputs: Mapping[str, bytes], rest: object) -> str:
    """Of the scripts only those that this layer runs: a change to the last step must not rebuild the first."""
    used = ("common.sh", "apt.conf", script, *_HELPERS.get(script, ()))
    scripts = [hashlib.sha256((STEPS / name).read_bytes()).hexdigest() for name in used]
    parts: list[Any] = [parent, scripts, stage, rest]
    parts += [[name, hashlib.sha256(raw).hexdigest()] for name, raw in sorted(inputs.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _lines(items: Iterable[str]) -> bytes:
    return "".join(f"{item}\n" for item in items).encode()


def _as_mounted(libs: Libs) -> Iterable[str]:
    """The `pip` items as a requirements file in /mnt/in: files that it includes are below src/."""
    for line in libs.pip_lines:
        option, _, file = line.partition(" ")
        yield f"{option} /mnt/in/src/{file.strip()}" if option in {"-r", "-c"} and file else line


def _files(document: Document, libs: Path) -> list[Path]:
    items = document.data.get("pip")
    texts = items if isinstance(items, list) else []
    asked = [
        Asked(text, document.file, document.line(("pip", index)) or 1, "pip")
        for index, text in enumerate(texts)
        if isinstance(text, str)
    ]
    return collect(asked, libs.resolve().parent).files


def _image_name(document: Document, libs: Path) -> str:
    name = document.data.get("name") or default_name(libs)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpecError("not an image name", file=document.file, line=document.line(("name",)), key="name")
    return name
