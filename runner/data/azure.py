"""Azure's blob storage and data lake (one service, two addresses): files, folders and uploads, by azure-storage-blob.

Who signs in, the first that is there: AZURE_STORAGE_CONNECTION_STRING if it is that account's, a SAS in the address,
nobody (public containers), azure-identity's DefaultAzureCredential. The last goes to hosts of Azure alone.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from runner.data.place import without_login
from runner.data.source import Entry, NotAFileError, Stream, TransientError
from runner.errors import BackendError, CapabilityError, NotFoundError, RunnerError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from azure.storage.blob import BlobProperties, ContainerClient

_T = TypeVar("_T")
CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
_INSTALL = "pip install 'runner[azure]'"
_CLOUDS = {
    ".core.windows.net": "login.microsoftonline.com",
    ".storage.azure.net": "login.microsoftonline.com",
    ".fabric.microsoft.com": "login.microsoftonline.com",
    ".core.usgovcloudapi.net": "login.microsoftonline.us",
    ".core.chinacloudapi.cn": "login.chinacloudapi.cn",
}
"""End of a storage host → who signs in there. No other host is sent a token: an address may be anybody's."""
_RETRIES: dict[str, Any] = {
    "retry_total": 4,
    "initial_backoff": 1,
    "increment_base": 2,
    "connection_timeout": 20,
    "read_timeout": 60,
}


def known_host(url: str) -> bool:
    """Whether a URL is one of Azure's storage."""
    host = urlsplit(url).hostname or ""
    return host.endswith(tuple(_CLOUDS)) and bool({"blob", "dfs"} & set(host.split(".")))


@dataclass(frozen=True, slots=True)
class Address:
    """A blob's or folder's: host of the blob service, container, path without slashes around it."""

    host: str
    container: str
    path: str
    sas: str = ""

    @property
    def account(self) -> str:
        """The storage account's name."""
        return self.host.partition(".")[0]


def parse(url: str) -> Address:
    """`abfss://FS@ACCOUNT.dfs.HOST/PATH`, `wasbs://CONTAINER@ACCOUNT.blob.HOST/PATH`, `https://ACCOUNT.blob.HOST/CONTAINER/PATH`.

    Raises:
        BackendError: no container in it.
    """
    parts = urlsplit(url)
    container, at, host = parts.netloc.rpartition("@")
    path = unquote(parts.path).strip("/")
    if not at or parts.scheme.lower() in {"http", "https"}:
        host = parts.netloc.rpartition("@")[2]
        container, _, path = path.partition("/")
    if not container or not host:
        shown = without_login(url)
        raise BackendError(
            f"{shown} names no container", "expected abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH"
        )
    return Address(host.lower().replace(".dfs.", ".blob.", 1), container, path, parts.query)


