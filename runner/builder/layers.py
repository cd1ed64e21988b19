"""Build the stages of a lock that the engine does not have yet, each committed as a layer that later builds go on from.

A layer tells by a label which keys it holds (see stages.py). A build starts at the layer that holds most of what is wanted
and nothing else, and adds what is missing: an unchanged beginning, an earlier build that was killed, and an image that a
library is added to are all the same case.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from runner.builder import pip
from runner.builder.compiled import Compiler
from runner.builder.failures import GoneError, explain, gone
from runner.builder.recipe import LAYER_NAME, layer_tag
from runner.builder.stages import Stage, content
from runner.builder.stages import stages as stages_of
from runner.docker_api.images import Config
from runner.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.builder.session import Session
    from runner.docker_api.images import Image, Mount
    from runner.spec.libs import Libs
    from runner.spec.lock import Lock, Locked

BASE_LABEL = "runner.base"
CONTENT_LABEL = "runner.content"
DEPTH_LABEL = "runner.depth"

_VENV = "/opt/venv"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAX_DEPTH = 18
_FLAT = 9
"""Layers on the base. Each costs a container some start time, and an engine allows 127; a flat image has at most nine."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a build goes on from. held: the keys that are there."""

    image: Image
    held: frozenset[str] = frozenset()
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Given:
    """What a step gets: files below /mnt/in, further mounts; env: variables that the layer sets in the image."""

    inputs: Mapping[str, bytes]
    mounts: tuple[Mount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    quiet: bool = False
    logins: bool = False
    secrets: bool = False
    """See Session.step."""


class Layers:
    """The layers on one base."""

    def __init__(self, session: Session, libs: Libs, base: Image, lock: Lock | None = None) -> None:
        self._session = session
        self._libs = libs
        self._base = base
        self._lock = lock

    def build(self, stages: Sequence[Stage]) -> tuple[Image, Image]:
        """Build what is missing: (the image that was gone on from, the image with all stages).

        Raises:
            GoneError: a locked package cannot be had any more.
            SpecError, BuildError: a layer cannot be built; those before it stay for the next build.
        """
        start = current = self._nearest(stages)
        wanted = content(stages)
        if start.held and start.held != wanted and self._is_addition(start, stages):
            self._tell_addition(start, stages)
        for stage in stages:
            missing = [package for key, package in stage.items.items() if key not in current.held]
            if missing or (stage.own and stage.own not in current.held):
                current = self._add(stage, missing, current)
        return start.image, current.image

    def _nearest(self, stages: Sequence[Stage]) -> Start:
        """The layer that holds most of what is wanted, and nothing else."""
        best = self._most(stages, _MAX_DEPTH)
        missing = sum(1 for stage in stages if not stage.keys <= best.held)
        # What has piled up is built anew from where images are flat, and not grown at its top for ever.
        return best if best.depth + missing <= _MAX_DEPTH else self._most(stages, _FLAT)

    def _most(self, stages: Sequence[Stage], depth_limit: int) -> Start:
        best = Start(self._base)
        wanted = content(stages)
        for listed in self._session.engine.labelled(f"{BASE_LABEL}={self._base.id}"):
            if not any(tag.startswith(LAYER_NAME) for tag in listed.tags):
                continue  # a finished image inherits the labels, and is more than its layers
            if self._session.no_cache and listed.id not in self._session.made:
                continue  # anew means once: resolving has made the layer with Python already
            held = frozenset(listed.labels.get(CONTENT_LABEL, "").split())
            depth = int(listed.labels.get(DEPTH_LABEL, "0"))
            fits = held <= wanted and depth <= depth_limit
            if fits and (len(held), -depth) > (len(best.held), -best.depth):
                image = self._session.engine.inspect(listed.id)
                best = Start(image, held, depth) if image else best
        return best

    @staticmethod
    def _is_addition(start: Start, stages: Sequence[Stage]) -> bool:
        return any(stage.keys & start.held and not stage.keys <= start.held for stage in stages)

    def _tell_addition(self, start: Start, stages: Sequence[Stage]) -> None:
        added = [each.name for stage in stages for key, each in stage.items.items() if key not in start.held]
        shown = ", ".join(added[:6]) + (f" and {len(added) - 6} more" if len(added) > 6 else "")
        self._session.report("add", f"+ {shown}  on {start.image.id[:19]}")

    def _add(self, stage: Stage, missing: Sequence[Locked], current: Start) -> Start:
        held = current.held | stage.keys
        marks = {BASE_LABEL: self._base.id, CONTENT_LABEL: " ".join(sorted(held)), DEPTH_LABEL: str(current.depth + 1)}
        self._session.report(_shown(stage.name), f"{_counted(len(missing), _DOING[stage.name])} …")
        given = self._given(stage, missing, current.image)
        tag = layer_tag(_digest(self._base.id, *sorted(held)))
        image = self._run(stage.name, stage.script, tag, current.image, given=given, labels=marks)
        size = max(0, image.size_bytes - current.image.size_bytes) / (1 << 20)
        self._session.report(_shown(stage.name), f"{self._what(stage, missing, image)}  +{size:.0f} MiB")
        return Start(image, held, current.depth + 1)

    def _given(self, stage: Stage, missing: Sequence[Locked], parent: Image) -> Given:
        """What a stage's script gets to install the missing packages."""
        libs = self._libs
        packages = pip.lines(f"{each.name}={each.version}" for each in missing)
        match stage.name:
            case "python":
                inputs = {
                    "packages": packages,
                    "user": (libs.user or "").encode(),
                    "python": (libs.python or "").encode(),
                }
                return Given(inputs, env={"LANG": parent.env.get("LANG", "C.UTF-8")})
            case "r" | "apt" | "r-binary":
                return Given({"packages": packages})
            case "r-source":
                return Given({"library.tar": self._compiled(missing)})
            case "conda":
                return self._conda(list(stage.items.values()), missing, parent)
            case "pip":
                python = parent.labels.get("runner.conda.python") or parent.labels["runner.python"]
                inputs = {f"src/{name}": raw for name, raw in pip.sources(libs).items()}
                inputs |= {"python": python.encode(), "requirements.txt": pip.requirements(libs, missing)}
                return Given(inputs, env={"PATH": _with_venv(parent), "VIRTUAL_ENV": _VENV}, logins=True)
            case "run":
                inputs = {f"run/{index:03}": command.encode() for index, command in enumerate(libs.run)}
                exports = (f"export {key}={shlex.quote(value)}" for key, value in libs.env.items())
                inputs["run.env"] = pip.lines(exports)
                return Given(inputs, secrets=True)

    def _conda(self, packages: Sequence[Locked], missing: Sequence[Locked], parent: Image) -> Given:
        from runner.builder.conda import fetch as conda_fetch

        session, libs = self._session, self._libs
        files = conda_fetch.fetch(
            missing, conda_fetch.channels(libs), session.ca_bundle, lambda text: session.report("conda", text)
        )
        inputs, mounts = conda_fetch.inputs(packages, files, libs.conda, session.work / f"conda-{token_hex(3)}")
        env = conda_fetch.environment(parent.env.get("PATH", _PATH))
        return Given(inputs, mounts, env, quiet=True)

    def _compiled(self, packages: Sequence[Locked]) -> bytes:
        assert self._lock is not None  # noqa: S101 - R's stages come of a lock
        below = [stage for stage in stages_of(self._libs, self._lock) if stage.name in {"python", "r"}]
        compiler = Compiler(self._session, self._libs, self._lock, lambda: self.build(below)[1], self._apt_layer)
        return compiler.library(packages)

    def _apt_layer(self, name: str, packages: Sequence[str], parent: Image) -> Image:
        """An image of its own with some Debian packages, whichever version apt has; found again by name and parent."""
        given = Given({"packages": pip.lines(packages)})
        tag = layer_tag(_digest(name, parent.id, *packages))
        if not self._session.no_cache and (found := self._session.engine.inspect(tag)):
            return found
        self._session.report("r", f"{name.removeprefix('r-')} …")
        labels = {BASE_LABEL: "", CONTENT_LABEL: "", DEPTH_LABEL: "0"}  # nothing is ever added to it
        return self._run(name, "apt.sh", tag, parent, given=given, labels=labels)

    def _run(
        self, name: str, script: str, tag: str, parent: Image, *, given: Given, labels: Mapping[str, str]
    ) -> Image:
        session = self._session
        argv = ("/bin/sh", f"/mnt/in/{script}")
        settings: dict[str, Any] = {
            "mounts": given.mounts, "quiet": given.quiet, "logins": given.logins, "secrets": given.secrets,
        }  # fmt: skip
        with session.step(name, parent.id, argv, given.inputs, **settings) as done:
            if done.ran.exit_code:
                if what := gone(done.lines):
                    fix = "have it resolved anew: runner build, without --locked"
                    raise GoneError(what, f"{name}: {what} of the lock cannot be had any more", fix)
                log = session.log_path
                raise explain(name, self._libs, done.lines, done.ran.exit_code, oom=done.ran.oom, log=log)
            answers = {key: value for key, value in done.answers.items() if key.startswith("runner.")}
            env = {**given.env, **json.loads(done.answers.get("conda.env", "{}"))}
            config = Config(env, {**answers, **labels}, comment=f"runner: {name}")
            identifier = session.replacing(tag, lambda: done.ran.commit(config, tag))
            session.made.add(identifier)
        image = session.engine.inspect(identifier)
        if image is None:
            raise BuildError(f"the engine committed {tag}, but does not have it", "build again")
        return image

    def _what(self, stage: Stage, missing: Sequence[Locked], image: Image) -> str:
        match stage.name:
            case "python":
                return f"Python {image.labels.get('runner.python.version', '')}"
            case "r":
                return f"R {image.labels.get('runner.r.version', '')}"
            case "run":
                return _counted(len(self._libs.run), "commands")
            case _:
                return _counted(len(missing), _DOING[stage.name])


_DOING = {
    "python": "packages for Python",
    "r": "packages for R",
    "apt": "packages",
    "r-binary": "Debian packages for R",
    "r-source": "packages from source",
    "conda": "packages",
    "pip": "packages",
    "run": "commands",
}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _counted(count: int, what: str) -> str:
    """`1 package`, `2 packages`; the word alone for none."""
    if count == 1:
        return f"1 {what.replace('packages', 'package').replace('commands', 'command')}"
    return f"{count} {what}" if count else what


def _shown(stage: str) -> str:
    return stage.split("-", maxsplit=1)[0]


def _with_venv(parent: Image) -> str:
    """PATH with the virtual environment in front: what pip installed wins over conda, conda over Debian."""
    path = parent.env.get("PATH", _PATH).split(":")
    return ":".join([f"{_VENV}/bin", *(each for each in path if each != f"{_VENV}/bin")])
