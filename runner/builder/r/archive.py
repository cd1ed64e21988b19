"""Archives of R packages: checked before anything is done with them, and made out of commits and folders.

What is made is a plain tar whose bytes follow from the files alone (no times, no owners): its hash stays the same when a
server compresses anew or a folder is copied. R reads it under the name `.tar.gz` as well.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import tarfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from runner.builder.r.description import kept, parse_dcf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_DESCRIPTION_LIMIT = 1 << 20
_NEVER = re.compile(
    r"(^|/)(\.git|\.svn|\.hg|\.bzr|\.Rproj\.user|\.Rhistory|\.RData|\.DS_Store|__pycache__|[^/]+\.Rcheck)$"
    r"|^src/.*\.(o|so|dll|a|mod)$|^\.Rbuildignore$"
)
"""Left out as `R CMD build` does: history, sessions, what was compiled for another machine."""


class BadArchiveError(Exception):
    """No archive of an R package, or one that may not be unpacked."""


def check(path: Path) -> None:
    """Read an archive to its end.

    Raises:
        BadArchiveError: it is damaged, or a member would be written or point outside its top folder.
    """
    with _opened(path) as archive:
        for member in archive:
            _check_member(member)


def description(path: Path) -> dict[str, str]:
    """The DESCRIPTION of the package in an archive that holds one in its top folder.

    Raises:
        BadArchiveError: there is none, or it names no package and version.
    """
    with _opened(path) as archive:
        for member in archive:
            parts = member.name.removeprefix("./").split("/")
            if len(parts) == 2 and parts[1] == "DESCRIPTION":
                return _parsed(_content(archive, member))
    raise BadArchiveError("there is no DESCRIPTION in it: it is no R package")


def is_package(path: Path) -> bool:
    """Whether the top folder is called as the package is, as R wants it."""
    try:
        name = description(path)["Package"]
    except BadArchiveError:
        return False
    with _opened(path) as archive:
        first = archive.next()
        return first is not None and first.name.removeprefix("./").split("/")[0] == name


def has_code(path: Path) -> bool:
    """Whether there is anything to compile."""
    with _opened(path) as archive:
        return any(member.name.removeprefix("./").split("/")[1:2] == ["src"] for member in archive)


def repack(path: Path, subdir: str | None, target: IO[bytes]) -> None:
    """A package out of an archive with another top folder (`repo-4f2c…/`), or out of a folder in it.

    Raises:
        BadArchiveError: no package is there.
    """
    inside = f"{subdir.strip('/')}/" if subdir else ""
    top, text, ignored = _headers(path, inside)
    name = _parsed(text)["Package"]
    with _opened(path) as archive, tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as made:
        for member in archive:
            _check_member(member)
            relative = member.name.removeprefix("./").removeprefix(f"{top}/{inside}")
            if relative == member.name.removeprefix("./") or member.isdir() or _left_out(relative, ignored):
                continue
            # A link to a file beside the package's folder becomes that file.
            keep = member.issym() and not _leaves(f"{name}/{relative}", member.linkname)
            content = None if keep else _content(archive, member)
            _add(
                made, f"{name}/{relative}", content, member.linkname, executable=bool(member.mode & 0o100) and not keep
            )


def pack(folder: Path, target: IO[bytes]) -> None:
    """A package out of a folder on this machine.

    Raises:
        BadArchiveError: no package is there, or a link leaves the folder.
    """
    try:
        name = _parsed((folder / "DESCRIPTION").read_bytes())["Package"]
    except OSError as error:
        raise BadArchiveError(f"its DESCRIPTION cannot be read: {error.strerror}") from None
    ignore = folder / ".Rbuildignore"
    ignored = _patterns(ignore.read_bytes() if ignore.is_file() else b"")
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as made:
        for relative in sorted(_walk(folder, ignored)):
            path = folder / relative
            link = str(path.readlink()) if path.is_symlink() else ""
            if link and _leaves(relative, link, top=False):
                raise BadArchiveError(f"{relative} is a link to {link}, outside the package's folder")
            content = None if link else path.read_bytes()
            _add(made, f"{name}/{relative}", content, link, executable=os.access(path, os.X_OK) and not link)


def _walk(folder: Path, ignored: list[re.Pattern[str]]) -> Iterator[str]:
    for top, folders, files in os.walk(folder):
        base = os.path.relpath(top, folder)
        prefix = "" if base == "." else f"{base}/"
        links = [each for each in folders if os.path.islink(os.path.join(top, each))]  # noqa: PTH114, PTH118 - hot
        folders[:] = [each for each in folders if each not in links and not _left_out(prefix + each, ignored)]
        yield from (prefix + each for each in (*files, *links) if not _left_out(prefix + each, ignored))


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive; whatever is wrong with it while it is read becomes a BadArchiveError."""
    try:
        with tarfile.open(path) as archive:
            yield archive
    except (tarfile.TarError, EOFError, OSError, ValueError, LookupError) as error:
        said = "it is no tar archive" if isinstance(error, tarfile.ReadError) else f"it is damaged: {error}"
        raise BadArchiveError(said) from None


