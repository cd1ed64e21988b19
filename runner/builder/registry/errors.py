"""Why an image could not be pushed: every known cause, how the engine and registries word it, and the fix. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from runner.errors import ImageError

if TYPE_CHECKING:
    from runner.builder.registry.sign_in import Login
    from runner.spec.reference import Target


class Problem(StrEnum):
    """The causes that are told apart; `ImageError.problem` holds one."""

    WRONG_LOGIN = "wrong-login"
    MISSING_LOGIN = "missing-login"
    DENIED = "denied"
    NAME_NOT_KNOWN = "name-not-known"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    UNTRUSTED = "untrusted"
    PLAIN_HTTP = "plain-http"
    FULL = "full"
    BROKEN_OFF = "broken-off"
    NOT_ON_ENGINE = "not-on-engine"
    WRONG_PLATFORM = "wrong-platform"
    NOT_KEPT = "not-kept"
    OTHER = "other"


UNREACHABLE = frozenset(
    {Problem.NAME_NOT_KNOWN, Problem.REFUSED, Problem.TIMEOUT, Problem.UNTRUSTED, Problem.PLAIN_HTTP}
)

_WORDS = (
    (
        Problem.UNTRUSTED,
        r"x509:|certificate (?:signed by unknown|is not|has expired|verify failed)|tls: (?!handshake time)",
    ),
    (Problem.PLAIN_HTTP, r"HTTP response to HTTPS client"),
    (Problem.NAME_NOT_KNOWN, r"no such host|server misbehaving|name resolution|name or service not known"),
    (Problem.REFUSED, r"connection refused|no route to host|network is unreachable"),
    (Problem.TIMEOUT, r"i/o timeout|handshake timeout|Client\.Timeout|deadline exceeded|timed out"),
    (Problem.FULL, r"no space left|\b507\b|insufficient storage|quota|\"Err\": ?28\b|storage limit"),
    (Problem.MISSING_LOGIN, r"no basic auth credentials"),
    (Problem.DENIED, r"denied|insufficient_scope|forbidden|\b403\b"),
    (Problem.WRONG_LOGIN, r"unauthorized|authentication required|incorrect username or password|\b401\b"),
    (Problem.NOT_ON_ENGINE, r"does not exist locally|no such image"),
    (Problem.BROKEN_OFF, r"\bEOF\b|connection reset|broken pipe|\b50[0234]\b"),
)
"""In this order: an answer may hold words of more than one (`unauthorized: access denied` is a denial of what is known)."""
_COMPILED = tuple((problem, re.compile(pattern, re.IGNORECASE)) for problem, pattern in _WORDS)
_ADDRESS = re.compile(r"https?://[^\s\"]+|\b[\w.-]+:\d+\b")
"""What an error quotes: a repository may be called `quota`, a port may be 403."""
_LONGEST = 300
_VARIABLES = "or set RUNNER_REGISTRY_USER and RUNNER_REGISTRY_PASSWORD"


def problem_of(text: str, *, anonymous: bool = False, begun: bool = False) -> Problem:
    """What an error text of the engine or a registry stands for.

    Args:
        anonymous: nothing was signed in with, so that any refusal is a missing login.
        begun: a part of the image had gone up already: then the registry was there, and went away.
    """
    said = _ADDRESS.sub("", text)
    found = next((problem for problem, pattern in _COMPILED if pattern.search(said)), Problem.OTHER)
    if anonymous and found in {Problem.WRONG_LOGIN, Problem.DENIED}:
        return Problem.MISSING_LOGIN
    if begun and found in {Problem.REFUSED, Problem.TIMEOUT, Problem.NAME_NOT_KNOWN}:
        return Problem.BROKEN_OFF
    return found


def push_error(problem: Problem, target: Target, text: str, login: Login | None = None) -> ImageError:
    """The error with its fix. text: the engine's or registry's own words, "" for none."""
    message, *hints = _told(problem, target, login)
    own = (f"it says: {_short(text)}",) if text else ()
    return ImageError(message, *own, *hints, retryable=problem in _MAY_PASS, problem=problem)


_MAY_PASS = frozenset({*UNREACHABLE, Problem.BROKEN_OFF, Problem.FULL, Problem.NOT_KEPT, Problem.OTHER})


def _told(problem: Problem, target: Target, login: Login | None) -> tuple[str, ...]:  # noqa: C901, PLR0911, PLR0912 - a table
    host, name = target.host, target.name
    match problem:
        case Problem.WRONG_LOGIN:
            return (f"{host} does not accept the login from {_way(login)}", _mend(login, host))
        case Problem.MISSING_LOGIN:
            why = login.hints if login else ()
            return (f"{host} wants a login, and there is none", *why, *_ways_in(host, why))
        case Problem.DENIED:
            return (
                f"{name} may not be pushed to with the login from {_way(login)}",
                "check the repository's name, and the right to push there (Azure: the role AcrPush)",
            )
        case Problem.NAME_NOT_KNOWN:
            return (f"the registry {host} is not known by that name", "check its spelling and this machine's DNS")
        case Problem.REFUSED:
            return (f"nothing answers at the registry {host}", "check the port, and whether the registry runs")
        case Problem.TIMEOUT:
            return (f"the registry {host} does not answer in time", "check the network, a firewall, the proxy settings")
        case Problem.UNTRUSTED:
            return (f"the certificate of {host} is not trusted", *trust_hints(host))
        case Problem.PLAIN_HTTP:
            return (
                f"{host} speaks plain http, which only a registry on this machine's loopback may",
                "give the registry a certificate",
                'or, in a network that you trust, list it under "insecure-registries" in /etc/docker/daemon.json',
            )
        case Problem.FULL:
            return (f"the registry {host} is full", "delete old images there, or raise its quota; then push again")
        case Problem.BROKEN_OFF:
            return (
                f"the registry {host} went away or failed while {target.repository} was being pushed",
                "push again: the layers that are there are not sent twice",
            )
        case Problem.NOT_ON_ENGINE:
            return (f"the engine has no image {target.reference}", "build it: runner build")
        case Problem.NOT_KEPT:
            return (f"{target.reference} was pushed, but the registry does not have it", "push again")
        case Problem.WRONG_PLATFORM | Problem.OTHER:
            return (f"{target.reference} cannot be pushed", "see the registry's own words; then push again")
        case _:
            assert_never(problem)


def trust_hints(host: str) -> tuple[str, ...]:
    """Who must trust a registry's private CA, and where each looks for it."""
    return (
        f"the engine: put the CA's certificate at /etc/docker/certs.d/{host}/ca.crt on the engine's machine (no restart)",
        "runner itself: ca_bundle in libs.yaml, or SSL_CERT_FILE",
    )


def _way(login: Login | None) -> str:
    return login.way if login else "nowhere"


def _mend(login: Login | None, host: str) -> str:
    way = _way(login)
    if way.startswith("RUNNER_"):
        return "check RUNNER_REGISTRY_USER and RUNNER_REGISTRY_PASSWORD"
    if way.startswith("Azure"):
        return "check which account this is (az account show), and its role on the registry (AcrPush)"
    return f"sign in again: docker login {host}"


def _ways_in(host: str, why: tuple[str, ...]) -> tuple[str, ...]:
    """The ways that are left: what is wrong with the variables that are set is told already."""
    variables = () if any("RUNNER_REGISTRY_" in each for each in why) else (_VARIABLES,)
    return (f"sign in: docker login {host}", *variables)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
