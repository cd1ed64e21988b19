"""What an engine has in stock: images, the containers that use them, cache volumes; and their removal. Over `wire`.

A removal never forces: what anything still uses stays, and the engine is the one to say so.
"""

from __future__ import annotations

import json
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from runner.docker_api import owner
from runner.docker_api.containers import Engine, Frames
from runner.docker_api.images import BUILD_LABEL
from runner.docker_api.wire import Connection, docker_host, path
from runner.errors import BackendError, ImageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.docker_api.wire import Stream

_REMOVAL_S = 600.0
"""Seconds that the removal of a 10 GB image may take."""
_ANSWER = 1 << 26
"""More bytes than this of a file or an answer are not taken."""


@dataclass(frozen=True, slots=True)
class Stocked:
    """An image. parent: the id of the one it was committed on, "" where the engine does not know (a pulled one).

    tags: `NAME:TAG`. digests: `NAME@sha256:…` for each registry it came from or went to. size_bytes counts all its layers.
    created: seconds since the epoch.
    """

    id: str
    parent: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    labels: Mapping[str, str]
    size_bytes: int
    created: float


@dataclass(frozen=True, slots=True)
class Details:
    """What the engine tells of one image beyond the list. comment: what the commit said."""

    id: str
    comment: str
    user: str
    workdir: str
    platform: str
    env: Mapping[str, str]


class Stock:
    """One engine's images and volumes.

    Raises:
        UnavailableError: from every method, when the engine cannot be reached. BackendError: when it refuses.
    """

    def __init__(self) -> None:
        self._host = docker_host()
        self._connection = Connection(self._host)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def images(self) -> tuple[Stocked, ...]:
        """Every image, also those without a name that others stand on."""
        found: list[dict[str, Any]] = self._connection.json("GET", "/images/json", query={"all": "1"})
        return tuple(_stocked(each) for each in found)

    def details(self, reference: str) -> Details | None:
        """Of one image, by name or id; None when the engine does not have it."""
        found = self._connection.json("GET", path("images", reference, "json"), accept=(404,))
        if found is None:
            return None
        config = found.get("Config") or {}
        platform = f"{found.get('Os') or 'linux'}/{found.get('Architecture', '')}"
        env = dict(pair.split("=", 1) for pair in config.get("Env") or () if "=" in pair)
        comment, user = found.get("Comment") or "", config.get("User") or ""
        return Details(found["Id"], comment, user, config.get("WorkingDir") or "/", platform, env)

    def used(self) -> frozenset[str]:
        """The ids of the images that a container, running or not, was made of."""
        found: list[dict[str, Any]] = self._connection.json("GET", "/containers/json", query={"all": "1"})
        return frozenset(str(each.get("ImageID", "")) for each in found)

    def volumes(self, prefix: str) -> tuple[str, ...]:
        """The names of the volumes that begin so."""
        query = {"filters": json.dumps({"name": [prefix]})}
        found = self._connection.json("GET", "/volumes", query=query).get("Volumes") or ()
        return tuple(sorted(each["Name"] for each in found if each["Name"].startswith(prefix)))

    def volume_sizes(self) -> Mapping[str, int]:
        """name → bytes. The engine counts every file for this, which takes seconds where there is much."""
        status, raw = self._connection.call("GET", "/system/df", timeout=_REMOVAL_S)
        found = json.loads(raw).get("Volumes") or () if status < 300 else ()
        return {each["Name"]: max(0, (each.get("UsageData") or {}).get("Size", 0)) for each in found}

    def remove_image(self, reference: str) -> bool:
        """Remove a name, and the image when it was the last one; False when something uses it. A missing one is no error."""
        return self._remove(path("images", reference))

    def remove_volume(self, name: str) -> bool:
        """Remove a volume; False when a container uses it."""
        return self._remove(path("volumes", name))

    def _remove(self, where: str) -> bool:
        status, raw = self._connection.call("DELETE", where, timeout=_REMOVAL_S)
        if status == 409:
            return False
        if status >= 400 and status != 404:
            raise BackendError(f"the engine did not remove it: {raw.decode('utf-8', 'replace').strip()}", code=status)
        return True

    def read_file(self, image: str, file: str) -> bytes | None:
        """A file of an image, out of a container that is never started; None when there is none."""
        with self._container(image, {"Cmd": ["/bin/true"]}) as (engine, container):
            stream = engine.get_archive(container, file)
            return None if stream is None else _only_file(_all(stream))

    def ask(self, image: str, shown: str, argv: tuple[str, ...], timeout: float) -> str:
        """What a program prints in an image, without network, as the image's own user. shown: what errors call the image.

        Raises:
            ImageError: it cannot be started there, or did not end in time (seconds).
        """
        config = {
            "Entrypoint": [argv[0]],
            "Cmd": list(argv[1:]),
            "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "json-file"}},
        }
        with self._container(image, config) as (engine, container):
            try:
                engine.start(container)
            except BackendError as error:
                raise ImageError(f"{shown} cannot be asked what it holds: {error.message}", retryable=False) from None
            if not engine.wait_stopped(container, timeout):
                raise ImageError(f"{shown} did not say what it holds within {timeout:g} s")
            return Frames().feed(_all(engine.logs(container))).decode("utf-8", "replace")

    @contextmanager
    def _container(self, image: str, config: Mapping[str, Any]) -> Iterator[tuple[Engine, str]]:
        """A container to look into, marked as build containers are, so that the next build removes what a kill left."""
        engine = Engine(self._host)
        name = f"{owner.PREFIX}{owner.mark()}-{secrets.token_hex(4)}"
        try:
            container = engine.create(name, {**config, "Image": image, "Labels": {BUILD_LABEL: "1"}})
            try:
                yield engine, container
            finally:
                engine.remove(container)
        finally:
            engine.close()


@contextmanager
def opened() -> Iterator[Stock]:
    """The stock of the engine that the docker CLI would use."""
    stock = Stock()
    try:
        yield stock
    finally:
        stock.close()


def _stocked(found: Mapping[str, Any]) -> Stocked:
    def named(key: str) -> tuple[str, ...]:
        return tuple(each for each in found.get(key) or () if "<none>" not in each)

    return Stocked(
        found["Id"], found.get("ParentId") or "", named("RepoTags"), named("RepoDigests"), found.get("Labels") or {},
        found["Size"], float(found["Created"]),
    )  # fmt: skip


def _all(stream: Stream) -> bytes:
    """A stream to its end."""
    import select

    parts, size = list[bytes](), 0
    try:
        while not stream.ended and size < _ANSWER:
            parts.append(stream.read())
            size += len(parts[-1])
            if not parts[-1] and not stream.ended:
                select.select([stream], [], [], 1.0)
    finally:
        stream.close()
    return b"".join(parts)


def _only_file(archive: bytes) -> bytes | None:
    import tarfile

    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        for member in tar:
            if member.isfile() and (content := tar.extractfile(member)) is not None:
                return content.read()
    return None
