"""Names of images in registries: `HOST[:PORT]/PATH[:TAG]`, checked before anything is asked. Stdlib only."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runner.errors import SpecError

_HOST = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
    r"(?::[0-9]{1,5})?",
    re.ASCII,
)
_PART = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_LONGEST = 255
"""Of host and path together; engines refuse more."""
_EXPECTED = "expected HOST/PATH, such as myregistry.azurecr.io/team"


@dataclass(frozen=True, slots=True)
class Place:
    """A part of a registry. path: "" for the registry as a whole. tag: None when none was given."""

    host: str
    path: str
    tag: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """Where an image goes to, whole."""

    host: str
    repository: str
    tag: str

    @property
    def name(self) -> str:
        """`HOST/REPOSITORY`."""
        return f"{self.host}/{self.repository}"

    @property
    def reference(self) -> str:
        """`HOST/REPOSITORY:TAG`."""
        return f"{self.name}:{self.tag}"


def local_name(text: str) -> None:
    """Check a name for an image on the engine: `NAME[:TAG]`, perhaps with a host in front.

    Raises:
        SpecError: it is malformed.
    """
    host, slash, _ = text.partition("/")
    try:
        place(text if slash and _names_a_host(host) else f"localhost/{text}")
    except SpecError as error:
        raise SpecError(f"{text!r} is not a name for an image", *error.hints or ["expected NAME[:TAG]"]) from None


def place(text: str, *, file: str | None = None, line: int | None = None, key: str | None = None) -> Place:
    """Take `HOST[/PATH[:TAG]]` apart.

    Args:
        file, line, key: where the text stands, for the error.

    Raises:
        SpecError: it is malformed; the first thing wrong, with what was meant where that can be told.
    """

    def wrong(message: str, *hints: str) -> SpecError:
        return SpecError(f"{text!r} {message}", *hints, file=file, line=line, key=key)

    scheme, found, rest = text.partition("://")
    if found:
        raise wrong(f"has {scheme}:// in front, which names of images do not", f"did you mean {rest}?")
    host, _, tail = text.partition("/")
    if not _names_a_host(host):
        raise wrong("does not begin with a registry's host", _EXPECTED, *_docker_hub(text))
    if not _HOST.fullmatch(host):
        raise wrong(f"has no valid host: {host!r}", _EXPECTED)
    if "@" in tail:
        raise wrong("has a digest, which only the push can tell", "leave out what follows @")
    path, colon, tag = tail.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise wrong(
            f"has no valid tag: {tag!r}", "expected up to 128 letters, digits and _ . - (no . or - at the start)"
        )
    if path or colon:
        _check_path(path, wrong)
    elif "/" in text:
        raise wrong("ends in /", f"did you mean {text.rstrip('/')}?")
    if len(host) + len(path) > _LONGEST:
        raise wrong(f"is longer than {_LONGEST} characters")
    return Place(host, path, tag or None)


def _check_path(path: str, wrong: object) -> None:
    assert callable(wrong)  # noqa: S101 - the closure above
    for part in path.split("/"):
        if _PART.fullmatch(part):
            continue
        lower = path.lower()
        meant = all(_PART.fullmatch(each) for each in lower.split("/"))
        hint = f"did you mean {lower}?" if meant else "expected small letters, digits and . _ - between them"
        raise wrong(f"has no valid repository: {path!r}", hint)


def _names_a_host(host: str) -> bool:
    """The rule of every engine: else the first word is a user on Docker Hub."""
    return "." in host or ":" in host or host == "localhost"


def _docker_hub(text: str) -> tuple[str, ...]:
    return (f"for Docker Hub: docker.io/{text}",) if _PART.fullmatch(text.split("/", 1)[0]) else ()
