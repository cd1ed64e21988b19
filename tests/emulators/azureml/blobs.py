"""The storage account of the workspace: containers and blobs in Azurite, signed URLs, and what a URI means there."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import (
    BlobServiceClient,
    generate_account_sas,
    generate_blob_sas,
    generate_container_sas,
)

from tests.emulators.azureml.azurite import Azurite
from tests.emulators.azureml.pki import Pki
from tests.emulators.azureml.state import State
from tests.emulators.azureml.uris import Place, resolve

ACCOUNT = "emustore"
HOST = f"{ACCOUNT}.blob.core.windows.net"
ARTIFACTS = "workspaceartifactstore"
_BLOCK = 4 * 1024 * 1024
"""Bytes that one append takes."""


class Blobs:
    """The account. Everything that takes (container, path) wants a path without a leading slash; threads may share one."""

    def __init__(self, folder: Path, pki: Pki, state: State) -> None:
        """folder: of the emulator's state; blobs are kept in `blobs` there."""
        self.account, self.host = ACCOUNT, HOST
        self.key = _account_key(folder)
        self.port = 0
        self._pki, self._state = pki, state
        self._azurite = Azurite(folder / "blobs", pki, ACCOUNT, self.key)
        self._client: BlobServiceClient | None = None

    def start(self) -> None:
        self.port = self._azurite.start()
        # The emulator's own way to the blobs is never the proxy that its clients are led by.
        transport = RequestsTransport(connection_verify=str(self._pki.ca), use_env_settings=False)
        self._client = BlobServiceClient(
            f"https://127.0.0.1:{self.port}/{ACCOUNT}", credential=self.key, transport=transport
        )

    def stop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self._azurite.stop()

    # -- URIs -----------------------------------------------------------------------------------------------------

    def sas(self, container: str, path: str | None, permissions: str, minutes: float) -> str:
        """A whole URL under the service's own host name. path None: of the container, permissions like `rcwl`."""
        expiry = datetime.now(UTC) + timedelta(minutes=minutes)
        if path is None:
            query = generate_container_sas(
                ACCOUNT, container, account_key=self.key, permission=permissions, expiry=expiry
            )
            return f"https://{HOST}/{container}?{query}"
        query = generate_blob_sas(ACCOUNT, container, path, account_key=self.key, permission=permissions, expiry=expiry)
        return f"https://{HOST}/{container}/{quote(path)}?{query}"

    def account_sas(self, minutes: float) -> str:
        """What listSecrets gives: services blob and file, containers and objects, with the leading `?`."""
        expiry = datetime.now(UTC) + timedelta(minutes=minutes)
        return "?" + generate_account_sas(ACCOUNT, self.key, "co", "rwdlcu", expiry)

    def resolve(self, uri: str) -> Place:
        """(container, path) of an azureml:// or https:// URI or the ARM id of a data version. ValueError: of none here."""
        return resolve(uri, self._state, HOST)

    def container_of(self, datastore: str) -> str:
        """ValueError: there is no such datastore."""
        return resolve(f"azureml://datastores/{datastore}/paths/", self._state, HOST).container

    # -- blobs ----------------------------------------------------------------------------------------------------

    def ensure(self, container: str) -> None:
        """Make the container unless it is there."""
        with suppress(ResourceExistsError):
            self._service().create_container(container)

    def list(self, container: str, prefix: str) -> list[str]:
        """Blob names that begin with the prefix, in order; none of a container that is not there."""
        try:
            return [blob.name for blob in self._service().get_container_client(container).list_blobs(prefix)]
        except ResourceNotFoundError:
            return []

    def exists(self, container: str, path: str) -> bool:
        return bool(path) and self._service().get_blob_client(container, path).exists()

    def read(self, container: str, path: str) -> bytes:
        return self._service().get_blob_client(container, path).download_blob().readall()

    def upload(self, container: str, path: str, data: bytes | IO[bytes]) -> None:
        """Write, over what was there."""
        self._service().get_blob_client(container, path).upload_blob(data, overwrite=True)

    def upload_folder(self, folder: Path, container: str, prefix: str) -> None:
        """Every file below the folder to `prefix` + its relative path; links are not followed out of it."""
        for path in files_below(folder):
            with path.open("rb") as stream:
                self.upload(container, prefix + path.relative_to(folder).as_posix(), stream)

    def download(self, container: str, path: str, target: Path) -> None:
        """One blob to a file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            self._service().get_blob_client(container, path).download_blob().readinto(stream)

    def download_folder(self, container: str, prefix: str, target: Path) -> int:
        """Every blob below `prefix/` into the folder; how many. ValueError: a name leads out of it."""
        prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        names = [name for name in self.list(container, prefix) if not name.endswith("/")]
        for name in names:
            relative = PurePosixPath(name[len(prefix) :])
            if relative.is_absolute() or ".." in relative.parts:
                raise ValueError(f"the blob {name!r} leads out of its folder")
            self.download(container, name, target / relative)
        return len(names)

    def copy(self, source: Place, target: Place) -> None:
        """One blob, or all below a folder."""
        if self.exists(*source):
            self.upload(*target, self.read(*source))
            return
        prefix = source.path.rstrip("/") + "/"
        for name in self.list(source.container, prefix):
            relative = name[len(prefix) :]
            self.upload(target.container, f"{target.path.rstrip('/')}/{relative}", self.read(source.container, name))

    # -- logs -----------------------------------------------------------------------------------------------------

    def begin_log(self, container: str, path: str) -> int:
        """Make an append blob unless there is one; its size so far in bytes."""
        blob = self._service().get_blob_client(container, path)
        with suppress(ResourceNotFoundError):
            return int(blob.get_blob_properties().size)
        blob.create_append_blob()
        return 0

    def append(self, container: str, path: str, data: bytes) -> None:
        blob = self._service().get_blob_client(container, path)
        for start in range(0, len(data), _BLOCK):
            blob.append_block(data[start : start + _BLOCK])

    def _service(self) -> BlobServiceClient:
        if self._client is None:
            raise RuntimeError("the storage account is not started")
        return self._client


_UNLISTED = re.compile(r"[\x00-\x1f\ud800-\udfff]")


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files, in order. A link to a file of the same folder counts, one that leads out of it does not; nor does a
    name that no XML can hold: Azurite would never list the folder again."""
    root = folder.resolve()
    for base, folders, names in os.walk(folder):
        folders.sort()
        for path in sorted(Path(base) / name for name in names):
            if path.is_file() and path.resolve().is_relative_to(root) and not _UNLISTED.search(str(path)):
                yield path


def remove(paths: Iterable[Path]) -> None:
    """Files and folders, whoever made them; what is gone already is no fault."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _account_key(folder: Path) -> str:
    """Made at the first start, kept for the next."""
    path = folder / "account.key"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(base64.b64encode(secrets.token_bytes(64)).decode())
    return path.read_text()
