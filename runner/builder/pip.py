"""The Python packages of an image, found out by uv in a container of the Python that they are for."""

from __future__ import annotations

import posixpath
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from runner.builder.failures import explain
from runner.builder.recipe import named_files
from runner.errors import BuildError
from runner.spec.lock import Locked
from runner.spec.requirements import local_archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.builder.session import Session
    from runner.docker_api.images import Image
    from runner.spec.libs import Libs

_HASH = re.compile(r"--hash=(\S+)")
_EXACT = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;]+)")
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])? @ (\S+)")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def resolve(session: Session, libs: Libs, image: Image, python: str, kept: Iterable[Locked]) -> tuple[Locked, ...]:
    """Every Python package that is needed, exactly.

    Args:
        image: one with a Python 3. python: version of the Python that they are for, `3.11.2`.
        kept: what was locked, to be kept where it fits.

    Raises:
        SpecError: a package that the index does not have, or in no file with a hash that is asked for.
        BuildError: they exclude each other, or the index cannot be reached.
    """
    inputs = {
        **{f"src/{name}": raw for name, raw in sources(libs).items()},
        "requirements.in": lines(as_mounted(libs)),
        "locked.txt": lines(f"{each.name}=={each.version}" for each in kept if not each.source),
        "version": python.encode(),
        "python": image.labels["runner.python"].encode(),
    }
    with session.step("resolve", image.id, ("/bin/sh", "/mnt/in/pip_resolve.sh"), inputs, logins=True) as done:
        if done.ran.exit_code:
            raise explain("pip", libs, done.lines, done.ran.exit_code, oom=done.ran.oom, log=session.log_path)
        found = tuple(_locked(done.text("requirements.txt")))
    before = {each.name: each for each in kept}
    for package in found:
        if not package.name:
            raise BuildError(f"pip: the package at {package.source} has no name", "write it as `NAME @ ADDRESS`")
    found = tuple(_allowed(libs, each) for each in found)
    # A further file of a version that was locked (a wheel for another platform, say) makes no other package of it.
    return tuple(
        old if (old := before.get(each.name, each)).version == each.version and {*old.hashes} < {*each.hashes} else each
        for each in found
    )


def _allowed(libs: Libs, package: Locked) -> Locked:
    """With no other hashes than those that requirements files name: uv does not compare them when it resolves."""
    asked = libs.pip_hashes.get(package.name)
    if asked is None:
        return package
    hashes = tuple(each for each in package.hashes if each in asked)
    if not hashes and {_algorithm(each) for each in asked} & {_algorithm(each) for each in package.hashes}:
        message = f"{package.name} {package.version}: no file of it has a hash that is asked for"
        hints = (f"asked for: {', '.join(sorted(asked))}", f"there is: {', '.join(package.hashes)}")
        declared = next((each for each in libs.pip if each.name == package.name), None)
        raise declared.error(message, *hints) if declared else BuildError(f"pip: {message}", *hints)
    # By an algorithm that the index does not tell, the install compares.
    return replace(package, hashes=hashes or tuple(sorted(asked)))


def _algorithm(hash_: str) -> str:
    return hash_.partition(":")[0]


def requirements(libs: Libs, packages: Sequence[Locked]) -> bytes:
    """The locked packages as a requirements file for `uv pip install --no-deps`, with the index options of the libs file."""
    options = [line for line in libs.pip_rest if not line.startswith("-c")]
    return lines([*options, *map(_requirement, packages)])


def sources(libs: Libs) -> dict[str, bytes]:
    """The files that the `pip` items name: path relative to the libs file → bytes."""
    return named_files(libs.files, libs.path.resolve().parent)


def as_mounted(libs: Libs) -> Iterator[str]:
    """The `pip` items as a requirements file in /mnt/in: files that it includes are below src/."""
    for line in libs.pip_lines:
        option, _, file = line.partition(" ")
        yield f"{option} /mnt/in/src/{file.strip()}" if option in {"-r", "-c"} and file else line


def lines(items: Iterable[str]) -> bytes:
    """The items, one a line."""
    return "".join(f"{item}\n" for item in items).encode()


def _requirement(package: Locked) -> str:
    what = f"{package.name}=={package.version}"
    if package.source:
        # A path of a requirements file counts from where uv runs, the folder of libs.yaml.
        what = package.source if package.source.startswith("./") else f"{package.name} @ {package.source}"
    return " ".join([what, *(f"--hash={each}" for each in package.hashes)])


def _locked(text: str) -> Iterator[Locked]:
    """The lines of `uv pip compile`, continuations joined."""
    for line in text.replace("\\\n", " ").splitlines():
        hashes = tuple(sorted(_HASH.findall(line)))
        what = line.split(" --hash", 1)[0].split(" ;", 1)[0].strip()
        if not what or what.startswith(("#", "-")):
            continue
        if match := _EXACT.fullmatch(what):
            yield Locked("pip", str(canonicalize_name(match[1])), match[2], hashes=hashes)
        else:
            match = _NAMED.fullmatch(what)
            source = match[2] if match else what
            if (path := local_archive(source)) is not None:
                # However it was written: it counts from the folder of libs.yaml.
                source = f"./{posixpath.normpath(path)}"
            name, version = _of_file(source)
            name = str(canonicalize_name(match[1])) if match else name
            yield Locked("pip", name, version, source=_CREDENTIALS.sub("", source), hashes=hashes)


def _of_file(source: str) -> tuple[str, str]:
    """(name, version) by the file's name; the version is "" where that does not tell, as for a repository."""
    file = source.split("#", 1)[0].rsplit("/", 1)[-1]
    try:
        if file.endswith(".whl"):
            parsed = parse_wheel_filename(file)
            return str(parsed[0]), str(parsed[1])
        name, version = parse_sdist_filename(file)
        return str(name), str(version)
    except ValueError:
        return "", ""
