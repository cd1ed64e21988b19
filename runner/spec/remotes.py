"""R packages that no repository offers: the items of `r.github`. Each check raises ValueError as those of `items` do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.errors import SpecError
from runner.spec.libs import Package, Remote
from runner.spec.places import inside

if TYPE_CHECKING:
    from pathlib import Path

    from runner.spec.places import Asked

_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9.]*)=(.*)", re.DOTALL)
_GITHUB = re.compile(
    r"(?P<target>[A-Za-z0-9][\w-]*/[\w.-]+)(?:/(?P<subdir>[\w.-]+(?:/[\w.-]+)*))?"
    r"(?:@(?P<ref>(?!-)[^\s@:~^?*\[\]\\{}$]+))?",
    re.ASCII,
)
_ARCHIVE = re.compile(r"(?:.*/)?(?:(?P<name>[A-Za-z][A-Za-z0-9.]*)_\d[\d.-]*|[^/]+?)\.(?:tar\.gz|tgz|tar\.bz2|tar\.xz)")
_PACKAGE = re.compile(r"^Package:[ \t]*([A-Za-z][A-Za-z0-9.]*)[ \t]*$", re.MULTILINE)
_EXPECTED = "expected owner/repo, owner/repo/folder@ref, https://…/pkg_1.0.tar.gz or ./path"


def remote_item(value: str) -> str:
    """`[NAME=]owner/repo[/subdir][@ref]`, the address of a source archive, or a path on this machine."""
    parse_remote(value)
    return value


def parse_remote(value: str) -> tuple[str, Remote]:
    """(the package's name as far as the text tells it, where it is). A path is left as written."""
    named = _NAMED.fullmatch(value)
    name, text = (named[1], named[2].strip()) if named else ("", value)
    if text.startswith(("https://", "http://")):
        return _from_address(value, name, text)
    if text.startswith(("./", "../", "/")) or text in {".", ".."} or _ARCHIVE.fullmatch(text):
        archive = _ARCHIVE.fullmatch(text)
        return name or (archive and archive["name"]) or "", Remote("path", text)
    match = _GITHUB.fullmatch(text)
    ref, subdir = (match["ref"], match["subdir"]) if match else (None, None)
    if match is None or ".." in (ref or "") or {".", ".."} & {*(subdir or "").split("/"), text.split("/")[1]}:
        raise ValueError(f"{value!r} is not a package on GitHub\n{_wrong_github(text)}")
    target = match["target"].removesuffix(".git")
    return name or (subdir or target).rsplit("/", 1)[-1], Remote("github", target, ref, subdir)


def located(item: Asked, folder: Path) -> Package:
    """An item of `r.github` as a package; a path is made absolute, and a folder's DESCRIPTION gives the name.

    Raises:
        SpecError: not of the form, outside `folder`, not there, or no R package.
    """
    try:
        name, remote = parse_remote(item.text)
    except ValueError as error:
        message, *hints = str(error).split("\n")
        raise item.error(message, *hints) from None
    if remote.kind == "path":
        path = inside(item, folder, folder, remote.target)
        remote = Remote("path", str(path))
        if path.is_dir():
            name = name or _described_name(item, path)
        elif not _ARCHIVE.fullmatch(path.name):
            raise item.error(f"{item.text!r} is neither a folder nor a source archive (.tar.gz)")
        elif not name:
            raise item.error("the package's name cannot be told from this file's name", f"write NAME={item.text}")
    return Package("github", name, item.text, item.file, item.line, item.key, remote=remote)


def _from_address(value: str, name: str, address: str) -> tuple[str, Remote]:
    archive = _ARCHIVE.fullmatch(address.split("#", 1)[0].split("?", 1)[0])
    if archive is None:
        on_github = re.fullmatch(r"https?://(?:www\.)?github\.com/([\w-]+/[\w.-]+?)(?:\.git)?/?", address)
        hint = f"did you mean {on_github[1]}?" if on_github else _EXPECTED
        raise ValueError(f"{value!r} is not the address of a source archive (.tar.gz)\n{hint}")
    if "${" in address or re.search(r"\s", address):
        way = "GitHub's token: GITHUB_TOKEN; an archive behind a login: download it, and name the file"
        raise ValueError(f"{value!r}: an address holds no variables or blanks here\n{way}")
    if not (name := name or archive["name"] or ""):
        raise ValueError(f"the package's name cannot be told from {value!r}\nwrite NAME={value}")
    return name, Remote("url", address)


def _wrong_github(text: str) -> str:
    if "#" in text:
        return "a pull request's content changes: name its branch or commit as owner/repo@ref"
    if "@*" in text:
        return "the latest release changes: name its tag as owner/repo@tag"
    if "::" in text:
        return f"did you mean {text.rsplit('::', 1)[-1]}?" if text.startswith("github::") else _EXPECTED
    return _EXPECTED


def _described_name(item: Asked, folder: Path) -> str:
    try:
        text = (folder / "DESCRIPTION").read_bytes()[: 1 << 20].decode("utf-8", "replace")
    except FileNotFoundError:
        raise item.error(f"{item.text} is no R package: it has no file DESCRIPTION") from None
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=str(folder / "DESCRIPTION")) from None
    found = _PACKAGE.search(text.replace("\r\n", "\n"))
    if found is None:
        raise item.error(f"{item.text} is no R package: its DESCRIPTION has no line `Package: NAME`")
    return found[1]
