"""What an ejected image needs and cannot fetch by itself: R sources, conda packages, the hashes of installers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING

from runner.builder import pip
from runner.builder.r import services
from runner.builder.r.repository import make_repository, sources_from_lock
from runner.builder.r.sysreqs import needs_of
from runner.builder.recipe import STEPS
from runner.builder.session import uv_binary
from runner.errors import BuildError
from runner.spec.lock import DEBIAN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.builder.eject.folder import Content
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
    locked = [each for each in lock.of("r") if each.source != DEBIAN]
    if not locked:
        return Material(tools, conda=conda)
    sources = sources_from_lock(
        locked,
        libs_folder=libs.path.resolve().parent,
        ca_bundle=ca_bundle,
        r_version=lock.r,
        machine=services.machine(lock.platform.rpartition("/")[2]),
        repos=services.repositories(libs.repos),
    )
    r: dict[str, Content] = {f"cran/{path}": raw for path, raw in make_repository(sources).items()}
    r["packages"] = pip.lines(sorted(source.name for source in sources))
    r["install.R"] = (STEPS / "install.R").read_bytes()
    if not any(source.compiled for source in sources):
        return Material(tools, r, (), conda)
    return Material(tools, r, (*_COMPILERS, *(needs_of(sources).build if libs.sysreqs else ())), conda)


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
    from runner.builder.conda import fetch as conda_fetch
    from runner.builder.conda.client import bare

    locked = lock.of("conda")
    files = conda_fetch.fetch(locked, conda_fetch.channels(libs), ca_bundle, lambda _: None)
    entries = [{"file": files[each.name].name, "url": each.source} for each in locked]
    plan = {"packages": entries, "specs": {each.name.lower(): bare(each) for each in libs.conda}}
    found: dict[str, Content] = {f"conda/{path.name}": path for path in files.values()}
    found["in/conda.json"] = (json.dumps(plan, indent=1, sort_keys=True) + "\n").encode()
    for script in ("conda_install.py", "bytecode.py"):
        found[f"in/{script}"] = (STEPS / script).read_bytes()
    return found
