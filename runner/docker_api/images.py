"""Images and build steps of a container engine: the only user of the docker SDK, whose errors are translated here.

A step is a script run in a container of one image and committed as the next. Nothing that a step is given (files,
caches, CA bundle, environment) is part of the commit: it is all mounted below /mnt, on a tmpfs.
"""

from __future__ import annotations

import secrets
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from runner.docker_api import owner
from runner.docker_api.wire import Connection, docker_host, path
from runner.errors import BuildError, ImageError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import docker

BUILD_LABEL = "runner.build"
"""`1` on every container that builds. Images committed from one carry it empty, because a commit cannot remove it."""

_TIMEOUT = 600
"""Seconds for one call: the commit of a 10 GB layer takes minutes."""
_PING_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class Image:
    """What the engine says of an image. size_bytes counts all its layers. user: as in the config, "" for root.

    names: `NAME:TAG`, digests: `HOST/REPOSITORY@sha256:…` of registries that it was pushed to or pulled from.
    """

    id: str
    size_bytes: int
    labels: Mapping[str, str]
    env: Mapping[str, str]
    user: str
    architecture: str
    names: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()

    def fits(self, platform: str | None) -> bool:
        """Whether it is for a platform (`linux/amd64`); any is for None."""
        return platform is None or f"linux/{self.architecture}" == platform


@dataclass(frozen=True, slots=True)
class Listed:
    """An image in a list. created: seconds since the epoch. size_bytes counts all its layers."""

    id: str
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size_bytes: int
    created: float


@dataclass(frozen=True, slots=True)
class PushEnd:
    """How a push ended: the digest of the manifest, or the engine's own words for why there is none."""

    digest: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of this machine, or a named volume of the engine, mounted at `target` (below /mnt)."""

    source: str
    target: str
    read_only: bool = True
    volume: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One script run: `argv` as root in a container of `image`. tmpfs: folders whose content is thrown away."""

    image: str
    argv: tuple[str, ...]
    mounts: tuple[Mount, ...]
    tmpfs: tuple[str, ...] = ("/mnt", "/tmp")  # noqa: S108 - folders inside a container


@dataclass(frozen=True, slots=True)
class Config:
    """What a commit sets in the image's configuration; the rest is the parent image's."""

    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = "0"
    workdir: str = ""
    cmd: tuple[str, ...] = ()
    comment: str = ""


