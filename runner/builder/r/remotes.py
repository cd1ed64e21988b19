"""R packages that stand in no repository: commits on GitHub, addresses of archives, archives and folders on this machine."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import quote, urldefrag, urlencode

from runner.builder.r import archive
from runner.builder.r.description import dependencies, suggested
from runner.builder.r.fetch import Fetcher, reason, without_login
from runner.builder.r.services import github_api
from runner.builder.r.source import Source, as_package, obtain, read_path, source_of
from runner.builder.r.wishes import at
from runner.spec.libs import Package, Remote
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.builder.r.services import Target
    from runner.errors import RunnerError, SpecError
    from runner.spec.lock import Locked

_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9.]*)=(?!=)")
_SHA = re.compile(r"[0-9a-f]{40}")
_ENTRY = re.compile(
    r"(?:(?P<name>[\w.]+)=)?(?:github::)?(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<subdir>[^@#]+))?(?P<ref>[@#].+)?"
)
_LATEST = "*release"


class Remotes:
    """Finds, fetches and repacks them. What a lock holds for the same remote is kept without asking anyone."""

    def __init__(
        self,
        fetch: Fetcher,
        libs_folder: Path,
        target: Target,
        *,
        locked: Mapping[str, Locked],
        report: Callable[[str], None],
    ) -> None:
        self._fetch = fetch
        self._folder = libs_folder
        self._target = target
        self._locked = locked
        self._report = report
        self._api = github_api()

    def source(self, package: Package) -> Source:
        """The package that is declared, or named by a declared one.

        Raises:
            SpecError: it does not exist, is no R package, or is called otherwise than `NAME=…` says.
            BuildError: it cannot be reached or read.
        """
        assert package.remote is not None  # noqa: S101 - only packages with one come here
        self._report(f"{_shown(package)} …")
        try:
            found = self._kept(package.remote) or self._found(package, package.remote)
        except archive.BadArchiveError as error:
            raise package.error(f"{_shown(package)} is no R package that can be installed: {error}") from None
        except OSError as error:
            raise self._failed(package, package.remote, error) from None
        named = _NAMED.match(package.spec)
        if named and found.name != named[1]:
            fix = f"write {found.name}={_shown(package)[named.end() :]}"
            raise package.error(f"{_shown(package)} holds the package {found.name}, not {named[1]}", fix)
        return found

    def named_by(self, source: Source, origin: Package) -> Iterator[Package]:
        """What `Remotes:` of a package names for packages that it needs, as declared by `origin`.

        Entries of other hosts (`gitlab::`, `git::`, …) are reported and left: the package may stand in a repository too.
        """
        needed = {name for name, _ in dependencies(source.fields)}
        unwanted = suggested(source.fields) - needed
        for text in filter(None, (part.strip() for part in source.fields.get("Remotes", "").split(","))):
            remote = _remote(text)
            if remote is None:
                if not text.startswith(("bioc::", "cran::")):
                    self._report(f"{source.name}: Remotes: {text} is not followed …")
                continue
            guess = _guess(text, remote)
            if guess not in unwanted:
                yield replace(origin, name=guess, spec=text, constraints=(), remote=remote)

    def _kept(self, remote: Remote) -> Source | None:
        """What the lock has for exactly this remote. A path is read each time: it is here, and its files may change."""
        if remote.kind == "path":
            return None
        for locked in self._locked.values():
            if self._is_of(locked.source, remote):
                try:
                    return obtain(self._fetch, locked, self._folder, self._target)
                except OSError:
                    return None
        return None

    def _is_of(self, url: str, remote: Remote) -> bool:
        if remote.kind == "url":
            return url == without_login(remote.target)
        address, fragment = urldefrag(url)
        commit = address.removeprefix(self._tarballs(remote))
        return bool(_SHA.fullmatch(commit)) and fragment == _fragment(remote)

    def _found(self, package: Package, remote: Remote) -> Source:
        match remote.kind:
            case "path":
                url = os.path.relpath(remote.target, self._folder)
                url = url if url.startswith("..") else f"./{url}"
                return source_of(read_path(self._fetch, Path(remote.target)), url)
            case "url":
                kept = self._fetch.archive(remote.target, fresh=True)  # the file may have changed under its name
                return source_of(as_package(self._fetch, kept, None), without_login(remote.target))
            case "github":
                address = self._tarballs(remote) + self._commit(package, remote)
                kept = as_package(self._fetch, self._fetch.archive(address), remote.subdir or "")
                fragment = _fragment(remote)
                return source_of(kept, f"{address}#{fragment}" if fragment else address)

    def _tarballs(self, remote: Remote) -> str:
        return f"{self._api}/repos/{quote(remote.target)}/tarball/"

    def _commit(self, package: Package, remote: Remote) -> str:
        ref = remote.ref or "HEAD"
        if _SHA.fullmatch(ref):
            return ref
        if ref == _LATEST:
            ref = str(self._ask(f"/repos/{quote(remote.target)}/releases/latest").get("tag_name"))
        sha = self._ask(f"/repos/{quote(remote.target)}/commits/{quote(ref)}").get("sha")
        if not isinstance(sha, str) or not _SHA.fullmatch(sha):
            raise package.error(
                f"{self._api} did not tell the commit of {_shown(package)}", "is RUNNER_GITHUB_API right?"
            )
        return sha

    def _ask(self, path: str) -> dict[str, Any]:
        answer = self._fetch.text(f"{self._api}{path}", accept="application/vnd.github+json")
        try:
            data = json.loads(answer)
        except ValueError:
            raise OSError("it answered something else than JSON") from None
        return data if isinstance(data, dict) else {"items": data}

    def _failed(self, package: Package, remote: Remote, error: OSError) -> RunnerError:
        if remote.kind != "github":
            place = without_login(remote.target) if remote.kind == "url" else remote.target
            return at(package, f"{_shown(package)} cannot be had from {place}: {reason(error)}")
        code = error.code if isinstance(error, HTTPError) else None
        token = bool(os.environ.get("GITHUB_TOKEN") or os.environ.get("GITHUB_PAT"))
        match code:
            case 404 | 422 | 409:
                return self._not_there(package, remote, token=token)
            case 401:
                return at(package, f"{self._api} refuses the login", "GITHUB_TOKEN or GITHUB_PAT is wrong or expired")
            case 403 | 429:
                hint = (
                    "the token may not read it, or asked too often"
                    if token
                    else "set GITHUB_TOKEN: without, 60 an hour"
                )
                return at(package, f"{self._api} refuses to give {remote.target}: {reason(error)}", hint)
            case _:
                fix = "check https_proxy and ca_bundle; RUNNER_GITHUB_API names another server"
                return at(package, f"{_shown(package)} cannot be had: {self._api} answers with: {reason(error)}", fix)

    def _not_there(self, package: Package, remote: Remote, *, token: bool) -> SpecError:
        try:
            tags = self._ask(f"/repos/{quote(remote.target)}/tags?per_page=100")["items"]
        except (OSError, KeyError):
            hint = "or the token may not read it" if token else "or it is private: set GITHUB_TOKEN"
            return package.error(f"there is no repository {remote.target} on {self._api}", hint)
        names = [str(tag.get("name")) for tag in tags if isinstance(tag, dict)]
        near = nearest(remote.ref or "", names)
        guess = [f"did you mean @{near}?"] if near else []
        there = [f"its newest tags: {', '.join(names[:8])}"] if names else ["it has no tags"]
        return package.error(f"{remote.target} has no tag, branch or commit {remote.ref!r}", *guess, *there)


def _shown(package: Package) -> str:
    """As declared, without a login in its address."""
    return re.sub(r"(https?://)[^/?#\s]*@", r"\1", package.spec)


def _fragment(remote: Remote) -> str:
    asked = {"ref": remote.ref, "subdir": remote.subdir}
    return urlencode({key: value for key, value in asked.items() if value})


def _remote(text: str) -> Remote | None:
    """An entry of `Remotes:` that can be followed."""
    if text.startswith("url::"):
        return Remote("url", text.removeprefix("url::"))
    match = _ENTRY.fullmatch(text)
    if match is None:
        return None
    ref = match["ref"]
    if ref is not None:
        ref = f"pull/{ref[1:]}/head" if ref[0] == "#" else ref[1:]
    return Remote("github", match["repo"], ref=ref, subdir=match["subdir"])


def _guess(text: str, remote: Remote) -> str:
    """The name that a remote most likely has: what is written before `=`, else its folder or repository."""
    named = _NAMED.match(text)
    return named[1] if named else (remote.subdir or remote.target).rstrip("/").rsplit("/", 1)[-1]
