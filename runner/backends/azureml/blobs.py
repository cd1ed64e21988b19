"""What lies in a workspace's datastores: listed and downloaded, whichever way they are opened (SAS, account key, identity).

Names of blobs were chosen by scripts: none may lead out of the folder that it is brought to.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from runner.backends.azureml.credential import credential
from runner.errors import BackendError, CapabilityError, NotFoundError, RunnerError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from azure.storage.blob import ContainerClient

    from runner.backends.azureml.service import Service

_T = TypeVar("_T")

_KEPT_S = 40 * 60.0
"""What opens a datastore is asked for anew after this; it is good for an hour."""
_AT_ONCE = 6
_RETRIES: dict[str, Any] = {
    "retry_total": 5,
    "initial_backoff": 1,
    "increment_base": 2,
    "connection_timeout": 20,
    "read_timeout": 60,
}
_STORAGE = re.compile(r"core\.(windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)|storage\.azure\.net")
"""Where Azure keeps storage accounts. A datastore that names another place is not signed in to."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One blob. name: whole, within its container. size in bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Place:
    """A path (no slash in front) in a datastore."""

    datastore: str
    path: str

    @property
    def folder(self) -> str:
        """The path as the prefix of all that lies in it."""
        return f"{self.path.rstrip('/')}/" if self.path.strip("/") else ""


def place_of(uri: str) -> Place | None:
    """Where `azureml://…/datastores/NAME/paths/PATH` leads, short or long, also without `paths`; None: it is none such."""
    found = re.fullmatch(
        r"azureml://(?:subscriptions/[^/]+/resourcegroups/[^/]+/(?:providers/Microsoft\.MachineLearningServices/)?"
        r"workspaces/[^/]+/)?datastores/([^/]+)/(?:paths/)?(.*)",
        uri, re.IGNORECASE,
    )  # fmt: skip
    return Place(found[1], found[2].lstrip("/")) if found else None


@dataclass(slots=True)
class Datastores:
    """The datastores of a workspace; safe to use from several threads."""

    service: Service
    _open: dict[str, tuple[ContainerClient, float]] = field(default_factory=dict)
    _identity: Any = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def listing(self, place: Place, *, exact: bool = False) -> list[Blob]:
        """The blobs below a folder; with `exact`, the blob at that very path.

        Raises:
            RunnerError: the datastore cannot be read.
        """
        prefix = place.path if exact else place.folder

        def names(client: ContainerClient) -> list[Blob]:
            found = client.list_blobs(name_starts_with=prefix, include=["metadata"])
            return [Blob(str(one.name), int(one.size)) for one in found if not _is_folder(one)]

        try:
            blobs = self._ask(place.datastore, names)
        except NotFoundError:  # the container itself is made by the first who writes to it
            return []
        return [one for one in blobs if not exact or one.name == place.path]

    def read(self, datastore: str, name: str, offset: int, most: int) -> bytes:
        """Bytes of a blob from `offset` on; b"": there are none yet, or no such blob."""

        def part(client: ContainerClient) -> bytes:
            return bytes(client.download_blob(name, offset=offset, length=most).readall())

        try:
            return self._ask(datastore, part)
        except NotFoundError:
            return b""
        except BackendError as error:
            if error.code == 416:
                return b""
            raise

    def bring(self, datastore: str, blobs: Sequence[tuple[Blob, Path]]) -> None:
        """Download blobs to files of this machine, several at once; each appears whole.

        Raises:
            OSError: the disk cannot be written. RunnerError: the datastore cannot be read.
        """
        if not blobs:
            return
        with ThreadPoolExecutor(min(_AT_ONCE, len(blobs)), "download") as threads:
            for done in [threads.submit(self._bring, datastore, *one) for one in blobs]:
                done.result()

    def _bring(self, datastore: str, blob: Blob, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.parent / f".runner-{secrets.token_hex(8)}"

        def save(client: ContainerClient) -> None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(aside, flags, 0o644), "wb") as file:
                client.download_blob(blob.name).readinto(file)

        try:
            self._ask(datastore, save)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)

    def _ask(self, datastore: str, question: Callable[[ContainerClient], _T]) -> _T:
        """What the storage answers; asked once more with a fresh key if the one we have is refused."""
        from azure.core.exceptions import AzureError

        for fresh in (False, True):
            client = self._client(datastore, fresh=fresh)
            try:
                return question(client)
            except AzureError as error:
                if fresh or getattr(error, "status_code", None) not in {401, 403}:
                    raise _translated(error, datastore) from None
        raise AssertionError  # the second turn returns or raises

    def _client(self, datastore: str, *, fresh: bool) -> ContainerClient:
        with self._lock:
            client, since = self._open.get(datastore, (None, 0.0))
            if client is None or fresh or time.monotonic() - since > _KEPT_S:
                client = self._opened(datastore)
                self._open[datastore] = client, time.monotonic()
            return client

    def _opened(self, datastore: str) -> ContainerClient:
        try:
            from azure.storage.blob import ContainerClient
        except ImportError:
            raise CapabilityError(
                "Azure's storage client is not installed", "install it: pip install 'runner[azure]'"
            ) from None
        found = self.service.datastore(datastore).get("properties") or {}
        account, container = (
            str(found.get("accountName") or ""),
            str(found.get("containerName") or found.get("filesystem") or ""),
        )
        if not account or not container:
            raise BackendError(
                f"the datastore {datastore} is no blob storage ({found.get('datastoreType')}), and cannot be read from here",
                "write outputs to a blob datastore, or fetch them with Azure's own tools",
            )
        endpoint = str(found.get("endpoint") or "core.windows.net")
        given = self._secret(
            datastore, str((found.get("credentials") or {}).get("credentialsType") or "None"), endpoint
        )
        return ContainerClient(f"https://{account}.blob.{endpoint}", container, credential=given, **_RETRIES)

    def _secret(self, datastore: str, kind: str, endpoint: str) -> Any:
        """A SAS, an account key, or whoever we are signed in as."""
        if kind != "None":
            from azure.core.credentials import AzureSasCredential

            given = self.service.secrets(datastore)
            if sas := given.get("sasToken"):
                return AzureSasCredential(str(sas).lstrip("?"))
            if key := given.get("key"):
                return str(key)
        if _STORAGE.fullmatch(endpoint) is None:
            raise BackendError(f"the datastore {datastore} is at {endpoint}, which is not Azure's, and gets no token")
        self._identity = self._identity or credential(self.service.target.auth)
        return self._identity

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for client, _ in self._open.values():
                with suppress(Exception):
                    client.close()
            self._open.clear()
            if self._identity is not None:
                self._identity.close()
                self._identity = None


