"""Code from a git repository over https or ssh, by the git program: one commit, without history, into the cache.

The address may come from a stranger's file: no other protocol, no prompt, no hook, no submodule, no login in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runner.errors import CodeFolderError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.job import Where

_ADDRESS = re.compile(
    r"git\+(?P<url>(?P<scheme>https|ssh)://(?:(?P<login>[^@/\s]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?)"
    r"/[^@#\s]+?)(?:@(?P<ref>[^#\s]+))?(?:#(?:subdirectory=)?(?P<folder>\S+))?"
)
_REF = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_EXPECTED = "expected git+https://HOST/PATH[@BRANCH, TAG or COMMIT][#FOLDER], or git+ssh://[USER@]HOST/PATH…"
_TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class Address:
    """A repository, what of it, and the folder in it. ref: None is its default branch."""

    url: str
    ref: str | None
    folder: str


def parse(text: str, where: Where) -> Address:
    """Take `git+https://HOST/PATH@REF#FOLDER` apart.

    Raises:
        SpecError: it is of another form or protocol, or has a login in it, which is not shown.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        shown = re.sub(r"://[^/@\s]*@", "://***@", text)
        raise where.error(f"{shown} is not an address of code in git", _EXPECTED)
    login, ref, folder = found["login"] or "", found["ref"], found["folder"] or ""
    if ":" in login or (login and found["scheme"] == "https"):
        raise where.error(
            f"the address of {found['host']} has a login in it",
            "leave it out; git's credential helper or an ssh key is used",
        )
    if login.startswith("-"):
        raise where.error(f"{login!r} is not a user", _EXPECTED)
    if ref is not None and not _REF.fullmatch(ref):
        raise where.error(f"{ref!r} is not a branch, tag or commit", _EXPECTED)
    if folder.startswith("/") or ".." in PurePosixPath(folder).parts or ".git" in PurePosixPath(folder).parts:
        raise where.error(f"#{folder} is not a folder inside the repository", _EXPECTED)
    return Address(found["url"], ref, folder)


def fetch(text: str, cache: Path, where: Where) -> tuple[Path, tuple[str, ...]]:
    """(the folder with that code, notes on what is not in it). A commit that was fetched before is not fetched again.

    Raises:
        SpecError: a wrong address; no such branch, tag, commit or folder.
        CodeFolderError: git is missing, or cannot fetch it.
    """
    address = parse(text, where)
    commit = _commit(address, where)
    tree = cache / hashlib.sha256(address.url.encode()).hexdigest()[:16] / commit
    if not tree.is_dir():
        _checkout(address, commit, tree)
    folder = (tree / address.folder).resolve()
    if not folder.is_relative_to(tree.resolve()) or not folder.is_dir():
        raise where.error(f"{address.url} has no folder {address.folder} at {address.ref or commit[:12]}")
    modules = tree / ".gitmodules"
    notes = (f"submodules of {address.url} are not fetched",) if modules.is_file() else ()
    return folder, notes


def _commit(address: Address, where: Where) -> str:
    """The commit that the ref stands for now: one question to the server, none for a whole commit id."""
    ref = address.ref
    if ref is not None and _COMMIT.fullmatch(ref):
        return ref
    names = ["HEAD"] if ref is None else [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
    answer = _git("ls-remote", "--", address.url, *names, address=address)
    found = {name: commit for commit, _, name in (line.partition("\t") for line in answer.splitlines())}
    for name in reversed(names):  # a tag's own commit before the tag, a tag before a branch: as git itself
        if name in found:
            return found[name]
    hints = ["write a commit's id whole: 40 digits"] if ref and re.fullmatch(r"[0-9a-f]{4,39}", ref) else []
    raise where.error(f"{address.url} has no branch or tag {ref or 'HEAD'}", *hints)


def _checkout(address: Address, commit: str, tree: Path) -> None:
    with aside(tree.parent) as made:
        at = ("-C", str(made))
        _git("init", "--quiet", "--template=", str(made), address=address)
        shallow = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--depth=1", "--", address.url)
        try:
            _git(*at, *shallow, address.ref or "HEAD", address=address)
            _git(*at, "cat-file", "-e", f"{commit}^{{commit}}", address=address)
        except CodeFolderError:
            # The branch has moved on since it was asked for, or the server gives no commit by its id: then all branches.
            everything = ("+refs/heads/*:refs/runner/heads/*", "+refs/tags/*:refs/runner/tags/*")
            _git(*at, "fetch", "--quiet", "--no-recurse-submodules", "--", address.url, *everything, address=address)
        _git(*at, "checkout", "--quiet", "--force", "--detach", commit, address=address)
        shutil.rmtree(made / ".git")
        settle(made, tree)


def _git(*args: str, address: Address) -> str:
    """stdout of a git command.

    Raises:
        CodeFolderError: it failed; with git's own words.
    """
    argv = ("git", "-c", "core.hooksPath=/dev/null", "-c", "submodule.recurse=false", "-c", "core.askPass=",
            "-c", "core.fsmonitor=false", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60",
            "-c", "advice.detachedHead=false", "-c", "gc.auto=0", *args)  # fmt: skip
    try:
        # A session of its own has no terminal, so neither git nor ssh can ask a question.
        done = subprocess.run(
            argv, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise CodeFolderError(
            "git is not installed, and the code is in a git repository", "apt-get install git"
        ) from None
    except subprocess.TimeoutExpired:
        raise CodeFolderError(f"git did not end within {_TIMEOUT_S // 60} min: {address.url}") from None
    if done.returncode != 0:
        told = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        raise CodeFolderError(f"the code cannot be had from {address.url}", *told[-5:], *_cure(" ".join(told)))
    return done.stdout.decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    """The user's, so that proxies, certificates and ssh's agent work; without what belongs to a repository around us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _OWN}
    kept |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https:ssh",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "LC_ALL": "C",
    }
    if "GIT_SSH" not in kept:
        kept["GIT_SSH_COMMAND"] = f"{kept.get('GIT_SSH_COMMAND') or 'ssh'} -o BatchMode=yes"
    return kept


_OWN = frozenset({
    "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_PROXY_SSL_CAINFO",
    "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH",
})  # fmt: skip
"""Variables that say how this user reaches servers."""


def _cure(told: str) -> list[str]:
    if "could not read Username" in told or "Authentication failed" in told or "terminal prompts disabled" in told:
        return ["sign in once, so that git keeps it: see git-credential(1)"]
    if "Permission denied" in told or "Host key verification failed" in told:
        return ["check that you can reach it: ssh -T HOST"]
    return []


@contextmanager
def aside(parent: Path) -> Iterator[Path]:
    """A new folder in `parent` (made) that is gone afterwards, unless it was settled."""
    folder = parent / f".{secrets.token_hex(8)}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def settle(made: Path, final: Path) -> Path:
    """Give a finished folder its name. Another process may have been first, and with the same content.

    Raises:
        CodeFolderError: it cannot be written.
    """
    with suppress(OSError):
        made.rename(final)
    if not final.is_dir():
        raise CodeFolderError(
            f"cannot write the cache folder {final}", "set RUNNER_CACHE_DIR to a folder that you can write to"
        )
    return final