class Engine:
    """A connection to a container engine, for images.

    Raises:
        UnavailableError: from every method, when the engine cannot be reached.
    """

    def __init__(self, client: docker.APIClient) -> None:
        self._client = client
        self._going: list[threading.Thread] = []

    def inspect(self, reference: str) -> Image | None:
        """The image of that name or id on the engine, or None."""
        from docker.errors import ImageNotFound

        with _translated("inspect an image"):
            try:
                found: dict[str, Any] = self._client.inspect_image(reference)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
        return _image(found)

    def labelled(self, label: str) -> list[Listed]:
        """The named images that carry a label, given as `name` or `name=value`."""
        with _translated("list images"):
            found: list[dict[str, Any]] = self._client.images(filters={"label": label})
        return [
            Listed(each["Id"], tuple(tags), each.get("Labels") or {}, each["Size"], each["Created"])
            for each in found
            if (tags := [tag for tag in each.get("RepoTags") or () if tag != "<none>:<none>"])
        ]

    def pull(self, reference: str, progress: Callable[[str], None], *, platform: str | None = None) -> Image:
        """Pull an image, of that platform (`linux/amd64`) or the engine's own; `progress` gets one short text per change.

        Raises:
            ImageError: it cannot be had. Not retryable when the registry knows no such image or denies it.
        """
        from docker.errors import APIError

        name, tag = _split(reference)
        try:
            for item in self._client.pull(name, tag=tag, stream=True, decode=True, platform=platform):
                if "error" in item:
                    raise _pull_error(reference, str(item["error"]))
                if text := _pull_progress(item):
                    progress(text)
        except APIError as error:
            raise _pull_error(reference, str(error.explanation or error), error.status_code) from None
        except OSError as error:
            raise _lost(error) from None
        image = self.inspect(reference)
        if image is None:
            raise ImageError(f"{reference} was pulled, but is not on the engine")
        return image

    def push(self, reference: str, login: Mapping[str, str], seen: Callable[[Mapping[str, Any]], None]) -> PushEnd:
        """Push the image of that name. The SDK raises nothing when that fails: the error is an item of the stream.

        Args:
            login: as the engine's X-Registry-Auth takes it (username, password, identitytoken); empty for none.
            seen: called with every item of the stream; what it raises ends the push.
        """
        from docker.errors import APIError

        name, tag = _split(reference)
        end = PushEnd()
        with _translated("push an image"):
            try:
                items = self._client.push(name, tag=tag, stream=True, decode=True, auth_config=dict(login))
                for item in _streamed(items):
                    seen(item)
                    if "error" in item:
                        end = PushEnd(error=str(item["error"]))
                    elif digest := (item.get("aux") or {}).get("Digest"):
                        end = PushEnd(digest=str(digest))
            except APIError as error:
                return PushEnd(error=str(error.explanation or error))
        return end

    def build(
        self, context: IO[bytes], dockerfile: str, reference: str, seen: Callable[[Mapping[str, Any]], None]
    ) -> str:
        """Build a packed context by its Dockerfile, as the image `reference`: the engine's words for why it cannot, or "".

        Args:
            dockerfile: its path in the context. seen: called with every item of the stream.
        """
        from docker.errors import APIError

        failed = ""
        with _translated("build an image"):
            try:
                items = self._client.build(
                    fileobj=context, custom_context=True, dockerfile=dockerfile, tag=reference, rm=True, forcerm=True,
                    decode=True,
                )  # fmt: skip
                for item in _streamed(items):
                    seen(item)
                    failed = str(item["error"]) if "error" in item else failed
            except APIError as error:
                return str(error.explanation or error)
        return failed

    def names(self) -> list[str]:
        """`NAME:TAG` of every image on the engine."""
        with _translated("list images"):
            found = self._client.images()
        return [str(name) for each in found for name in each.get("RepoTags") or ()]

    def load(self, archive: Path) -> None:
        """Load a docker archive (tar)."""
        with archive.open("rb") as stream, _translated("load an image"):
            for item in self._client.load_image(stream):  # type: ignore[no-untyped-call]
                if "error" in item:
                    raise BuildError(f"the engine cannot load {archive.name}: {item['error']}")

    def tag(self, image: str, reference: str) -> None:
        """Give an image a further name."""
        name, tag = _split(reference)
        with _translated(f"tag the image {reference}"):
            self._client.tag(image, name, tag=tag, force=True)

    def remove(self, reference: str) -> None:
        """Remove a name, and the image when it was the last one and nothing uses it. A missing one is no error."""
        from docker.errors import ImageNotFound

        with _translated("remove an image"), suppress(ImageNotFound):
            self._client.remove_image(reference)

    @contextmanager
    def step(self, step: Step, output: Callable[[bytes], None]) -> Iterator[Ran]:
        """Run a step to its end; `output` gets stdout and stderr as they come. Commit inside the `with`.

        The container is removed on leaving, whatever happened; one whose process was killed is removed by the next
        build (`remove_stale`).
        """
        identifier = self._create(step)
        try:
            with _translated("run a build step"):
                self._client.start(identifier)
                for chunk in self._client.logs(identifier, stdout=True, stderr=True, stream=True, follow=True):
                    output(chunk)
                code = int(self._client.wait(identifier)["StatusCode"])
                state = self._client.inspect_container(identifier)["State"]
            yield Ran(self._client, identifier, code, bool(state.get("OOMKilled")))
        except BaseException:
            self._discard(identifier)
            raise
        # A large one takes the engine seconds, which the next step need not wait for; `close` does.
        self._going.append(threading.Thread(target=_remove_container, args=(identifier,)))
        self._going[-1].start()

    def _create(self, step: Step) -> str:
        from docker import types

        client = self._client
        mounts = [
            types.Mount(m.target, m.source, type="volume" if m.volume else "bind", read_only=m.read_only)
            for m in step.mounts
        ]
        # Host network: mirrors, repositories and proxies on this machine's loopback are reachable as they are for the
        # user. exec: uv is run from /mnt and R compiles in /tmp.
        host = client.create_host_config(
            mounts=mounts,
            network_mode="host",
            tmpfs=dict.fromkeys(step.tmpfs, "exec,mode=1777"),
            log_config=types.LogConfig(type="json-file"),  # the engine's default may be one that cannot be read
        )
        with _translated("create a build container"):
            created = client.create_container(
                step.image,
                command=list(step.argv[1:]),
                entrypoint=[step.argv[0]],
                user="0",
                working_dir="/",
                labels={BUILD_LABEL: "1"},
                host_config=host,
                name=f"{owner.PREFIX}{owner.mark()}-{secrets.token_hex(4)}",
            )
        return str(created["Id"])

    def _discard(self, identifier: str) -> None:
        """Remove a build container. What fails here is left to `remove_stale`: it must not hide the real error."""
        from docker.errors import APIError

        with suppress(APIError, OSError):
            self._client.remove_container(identifier, force=True, v=True)

    def remove_stale(self) -> int:
        """Remove build containers whose building process on this machine is gone; how many."""
        removed = 0
        with _translated("list containers"):
            containers = self._client.containers(all=True, filters={"label": f"{BUILD_LABEL}=1"})
        for container in containers:
            running = container.get("State") == "running"
            age_s = time.time() - container.get("Created", 0)
            if all(
                owner.is_stale(name.lstrip("/"), running=running, age_s=age_s)
                for name in container.get("Names") or ("",)
            ):
                self._discard(container["Id"])
                removed += 1
        return removed

    def close(self) -> None:
        """Wait for containers that are going, close the connection."""
        for each in self._going:
            each.join()
        self._client.close()


