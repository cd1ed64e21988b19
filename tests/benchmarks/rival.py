"""The rival of a build: one Dockerfile with one list for each package manager, as most people write it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

TAG = "runner-bench-rival"
BASE = "localhost/runner-debian:bookworm"
# What Debian's own image says to apt. The base made here leaves recommended packages out; who writes `FROM debian` has them.
_APT_OF_DEBIAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::GzipIndexes "true";
Acquire::Languages "none";
"""
# In a build the CA bundle and the index of this machine are needed, as for anyone behind a proxy.
_HEAD = """FROM {base}
COPY ca.pem /etc/runner-bench-ca.pem
ENV SSL_CERT_FILE=/etc/runner-bench-ca.pem PIP_CERT=/etc/runner-bench-ca.pem {index}
"""
PLAIN_BASE = "COPY apt.conf /etc/apt/apt.conf.d/99mmdebstrap\n"
VENV = " && python3 -m venv /opt/venv"
PYTHON = f"RUN apt-get update && apt-get install -y python3-pip python3-venv{VENV}\n"
UV = "RUN /opt/venv/bin/pip install uv\n"


def plain(pip: Sequence[str], r: Sequence[str]) -> str:
    """What is written without a thought for time or size."""
    text = PLAIN_BASE + (PYTHON if pip else "")
    if r:
        text += f"RUN apt-get update && apt-get install -y r-base {debian(r)}\n"
    return text + (pip_list(pip) if pip else "")


def careful(pip: Sequence[str], r: Sequence[str]) -> str:
    """The same by who minds the size: nothing recommended, no lists, no cache of pip."""
    apt = f"apt-get install -y --no-install-recommends python3-pip python3-venv r-base-core {debian(r)}"
    return (
        f"RUN apt-get update && {apt} && rm -rf /var/lib/apt/lists/* /var/cache/apt/*{VENV}\n"
        f"RUN /opt/venv/bin/pip install --no-cache-dir {' '.join(pip)}\n"
    )


def pip_list(names: Sequence[str]) -> str:
    """One list, by pip."""
    return f"RUN /opt/venv/bin/pip install {' '.join(names)}\n"


def uv_list(names: Sequence[str]) -> str:
    """One list, by uv."""
    return f"RUN /opt/venv/bin/uv pip install --python /opt/venv/bin/python {' '.join(names)}\n"


def debian(names: Sequence[str]) -> str:
    """R packages by Debian's names for them."""
    return " ".join(f"r-cran-{name.lower()}" for name in names)


def docker_build(folder: Path, text: str, *, tag: str = TAG, cache: bool = True) -> float:
    """Seconds of a `docker build` of the Dockerfile `text`; what the folder holds is its context."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt", folder / "ca.pem")
    (folder / "apt.conf").write_text(_APT_OF_DEBIAN)
    index = " ".join(
        f"{name}={value}" for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if (value := os.environ.get(key))
        for name in (key, {"PIP_INDEX_URL": "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL": "UV_INDEX"}[key])
    )  # fmt: skip
    (folder / "Dockerfile").write_text(_HEAD.format(base=BASE, index=index) + text)
    argv = ["docker", "build", "-q", "--network", "host", "-t", tag, *([] if cache else ["--no-cache"]), str(folder)]
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "DOCKER_BUILDKIT": "0"})
    return time.perf_counter() - began
