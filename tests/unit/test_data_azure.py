"""Azure's storage: files, folders, uploads, who signs in, against Azurite; what is refused before anything is sent."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.data import Place, fetch, publish, resolve
from runner.data.azure import CONNECTION, Address, Blobs, known_host, parse
from runner.data.mltable import evaluated
from runner.errors import BackendError, CapabilityError, NotFoundError, RunnerError, SpecError
from runner.spec.config import Config
from runner.spec.mappings import Location
from tests.unit.azure_cloud import Cloud, certificate, cloud
from tests.unit.azurite import ACCOUNT, azurite

if TYPE_CHECKING:
    from azure.storage.blob import ContainerClient

pytestmark = pytest.mark.xdist_group("azurite")
LAKE = f"abfss://data@{ACCOUNT}.dfs.core.windows.net"


@pytest.fixture(scope="module")
def connection() -> Iterator[str]:
    with azurite() as found:
        yield found


@pytest.fixture
def container(connection: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ContainerClient]:
    """A fresh container `data`; its key is in the environment."""
    from azure.storage.blob import ContainerClient

    monkeypatch.setenv(CONNECTION, connection)
    with ContainerClient.from_connection_string(connection, "data") as client:
        client.create_container()
        yield client
        client.delete_container()


class Cache:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def __call__(self, place: Place | str, folder: bool | None = None) -> Path:
        found = resolve(place, Config()) if isinstance(place, str) else place
        return fetch(found, self.folder, self.said.append, folder=folder)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_file(container: ContainerClient, cache: Cache) -> None:
    body = os.urandom(9 << 20)
    container.upload_blob("a/b c.bin", body)
    found = cache(f"{LAKE}/a/b%20c.bin")
    assert (found.name, found.read_bytes()) == ("b c.bin", body)
    assert cache(f"wasbs://data@{ACCOUNT}.blob.core.windows.net/a/b%20c.bin").samefile(found)
    lines = len(cache.said)
    assert cache(f"{LAKE}/a/b%20c.bin") == found
    assert len(cache.said) == lines
    container.upload_blob("a/b c.bin", b"", overwrite=True)
    assert cache(f"{LAKE}/a/b%20c.bin").read_bytes() == b""


def test_a_folder_fetches_what_changed(container: ContainerClient, cache: Cache) -> None:
    for name in ("f/1", "f/sub/2", "f/3", "fx"):
        container.upload_blob(name, name.encode())
    container.upload_blob("f/sub", b"", metadata={"hdi_isfolder": "true"})
    first = cache(f"{LAKE}/f")
    assert (first.name, tree(first)) == ("f", {"1": b"f/1", "3": b"f/3", "sub/2": b"f/sub/2"})
    assert "3 of 3 files" in cache.said[0]
    assert cache(f"{LAKE}/f/") == first
    assert cache(f"{LAKE}/fx").is_file()
    container.upload_blob("f/1", b"new", overwrite=True)
    container.delete_blob("f/3")
    second = cache(f"{LAKE}/f")
    assert tree(second) == {"1": b"new", "sub/2": b"f/sub/2"}
    assert "1 of 2 files" in cache.said[-1]
    assert tree(first)["1"] == b"f/1", "what a step was given stays as it was"
    (second / "left by a step").write_text("x")
    assert tree(cache(f"{LAKE}/f")) == {"1": b"new", "sub/2": b"f/sub/2"}


def test_a_download_of_a_blob_goes_on(container: ContainerClient, cache: Cache, tmp_path: Path) -> None:
    from runner.data.download import download

    body = os.urandom(1 << 20)
    container.upload_blob("a", body)
    etag = container.get_blob_client("a").get_blob_properties().etag
    source = Blobs(f"{LAKE}/a").file()
    stream = source.open(None, 1000, etag)
    assert stream is not None
    assert (stream.start, b"".join(stream.chunks)) == (1000, body[1000:])
    aside = tmp_path / "aside"
    aside.write_bytes(bytes(1000))
    (tmp_path / "aside.json").write_text('"another"')
    assert download(source, aside, None, shown="a", say=cache.said.append) is not None
    assert aside.read_bytes() == body


def test_what_is_not_there_or_of_another_kind(container: ContainerClient, cache: Cache) -> None:
    container.upload_blob("f/1", b"x")
    for uri in (f"{LAKE}/no", f"{LAKE}/no/"):
        with pytest.raises(NotFoundError, match="is not there"):
            cache(uri)
    with pytest.raises(NotFoundError, match="is a folder, and a file is wanted"):
        cache(f"{LAKE}/f", folder=False)


def test_names_that_lead_out_of_a_folder_are_refused(container: ContainerClient, cache: Cache) -> None:
    container.upload_blob("f/a\\..\\x", b"x")
    container.upload_blob("f//x", b"x")
    with pytest.raises(BackendError, match="cannot be a file's name here"):
        cache(f"{LAKE}/f")


def test_files_and_folders_are_published(container: ContainerClient, cache: Cache, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (output / "sub").mkdir(parents=True)
    (output / "a").write_text("1")
    (output / "sub" / "b").write_text("2")
    (output / "link").symlink_to("/etc/passwd")
    config = Config(datastores={"lake": Location(f"{LAKE}/raw")})
    publish(output, resolve("azureml://datastores/lake/paths/run-1/", config), cache.said.append)
    publish(output / "a", resolve("azureml://datastores/lake/paths/run-1/", config), cache.said.append)
    publish(output / "a", resolve("azureml://datastores/lake/paths/single.txt", config), cache.said.append)
    names = [blob.name for blob in container.list_blobs()]
    assert sorted(names) == ["raw/run-1/a", "raw/run-1/sub/b", "raw/single.txt"]
    assert tree(cache(resolve("azureml://datastores/lake/paths/run-1", config))) == {"a": b"1", "sub/b": b"2"}


def test_an_mltable_of_remote_paths(container: ContainerClient, cache: Cache, tmp_path: Path) -> None:
    for name in ("t/a.csv", "t/b.txt", "t/deep/c.csv", "u/d.csv", "e.csv"):
        container.upload_blob(name, name.encode())
    folder = tmp_path / "table"
    folder.mkdir()
    (folder / "MLTable").write_text(
        f"paths:\n  - pattern: {LAKE}/t/**/*.csv\n  - folder: azureml://datastores/lake/paths/u\n  - file: {LAKE}/e.csv\n"
    )
    config = Config(datastores={"lake": Location(LAKE)})
    found = evaluated(folder, config, cache.folder, cache.said.append)
    assert set(tree(found)) == {"a.csv", "deep/c.csv", "u/d.csv", "e.csv"}
    assert not any("b.txt" in line for line in cache.said)
    (folder / "MLTable").write_text(f"paths:\n  - pattern: {LAKE}/t/*.nothing\n")
    with pytest.raises(NotFoundError):
        evaluated(folder, config, cache.folder, cache.said.append)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity to be found, and nothing beyond this machine to be reached."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("runner.data.azure._RETRIES", {"retry_total": 0})


@pytest.mark.usefixtures("nobody")
def test_a_connection_string_of_another_account_is_not_used(
    connection: str, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONNECTION, connection)
    with pytest.raises(RunnerError, match=r"other\.blob\.core\.windows\.net cannot be reached") as caught:
        cache("abfss://data@other.dfs.core.windows.net/a?sig=secret")
    assert "secret" not in str(caught.value)


@pytest.fixture
def signed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: None) -> Iterator[tuple[Cloud, ContainerClient]]:
    """Azure's cloud by its own names, with a managed identity and no key; a private container `data`."""
    from azure.storage.blob import ContainerClient

    cert, key = certificate(tmp_path, f"{ACCOUNT}.blob.core.windows.net")
    with azurite("--oauth", "basic", "--cert", str(cert), "--key", str(key)) as connection:
        port = int(connection.partition("127.0.0.1:")[2].partition("/")[0])
        with cloud(port) as found:
            monkeypatch.setenv("NO_PROXY", "127.0.0.1")
            monkeypatch.setenv("HTTPS_PROXY", found.proxy)
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
            monkeypatch.setenv("SSL_CERT_FILE", str(cert))
            monkeypatch.setenv("IDENTITY_ENDPOINT", found.identity)
            monkeypatch.setenv("IDENTITY_HEADER", "h")
            direct = ContainerClient.from_connection_string(connection, "data", connection_verify=False)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                direct.create_container()
                direct.upload_blob("f/a.csv", b"private")
            yield found, direct


