"""What a run needs of an engine: containers, their logs, and facts of images. Over `wire`, without the docker SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

from runner.docker_api.wire import Connection, Stream, docker_host, path
from runner.errors import BackendError, ImageError, UnavailableError


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an engine says of an image: its id, its labels, and the user it asks for ("" = root)."""

    id: str
    labels: dict[str, str]
    user: str
    architecture: str


class Engine:
    """One engine. Every method may raise UnavailableError (not reachable) or BackendError (it refused)."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host or docker_host()
        self._connection = Connection(self.host)

    @property
    def local(self) -> bool:
        """Whether the engine sees this machine's files, so that folders can be mounted instead of sent."""
        return self.host.startswith("unix://")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def version(self) -> dict[str, Any]:
        """`GET /version`."""
        answer: dict[str, Any] = self._connection.json("GET", "/version")
        return answer

    def info(self) -> dict[str, Any]:
        """`GET /info`."""
        answer: dict[str, Any] = self._connection.json("GET", "/info")
        return answer

    def started(self) -> str | None:
        """When the engine itself started (RFC 3339), or None where it does not show.

        The engine makes its default bridge anew at each start and says when (seen with 20.10: equal to the second).
        """
        answer = self._connection.json("GET", "/networks/bridge", accept=(404,))
        return None if answer is None else str(answer["Created"])

    @property
    def connected(self) -> int:
        """Names the connection that stands now; for `still`."""
        return self._connection.opened

    def still(self, connected: int) -> bool:
        """Whether the engine answers on that very connection, so has neither ended nor been started anew since."""
        status, _ = self._connection.call("GET", "/_ping")
        return status == 200 and self._connection.opened == connected

    def image(self, reference: str) -> ImageInfo | None:
        """Facts of a local image, or None when the engine does not have it."""
        answer = self._connection.json("GET", path("images", reference, "json"), accept=(404,))
        if answer is None:
            return None
        config = answer.get("Config") or {}
        return ImageInfo(
            answer["Id"], config.get("Labels") or {}, config.get("User") or "", answer.get("Architecture") or ""
        )

    def create(self, name: str, config: dict[str, Any]) -> str:
        """Create a container; the id.

        Raises:
            ImageError: the image is not there.
            BackendError: with code 409, there is a container of that name.
        """
        try:
            answer = self._connection.json("POST", "/containers/create", query={"name": name}, body=config)
        except BackendError as error:
            if error.code == 404:
                raise ImageError(f"the image {config['Image']} is not on this engine: {error.message}") from error
            raise
        return str(answer["Id"])

    def start(self, container: str) -> None:
        """Start a container; one that was started before is left alone."""
        self._connection.json("POST", path("containers", container, "start"))

    def inspect(self, container: str) -> dict[str, Any] | None:
        """`GET /containers/{id}/json`, or None when the engine does not know it."""
        answer: dict[str, Any] | None = self._connection.json(
            "GET", path("containers", container, "json"), accept=(404,)
        )
        return answer

    def wait_stopped(self, container: str, timeout: float) -> bool:
        """Whether the container has stopped, waiting at most `timeout` seconds for it."""
        connection = Connection(self.host)
        try:
            status, _ = connection.call("POST", path("containers", container, "wait"), timeout=timeout)
        except UnavailableError:
            return False
        finally:
            connection.close()
        return status < 300 or status == 404

    def kill(self, container: str, signal: str) -> None:
        """Send a signal to the container's first process. Not running or unknown is a no-op."""
        self._connection.json(
            "POST", path("containers", container, "kill"), query={"signal": signal}, accept=(404, 409)
        )

    def remove(self, container: str) -> None:
        """Remove a container with its anonymous volumes, killing it if it runs. Unknown is a no-op."""
        self._connection.json(
            "DELETE", path("containers", container), query={"force": "1", "v": "1"}, accept=(404, 409)
        )

    def labelled(self, *labels: str) -> list[dict[str, Any]]:
        """All containers, running or not, that carry every `name=value` of `labels`."""
        import json

        filters = json.dumps({"label": list(labels)})
        answer: list[dict[str, Any]] = self._connection.json(
            "GET", "/containers/json", query={"all": "1", "filters": filters}
        )
        return answer

    def logs(self, container: str) -> Stream:
        """The whole log from its first byte, followed until the container stops; framed (see `Frames`)."""
        connection = Connection(self.host)
        query = {"follow": "1", "stdout": "1", "stderr": "1"}
        try:
            return connection.stream(path("containers", container, "logs"), query=query)
        except BaseException:
            connection.close()
            raise

    def attach(self, container: str) -> Stream:
        """What the container writes from now on, byte for byte; framed (see `Frames`). To be called before its start.

        The engine's log file is not that: it holds text, and what is not UTF-8, or a character cut at 16 KiB, is lost.
        """
        connection = Connection(self.host)
        query = {"stream": "1", "stdout": "1", "stderr": "1"}
        try:
            return connection.stream(path("containers", container, "attach"), query=query, attach=True)
        except BaseException:
            connection.close()
            raise

    def put_archive(self, container: str, folder: str, tar: IO[bytes]) -> None:
        """Unpack a tar archive (an open file) into a folder of the container."""
        self._connection.json("PUT", path("containers", container, "archive"), query={"path": folder}, body=tar)

    def get_archive(self, container: str, source: str) -> Stream | None:
        """A tar archive of a file or folder of the container as a stream, or None when there is no such path."""
        connection = Connection(self.host)
        try:
            return connection.stream(path("containers", container, "archive"), query={"path": source})
        except BackendError as error:
            connection.close()
            if error.code == 404:
                return None
            raise


class Frames:
    """Takes the engine's framing off a log: stream, three zeros, length (4 bytes, big-endian), then the payload."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """The payload bytes in `data`, of both streams, in the order in which they were written."""
        if self._left >= len(data):
            self._left -= len(data)
            return data
        self._rest += data
        out = []
        while self._rest:
            if self._left:
                part = bytes(self._rest[: self._left])
                self._left -= len(part)
                del self._rest[: len(part)]
                out.append(part)
            elif len(self._rest) >= 8:
                self._left = int.from_bytes(self._rest[4:8], "big")
                del self._rest[:8]
            else:
                break
        return b"".join(out)
