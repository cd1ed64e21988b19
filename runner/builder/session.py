"""One build's workplace: its engine, log and folders, and how a step script gets its inputs and answers.

Nothing that a step is given stays in an image: inputs, caches, proxies, credentials and CA bundle are all mounted. What is
secret of it is on no disk either, see hiding.py.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import IO, TYPE_CHECKING

from runner.builder import cache
from runner.builder.hiding import FOLDER, GO_ON, Variables, exports, hidden, remove_stale, unreadable
from runner.builder.recipe import STEPS
from runner.docker_api.images import Mount, Step
from runner.errors import BuildError
from runner.spec.certificates import certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.docker_api.images import Engine, Ran

_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_CREDENTIALS = re.compile(rb"(?<=://)[^/@\s]+@")
_DONE = re.compile(r"Setting up (\S+) |^\* DONE \((\S+)\)|^Get:\d+ \S+ \S+ \S+ (\S+) ")
_SOURCE_DATE_EPOCH = "1686355200"
_ANSWERS = 1 << 24


@dataclass(slots=True)
class Output:
    """What a step printed: all of it into the log, the last lines at hand for a failure."""

    log: IO[bytes]
    seen: Callable[[str], None]
    hidden: tuple[bytes, ...] = ()
    """What must not be seen, the longest first: `hiding.unreadable`."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=400))
    _rest: bytes = b""

    def feed(self, chunk: bytes) -> None:
        """Take bytes as they come; whole lines are logged, with secrets and credentials in addresses made unreadable."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line)

    def end(self) -> None:
        """Take what has no newline at its end."""
        if self._rest:
            self._take(self._rest)
        self._rest = b""
        self.log.flush()

    def _take(self, line: bytes) -> None:
        for value in self.hidden:
            line = line.replace(value, b"***")
        clean = _CREDENTIALS.sub(b"***@", line)
        self.log.write(clean + b"\n")
        text = clean.decode("utf-8", "replace").rstrip()
        self.lines.append(text)
        self.seen(text)


@dataclass(slots=True)
class Finished:
    """A step after its end. answers: KEY=VALUE lines that it wrote; out: the folder with its other files."""

    ran: Ran
    lines: list[str]
    answers: Mapping[str, str]
    out: Path

    def read(self, name: str) -> bytes | None:
        """A file that the step left, None where there is none."""
        return _read(self.out / name)

    def text(self, name: str) -> str:
        """As `read`; "" where there is none."""
        return (self.read(name) or b"").decode("utf-8", "replace")


@dataclass(slots=True)
class Session:
    """See the module. `ca_bundle`: PEM file for https inside steps, or None."""

    engine: Engine
    report: Callable[[str, str], None]
    log_path: Path
    log: IO[bytes]
    work: Path
    ca_bundle: Path | None
    build_id: str = field(default_factory=lambda: token_hex(8))
    no_cache: bool = False
    fresh: bool = False
    """Ask the mirrors anew, whatever was fetched before."""
    variables: frozenset[str] = frozenset()
    """Further variables of the user's environment that steps see: those that requirements refer to."""
    secrets: tuple[str, ...] = ()
    """Variables of the user's environment whose values `run` commands find below /run/secrets."""
    made: set[str] = field(default_factory=set)
    """Ids of the layers that this build has made."""

    @contextmanager
    def step(
        self,
        stage: str,
        image: str,
        argv: tuple[str, ...],
        inputs: Mapping[str, bytes],
        *,
        mounts: tuple[Mount, ...] = (),
        tmpfs: tuple[str, ...] = ("/mnt", "/tmp", "/run/secrets"),  # noqa: S108 - folders inside a container
        quiet: bool = False,
        logins: bool = False,
        secrets: bool = False,
    ) -> Iterator[Finished]:
        """Run one script of STEPS in a container of `image`. Commit inside the `with`.

        mounts: further ones, below /mnt. quiet: the step gets no network settings (it runs code of the libraries).
        logins: it gets the Python indexes with their logins, the variables that requirements refer to, and netrc.
        secrets: it gets the build's secrets.
        """
        folder = self.work / f"{stage}-{token_hex(3)}"
        try:
            given, out = self._lay_out(folder, inputs, quiet=quiet)
            variables = Variables(
                self.variables if logins else None, self.secrets if secrets else (), network=not quiet
            )
            output = Output(
                self.log, lambda line: self._show(stage, line), unreadable({*self.secrets, *self.variables})
            )
            self.log.write(f"\n== {stage}: {' '.join(argv)}\n".encode())
            step = Step(image, argv, (*self._mounts(given, out), *mounts), tmpfs)
            with self._running(step, variables.files(), folder, output) as ran:
                output.end()
                yield Finished(ran, list(output.lines), _answers(out), out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _running(self, step: Step, files: Mapping[str, bytes], folder: Path, output: Output) -> Iterator[Ran]:
        """The step, with the hidden files mounted."""
        with ExitStack() as stack:
            place = stack.enter_context(hidden(files, folder))
            try:
                ran = stack.enter_context(self.engine.step(_with_hidden(step, place), output.feed))
            except BuildError as error:
                if place is None or str(place) not in str(error):
                    raise
                # The engine has a tmpfs of its own (in a virtual machine, a sandbox), and cannot mount from ours.
                place = stack.enter_context(hidden(files, folder, tmpfs=False))
                ran = stack.enter_context(self.engine.step(_with_hidden(step, place), output.feed))
            yield ran

    def replacing(self, tag: str, commit: Callable[[], str]) -> str:
        """Commit under a tag; the image that had it before goes, where nothing uses it. The new image's id."""
        before = self.engine.inspect(tag)
        identifier = commit()
        if before is not None and before.id != identifier:
            with suppress(BuildError):  # the engine refuses while a container or another image stands on it
                self.engine.remove(before.id)
        return identifier

    def note(self, text: str) -> None:
        """One line into the log only."""
        self.log.write(f"{text}\n".encode())
        self.log.flush()

    def close(self) -> None:
        """Close the log, remove the work folder."""
        self.log.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def _lay_out(self, folder: Path, inputs: Mapping[str, bytes], *, quiet: bool) -> tuple[Path, Path]:
        """in/ and out/ of a step. The parent folder is 0700; they themselves are open, as the run-time user reads in/, and
        root of an engine with remapped users is nobody here."""
        given, out = folder / "in", folder / "out"
        for path in (given, out):
            path.mkdir(parents=True)
            path.chmod(0o777)
        for source in STEPS.iterdir():
            if source.is_file():
                shutil.copyfile(source, given / source.name)
        for name, raw in inputs.items():
            target = given / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(raw)
        (given / "src").mkdir(exist_ok=True)
        seen = exports({} if quiet else self._environment(given))
        (given / "env.sh").write_bytes(f"BUILD_ID={self.build_id}\n".encode() + seen + GO_ON)
        return given, out

    def _environment(self, given: Path) -> dict[str, str]:
        """The variables of a step that anybody may see."""
        env = {"SOURCE_DATE_EPOCH": _SOURCE_DATE_EPOCH} | ({"FRESH": "1"} if self.fresh else {})
        if self.ca_bundle is not None:
            (given / "ca.pem").write_bytes(certificates(self.ca_bundle))
            env |= dict.fromkeys(("CA_BUNDLE", *_CA_VARIABLES), "/mnt/in/ca.pem")
        return env

    def _mounts(self, given: Path, out: Path) -> tuple[Mount, ...]:
        return (
            Mount(str(given), "/mnt/in"),
            Mount(str(out), "/mnt/out", read_only=False),
            Mount(uv_binary(), "/mnt/bin/uv"),
            Mount(cache.volume("apt"), "/mnt/apt", read_only=False, volume=True),
            Mount(cache.volume("uv"), "/mnt/uv", read_only=False, volume=True),
        )

    def _show(self, stage: str, line: str) -> None:
        """Movement: one text per package that was fetched or set up; `…` at its end says that more follows."""
        if match := _DONE.search(line):
            self.report(stage.split("-", maxsplit=1)[0], f"{next(filter(None, match.groups()))} …")


@contextmanager
def opened(
    engine: Engine,
    report: Callable[[str, str], None],
    name: str,
    *,
    log: Path | None,
    ca_bundle: Path | None,
    no_cache: bool = False,
    fresh: bool = False,
    variables: frozenset[str] = frozenset(),
    secrets: tuple[str, ...] = (),
) -> Iterator[Session]:
    """A session with its log and work folder; the folder is removed at the end, the log stays.

    Raises:
        BuildError: the log or the work folder cannot be made.
    """
    path = log or cache.new_log(name)
    work = cache.cache_dir() / "work"
    try:
        work.mkdir(exist_ok=True, mode=0o700)
        _remove_old(work)
        stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb")
    except OSError as error:
        raise BuildError(f"a build cannot start here: {error}", "free some space, or set RUNNER_CACHE_DIR") from None
    session = Session(engine, report, path, stream, work / token_hex(4), ca_bundle,
                      no_cache=no_cache, fresh=fresh, variables=variables, secrets=secrets)  # fmt: skip
    try:
        yield session
    finally:
        session.close()


def ca_bundle(declared: Path | None) -> Path | None:
    """The CA bundle for https in steps: the declared one, else that of this environment, else none."""
    if declared is not None:
        return declared
    candidates = (os.environ.get(name) for name in _CA_VARIABLES)
    return next((Path(value) for value in candidates if value and Path(value).is_file()), None)


def uv_binary() -> str:
    """The path of the uv that came with runner.

    Raises:
        BuildError: it cannot run in a Linux container.
    """
    import uv

    if sys.platform != "linux":
        raise BuildError("images can be built on Linux only", "run runner inside a Linux machine or WSL")
    return str(Path(uv.find_uv_bin()).resolve())


def _remove_old(work: Path) -> None:
    """Folders of builds that were killed: under the build lock none is in use. What they hid goes with its process."""
    remove_stale()
    for folder in work.iterdir():
        shutil.rmtree(folder, ignore_errors=True)


def _with_hidden(step: Step, place: Path | None) -> Step:
    return step if place is None else replace(step, mounts=(*step.mounts, Mount(str(place), FOLDER)))


def _answers(out: Path) -> dict[str, str]:
    text = (_read(out / "answers") or b"")[:_ANSWERS].decode("utf-8", "replace")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _read(path: Path) -> bytes | None:
    """A plain file. Code of libraries has run beside it: a link could name any file here, a pipe would never end."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as stream:
        return stream.read() if stat.S_ISREG(os.fstat(fd).st_mode) else None