def test_the_user_s_own_sign_in_reads_what_is_private(signed_in: tuple[Cloud, ContainerClient], cache: Cache) -> None:
    found, _ = signed_in
    assert cache(f"{LAKE}/f/a.csv").read_bytes() == b"private"
    assert set(found.resources) == {"https://storage.azure.com"}
    assert tree(cache(f"https://{ACCOUNT}.blob.core.windows.net/data/f/")) == {"a.csv": b"private"}
    assert cache(f"https://{ACCOUNT}.blob.core.windows.net/data/f/a.csv").read_bytes() == b"private"
    assert set(found.connected) == {f"{ACCOUNT}.blob.core.windows.net:443"}, "and nothing else was asked"


@pytest.mark.usefixtures("container")
def test_a_refusal_says_how_to_sign_in(connection: str, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    key = connection.partition("AccountKey=")[2].partition(";")[0]
    monkeypatch.setenv(CONNECTION, connection.replace(key, "c2VjcmV0c2VjcmV0"))
    with pytest.raises(BackendError) as caught:
        cache(f"{LAKE}/a")
    assert f"{LAKE}/a may not be used" in str(caught.value)
    assert "sign in: az login" in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("a.blob.core.windows.net", True), ("a.blob.core.chinacloudapi.cn", True), ("a.z3.blob.storage.azure.net", True),
        ("a.blob.core.windows.net.evil.example", False), ("evil.example", False), ("evilcore.windows.net.", False),
    ],
)  # fmt: skip
def test_a_token_goes_to_azure_alone(host: str, sent: bool) -> None:
    ways = list(Blobs(f"https://{host}/c/x")._ways(anonymous=True))
    assert [client.credential is not None for client, _ in ways] == ([False, True] if sent else [False])


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("abfss://fs@acc.dfs.core.windows.net/a%20b/c/", Address("acc.blob.core.windows.net", "fs", "a b/c")),
        ("wasbs://c@Acc.blob.core.windows.net", Address("acc.blob.core.windows.net", "c", "")),
        ("wasbs://acc.blob.core.windows.net/c/p", Address("acc.blob.core.windows.net", "c", "p")),
        ("https://acc.blob.core.windows.net/c/p?sig=x", Address("acc.blob.core.windows.net", "c", "p", "sig=x")),
    ],
)  # fmt: skip
def test_addresses(url: str, address: Address) -> None:
    assert parse(url) == address


