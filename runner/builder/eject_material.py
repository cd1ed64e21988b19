"""What an ejected image needs and cannot fetch by itself: R sources, conda packages, the hashes of installers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING

from runner.builder import cran, pip
from runner.builder.recipe import STEPS
from runner.builder.repository import make_repository
from runner.builder.session import uv_binary
from runner.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.builder.eject_folder import Content
    from runner.spec.libs import Libs
    from runner.spec.lock import Lock

_COMPILERS = ("r-base-dev",)
_NETWORK_S = 120
_FROM_PIP = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_TRUSTED_HOST": "UV_INSECURE_HOST",
}
_LOGIN = re.compile(r"://[^/?#\s@]*@")


@dataclass(frozen=True, slots=True)
class Material:
    """What was fetched for the context.

    tools: requirements file of the installers. r: files below r/. r_tools: Debian packages to build them with, None without
    source packages. conda: files below conda/.
    """

    tools: str = ""
    r: Mapping[str, Content] = field(default_factory=dict)
    r_tools: tuple[str, ...] | None = None
    conda: Mapping[str, Content] = field(default_factory=dict)


def gather(libs: Libs, lock: Lock, ca_bundle: Path | None) -> Material:
    """Fetch what the context needs, from the cache where it is there.

    Raises:
        BuildError: something cannot be had.
    """
    installers = [("uv", bool(lock.of("pip") or lock.of("conda"))), ("py-rattler", bool(lock.of("conda")))]
    tools = _hashed([f"{name}=={metadata.version(name)}" for name, needed in installers if needed], ca_bundle)
    conda = _conda(libs, lock, ca_bundle) if lock.of("conda") else {}
    locked = [each for each in lock.of("r") if each.source != "debian"]
    if not locked:
        return Material(tools, conda=conda)
    sources = cran.sources_from_lock(locked, libs, ca_bundle)
    r: dict[str, Content] = {f"cran/{path}": raw for path, raw in make_repository(sources).items()}
    r["packages"] = pip.lines(sorted(each.name for each in locked))
    r["install.R"] = (STEPS / "install.R").read_bytes()
    compiled = any(source.compiled for source in sources)
    r_tools = (*_COMPILERS, *cran.system_requirements(sources)) if compiled else ()
    return Material(tools, r, r_tools, conda)


def _hashed(requirements: list[str], ca_bundle: Path | None) -> str:
    """Requirements with the hashes of all their files, asked of the index that this machine uses.

    Raises:
        BuildError: it does not answer, or has them not.
    """
    if not requirements:
        return ""
    env = {ours: value for theirs, ours in _FROM_PIP.items() if (value := os.environ.get(theirs))} | os.environ
    if ca_bundle is not None:
        env["SSL_CERT_FILE"] = str(ca_bundle)
    argv = [uv_binary(), "pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate", "--no-deps"]
    argv += ["--universal", "--generate-hashes", "--no-emit-index-url", "-"]
    given = "".join(f"{each}\n" for each in requirements)
    try:
        done = subprocess.run(
            argv, input=given, env=env, capture_output=True, text=True, timeout=_NETWORK_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BuildError("the Python index does not answer", "check the network, or try again") from None
    if done.returncode:
        lines = _LOGIN.sub("://***@", done.stderr).strip().splitlines()[-5:]
        raise BuildError(f"{' and '.join(requirements)} cannot be found in the Python index", *lines)
    return done.stdout


def _conda(libs: Libs, lock: Lock, ca_bundle: Path | None) -> dict[str, Content]:
    """The packages' files, and the step that installs them with its plan."""
    from runner.builder import conda_fetch

    locked = lock.of("conda")
    files = conda_fetch.fetch(locked, libs.conda_channels, ca_bundle, lambda _: None)
    entries = [{"file": files[each.name].name, "url": each.source} for each in locked]
    specs = {each.name.lower(): each.spec.rpartition("::")[2] for each in libs.conda}
    found: dict[str, Content] = {f"conda/{path.name}": path for path in files.values()}
    plan = {"packages": entries, "specs": specs}
    found["in/conda.json"] = (json.dumps(plan, indent=1, sort_keys=True) + "\n").encode()
    found["in/conda_install.py"] = (STEPS / "conda_install.py").read_bytes()
    return found
