"""What `runner libs diff` was given - a libs file, a lock, an image, `local` - as an inventory. Reads only.

An image of runner tells by its manifest, out of a container that is never started; any other is asked by a script in it,
without network. This machine is asked by the same script's parts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.builder.recipe import lock_path
from runner.builder.stock import inventory
from runner.errors import NotFoundError
from runner.spec import lock as locks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.builder.stock.images import Made
    from runner.builder.stock.inventory import Inventory
    from runner.docker_api.stock import Stock
    from runner.spec.lock import Lock

LOCAL = "local"
MANIFEST = "/opt/runner/manifest.json"
_PROBES = Path(__file__).parent / "probes"
_DPKG = ("dpkg-query", "-W", "-f", "runner:apt|${Package}|${Version}|${db:Status-Status}\\n")
_ANSWER_S = 120.0


def open_side(text: str) -> Inventory:
    """The inventory of what a user named.

    Raises:
        SpecError: the file is wrong.
        NotFoundError: neither a file nor an image of that name.
        ImageError: the image cannot tell what it holds. UnavailableError: an image was named, and no engine answers.
    """
    if text == LOCAL:
        return local()
    path = Path(text)
    if path.is_file():
        return _of_file(path)
    # A bare name is an image's, also where a folder has the same.
    if ("/" in text or text.startswith(".")) and (path / "libs.yaml").is_file():
        return _of_file(path / "libs.yaml")
    if path.suffix in {".yaml", ".yml", ".lock", ".txt"} or text.startswith((".", "/", "~")):
        raise _no_file(text, f"no such file: {text}")
    try:
        return of_image(text)
    except NotFoundError as error:
        raise _no_file(text, f"neither a file nor an image: {text}", *error.hints) from None


def _no_file(text: str, message: str, *hints: str) -> NotFoundError:
    from runner.spec.yamldoc import nearest

    folder = Path(text).parent
    names = [each.name for each in folder.iterdir() if each.is_file()] if folder.is_dir() else []
    near = nearest(Path(text).name, [*names, LOCAL])
    guess = [f"did you mean {near if near == LOCAL else folder / near}?"] if near else []
    return NotFoundError(message, *guess, *hints, "expected a libs file, a lock, an image, or `local`")


def _of_file(path: Path) -> Inventory:
    if lock := _lock_in(path):
        return inventory.of_lock(lock, str(path))
    from runner.spec.libs import load

    libs = load(path)
    where = lock_path(path)
    lock = locks.read(where)
    found = inventory.of_libs(libs, str(path), lock)
    if lock is None:
        note = f"{path} has no lock, so only what it asks for is known; make one: runner build --libs {path}"
        return replace(found, notes=(note,))
    from runner.builder.resolve import moved_on

    if moved := moved_on(lock, libs):
        note = f"{path} has moved on from {where.name} ({'; '.join(moved[:3])}); runner build makes it anew"
        return replace(found, notes=(note,))
    return found


def _lock_in(path: Path) -> Lock | None:
    """The lock that a file is; None when it is something else (renv's lock is JSON too)."""
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if text.lstrip().startswith("{") else None
    except (OSError, UnicodeError, ValueError):
        data = None
    of_runner = isinstance(data, dict) and {"packages", "base"} <= data.keys()
    if not of_runner and (path.suffix != ".lock" or isinstance(data, dict)):
        return None
    return locks.read(path)  # which says what is wrong with it


def of_image(reference: str) -> Inventory:
    """What an image holds.

    Raises:
        NotFoundError: the engine has no such image. ImageError: it cannot tell.
    """
    from runner.builder.stock import images
    from runner.docker_api import stock

    with stock.opened() as opened:
        made = images.find(opened, reference)
        if made is not None:
            if recorded := manifest(opened, made):
                return inventory.of_manifest(recorded, lock_of(recorded, made.shown), made.shown)
            image, shown = made.id, made.shown
        else:
            details = images.details(opened, reference)
            if details is None:
                raise images.no_such(opened, reference)
            image, shown = details.id, reference
        answer = opened.ask(image, shown, ("/bin/sh", "-c", _probe("sh"), "sh", _probe("py"), _probe("R")), _ANSWER_S)
    if "runner:end|" not in answer:
        last = (answer.strip().splitlines() or ["it printed nothing"])[-1]
        from runner.errors import ImageError

        raise ImageError(f"{shown} did not say what it holds: {last}", retryable=False)
    return inventory.of_answers(answer, shown, "image")


def manifest(stock: Stock, made: Made) -> dict[str, Any] | None:
    """The record inside an image of runner; None where it has none (an older runner made it)."""
    raw = stock.read_file(made.id, MANIFEST)
    try:
        found = json.loads(raw) if raw else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"lock", "installed"} <= found.keys() else None


def lock_of(manifest: dict[str, Any], shown: str) -> Lock:
    """The lock inside a manifest.

    Raises:
        SpecError: a newer runner wrote it.
    """
    return locks.parse(json.dumps(manifest["lock"]), f"{shown}:{MANIFEST}")


def local() -> Inventory:
    """What this machine has: the packages of the `python3` and `Rscript` that a script would get here, and Debian's.

    The Python of an active virtual environment goes first. A program that is not there, or fails, is no error.
    """
    venv = os.environ.get("VIRTUAL_ENV")
    inside = Path(venv, "bin", "python3") if venv else None
    python = str(inside) if inside and inside.exists() else shutil.which("python3")
    rscript, dpkg = shutil.which("Rscript"), shutil.which("dpkg-query")
    answers, notes = [], []
    for name, argv, absent in (
        ("python3", (python, "-c", _probe("py")), "runner:version|python|\nrunner:all|pip|\nrunner:all|conda|\n"),
        ("Rscript", (rscript, "-e", _probe("R")), "runner:version|R|\nrunner:all|r|\n"),
        ("dpkg-query", (dpkg, *_DPKG[1:]), ""),
    ):
        program, *rest = argv
        if program is None:
            answers.append(absent)
            continue
        answer, problem = _answer([program, *rest])
        answers.append(answer + ("runner:all|apt|\n" if name == "dpkg-query" and not problem else ""))
        if problem:
            notes.append(f"{name} of this machine does not say what it has: {problem}")
    found = inventory.of_answers("".join(answers), LOCAL, "local")
    return replace(found, notes=tuple(notes))


def _answer(argv: Sequence[str]) -> tuple[str, str]:
    """(what it printed, what went wrong)."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_S,
            check=False,
        )
    except OSError as error:
        return "", f"{argv[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_ANSWER_S:g} s"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return done.stdout, last
    return done.stdout, ""


def _probe(kind: str) -> str:
    return (_PROBES / f"installed.{kind}").read_text(encoding="utf-8")
