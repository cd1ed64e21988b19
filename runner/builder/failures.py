"""What a failed step means: the failing lines of apt, uv and R, and the declared library that they are about."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import BuildError
from runner.spec.yamldoc import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.errors import RunnerError
    from runner.spec.libs import Libs, Package

_SHOWN = 12
_APT = re.compile(r"^(E: |dpkg: error|Err:|runner: )")
_R = re.compile(
    r"^(ERROR|Error|\s*there is no package|.*(?:fatal error|error:)|installation of package)", re.IGNORECASE
)
_UNMET = re.compile(r"The following packages have unmet dependencies")
_RUN = re.compile(r"runner: run: (the command ended with exit code \d+: (.*))")
_NO_APT = "the base image has no apt-get"
_NO_CANDIDATE = re.compile(r"E: Package '([^']+)' has no installation candidate")
_UV_START = re.compile(r"^\s*(\u00d7|error:|warning: .*failed)", re.IGNORECASE)
_NETWORK = re.compile(
    r"Could not resolve|Temporary failure|Name or service|Connection refused|dns error|timed out|Could not connect"
    r"|client error \(Connect\)|UnknownIssuer|certificate verify failed|Certificate verification failed",
    re.IGNORECASE,
)
_GONE_APT = re.compile(r"E: Version '([^']+)' for '([^']+)' was not found")
_GONE_PIP = re.compile(r"there is no version of ([\w.-]+)==(\S+?) and you require|no version of ([\w.-]+)==")
_OTHER_NAMES = {
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
    "pil": "pillow",
    "bs4": "beautifulsoup4",
    "skimage": "scikit-image",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "yaml": "pyyaml",
    "crypto": "pycryptodome",
}
"""Import names that are taken for the distribution's."""
_KNOWN_PIP = Path(__file__).parent / "known_pip.txt"
"""Names that a slip most likely meant, one a line: an index cannot be asked for names like one."""


class GoneError(BuildError):
    """A locked package cannot be had any more. package: its name, perhaps with its version."""

    def __init__(self, package: str, message: str, *hints: str) -> None:
        super().__init__(message, *hints)
        self.package = package


def gone(lines: Sequence[str]) -> str | None:
    """The locked package (`name version`) that apt or uv says is not there any more."""
    for line in lines:
        if match := _GONE_APT.match(line):
            return f"{match[2]} {match[1]}"
        if match := _GONE_PIP.search(line):
            return f"{match[1]} {match[2]}"
    return None


def explain(stage: str, libs: Libs, lines: Sequence[str], exit_code: int, *, oom: bool, log: Path) -> RunnerError:
    """The error for a step that failed: at the line of the library it is about, where one can be told."""
    where = f"full log: {log}"
    if oom or (exit_code == 137 and not any(lines[-1:])):
        return BuildError(f"{stage}: killed for lack of memory", "give the machine or the engine more memory", where)
    hints = _hints(lines)
    match stage:
        case "pip":
            return _pip(libs, _from(lines, _UV_START), hints, where)
        case "r-build" | "apt":
            packages, kind, telling = (libs.apt, "apt", _APT) if stage == "apt" else (libs.r_packages, "r", _R)
            failing = [line for line in lines if telling.match(line)]
            return _culprit(packages, kind, failing or list(lines), hints, where)
        case "run" if any(map(_RUN.match, lines)):
            return _command(libs, lines, hints, where)
        case _ if any(_NO_APT in line for line in lines):
            return libs.error(
                "base", libs.base_line, _NO_APT, "only images made from Debian or Ubuntu can be added to", where
            )
        case "resolve" if match := next(filter(None, map(_NO_CANDIDATE.search, lines)), None):
            return _virtual(libs, match[1], lines, where)
        case "resolve" if any(_UNMET.match(line) for line in lines):
            failing = [line for line in _from(lines, _UNMET) if not line.startswith("runner: ")]
            return _culprit(libs.apt, "apt", failing, hints, where)
        case _:
            failing = [line for line in lines if _APT.match(line) or _R.match(line)] or list(lines)
            return BuildError(f"{stage}: the step ended with exit code {exit_code}", *failing[-_SHOWN:], *hints, where)


