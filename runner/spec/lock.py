"""libs.lock: exactly what an image is made of, across apt, conda, pip and R. Stdlib only: every `submit` may read one.

JSON with one package a line, so that a diff of two locks reads as a list of changes.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from runner.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

VERSION = 1
LockedKind = Literal["apt", "conda", "r", "pip"]
DEBIAN = "debian"
"""The source of an R package that apt installs."""
KINDS: tuple[LockedKind, ...] = ("apt", "conda", "r", "pip")
# A lock comes with a checkout: nothing in it may be an option, a path out of a folder, or a second line.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_FORMS = {
    "name": _WORD,
    "version": re.compile(r"[A-Za-z0-9_.+:~!*-]*"),
    "source": re.compile(r"(?![-\s])[^\x00-\x1f\x7f]*"),
    "hashes": re.compile(r"[a-z0-9]+:[0-9a-f]+"),
    "stage": re.compile(r"base|python|r|apt|r-binary|"),
    "build": re.compile(r"[A-Za-z0-9_.+-]*"),
}
_HEAD = re.compile(r"[a-z0-9._/+-]*")
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_OF_BASE = {
    "reference": re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*"),
    "id": _ID,
    "digest": re.compile(rf"({_ID.pattern})?"),
    "recipe": re.compile(r"[0-9a-f]*"),
}
_ALWAYS = ("kind", "name", "version")
_FIX = "delete it to have everything resolved anew, or bring back the last good one"
_OTHERS = "where it is another tool's, give the libs file another name, since its lock has this one"


@dataclass(frozen=True, slots=True)
class Locked:
    """One package, exactly.

    name: as its manager calls it (R: the R package's name, also where it comes as a Debian binary).
    version: as its manager writes it. source: DEBIAN, or the address that it is fetched
    from, never with credentials, or "" (apt's own sources, the Python index). hashes: `sha256:…` of each file that is good
    for it. stage: apt: the layer that installs it. build: conda: its build string.
    """

    kind: LockedKind
    name: str
    version: str
    source: str = ""
    hashes: tuple[str, ...] = ()
    stage: str = ""
    build: str = ""


@dataclass(frozen=True, slots=True)
class Base:
    """The image that was started from. reference: as named. digest: the registry's, "" where it has none. id: the
    engine's. recipe: hash of the scripts that made it on this machine, else ""."""

    reference: str
    id: str
    digest: str = ""
    recipe: str = ""


@dataclass(frozen=True, slots=True)
class Lock:
    """See the module. declared: what was asked for when it was written, key → items, by which a later change is told.

    platform: `linux/amd64`. python, r: versions in the image (r: "" without R).
    """

    base: Base
    platform: str
    python: str
    r: str
    declared: Mapping[str, tuple[str, ...]]
    packages: tuple[Locked, ...]

    def of(self, kind: LockedKind) -> tuple[Locked, ...]:
        """The packages of one kind."""
        return tuple(package for package in self.packages if package.kind == kind)

    def find(self, kind: LockedKind, name: str) -> Locked | None:
        """The package of that kind and name."""
        return next((package for package in self.packages if package.kind == kind and package.name == name), None)

    def to_text(self) -> str:
        """As it stands in the file. The same lock gives the same bytes."""
        packages = sorted(self.packages, key=lambda each: (KINDS.index(each.kind), each.name, each.version))
        rows = [
            json.dumps({key: value for key, value in asdict(each).items() if value or key in _ALWAYS})
            for each in packages
        ]
        declared = [f"    {json.dumps(key)}: {json.dumps(list(items))}" for key, items in sorted(self.declared.items())]
        head = {"version": VERSION, "platform": self.platform, "python": self.python, "r": self.r}
        lines = [f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
        base = json.dumps({key: value for key, value in asdict(self.base).items() if value})
        lines.append(f'  "base": {base},\n')
        lines.append(f'  "declared": {_block("{", declared, "}")},\n')
        lines.append(f'  "packages": {_block("[", [f"    {row}" for row in rows], "]")}\n')
        return "{\n" + "".join(lines) + "}\n"


def lock_name(libs: Path) -> str:
    """The name of the lock beside a libs file: `libs.yaml` → `libs.lock`, and `requirements.txt` → `requirements.libs.lock`,
    because the tools that such a file belongs to may call their own lock `requirements.lock`. Of two that differ only in
    `.yaml` and `.yml`, or in `.txt` and `.in`, the latter's has the whole name."""
    if libs.suffix == ".in" and libs.with_suffix(".txt").exists():
        return f"{libs.name}.libs.lock"
    if libs.suffix == ".yaml" or (libs.suffix == ".yml" and not libs.with_suffix(".yaml").exists()):
        return f"{libs.stem}.lock"
    return f"{libs.name if libs.suffix == '.yml' else libs.stem}.libs.lock"


def read(path: Path) -> Lock | None:
    """The lock in a file; None when there is no such file.

    Raises:
        SpecError: it is no lock, or a newer runner's.
    """
    raw = read_bytes(path)
    return None if raw is None else parse(raw, str(path))


def read_bytes(path: Path) -> bytes | None:
    """A lock as it stands in a file; None when there is no such file.

    Raises:
        SpecError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpecError(f"cannot be read: {error}", _FIX, file=str(path)) from None


def parse(raw: str | bytes, shown: str) -> Lock:
    """A lock's text as a Lock; `shown` names it in errors.

    Raises:
        SpecError: it is no lock, or a newer runner's.
    """
    try:
        text = raw if isinstance(raw, str) else raw.decode("utf-8")
    except UnicodeError as error:
        raise SpecError(f"cannot be read: {error}", _FIX, file=shown) from None
    try:
        data: dict[str, Any] = json.loads(text)
        if data and "declared" not in data:
            raise SpecError("it is no lock of runner", _OTHERS, _FIX, file=shown)
        version = data["version"]
        if version != VERSION:
            newer = "a newer version of runner wrote it: update runner, or delete the lock"
            raise SpecError(f"its format is version {version!r}, expected {VERSION}", newer, file=shown)
        for key in ("platform", "python", "r"):
            _check(f"{key} {data[key]!r}", data[key], _HEAD)
        for key, value in data["base"].items():
            _check(f"base: {key} {value!r}", value, _OF_BASE[key])
        return Lock(
            base=Base(**data["base"]),
            platform=data["platform"],
            python=data["python"],
            r=data["r"],
            declared={key: tuple(items) for key, items in data["declared"].items()},
            packages=tuple(_locked(data["packages"])),
        )
    except json.JSONDecodeError as error:
        what = "it holds the marks of a git conflict" if "<<<<<<<" in text else f"it is no JSON: {error.msg}"
        raise SpecError(what, _FIX, file=shown, line=error.lineno) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"it is no lock of runner: {error}", _FIX, file=shown) from None


def write(path: Path, lock: Lock) -> None:
    """Write aside, then rename: a reader sees the old lock or the new one. A link stays, and what it leads to is written.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = path.resolve()
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(lock.to_text(), encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _locked(items: list[dict[str, Any]]) -> Iterator[Locked]:
    seen: set[tuple[str, str]] = set()
    for item in items:
        if item["kind"] not in KINDS:
            raise KeyError(item["kind"])
        package = Locked(**{**item, "hashes": tuple(item.get("hashes", ()))})
        for key, form in _FORMS.items():
            value = getattr(package, key)
            for text in value if isinstance(value, tuple) else (value,):
                _check(f"{package.kind} {package.name!r}: {key} {text!r}", text, form)
        if not package.hashes and (package.kind == "conda" or (package.kind == "pip" and not package.source)):
            raise TypeError(f"{package.kind} {package.name!r} has no hash")
        if (package.kind, package.name) in seen:
            raise TypeError(f"{package.kind} {package.name!r} stands in it twice")
        seen.add((package.kind, package.name))
        yield package


def _check(what: str, value: object, form: re.Pattern[str]) -> None:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise TypeError(f"{what} is not of the form that it must have")


def _block(start: str, lines: list[str], end: str) -> str:
    return f"{start}\n" + ",\n".join(lines) + f"\n  {end}" if lines else start + end