def inside(root: Path, relative: str) -> Path | None:
    """Where a blob of that name goes below a folder; None: its name is none of a file in there.

    Names with `..`, absolute ones, and such with backslashes, control characters or parts that are too long are none.
    """
    parts = PurePosixPath(relative).parts
    plain = bool(parts) and not relative.startswith("/") and not relative.endswith("/") and "//" not in relative
    if not plain or "\\" in relative or ".." in parts or re.search(r"[\x00-\x1f\x7f]", relative):
        return None
    if any(len(os.fsencode(part)) > 255 for part in parts):
        return None
    return root.joinpath(*parts)


def targets(blobs: Sequence[Blob], prefix: str, root: Path) -> tuple[list[tuple[Blob, Path]], list[str]]:
    """Where each blob below a prefix goes, and the names of those that go nowhere: bad ones, and a file where a folder is.

    Storage knows no folders, so a blob `a` may stand beside `a/b`; then the file is left out.
    """
    places = [(blob, inside(root, blob.name.removeprefix(prefix))) for blob in blobs]
    folders = {parent for _, place in places if place is not None for parent in place.parents}
    good = [(blob, place) for blob, place in places if place is not None and place not in folders]
    taken = {blob.name for blob, _ in good}
    return good, [blob.name for blob in blobs if blob.name not in taken]


def _is_folder(blob: Any) -> bool:
    """A data lake keeps folders as empty blobs with a mark; others end with a slash."""
    marked = str((blob.metadata or {}).get("hdi_isfolder", "")).lower() == "true"
    return marked or (str(blob.name).endswith("/") and not blob.size)


def _translated(error: Any, datastore: str) -> RunnerError:
    """One of Azure's errors as one of runner's, without the address: it may hold a signature."""
    from azure.core import exceptions as azure

    status = getattr(error, "status_code", None)
    code = str(getattr(error, "error_code", None) or status or type(error).__name__)
    connection = (azure.ServiceRequestError, azure.ServiceResponseError, azure.IncompleteReadError)
    if isinstance(error, connection) or status in {408, 429, 500, 502, 503, 504}:
        return UnavailableError(
            f"the storage of the datastore {datastore} cannot be reached ({code})", "check network and proxy"
        )
    if status == 404 or isinstance(error, azure.ResourceNotFoundError):
        return NotFoundError(f"it is not in the datastore {datastore} ({code})")
    if status in {401, 403} or isinstance(error, azure.ClientAuthenticationError):
        return BackendError(
            f"the datastore {datastore} may not be read ({code})",
            "this account needs the role Storage Blob Data Reader on its storage account; and check its network rules",
            code=403,
        )
    return BackendError(f"the datastore {datastore} cannot be read ({code})", code=status)
