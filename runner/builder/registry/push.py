"""`push`: a verified image into a registry, by the engine, with runner's own check of what the registry then has.

The engine pushes by a name `HOST/REPOSITORY:TAG`, so the image gets that name. It keeps it: an engine forgets the digest
`HOST/REPOSITORY@sha256:…`, by which runs refer to the image, with the last tag of that repository. A push that fails
takes the name back.
"""

from __future__ import annotations

import ipaddress
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.builder.registry.errors import Problem, problem_of, push_error
from runner.builder.registry.http import Registry
from runner.builder.registry.layers import Layers
from runner.errors import ImageError, RunnerError, UnavailableError
from runner.spec.reference import Target, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.builder.registry.sign_in import Login, SignIn
    from runner.docker_api.images import Engine, Image
    from runner.spec.config import Config

_SIGN_INS = 5
"""So often a push goes on after its login ended: with Azure's three hours, half a day."""
_PRIVATE = (".local", ".internal", ".lan", ".intranet", ".corp", ".home.arpa", ".localhost", ".test")
_CLOUD = "linux/amd64"
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image in a registry. reference: `HOST/REPOSITORY:TAG`; digest: of its manifest, `sha256:…`; size_bytes: of all
    its layers, uncompressed. already_there: nothing had to be sent."""

    reference: str
    digest: str
    size_bytes: int
    already_there: bool

    @property
    def by_digest(self) -> str:
        """`HOST/REPOSITORY@sha256:…`, which never names another image."""
        host, slash, rest = self.reference.partition("/")
        return f"{host}{slash}{rest.rpartition(':')[0]}@{self.digest}"


def target_of(
    name: str,
    content_hash: str,
    *,
    explicit: str | None,
    libs_registry: str | None,
    config: Config,
    environ: Mapping[str, str],
) -> Target | None:
    """Where an image is pushed to; None when nothing says so.

    The most specific wins: what the command line names, `registry:` of its libs.yaml, RUNNER_REGISTRY, runner.yaml. The
    command line names the repository itself (a bare host gets the image's name); the others a place, below which the
    repository has the image's name. The tag is the content hash where none is given.

    Raises:
        SpecError: what is named is malformed.
    """
    if explicit is not None:
        asked = place(explicit)
        return Target(asked.host, asked.path or name, asked.tag or content_hash)
    named = (
        (libs_registry, "registry"),
        (environ.get("RUNNER_REGISTRY"), "RUNNER_REGISTRY"),
        (config.registry, "registry"),
    )
    for text, key in named:
        if text:
            asked = place(text, key=key)
            repository = f"{asked.path}/{name}" if asked.path else name
            return Target(asked.host, repository, asked.tag or content_hash)
    return None


def cloud_platform(host: str) -> str | None:
    """The platform that images for that registry must have: `linux/amd64` where it can only be a cloud's; None for one
    on this machine or in a private network, where any platform may be wanted."""
    name = (urlsplit(f"//{host}").hostname or "").lower()
    try:
        return None if ipaddress.ip_address(name).is_private else _CLOUD
    except ValueError:
        return None if "." not in name or name.endswith(_PRIVATE) else _CLOUD


def push(
    engine: Engine,
    image: Image,
    target: Target,
    *,
    auth: SignIn,
    progress: Callable[[str, str], None] = lambda _stage, _text: None,
) -> Pushed:
    """Push an image, unless the registry has it by that name already.

    Args:
        progress: as of `build`, with the stages `sign-in` and `push`.

    Raises:
        ImageError: it was not pushed; `problem` says which known cause it is. The name is taken back.
        UnavailableError: the engine went away.
    """
    _check_platform(image, target)
    login = auth.login(target.host)
    progress("sign-in", f"{target.host}: {login.way}")
    work = _Push(engine, image, target, auth, progress, login)
    there = work.there()
    if there is not None and there in digests(image, target):
        if target.reference not in image.names:
            engine.tag(image.id, target.reference)
        progress("push", f"{target.reference}  {there[:19]}…  is there already")
        return Pushed(target.reference, there, image.size_bytes, already_there=True)
    with _named(engine, image, target):
        digest = work.run()
        work.check(digest)
    progress("push", f"{target.reference}  {digest[:19]}…  {work.summary}")
    return Pushed(target.reference, digest, image.size_bytes, already_there=False)


def digests(image: Image, target: Target) -> list[str]:
    """The manifest digests that the engine knows the image by in the target's repository."""
    names = {target.name, target.name.removeprefix("docker.io/"), target.name.removeprefix("docker.io/library/")}
    pairs = (each.split("@", 1) for each in image.digests if "@" in each)
    return [digest for name, digest in pairs if name in names]


@dataclass(slots=True)
class _Push:
    """One push under way, over as many logins as it takes."""

    engine: Engine
    image: Image
    target: Target
    auth: SignIn
    progress: Callable[[str, str], None]
    login: Login
    summary: str = ""
    _asks: bool = True

    def there(self) -> str | None:
        """The digest that the tag has in the registry; None too where runner cannot find out.

        What only the engine can reach (another network, its own proxy and trust) or what may be pushed to but not read
        is no reason not to push; a login that is missing or wrong is.
        """
        try:
            return self._registry().digest()
        except ImageError as error:
            if error.problem in {Problem.WRONG_LOGIN, Problem.MISSING_LOGIN}:
                raise
            self._asks = False
            return None

    def run(self) -> str:
        """Push; the digest."""
        for _ in range(_SIGN_INS):
            layers = Layers(self.progress, self._on_retry)
            end = self.engine.push(self.target.reference, self.login.for_engine(self.target.host), layers.take)
            if end.digest:
                self.summary = layers.summary()
                return end.digest
            problem = problem_of(end.error, anonymous=self.login.anonymous, begun=layers.begun)
            fresh = self._renewed(problem)
            if fresh is None:
                raise self._why(problem, end.error)
            self.progress("sign-in", f"{self.target.host}: the login ended meanwhile; signed in anew, going on")
            self.login = fresh
        raise push_error(problem, self.target, end.error, self.login)

    def check(self, digest: str) -> None:
        """Ask the registry itself whether it has what was pushed; where it could be asked before.

        Raises:
            ImageError: it has not.
        """
        if not self._asks:
            return
        if self.login.has_ended():
            self.login = self.auth.login(self.target.host)
        registry = self._registry()
        try:
            named = registry.digest()
            kept = named == digest or registry.digest(digest) == digest
        except ImageError as error:
            self.progress("push", f"the registry took it, but does not answer any more: {error.message}")
            return
        if not kept:
            raise push_error(Problem.NOT_KEPT, self.target, f"no manifest {digest}")
        if named != digest:
            self.progress("push", f"somebody else pushes to {self.target.reference} too: by now it names {named}")

    def _registry(self) -> Registry:
        return Registry(self.auth.http, self.target, self.login)

    def _renewed(self, problem: Problem) -> Login | None:
        if problem not in {Problem.WRONG_LOGIN, Problem.DENIED, Problem.MISSING_LOGIN}:
            return None
        return self.auth.renewed(self.target.host, self.login)

    def _on_retry(self) -> None:
        """The engine tries a layer again, for minutes, and does not say why. A registry that is full stays so."""
        self.progress("push", f"{self.target.host} did not take a layer; the engine tries again …")
        if (refusal := self._refusal()) and refusal.problem == Problem.FULL:
            raise refusal

    def _why(self, problem: Problem, text: str) -> ImageError:
        """The error; where the engine's words tell little, what the registry tells runner itself."""
        if (
            problem in {Problem.OTHER, Problem.BROKEN_OFF}
            and (refusal := self._refusal())
            and refusal.problem == Problem.FULL
        ):
            return refusal
        return push_error(problem, self.target, text, self.login)

    def _refusal(self) -> ImageError | None:
        try:
            return self._registry().refusal()
        except ImageError:
            return None


@contextmanager
def _named(engine: Engine, image: Image, target: Target) -> Iterator[None]:
    """The image under the target's name; as it was before when the push fails."""
    before = engine.inspect(target.reference)
    engine.tag(image.id, target.reference)
    try:
        yield
    except UnavailableError:
        raise  # no engine to take it back from
    except BaseException:
        with suppress(RunnerError):  # the push's own error is the one to tell
            _take_back(engine, image, target, before)
        raise


def _take_back(engine: Engine, image: Image, target: Target, before: Image | None) -> None:
    if before is not None:
        engine.tag(before.id, target.reference)
    elif any(name != target.reference for name in image.names):  # the last name goes with the image
        engine.remove(target.reference)


def _check_platform(image: Image, target: Target) -> None:
    wanted = cloud_platform(target.host)
    have = f"linux/{_GO_NAMES.get(image.architecture, image.architecture)}"
    if wanted is not None and have != wanted:
        raise ImageError(
            f"the image is for {have}, and what runs it from {target.host} needs {wanted}",
            "build it on an amd64 machine, or with an engine that emulates one; `runner build --push` asks for it",
            retryable=False,
            problem=Problem.WRONG_PLATFORM,
        )
