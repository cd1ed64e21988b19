"""Conda packages on this machine: what is chosen, from where, with which words when it cannot be; and having it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from runner.builder.conda.client import resolve, without_secrets
from runner.builder.conda.fetch import environment, fetch, inputs
from runner.builder.conda.solve import refuse_second_r, solve
from runner.errors import BuildError, SpecError
from runner.spec.libs import Libs, Package
from runner.spec.lock import Base, Lock, Locked, parse
from tests.e2e.build_material import _Handler, served
from tests.e2e.conda_material import STANDARD, Conda, make_channel


def asked(*specs: str) -> list[Package]:
    """Declared packages, the first in line 3."""
    names = [spec.rpartition("::")[2].replace("=", " ").replace(">", " ").split()[0] for spec in specs]
    return [
        Package("conda", name, spec, "libs.yaml", line, "conda.packages")
        for line, (name, spec) in enumerate(zip(names, specs, strict=True), 3)
    ]


def versions(locked: tuple[Locked, ...]) -> dict[str, str]:
    return {each.name: each.version for each in locked}


@pytest.fixture(name="cache", autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RUNNER_CONDA", "NETRC", "RATTLER_AUTH_FILE", "CONDA_OVERRIDE_CUDA", "CONDA_OVERRIDE_GLIBC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RUNNER_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    return make_channel(tmp_path / "channels" / "own")


@pytest.fixture(name="channel")
def _channel(folder: Path) -> str:
    return f"file://{folder}"


# -- channels -------------------------------------------------------------------------------------------------------


def test_names_of_channels_become_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    def urls(*names: str) -> list[str]:
        return [channel.url for channel in resolve(names)]

    assert urls() == urls("conda-forge", "nodefaults") == ["https://conda.anaconda.org/conda-forge"]
    assert urls("defaults") == ["https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r"]
    monkeypatch.setenv("RUNNER_CONDA", "http://127.0.0.1:5/conda/")
    assert urls("conda-forge", "https://a.example/b/", "conda-forge", "c/label/rc") == [
        "http://127.0.0.1:5/conda/conda-forge",
        "https://a.example/b",
        "http://127.0.0.1:5/conda/c/label/rc",
    ]


def test_credentials_leave_the_address() -> None:
    first, second = resolve(["https://me:p%40ss@a.example:8/x", "https://a.example/t/to-ken/x"])
    assert (first.url, first.authorization) == ("https://a.example:8/x", "Basic bWU6cEBzcw==")
    assert (second.url, second.private) == ("https://a.example/x", "https://a.example/t/to-ken/x")
    text = without_secrets("at https://me:secret@a.example/t/secret/x and http://b/c")
    assert text == "at https://***@a.example/t/***/x and http://b/c"


# -- which packages -------------------------------------------------------------------------------------------------


def test_solution_has_all_that_is_needed_and_where_it_is_from(folder: Path, channel: str) -> None:
    found = solve(asked("rcpure", "rctool=1.2"), [channel])

    assert versions(found) == {"python": "3.11.2", "rcdata": "2.0", "rcpure": "0.5", "rctool": "1.2"}
    tool = found[-1]
    assert tool.kind == "conda"
    assert tool.build == "h0_0"
    assert tool.source == f"{channel}/linux-64/rctool-1.2-h0_0.conda"
    repodata = json.loads((folder / "linux-64" / "repodata.json").read_text())["packages.conda"]
    assert tool.hashes == (f"sha256:{repodata['rctool-1.2-h0_0.conda']['sha256']}",)
    lock = Lock(Base("b", f"sha256:{'0' * 64}"), "linux/amd64", "3.11", "", {}, found)
    assert parse(lock.to_text(), "libs.lock").of("conda") == found


def test_locked_versions_are_kept_until_upgraded_or_gone(folder: Path, channel: str) -> None:
    old = solve(asked("rcdata=1"), [channel])
    assert versions(solve(asked("rctool"), [channel], preferred=old)) == {"rcdata": "1.0", "rctool": "1.2"}

    upgraded = solve(asked("rctool"), [channel], preferred=old, upgrade=frozenset({"rcdata"}))
    assert versions(upgraded)["rcdata"] == "2.0"
    assert versions(solve(asked("rctool", "rcdata>=2"), [channel], preferred=old))["rcdata"] == "2.0"
    changed = [replace(each, hashes=("sha256:" + "0" * 64,)) for each in old]
    assert versions(solve(asked("rctool"), [channel], preferred=changed))["rcdata"] == "2.0"
    make_channel(folder, tuple(each for each in STANDARD if each.stem != "rcdata-1.0-h0_0"))
    assert versions(solve(asked("rctool"), [channel], preferred=old))["rcdata"] == "2.0"


def test_first_channel_that_has_a_package_is_the_only_one_for_it(tmp_path: Path, channel: str) -> None:
    other = make_channel(tmp_path / "other", (Conda("rcdata", "0.1", noarch="generic"),))
    found = solve(asked("rcdata", "rcadd"), [f"file://{other}", channel])
    assert versions(found) == {"rcdata": "0.1", "rcadd": "1.0"}
    with pytest.raises(SpecError, match=r"libs\.yaml:3: conda.packages: rctool cannot be installed"):
        solve(asked("rctool"), [f"file://{other}", channel])


def test_a_package_may_name_its_channel(folder: Path, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_CONDA", f"file://{folder.parent}")
    empty = make_channel(folder.parent / "empty", ())
    found = solve(asked("own::rcdata=1"), [f"file://{empty}"])
    assert [(each.name, each.version, each.source.startswith(channel)) for each in found] == [("rcdata", "1.0", True)]


def test_python_asked_for_binds_the_one_of_conda(channel: str) -> None:
    assert "python" in versions(solve(asked("rcpure"), [channel], python="3.11"))
    assert versions(solve(asked("rcadd"), [channel], python="3.12")) == {"rcadd": "1.0"}
    with pytest.raises(SpecError, match=r":3: .*rcpure cannot be installed with the rest") as caught:
        solve(asked("rcpure"), [channel], python="3.12")
    assert any("python 3.12.*" in hint for hint in caught.value.hints)


def test_the_image_decides_what_the_system_has_not_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = (
        Conda("new", "2.0", ("__glibc >=2.35",)),
        Conda("new", "1.0", ("__glibc >=2.17", "__linux", "__unix", "__archspec 1 x86_64")),
        Conda("gpu", "1.0", ("__cuda >=12",)),
    )
    channel = f"file://{make_channel(tmp_path / 'c', packages)}"
    assert versions(solve(asked("new"), [channel])) == {"new": "1.0"}
    assert versions(solve(asked("new"), [channel], glibc="2.36")) == {"new": "2.0"}
    with pytest.raises(SpecError, match="gpu cannot be installed"):
        solve(asked("gpu"), [channel])
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.4")
    assert versions(solve(asked("gpu"), [channel])) == {"gpu": "1.0"}
    with pytest.raises(BuildError, match="linux/s390x"):
        solve(asked("new"), [channel], platform="linux/s390x")


# -- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "message", "hint"),
    [
        (("rcadd", "rctol"), "libs.yaml:4: conda.packages: no conda channel has rctol", "did you mean rctool?"),
        (("rcdata>=3",), "libs.yaml:3: conda.packages: no version fits rcdata>=3", "there are 2.0, 1.0"),
        (("rcdata=1", "rcdata=2"), "libs.yaml:3: conda.packages: rcdata=1 cannot be installed", "rcdata 2.* can be"),
        (("rcadd", "=1"), "libs.yaml:4: conda.packages: '=1' is no conda package", "numpy=1.26"),
    ],
)
def test_what_cannot_be_is_an_error_at_its_line(channel: str, specs: tuple[str, ...], message: str, hint: str) -> None:
    packages = asked(*specs) if "=1" not in specs else [*asked("rcadd"), replace(asked("x", "y")[1], spec="=1")]
    with pytest.raises(SpecError) as caught:
        solve(packages, [channel])
    assert str(caught.value).startswith(message)
    assert any(hint in each for each in caught.value.hints)


def test_a_channel_that_is_not_there_is_named(folder: Path) -> None:
    with served(folder.parent) as address, pytest.raises(BuildError) as caught:
        solve(asked("rcadd"), [f"http://{address}/own", f"http://{address}/nowhere"])
    assert str(caught.value).startswith(f"no such conda channel: http://{address}/nowhere\n")
    with pytest.raises(BuildError, match=f"no such conda channel: file://{folder}x"):
        solve(asked("rcadd"), [f"file://{folder}x"])
    with pytest.raises(BuildError, match=rf"the conda channel http://{address} cannot be read"):
        solve(asked("rcadd"), [f"http://{address}"])
    (folder / "noarch" / "repodata.json").write_text("{no")
    with pytest.raises(BuildError, match="cannot be read") as damaged:
        solve(asked("rcadd"), [f"file://{folder}"])
    assert "failed to parse" in str(damaged.value)
    assert "proxy" not in str(damaged.value)


def test_a_dependency_that_nobody_has_is_named(tmp_path: Path) -> None:
    channel = f"file://{make_channel(tmp_path / 'c', (Conda('x', depends=('y >=2',)),))}"
    with pytest.raises(SpecError, match=r"libs\.yaml:3: conda.packages: x cannot be installed\n") as caught:
        solve(asked("x"), [channel])
    assert any("y >=2, for which no candidates" in hint for hint in caught.value.hints)


def test_without_rattler_the_command_is_said(monkeypatch: pytest.MonkeyPatch, channel: str) -> None:
    monkeypatch.setitem(sys.modules, "rattler", None)
    for call in (lambda: solve(asked("rcadd"), [channel]), lambda: fetch((), [channel], None, print)):
        with pytest.raises(BuildError, match="py-rattler") as caught:
            call()
        assert caught.value.hints == ("pip install 'runner[conda]'",)


# -- credentials and certificates -----------------------------------------------------------------------------------


def _netrc(folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, password: str) -> str:
    (folder / "netrc").write_text(f"machine 127.0.0.1\nlogin build\npassword {password}\n")
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    return f"http://{address}/own"


def _auth_file(folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, password: str) -> str:
    login = {"127.0.0.1": {"BasicHTTP": {"username": "build", "password": password}}}
    (folder / "auth.json").write_text(json.dumps(login))
    monkeypatch.setenv("RATTLER_AUTH_FILE", str(folder / "auth.json"))
    return f"http://{address}/own"


def _environment(folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, password: str) -> str:
    monkeypatch.setenv("RUNNER_CONDA", f"http://build:{password}@{address}")
    return "own"


@pytest.mark.parametrize("give", [_netrc, _auth_file, _environment])
def test_credentials_are_used_and_kept_nowhere(
    give: Callable[..., str], folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(folder.parent, "hush-4711") as address:
        with pytest.raises(BuildError, match="denies access") as caught:
            solve(asked("rctool"), [f"http://build:wrong-815@{address}/own"])
        assert "wrong-815" not in str(caught.value)
        channel = give(tmp_path, monkeypatch, address, "hush-4711")
        found = solve(asked("rctool"), [channel])
        files = fetch(found, [channel], None, lambda _text: None)

    assert {name: path.read_bytes() for name, path in files.items()} == {
        each.name: (folder / Path(each.source).parent.name / Path(each.source).name).read_bytes() for each in found
    }
    assert all(each.source.startswith(f"http://{address}/own/") for each in found)
    assert [path for path in cache.rglob("*") if path.is_file() and b"hush-4711" in path.read_bytes()] == []
    assert cache.stat().st_mode & 0o77 == 0


class _WithToken(SimpleHTTPRequestHandler):
    """Files below /t/TOKEN/ only."""

    def do_GET(self) -> None:
        """Serve, or refuse."""
        if not self.path.startswith("/t/hush-4711/"):
            self.send_error(403)
            return
        self.path = self.path.removeprefix("/t/hush-4711")
        super().do_GET()


@pytest.fixture(name="serve")
def _serve(folder: Path) -> Iterator[Callable[..., ThreadingHTTPServer]]:
    servers = []

    def start(
        handler: type[SimpleHTTPRequestHandler], wrap: Callable[[Any], Any] = lambda socket: socket
    ) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder.parent)))
        server.socket = wrap(server.socket)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_token_in_the_address_is_used_and_not_locked(serve: Callable[..., ThreadingHTTPServer]) -> None:
    at = f"http://127.0.0.1:{serve(_WithToken).server_port}"
    found = solve(asked("rctool"), [f"{at}/t/hush-4711/own"])
    files = fetch(found, [f"{at}/t/hush-4711/own"], None, lambda _text: None)
    assert set(files) == {"rcdata", "rctool"}
    assert all(each.source.startswith(f"{at}/own/") for each in found)
    with pytest.raises(BuildError) as caught:
        solve(asked("rctool"), [f"{at}/t/wrong-815/own"])
    assert "wrong-815" not in str(caught.value)


def test_ca_bundle_is_trusted_and_the_environment_left_alone(
    serve: Callable[..., ThreadingHTTPServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    def openssl(*argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=tmp_path, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "csr", "-subj", "/CN=server")
    (tmp_path / "ext").write_text("subjectAltName=IP:127.0.0.1")
    openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "crt",
            "-extfile", "ext")  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server = serve(_Handler, partial(context.wrap_socket, server_side=True))
    channel = f"https://127.0.0.1:{server.server_port}/own"
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    found = solve(asked("rctool"), [channel], ca_bundle=tmp_path / "ca.pem")
    assert len(fetch(found, [channel], tmp_path / "ca.pem", lambda _text: None)) == 2
    import os

    assert "SSL_CERT_FILE" not in os.environ
    with pytest.raises(BuildError, match="cannot be read") as caught:
        solve(asked("rctool"), [channel])
    assert any("ca_bundle" in hint for hint in caught.value.hints)


# -- having them ----------------------------------------------------------------------------------------------------


def test_what_is_in_the_cache_is_not_asked_for_again(folder: Path) -> None:
    told: list[str] = []
    with served(folder) as address:
        found = solve(asked("rctool"), [f"http://{address}"])
        first = fetch(found, [f"http://{address}"], None, told.append)
    assert sorted(told) == ["rcdata 2.0 …", "rctool 1.2 …"]
    assert fetch(found, [f"http://{address}"], None, told.append) == first, "the server is gone"
    assert len(told) == 2
    assert [path for path in first["rctool"].parent.iterdir() if path != first["rctool"]] == []


def test_a_damaged_file_in_the_cache_is_had_anew(channel: str) -> None:
    found = solve(asked("rcadd"), [channel])
    path = fetch(found, [channel], None, print)["rcadd"]
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"x")
    assert fetch(found, [channel], None, print)["rcadd"].read_bytes() == good


def test_a_package_that_changed_or_is_gone_is_named(folder: Path) -> None:
    with served(folder) as address:
        found = solve(asked("rcadd", "rctool"), [f"http://{address}"])
        path = folder / "noarch" / "rcadd-1.0-h0_0.tar.bz2"
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(BuildError, match=r"rcadd 1\.0 has changed: .*rcadd-1\.0") as caught:
            fetch(found, [f"http://{address}"], None, lambda _text: None)
        assert caught.value.hints == ("take what is there now: runner build --upgrade rcadd",)
        path.unlink()
        with pytest.raises(BuildError, match=r"rcadd 1\.0 cannot be had from http") as caught:
            fetch(found, [f"http://{address}"], None, lambda _text: None)
        assert "404" in str(caught.value)
        assert "--upgrade rcadd" in str(caught.value)


def test_the_step_gets_files_and_no_path_of_this_machine(channel: str, tmp_path: Path) -> None:
    with served(Path(channel.removeprefix("file://"))) as address:
        packages = asked("rcpure", "rctool=1.2")
        found = solve(packages, [f"http://{address}"])
        files = fetch(found, [f"http://{address}"], None, lambda _text: None)
    given, mounts = inputs(found, files, packages, tmp_path / "work")

    plan = json.loads(given["conda.json"])
    assert plan["specs"] == {"rcpure": "rcpure", "rctool": "rctool=1.2"}
    assert [each["file"] for each in plan["packages"]] == sorted(path.name for path in (tmp_path / "work").iterdir())
    assert str(tmp_path) not in given["conda.json"].decode()
    assert [(mount.target, mount.read_only) for mount in mounts] == [
        ("/mnt/conda", True),
        ("/mnt/rattler/rattler", True),
    ]
    assert (Path(mounts[1].source) / "rattler.abi3.so").is_file()


def test_conda_stands_behind_pip_and_before_the_system() -> None:
    assert environment("/opt/venv/bin:/usr/bin:/bin", '{"PROJ_DATA": "/opt/conda/share/proj"}') == {
        "PATH": "/opt/venv/bin:/opt/conda/bin:/usr/bin:/bin",
        "CONDA_PREFIX": "/opt/conda",
        "PROJ_DATA": "/opt/conda/share/proj",
    }
    assert environment("/opt/conda/bin:/usr/bin")["PATH"] == "/opt/conda/bin:/usr/bin"


def test_two_rs_are_refused_at_the_line_that_brings_one(tmp_path: Path) -> None:
    libs = Libs(tmp_path / "libs.yaml", "x", None, None, (), (), (), (), (), r=True, r_packages=(), repos=(),
                conda=tuple(asked("numpy", "r-dbi")))  # fmt: skip
    r = Locked("conda", "r-base", "4.3.1")
    with pytest.raises(SpecError, match=r"libs\.yaml:4: conda.packages: conda brings R 4\.3\.1"):
        refuse_second_r(libs, (r,))
    refuse_second_r(libs, (Locked("conda", "numpy", "1.26"),))
    refuse_second_r(replace(libs, r=False), (r,))
