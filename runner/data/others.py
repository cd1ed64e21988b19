"""Amazon S3 and Google Cloud Storage, by fsspec's clients of them; signed in as these do it (AWS_…, gcloud)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from runner.data.place import without_login
from runner.data.source import Entry, NotAFileError, Stream, TransientError
from runner.errors import BackendError, CapabilityError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_EXTRAS = {"s3": ("s3", "aws configure (or AWS_ACCESS_KEY_ID and its secret)"),
           "gs": ("gcs", "gcloud auth application-default login")}  # fmt: skip
_BLOCK = 8 << 20


class Bucket:
    """What is at an address in a bucket: a file, or a folder with all below it; and a target of uploads.

    Args:
        system: a file system of fsspec.
        path: the bucket and the path in it.
    """

    def __init__(self, system: Any, path: str, shown: str, sign_in: str = "") -> None:
        self._system, self._path, self.shown, self._sign_in = system, path.strip("/"), shown, sign_in

    @classmethod
    def open(cls, url: str) -> Self:
        """The place of an `s3:` or `gs:` URL.

        Raises:
            CapabilityError: fsspec or its client is not installed.
        """
        parts, shown = urlsplit(url), without_login(url)
        extra, sign_in = _EXTRAS[parts.scheme.lower()]
        try:
            import fsspec  # type: ignore[import-untyped]  # it brings no types

            system = fsspec.filesystem(parts.scheme.lower(), skip_instance_cache=True, use_listings_cache=False)
        except ImportError:
            raise CapabilityError(
                f"{shown} needs a client that is not installed", f"pip install 'runner[{extra}]'"
            ) from None
        return cls(system, f"{parts.netloc}{unquote(parts.path)}", shown, sign_in)

    def file(self) -> _Object:
        """The file at the address."""
        return _Object(self, self._path)

    def listing(self) -> Mapping[str, Entry]:
        """See `Tree.listing`."""
        try:
            found = self._system.find(self._path, detail=True)
        except Exception as error:  # noqa: BLE001 - every client has errors of its own
            raise self.translated(error) from None
        start = self._path + "/"
        return {
            str(info["name"]).strip("/").removeprefix(start): Entry(
                _validator(info), info.get("size"), _Object(self, str(info["name"]))
            )
            for info in found.values()
            if str(info["name"]).strip("/").startswith(start) and info.get("type") == "file"
        }

    def info(self, path: str) -> dict[str, Any]:
        """What the bucket says of a file."""
        try:
            return dict(self._system.info(path))
        except Exception as error:  # noqa: BLE001 - as above
            raise self.translated(error) from None

    def block(self, path: str, start: int, end: int) -> bytes:
        """Bytes of a file."""
        try:
            return bytes(self._system.cat_file(path, start=start, end=end))
        except Exception as error:  # noqa: BLE001 - as above
            raise self.translated(error) from None

    def upload(self, path: Path, relative: str) -> None:
        """See `Target.upload`."""
        try:
            self._system.put_file(str(path), "/".join(part for part in (self._path, relative) if part))
        except Exception as error:  # noqa: BLE001 - as above
            raise self.translated(error) from None

    def translated(self, error: Exception) -> Exception:
        """An error of one of these clients as one of runner's. Its text is left out: it may hold a signed address."""
        kind = type(error).__name__
        if isinstance(error, FileNotFoundError):
            return NotFoundError(f"{self.shown} is not there", "check the address")
        if isinstance(error, PermissionError) or "Credential" in kind:
            return BackendError(f"{self.shown} may not be used ({kind})", f"sign in: {self._sign_in}")
        if isinstance(error, (ConnectionError, TimeoutError)):
            return TransientError("the connection broke")
        if "Connect" in kind:
            return UnavailableError(f"{self.shown} cannot be reached ({kind})", "check the address, network and proxy")
        return BackendError(f"{self.shown} cannot be had ({kind})")


class _Object:
    """One object as a `Source`."""

    def __init__(self, bucket: Bucket, path: str) -> None:
        self._bucket, self._path = bucket, path

    def open(self, known: str | None, offset: int, part: str) -> Stream | None:
        """See `Source.open`."""
        try:
            info = self._bucket.info(self._path)
        except NotFoundError:
            if self._bucket.listing():
                raise NotAFileError from None
            raise
        if info.get("type") == "directory":
            raise NotAFileError
        validator, size = _validator(info), int(info["size"])
        if known and validator == known:
            return None
        start = offset if part and part == validator and offset < size else 0
        return Stream(validator, size, start, self._chunks(validator, start, size))

    def _chunks(self, validator: str, start: int, size: int) -> Iterator[bytes]:
        for begin in range(start, size, _BLOCK):
            yield self._bucket.block(self._path, begin, min(begin + _BLOCK, size))
        if _validator(self._bucket.info(self._path)) != validator:
            raise TransientError("it changed while it was read")


def _validator(info: Mapping[str, Any]) -> str:
    """What tells one content of a file from another, by whatever word this client has for it."""
    for key in ("ETag", "etag", "generation", "md5Hash", "LastModified", "mtime", "created"):
        if info.get(key):
            return f"{key} {info[key]}"
    return ""