def _pip(libs: Libs, failing: list[str], hints: list[str], where: str) -> RunnerError:
    text = "\n".join(failing)
    if unset := sorted(libs.pip_variables - os.environ.keys()):
        hints = [f"the pip lines refer to {', '.join(unset)}, not set in the environment of this build", *hints]
    for package in libs.pip:
        name = re.escape(package.name).replace(r"\-", "[-_.]")
        if re.search(rf"{name} was not found in the package registry|no (?:matching )?version[s]? of {name}\b", text):
            near = _OTHER_NAMES.get(package.name) or nearest(package.name, _KNOWN_PIP.read_text().split())
            guess = [f"did you mean {near}?"] if near and "was not found" in text else []
            found = "the index has no such package" if "was not found" in text else "no version fits"
            return package.error(f"{package.spec}: {found}", *guess, *failing[:_SHOWN], *hints, where)
    if match := re.search(r"[Hh]ash mismatch for `?([A-Za-z0-9._-]+?)==", text):
        again = f"its file has changed since it was locked; if that is right: runner build --upgrade {match[1]}"
        hints = [*hints, again]
    if "Failed to build" in text or "build backend" in text:
        hints = [*hints, "there is no ready-made wheel: add gcc and python3-dev under apt, or ask for another version"]
    return _culprit(libs.pip, "pip", failing, hints, where)


def _command(libs: Libs, lines: Sequence[str], hints: list[str], where: str) -> RunnerError:
    """The command of `run` that failed, at its line, with the last that it said."""
    end, match = next((at, found) for at, line in reversed([*enumerate(lines)]) if (found := _RUN.match(line)))
    begin = next((at for at in range(end - 1, -1, -1) if lines[at] == f"+ {match[2]}"), -1) + 1
    said = [line for line in lines[begin:end] if line.strip()]
    places = zip(libs.run, libs.run_lines, strict=True)
    line = next((line for text, line in places if text.splitlines()[0] == match[2]), None)
    place = f"{libs.path}:{line}: run" if line else "run"
    return BuildError(f"{place}: {match[1]}", *said[-_SHOWN:], *hints, where)


def _culprit(packages: Iterable[Package], stage: str, failing: list[str], hints: list[str], where: str) -> RunnerError:
    """At the declared package that the failing lines name, else without a place."""
    text = "\n".join(failing)
    shown = [line for line in failing[:_SHOWN] if line.strip()]
    for package in packages:
        if re.search(rf"(?<![\w.-]){re.escape(package.name)}(?![\w-])", text, re.IGNORECASE):
            return BuildError(
                f"{package.file}:{package.line}: {package.key or stage}: {package.spec} cannot be installed",
                *shown,
                *hints,
                where,
            )
    return BuildError(f"{stage}: the libraries cannot be installed", *shown, *hints, where)


def _virtual(libs: Libs, name: str, lines: Sequence[str], where: str) -> RunnerError:
    """Several packages go by that name, and apt takes none by itself. It lists them, each in a line of its own."""
    providers = [line.split()[0] for line in lines if re.match(r"  [a-z0-9][a-z0-9.+-]+ \S", line)]
    told = [f"name one of them: {', '.join(providers[:8])}"] if providers else []
    message = f"{name} is only a name that other packages provide"
    package = next((each for each in libs.apt if each.name == name), None)
    return package.error(message, *told, where) if package else BuildError(message, *told, where)


def _from(lines: Sequence[str], start: re.Pattern[str]) -> list[str]:
    """The lines from the first match to the end, else the last ones."""
    for index, line in enumerate(lines):
        if start.match(line):
            return [each for each in lines[index:] if each.strip()]
    return list(lines[-_SHOWN:])


def _hints(lines: Sequence[str]) -> list[str]:
    text = "\n".join(lines)
    hints = []
    if "No space left on device" in text:
        hints.append("the disk is full: docker system df, runner prune")
    if _NETWORK.search(text):
        hints.append("no way to the server: check https_proxy, and ca_bundle or SSL_CERT_FILE behind a company proxy")
    return hints