@dataclass(frozen=True, slots=True)
class Ran:
    """A step's container after its end. exit_code: 137 with `oom` is a lack of memory."""

    _client: docker.APIClient
    _id: str
    exit_code: int
    oom: bool

    def commit(self, config: Config, reference: str) -> str:
        """Make the container's file system an image under `reference`; its id."""
        name, tag = _split(reference)
        body: dict[str, Any] = {
            "Env": [f"{key}={value}" for key, value in config.env.items()],
            "Labels": {**config.labels, BUILD_LABEL: ""},
            "User": config.user,
            "WorkingDir": config.workdir or "/",
            "Entrypoint": [],
            "Cmd": list(config.cmd) or ["/bin/sh"],
        }
        with _translated("commit a layer"):
            done = self._client.commit(self._id, repository=name, tag=tag, message=config.comment, conf=body)
        return str(done["Id"])


def look_up(reference: str) -> Image | None:
    """As `Engine.inspect`, over the plain socket: 5 ms, where the SDK's import alone takes 110 ms.

    Raises:
        UnavailableError: no engine answers.
    """
    connection = Connection(docker_host())
    try:
        found = connection.json("GET", path("images", reference, "json"), accept=(404,))
    finally:
        connection.close()
    return None if found is None else _image(found)


def pull(reference: str, *, progress: Callable[[str, str], None]) -> Image:
    """Pull an image; `progress` gets ("pull", text), where a text that ends in `…` is movement.

    Raises:
        ImageError: it cannot be had. Not retryable when the registry knows no such image or denies it.
        UnavailableError: no engine answers.
    """
    engine = connect()
    try:
        return engine.pull(reference, lambda text: progress("pull", f"{text} …"))
    finally:
        engine.close()


