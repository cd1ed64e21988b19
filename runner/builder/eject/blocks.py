"""The stages of an ejected Dockerfile that are thrown away: what they made is copied, what that took is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.builder.eject import syntax

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.builder.eject.text import Image

VENV = "/opt/venv"
CONDA = "/opt/conda"
R_LIBRARY = "/usr/local/lib/R/site-library"
"""Where R of Debian, and of the images made of it, looks for packages first."""

_TOOLS = "/tools"
APT_ARGUMENTS = """\
ARG DEBIAN_FRONTEND=noninteractive
ARG APT_UPDATE
ARG APT_INSTALL
ARG TIDY
"""
_TRUST = f"[ ! -e {_TOOLS}/ca.pem ] || export SSL_CERT_FILE={_TOOLS}/ca.pem PIP_CERT={_TOOLS}/ca.pem;"


def apt_run(names: Iterable[str]) -> str:
    """A RUN that installs Debian packages, "" for none."""
    listed = syntax.packages(names)
    return f"RUN $APT_UPDATE && $APT_INSTALL \\\n{listed} && $TIDY\n" if listed else ""


def r_source(tools: Sequence[str]) -> str:
    """R packages that `tools`, Debian packages, build. See steps/r_build.sh."""
    return (
        syntax.comment("R packages from source. The compilers stay in this stage.")
        + f"FROM system AS r-source\n{APT_ARGUMENTS}"
        + apt_run(tools)
        + syntax.comment(
            "A repository of exactly these packages, and the script that has R install them and checks it."
        )
        + "COPY r/ /mnt/in/\n"
        'RUN mkdir /tmp/library && MAKEFLAGS="-j$(nproc)" LC_ALL=C.UTF-8 Rscript --vanilla /mnt/in/install.R\n'
    )


def tools(image: Image) -> str:
    """The installers, and what the user says of the network: see the Dockerfile's head."""
    python = syntax.path(image.python)
    name = python.rpartition("/")[2]
    what = "uv, for Python packages" + (", and py-rattler, for conda packages" if image.conda else "")
    return (
        syntax.comment(f"{what}; by their hashes, with the pip that Python brings.")
        + f"FROM system AS tools\n{APT_ARGUMENTS}"
        + f"RUN {python} -c 'import ensurepip' 2>/dev/null || {{ $APT_UPDATE && $APT_INSTALL {name}-venv; }}\n"
        "ARG UV_DEFAULT_INDEX\n"
        f"COPY tools/ {_TOOLS}/\n"
        f"RUN {_TRUST} \\\n"
        f"    {python} -m venv {_TOOLS}/venv \\\n"
        f" && {_TOOLS}/venv/bin/pip install -q --no-cache-dir --disable-pip-version-check --no-deps --only-binary :all: \\\n"
        f'      ${{UV_DEFAULT_INDEX:+--index-url "$UV_DEFAULT_INDEX"}} --require-hashes -r {_TOOLS}/requirements.txt\n'
    )


def conda() -> str:
    """conda packages, see steps/conda.sh. A Dockerfile says all variables, so what the packages set is known before."""
    return (
        syntax.comment(
            "conda packages, from files, into /opt/conda. What activating them sets is ENV below, or the build ends here."
        )
        + "FROM tools AS conda\n"
        "COPY conda/ /mnt/\n"
        "RUN mkdir -p /mnt/out && ln -s /tools/venv/lib/python3*/site-packages /mnt/rattler \\\n"
        f" && {_TOOLS}/venv/bin/python -I -X utf8 /mnt/in/conda_install.py \\\n"
        " && { grep -Fxq -f /mnt/in/environment /mnt/out/answers \\\n"
        "      || { cat /mnt/out/answers >&2; echo 'runner: conda/in/environment has other variables' >&2; exit 1; }; }\n"
    )


def libraries(image: Image) -> str:
    """Where R packages and conda packages come together; pip's see them."""
    text = syntax.comment("What was built and unpacked, without what that took.") + "FROM system AS libraries\n"
    if image.r_tools is not None:
        text += f"COPY --from=r-source /tmp/library/ {R_LIBRARY}/\n"
    if image.conda:
        text += f"COPY --from=conda {CONDA}/ {CONDA}/\nENV PATH={CONDA}/bin:$PATH CONDA_PREFIX={CONDA}\n"
        text += syntax.settings("ENV", image.conda_env)
    return text


def pip(image: Image, parent: str) -> str:
    """Python packages on the stage `parent`. See steps/pip.sh."""
    python = f"{CONDA}/bin/python" if image.conda_python else syntax.path(image.python)
    install = f"{_TOOLS}/venv/bin/uv pip install --python {VENV}/bin/python --no-deps"
    arguments = "".join(f"ARG {syntax.name(name)}\n" for name in ["UV_DEFAULT_INDEX", "UV_INDEX", *image.variables])
    text = (
        syntax.comment(
            "Python packages: those of pip/requirements.txt are all there is to install, each file by its hash, compiled\n"
            "to bytecode, into a virtual environment that sees the system's packages."
        )
        + f"FROM {parent} AS pip\n"
        f"COPY --from=tools {_TOOLS}/ {_TOOLS}/\n"
        "COPY pip/ /mnt/in/src/\n"
        "WORKDIR /mnt/in/src\n"
        f"{arguments}"
        "ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_NO_CONFIG=1\n"
        f"RUN {_TRUST} \\\n"
        f"    {_TOOLS}/venv/bin/uv venv -q --python {python} --system-site-packages {VENV}"
    )
    if image.hashed:
        text += f" \\\n && {install} --require-hashes -r requirements.txt"
    if image.unhashed:
        text += f" \\\n && {install} -r requirements-unhashed.txt"
    compile_ = f"{VENV}/bin/python -I {_TOOLS}/bytecode.py timestamp"
    return text + f" \\\n && find {VENV}/lib -name '*.py' | {compile_}\n"