class Blobs:
    """What is at an address of Azure's storage: a file, or a folder with all below it; and a target of uploads."""

    def __init__(self, url: str) -> None:
        try:
            import azure.storage.blob  # noqa: F401
        except ImportError:
            raise CapabilityError(
                f"{without_login(url)} needs Azure's client, which is not installed", _INSTALL
            ) from None
        for name in ("azure", "msal"):  # they would warn on stderr of each identity that is not there
            logging.getLogger(name).addHandler(logging.NullHandler())
        self.shown, self.address = without_login(url), parse(url)
        self._way: ContainerClient | None = None

    def file(self) -> _Blob:
        """The file at the address."""
        return _Blob(self, self.address.path)

    def listing(self) -> Mapping[str, Entry]:
        """See `Tree.listing`."""
        prefix = self.address.path + "/" if self.address.path else ""

        def names(client: ContainerClient) -> dict[str, Entry]:
            found = {}
            for blob in client.list_blobs(name_starts_with=prefix, include=["metadata"]):
                relative = str(blob.name).removeprefix(prefix)
                if relative and not _is_folder(blob):
                    found[relative] = Entry(_etag(blob), int(blob.size), _Blob(self, str(blob.name)))
            return found

        return self.ask(names)

    def upload(self, path: Path, relative: str) -> None:
        """See `Target.upload`."""
        name = "/".join(part for part in (self.address.path, relative) if part)

        def send(client: ContainerClient) -> None:
            with path.open("rb") as file:
                client.upload_blob(name, file, length=path.stat().st_size, overwrite=True, max_concurrency=4)

        self.ask(send, anonymous=False)

    def ask(self, question: Callable[[ContainerClient], _T], *, anonymous: bool = True) -> _T:
        """What the service answers, by the first way to sign in that it takes.

        Raises:
            NotFoundError, BackendError, UnavailableError: it does not. TransientError: the connection broke.
        """
        from azure.core.exceptions import AzureError

        if self._way is not None:
            try:
                return question(self._way)
            except AzureError as error:
                raise self.translated(error) from None
        problem: Exception | None = None
        for client, alone in self._ways(anonymous=anonymous):
            try:
                answer = question(client)
            except AzureError as error:
                translated = self.translated(error)
                if not isinstance(translated, (NotFoundError, BackendError)) or isinstance(
                    translated, UnavailableError
                ):
                    raise translated from None
                # Nobody is told by a private container that it is not there; so an account's word counts more.
                problem = translated
                if alone:
                    break
            else:
                self._way = client
                return answer
        raise problem or self._no_way()

    def _ways(self, *, anonymous: bool) -> Iterator[tuple[ContainerClient, bool]]:
        """(client, whether no other is to be asked after it)."""
        from azure.storage.blob import ContainerClient

        address = self.address
        given = os.environ.get(CONNECTION, "")
        if _account_in(given) == address.account:
            try:
                client = ContainerClient.from_connection_string(given, address.container, **_RETRIES)
            except ValueError:
                raise BackendError(f"{CONNECTION} is no connection string", "copy it whole from the portal") from None
            yield client, True
            return
        url = f"https://{address.host}"
        if re.search(r"(^|&)sig=", address.sas):
            from azure.core.credentials import AzureSasCredential

            yield ContainerClient(url, address.container, credential=AzureSasCredential(address.sas), **_RETRIES), True
            return
        if anonymous:
            yield ContainerClient(url, address.container, **_RETRIES), False
        if (authority := _authority(address.host)) is not None and (credential := _credential(authority)) is not None:
            yield ContainerClient(url, address.container, credential=credential, **_RETRIES), False

    def translated(self, error: Any) -> Exception:
        """One of Azure's errors as one of runner's; no login in it: Azure's texts may hold the address."""
        from azure.core import exceptions as azure

        if isinstance(error, azure.ClientAuthenticationError) and error.status_code is None:
            return BackendError(f"{self.shown}: no sign-in to Azure works here", *self._hints())
        status = getattr(error, "status_code", None)
        code = str(getattr(error, "error_code", None) or status or type(error).__name__)
        if isinstance(error, (azure.IncompleteReadError, azure.StreamClosedError, azure.StreamConsumedError)):
            return TransientError("the connection broke")
        if isinstance(error, (azure.ServiceRequestError, azure.ServiceResponseError)):
            return UnavailableError(f"{self.address.host} cannot be reached", "check the address, network and proxy")
        if status == 412 or isinstance(error, azure.ResourceModifiedError):
            return TransientError("it changed while it was read")
        if status in {401, 403, 409}:
            return BackendError(f"{self.shown} may not be used ({code})", *self._hints(), code=status)
        if status == 404:
            return NotFoundError(f"{self.shown} is not there, or not for everybody ({code})", *self._hints())
        return BackendError(f"{self.shown} cannot be had ({code})", code=status)

    def _no_way(self) -> RunnerError:
        return BackendError(f"{self.shown} needs a sign-in, and there is none", *self._hints())

    def _hints(self) -> tuple[str, ...]:
        account = self.address.account
        return (
            "check the address; sign in: az login (or a managed identity, AZURE_CLIENT_ID and its secret)",
            f"and that this account has a role such as Storage Blob Data Reader on {account}",
            f"or set {CONNECTION} of {account}",
        )


class _Blob:
    """One blob as a `Source`."""

    def __init__(self, blobs: Blobs, name: str) -> None:
        self._blobs, self._name = blobs, name

    def open(self, known: str | None, offset: int, part: str) -> Stream | None:
        """See `Source.open`."""
        if not self._name:
            raise NotAFileError
        try:
            properties = self._blobs.ask(lambda client: client.get_blob_client(self._name).get_blob_properties())
        except NotFoundError:
            if self._blobs.listing():
                raise NotAFileError from None
            raise
        if _is_folder(properties):
            raise NotAFileError
        etag, size = _etag(properties), int(properties.size)
        if etag == known:
            return None
        start = offset if part == etag and offset < size else 0
        return Stream(etag, size, start, self._chunks(etag, start) if start < size else iter(()))

    def _chunks(self, etag: str, start: int) -> Iterator[bytes]:
        from azure.core import MatchConditions
        from azure.core.exceptions import AzureError

        try:
            yield from self._blobs.ask(
                lambda client: client.get_blob_client(self._name).download_blob(
                    start, None, etag=etag, match_condition=MatchConditions.IfNotModified
                )
            ).chunks()
        except AzureError as error:
            raise self._blobs.translated(error) from None


def _is_folder(blob: BlobProperties) -> bool:
    """The data lake keeps folders as empty blobs with a mark."""
    return str((blob.metadata or {}).get("hdi_isfolder", "")).lower() == "true"


def _etag(blob: BlobProperties) -> str:
    """In quotes, as headers have it; listings leave them out."""
    return '"' + str(blob.etag).strip('"') + '"'


def _account_in(connection: str) -> str | None:
    found = re.search(r"(?:^|;)\s*AccountName=([^;]+)", connection, re.IGNORECASE)
    if found is None:
        found = re.search(r"(?:^|;)\s*BlobEndpoint=https?://([^./;]+)\.", connection, re.IGNORECASE)
    return found[1].lower() if found else None


def _authority(host: str) -> str | None:
    return next((authority for end, authority in _CLOUDS.items() if host.partition(":")[0].endswith(end)), None)


def _credential(authority: str) -> Any:
    """Whatever identity is here, of that cloud; None where azure-identity is not installed."""
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        return None
    return DefaultAzureCredential(**({} if os.environ.get("AZURE_AUTHORITY_HOST") else {"authority": authority}))