def connect() -> Engine:
    """Connect to the engine that the docker CLI would use.

    Raises:
        UnavailableError: it cannot be reached; says how to cure it.
    """
    import docker
    from docker.errors import DockerException, TLSParameterError
    from docker.utils import kwargs_from_env

    host = docker_host()
    _ping(host)  # before the SDK, which leaves its socket open where nobody answers
    try:
        tls = kwargs_from_env().get("tls", False)
        client = docker.APIClient(
            base_url=host, version="auto", timeout=_TIMEOUT, tls=tls, use_ssh_client=host.startswith("ssh://")
        )
    except TLSParameterError as error:
        raise UnavailableError(f"the engine's certificates cannot be used: {error}", "see DOCKER_CERT_PATH") from None
    except (DockerException, OSError) as error:
        raise _lost(error) from None
    return Engine(client)


def _remove_container(identifier: str) -> None:
    """Over a connection of its own. What fails here is left to `remove_stale`."""
    connection = Connection(docker_host(), timeout=_TIMEOUT)
    try:
        with suppress(UnavailableError):
            connection.call("DELETE", path("containers", identifier), query={"force": "1", "v": "1"})
    finally:
        connection.close()


def is_local(host: str) -> bool:
    """Whether the engine shares this machine's files, which build steps are given by bind mounts."""
    return host.startswith("unix://")


def _image(found: Mapping[str, Any]) -> Image:
    config = found.get("Config") or {}
    return Image(
        found["Id"],
        found["Size"],
        config.get("Labels") or {},
        dict(pair.split("=", 1) for pair in config.get("Env") or () if "=" in pair),
        config.get("User") or "",
        found["Architecture"],
        tuple(found.get("RepoTags") or ()),
        tuple(found.get("RepoDigests") or ()),
    )


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """The SDK's errors as ours. An answer of the engine is a BuildError, no answer an UnavailableError."""
    from docker.errors import APIError, DockerException

    try:
        yield
    except APIError as error:
        text = str(error.explanation or error)
        if error.status_code == 404 and "image" in text.lower():
            raise ImageError(f"cannot {what}: {text}", retryable=False) from None
        hints = ["free some space: docker system df"] if "no space left" in text else []
        raise BuildError(f"the engine cannot {what}: {text}", *hints) from None
    except (DockerException, OSError) as error:
        raise _lost(error) from None


def _streamed(items: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The items; a stream that breaks off is an OSError, also where the SDK lets the one of its HTTP library through."""
    try:
        yield from items
    except Exception as error:
        if type(error).__module__.startswith("urllib3."):
            raise ConnectionError(str(error)) from None
        raise


def _lost(error: Exception) -> UnavailableError:
    """Why the engine did not answer. The SDK wraps the cause many layers deep; asking again over the plain socket tells."""
    host = docker_host()
    try:
        _ping(host)
    except UnavailableError as unavailable:
        return unavailable
    return UnavailableError(f"the connection to the container engine at {host} was lost: {error}", "try again")


def _ping(host: str) -> None:
    """
    Raises:
        UnavailableError: nobody answers; says how to cure it.
    """
    connection = Connection(host, timeout=_PING_TIMEOUT)
    try:
        connection.call("GET", "/_ping")
    finally:
        connection.close()


def _pull_error(reference: str, text: str, status: int | None = None) -> ImageError:
    lower = text.lower()
    if status in {401, 403} or "denied" in lower or "unauthorized" in lower:
        return ImageError(
            f"{reference} may not be pulled, or does not exist: {text}", "sign in: docker login", retryable=False
        )
    if status == 404 or "not found" in lower or "manifest unknown" in lower or "not exist" in lower:
        return ImageError(f"no such image: {reference}", "check the name and tag", text, retryable=False)
    return ImageError(f"{reference} cannot be pulled: {text}", "check the network and the registry's address")


def _pull_progress(item: Mapping[str, Any]) -> str | None:
    detail = item.get("progressDetail") or {}
    if item.get("status") == "Downloading" and detail.get("total"):
        return f"{item.get('id', '')} {detail['current'] >> 20}/{detail['total'] >> 20} MiB"
    return None


def _split(reference: str) -> tuple[str, str | None]:
    """`host:5000/name:tag` → (`host:5000/name`, `tag`); a digest stays with the name's tag argument."""
    if "@" in reference:
        name, digest = reference.split("@", 1)
        return name, digest
    head, slash, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    return head + slash + name, tag or "latest"
