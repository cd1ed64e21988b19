"""URI → place: every kind, mirrors, datastores, assets; what leads out, what is not known, what is secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data import resolve
from runner.data.place import identity, without_login
from runner.errors import SpecError
from runner.job import DataType, Where
from runner.spec.config import Config
from runner.spec.mappings import Location

LONG = "azureml://subscriptions/s/resourcegroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    store = str(tmp_path / "store")
    return Config(
        datastores={"blob": Location(store), "lake": Location("abfss://fs@a.dfs.core.windows.net/raw")},
        data={
            "titanic": Location("/data/titanic.csv", DataType.URI_FILE),
            "nested:2": Location("azureml://datastores/blob/paths/n"),
            "circle": Location("azureml:circle:1"),
            "azureml://registries/r/data/d/*": Location("/data/r"),
        },
        urls={
            "https://h.example.com/": Location(str(tmp_path / "mirror")),
            "https://h.example.com/big": Location("s3://bucket/big"),
            "wasbs://c@a.blob.core.windows.net/": Location("https://m.example.com/c"),
            "https://round.example.com/a": Location("https://round.example.com/a/b"),
        },
    )


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("/a/b c", "/a/b c"),
        ("file:///a/b%20c", "/a/b c"),
        ("file://localhost/a", "/a"),
        ("https://other.example.com/x?y=1", "https://other.example.com/x?y=1"),
        ("https://h.example.com/a%20b/c", "{tmp}/mirror/a b/c"),
        ("HTTPS://H.example.com/a?sig=x", "{tmp}/mirror/a"),
        ("https://h.example.com/big/x.csv?v=2&sig=x", "s3://bucket/big/x.csv?v=2"),
        ("https://h.example.com/bigger", "{tmp}/mirror/bigger"),
        ("wasbs://c@a.blob.core.windows.net/d/e", "https://m.example.com/c/d/e"),
        ("azureml:titanic:1", "/data/titanic.csv"),
        ("azureml:titanic@latest", "/data/titanic.csv"),
        ("azureml:nested:2", "{tmp}/store/n"),
        ("azureml://datastores/blob/paths/a/b.csv", "{tmp}/store/a/b.csv"),
        ("azureml://datastores/blob/paths/a%2Fb%20c", "{tmp}/store/a/b c"),
        ("azureml://datastores/blob/paths/", "{tmp}/store"),
        ("azureml://datastores/blob", "{tmp}/store"),
        ("azureml://datastores/lake/paths/a/", "abfss://fs@a.dfs.core.windows.net/raw/a/"),
        (f"{LONG}/datastores/blob/paths/a", "{tmp}/store/a"),
        (f"{LONG}/data/titanic/versions/3", "/data/titanic.csv"),
        ("azureml://registries/r/data/d/versions/1", "/data/r"),
        ("s3://bucket/key", "s3://bucket/key"),
        ("gs://bucket/key", "gs://bucket/key"),
        ("adl://a.azuredatalakestore.net/x", "adl://a.azuredatalakestore.net/x"),
    ],
)  # fmt: skip
def test_where_a_uri_leads(config: Config, tmp_path: Path, uri: str, target: str) -> None:
    place = resolve(uri, config)
    assert (str(place.path) if place.path else place.url) == target.format(tmp=tmp_path)
    assert place.type == (DataType.URI_FILE if "titanic" in uri else None)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("azureml:unknown:1", 'is not mapped\n  runner.yaml: data: {"azureml:unknown:1": ./data}'),
        ("azureml:nested:3", "azureml:nested:3 is not mapped"),
        ("azureml://registries/other/data/titanic/versions/1", "is not mapped"),
        ("azureml://jobs/j/outputs/o", "is not mapped"),
        ("azureml://datastores/blub/paths/a", "the datastore blub is not mapped (runner.yaml has blob)"),
        ("azureml://datastores/blub/paths/a", '\n  runner.yaml: datastores: {"blub": ./data}'),
        ("azureml://datastores/blob/paths/../a", "leads out of where it begins"),
        ("azureml://datastores/blob/paths/a/%2e%2E/b", "leads out"),
        ("azureml://datastores/blob/paths/a%2F..%2F..", "leads out"),
        ("azureml://datastores/lake/paths/../b", "leads out"),
        ("https://h.example.com/../../etc/passwd", "leads out"),
        ("azureml:circle:1", "lead in a circle"),
        ("https://round.example.com/a", "lead in a circle"),
        ("wasbs://x@a.blob.core.windows.net/*.csv", "patterns stand in an MLTable only"),
        ("abfs", "neither an absolute path nor a URL"),
        ("htps://x/y?sig=secret", "addresses of the kind htps: are not known\n  did you mean https:?"),
        ("file://host/x", "names no file of this machine"),
        ("/a\0b", "no NUL"),
        ("https:///x", "names no host"),
        ("https://[x/y", "names no host"),
        ("https://h:port/y", "names no host"),
        ("https://h h/y", "names no host"),
    ],
)  # fmt: skip
def test_what_leads_nowhere(config: Config, uri: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(uri, config, where=Where("job.yml", 7, "inputs.data"))
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert str(caught.value).startswith("job.yml:7: inputs.data: ")


def test_a_link_does_not_lead_out_of_a_datastore(config: Config, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "store" / "out").symlink_to("../secret")
    (tmp_path / "store" / "loop").symlink_to("loop")
    (tmp_path / "store" / "file").write_text("x")
    (tmp_path / "store" / "within").symlink_to("file")
    assert resolve("azureml://datastores/blob/paths/within", config).path == tmp_path / "store" / "within"
    for name in ("out", "loop"):
        with pytest.raises(SpecError, match="a link leads out"):
            resolve(f"azureml://datastores/blob/paths/{name}", config)


@given(st.text(alphabet="a./%2eEfF\\", max_size=20))
def test_no_path_leads_out_of_a_datastore(path: str) -> None:
    config = Config(datastores={"blob": Location("/srv/store")})
    try:
        place = resolve(f"azureml://datastores/blob/paths/{path}", config)
    except SpecError:
        return
    assert place.path is not None
    assert place.path.is_relative_to("/srv/store")
    assert ".." not in place.path.parts


@given(
    st.sampled_from(["https:", "abfss:", "azureml:", "file:", "s3:", "azureml://datastores/", ""]), st.text(max_size=20)
)
def test_any_text_is_a_place_or_an_error(scheme: str, text: str) -> None:
    for uri in (f"{scheme}{text}", f"{scheme}//{text}"):
        try:
            place = resolve(uri, Config(datastores={"blob": Location("/srv/store")}))
        except SpecError:
            continue
        assert (place.path is None) is bool(place.url)
        assert place.name
        assert identity(place.url) is not None


def test_logins_are_neither_shown_nor_kept() -> None:
    url = "https://u:pw@h.example.com/a?version=2&sv=1&sig=secret&X-Amz-Signature=secret#secret"
    place = resolve(url, Config())
    assert place.url == url
    for text in (str(place), repr(place), place.uri, without_login(url), identity(url)):
        assert "secret" not in text
        assert "pw" not in text
    assert identity(url) == "https://h.example.com/a?version=2"
    assert identity("https://h/a?version=2") != identity("https://h/a?version=3")