def _check_member(member: tarfile.TarInfo) -> None:
    name = posixpath.normpath(member.name)
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise BadArchiveError(f"{member.name} would be written outside the package's folder")
    if member.issym() or member.islnk():
        if _leaves(name, member.linkname, hard=member.islnk()):
            raise BadArchiveError(f"{member.name} is a link to {member.linkname}, outside the package's folder")
    elif not (member.isfile() or member.isdir()):
        raise BadArchiveError(f"{member.name} is a device or pipe")


def _leaves(name: str, link: str, *, hard: bool = False, top: bool = True) -> bool:
    """Whether a link points outside the first folder of its name, or (not `top`) outside where the name starts. A hard
    link counts from there, a symbolic one from its own folder."""
    to = posixpath.normpath(posixpath.join("" if hard else posixpath.dirname(name), link))
    first = to.split("/")[0]
    return link.startswith("/") or (first != name.split("/", maxsplit=1)[0] if top else first == "..")


def _headers(path: Path, inside: str) -> tuple[str, bytes, list[re.Pattern[str]]]:
    """(top folder, DESCRIPTION, patterns of .Rbuildignore) of the package in that folder of the archive."""
    found: dict[str, bytes] = {}
    top = ""
    with _opened(path) as archive:
        for member in archive:
            folder, _, relative = member.name.removeprefix("./").partition("/")
            if relative in {f"{inside}DESCRIPTION", f"{inside}.Rbuildignore"} and member.isfile():
                top = top or folder
                found.setdefault(relative.removeprefix(inside), _content(archive, member))
    if "DESCRIPTION" not in found:
        where = f"in its folder {inside.rstrip('/')}" if inside else "in its top folder"
        raise BadArchiveError(f"there is no DESCRIPTION {where}: no R package is there")
    return top, found["DESCRIPTION"], _patterns(found.get(".Rbuildignore", b""))


def _parsed(raw: bytes) -> dict[str, str]:
    entry = next(parse_dcf(raw[:_DESCRIPTION_LIMIT].decode("utf-8", "replace")), {})
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9.]*", entry.get("Package", "")):
        raise BadArchiveError("its DESCRIPTION names no package")
    if not re.fullmatch(r"\d+(?:[.-]\d+)*", entry.get("Version", "")):
        raise BadArchiveError("its DESCRIPTION names no version")
    return kept(entry)


def _patterns(raw: bytes) -> list[re.Pattern[str]]:
    """Perl's expressions, of which Python understands nearly all; one that it does not leaves nothing out."""
    found = []
    for line in raw.decode("utf-8", "replace").splitlines():
        if line.strip():
            try:
                found.append(re.compile(line.strip(), re.IGNORECASE))
            except re.error:
                continue
    return found


def _left_out(relative: str, ignored: Iterable[re.Pattern[str]]) -> bool:
    """Of a member of an archive the folders above it count as well."""
    parts = relative.split("/")
    paths = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    return any(_NEVER.search(path) or any(pattern.search(path) for pattern in ignored) for path in paths)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    if stream is None:
        raise BadArchiveError(f"{member.name} is no file")
    return stream.read()


def _add(made: tarfile.TarFile, name: str, content: bytes | None, link: str, *, executable: bool) -> None:
    info = tarfile.TarInfo(name)
    info.mode = 0o755 if executable else 0o644
    if content is None:
        info.type, info.linkname = tarfile.SYMTYPE, link
        made.addfile(info)
    else:
        info.size = len(content)
        made.addfile(info, io.BytesIO(content))
