"""Code from real git servers on loopback: https with an authority of our own, and ssh."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from runner.codes import take
from runner.errors import CodeFolderError, SpecError
from runner.job import Code, Where
from tests.e2e.test_remote_engines import free_port, listens, openssl

HERE = Where("job.yml", 4, "code")
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *args: str) -> str:
    config = ("user.name=t", "user.email=t@example.org", "init.defaultBranch=main", "protocol.file.allow=always")
    argv = ["git", *(word for each in config for word in ("-c", each)), *args]
    return subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class Site:
    """A repository, and its address for git+. asked: a line for each request, over https."""

    folder: Path
    url: str
    asked: list[str] = field(default_factory=list)

    def commit(self, name: str, text: str) -> str:
        """Change a file; the commit's id."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-qm", name)
        return git(self.folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Site:
    folder = tmp_path / "sites" / "team" / "code"
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    site = Site(folder, "")
    site.commit("src/train.py", "print('old')\n")
    git(folder, "tag", "-a", "v1", "-m", "first")
    (folder / "src" / "out").symlink_to("/etc/passwd")
    site.commit("src/train.py", "print('new')\n")
    return site


def handler(root: Path, asked: list[str]) -> type[BaseHTTPRequestHandler]:
    """Git's own server side of smart http, as CGI."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
            """A whole answer; its length is said, since TLS must not end with it."""
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            asked.append(f"{self.command} {self.path}")
            if path.startswith("/private"):
                self.answer(401, {"WWW-Authenticate": 'Basic realm="tests"'})
                return
            if path.startswith("/moved"):
                self.answer(302, {"Location": "http://127.0.0.1:9/team/code/info/refs"})
                return
            env = {"GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                   "REQUEST_METHOD": self.command, "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                   "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""), "PATH": os.environ["PATH"],
                   "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_COUNT": "1",
                   "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}  # fmt: skip
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            env["CONTENT_LENGTH"] = str(len(body))
            done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.answer(int(headers.pop("Status", "200").split()[0]), headers, content)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    return Handler


@pytest.fixture
def https(repository: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    openssl(tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "ca.pem")  # fmt: skip
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(tmp_path / "sites", repository.asked))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "ca.pem"))
    repository.url = f"git+https://127.0.0.1:{server.server_port}/team/code"
    yield repository
    server.shutdown()
    server.server_close()


@pytest.fixture
def ssh(
    repository: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> Iterator[Site]:
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(sshd).exists():
        pytest.skip("needs sshd")
    folder, port = tmp_path / "ssh", free_port()
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nStrictModes no\n"
        f"PidFile {folder}/pid\nPasswordAuthentication no\nUsePAM no\nPermitRootLogin yes\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    monkeypatch.setenv(
        "GIT_SSH_COMMAND",
        f"ssh -F /dev/null -i {folder}/user -o LogLevel=ERROR"
        f" -o StrictHostKeyChecking=no -o UserKnownHostsFile={folder}/known",
    )
    server = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=subprocess.PIPE)
    try:
        eventually(lambda: listens(port), "sshd listens")
        user = os.environ.get("USER") or "root"
        repository.url = f"git+ssh://{user}@127.0.0.1:{port}{repository.folder}"
        yield repository
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture(params=["https", "ssh"])
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


def fetched(site: Site, cache: Path, what: str = "") -> Path:
    return take(Code(git=site.url + what, where=HERE), cache).folder


def test_the_default_branch_a_tag_a_commit_and_a_folder(site: Site, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert (fetched(site, cache) / "src" / "train.py").read_text() == "print('new')\n"
    assert (fetched(site, cache, "@v1#src") / "train.py").read_text() == "print('old')\n"
    first = git(site.folder, "rev-parse", "v1^{commit}")
    assert fetched(site, cache, f"@{first}") == fetched(site, cache, "@v1")
    assert not list(cache.rglob(".git")), "no history, nothing to run"
    taken = take(Code(git=f"{site.url}@main#src"), cache)
    assert taken.snapshot.files == ["train.py"]
    assert taken.snapshot.outside == ["out"], "a link that leads out is left out"


def test_a_branch_that_moves_is_followed(site: Site, tmp_path: Path) -> None:
    before = fetched(site, tmp_path / "cache", "@main")
    commit = site.commit("src/train.py", "print('newer')\n")
    after = fetched(site, tmp_path / "cache", "@main")
    assert after.name == commit
    assert before.is_dir()
    assert (after / "src" / "train.py").read_text() == "print('newer')\n"


def test_a_commit_in_the_middle_of_history(site: Site, tmp_path: Path) -> None:
    middle = site.commit("a.txt", "1")
    site.commit("a.txt", "2")
    assert (fetched(site, tmp_path / "cache", f"@{middle}") / "a.txt").read_text() == "1"


def test_a_commit_that_was_fetched_needs_no_server(https: Site, tmp_path: Path) -> None:
    fetched(https, tmp_path / "cache", "@main")
    https.asked.clear()
    fetched(https, tmp_path / "cache", "@main")
    assert len([line for line in https.asked if line.startswith("GET")]) == 1, "where main is, is asked"
    https.asked.clear()
    commit = git(https.folder, "rev-parse", "HEAD")
    fetched(https, tmp_path / "cache", f"@{commit}")
    assert https.asked == []


def test_nothing_of_the_repository_runs_and_submodules_stay_out(
    https: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "ran"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (hooks / "post-checkout").chmod(0o755)
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n\thooksPath = {hooks}\n[submodule]\n\trecurse = true\n")
    git(https.folder, "submodule", "--quiet", "add", str(https.folder), "sub")
    https.commit("b.txt", "b")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    taken = take(Code(git=https.url), tmp_path / "cache")
    assert "b.txt" in taken.snapshot.files
    assert [name for name in taken.snapshot.files if name.startswith("sub/")] == []
    assert taken.notes[0].startswith("submodules of https://127.0.0.1")
    assert not marker.exists()


def test_a_repository_around_us_is_left_alone(https: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a hook of git itself, which sets GIT_DIR."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    before = sorted(other.rglob("*"))
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert (fetched(https, tmp_path / "cache") / "src" / "train.py").is_file()
    assert sorted(other.rglob("*")) == before


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("@nothere", "has no branch or tag nothere"),
        ("#nothere", "has no folder nothere"),
        ("#src/out", "has no folder src/out"),
        ("@abc1234", "write a commit's id whole"),
    ],
)
def test_what_is_not_there(https: Site, tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        fetched(https, tmp_path / "cache", what)
    assert str(caught.value).startswith("job.yml:4: code: ")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("private", "sign in once"),
        ("nothere", "not found"),
        ("moved", "http' not allowed|Protocol .http. .*disabled|not supported"),
    ],
)
def test_a_server_that_wants_a_login_or_leads_elsewhere(https: Site, tmp_path: Path, path: str, message: str) -> None:
    """Ends at once: nothing asks, on no terminal either."""
    with pytest.raises(CodeFolderError, match=message):
        take(Code(git=https.url.replace("/team/", f"/{path}/")), tmp_path / "cache")
    assert not any(each.name.startswith(".") for each in (tmp_path / "cache").rglob("*")), "nothing half-made is left"


def test_a_certificate_that_nobody_knows(https: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_SSL_CAINFO")
    with pytest.raises(CodeFolderError, match="certificate"):
        fetched(https, tmp_path / "cache")