def test_addresses_without_a_container() -> None:
    with pytest.raises(BackendError, match="names no container"):
        parse("https://acc.blob.core.windows.net/?sig=secret")
    assert known_host("https://a.blob.core.windows.net/c")
    assert not known_host("https://blob.example.com/c")


def test_gen1_is_gone(cache: Cache) -> None:
    with pytest.raises(BackendError, match="has been shut down"):
        cache("adl://a.azuredatalakestore.net/x")


_WITHOUT = """
import sys
from pathlib import Path
sys.modules["azure.storage.blob"] = sys.modules["fsspec"] = None
from runner.data import fetch, resolve
from runner.errors import CapabilityError
from runner.spec.config import Config
try:
    fetch(resolve(sys.argv[1], Config()), Path(sys.argv[2]), print)
except CapabilityError as error:
    print(error)
"""


@pytest.mark.parametrize(("uri", "extra"), [(f"{LAKE}/a", "azure"), ("s3://b/a", "s3"), ("gs://b/a", "gcs")])
def test_a_missing_client_is_named(tmp_path: Path, uri: str, extra: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, uri, tmp_path / "cache"], capture_output=True, text=True, check=True
    )
    assert f"pip install 'runner[{extra}]'" in done.stdout


def test_http_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(CapabilityError, match="nothing can be written to addresses of the kind https:") as caught:
        publish(tmp_path / "a", resolve("https://example.com/a?sig=secret", Config()), lambda _: None)
    assert "secret" not in str(caught.value)
    with pytest.raises(SpecError):
        resolve("azureml://datastores/no/paths/a", Config())
