"""Lock → the text of a Dockerfile that anyone can read and `docker build` alone can build. Pure; no engine, no files.

It does what the steps of runner's own build do, in the same order, but compiles and unpacks in stages of their own, from
which only results are copied: there is nothing to mount in a plain `docker build`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.builder.eject import blocks as parts
from runner.builder.eject import syntax

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.spec.lock import Base, Lock

HOME = "/home/runner"
_APT_OPTIONS = """\
ARG APT_UPDATE="apt-get -q update -o APT::Update::Error-Mode=any -o Acquire::Languages=none -o Acquire::Retries=3"
ARG APT_INSTALL="apt-get -q -y install --no-install-recommends --allow-downgrades -o Acquire::Retries=3 \\
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \\
    -o Dpkg::Options::=--path-exclude=/usr/share/man/* -o Dpkg::Options::=--path-exclude=/usr/share/info/* \\
    -o Dpkg::Options::=--path-exclude=/usr/share/doc/* -o Dpkg::Options::=--path-include=/usr/share/doc/*/copyright \\
    -o Dpkg::Options::=--path-exclude=/usr/share/locale/* \\
    -o Dpkg::Options::=--path-include=/usr/share/locale/locale.alias \\
    -o Dpkg::Options::=--path-exclude=/usr/share/lintian/*"
ARG TIDY="rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb /var/log/apt /var/log/dpkg.log \\
    /var/log/alternatives.log /var/log/fontconfig.log /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old \\
    /var/lib/dpkg/*-old"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """All that the Dockerfile says.

    name: of the image. tag: under which runner keeps the same image. user: `uid:gid`, which is user_name where the base has
    no such entry. python: path of the Python that the bootstrapper runs under. secrets: of `run`, names only.
    variables: that requirements refer to. hashed, unhashed: whether there are Python packages with hashes, without.
    r_tools: Debian packages to build R packages with, None when none is built. conda: whether there are packages of it,
    conda_env: variables that their activation sets, conda_python: whether Python is one of them.
    labels: of the finished image.
    """

    name: str
    tag: str
    lock: Lock
    user: str
    user_name: str
    python: str
    env: Mapping[str, str]
    labels: Mapping[str, str]
    run: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    hashed: bool = False
    unhashed: bool = False
    r_tools: tuple[str, ...] | None = None
    conda: bool = False
    conda_env: Mapping[str, str] = field(default_factory=dict)
    conda_python: bool = False

    @property
    def pip(self) -> bool:
        """Whether there are Python packages of an index."""
        return self.hashed or self.unhashed


def dockerfile(image: Image) -> str:
    """The whole text.

    Raises:
        ValueError: something cannot be written into a Dockerfile.
    """
    system = [_base(image.lock.base), _python(image), _r(image), _apt(image), _r_binary(image)]
    stages = ["".join(filter(None, system))]
    last = "system"
    if image.r_tools is not None:
        stages.append(parts.r_source(image.r_tools))
    if image.pip or image.conda:
        stages.append(parts.tools(image))
    if image.conda:
        stages.append(parts.conda())
    if image.r_tools is not None or image.conda:
        stages.append(parts.libraries(image))
        last = "libraries"
    if image.pip:
        stages.append(parts.pip(image, last))
    stages += [_complete(image, last), _verified(image), _final(image)]
    return _head(image) + "\n" + "\n\n".join(stages)


def _head(image: Image) -> str:
    needs = (
        "It needs BuildKit (DOCKER_BUILDKIT=1), because the commands of `run` have secrets."
        if image.secrets
        else "BuildKit and the classic builder both can."
    )
    secret = "".join(f" --secret id={name},env={name}" for name in image.secrets)
    text = f"""\
The image {image.name}, written by `runner build --dockerfile` from libs.yaml and its lock.

  docker build{secret} -t {image.name} .

makes the image that runner makes as {image.tag}: the same packages in the same
versions, verified in the same way. {needs}
It is for {image.lock.platform}.

A proxy              --build-arg https_proxy=http://HOST:PORT  (also http_proxy, no_proxy; they stay nowhere)
A mirror or proxy of this machine's loopback        --network host
"""
    if image.pip or image.conda:
        text += """\
A private authority  copy its certificates, with all others that are to be trusted, to tools/ca.pem.
A private index      --build-arg UV_DEFAULT_INDEX=https://HOST/simple  (further ones: UV_INDEX, separated by blanks).
                     These are seen in the stages `tools` and `pip` only, of which the image gets files, not settings.
                     They stay in this machine's build cache, so a password belongs into a variable that is short-lived.
"""
    if image.variables:
        text += f"Variables of the requirements  {' '.join(f'--build-arg {each}' for each in image.variables)}\n"
    return syntax.comment(text.rstrip("\n")) + "\n" + _how_apt(image)


def _how_apt(image: Image) -> str:
    if not (image.lock.of("apt") or image.pip or image.conda or image.r_tools is not None):
        return ""
    return (
        syntax.comment("How apt installs here: what is listed and no more, without manuals and translations.")
        + _APT_OPTIONS
    )


def _base(base: Base) -> str:
    where = f"FROM {syntax.reference(_pinned(base))} AS system\nUSER 0\nWORKDIR /\n{parts.APT_ARGUMENTS}"
    if base.digest:
        return syntax.comment("The base, by the digest that the lock has.") + where
    if base.recipe:
        return (
            syntax.comment(
                "The base was made from Debian's packages by the two scripts in base/. Where the engine does not have it:\n"
                "  sh base/make.sh rootfs.tar && docker import \\\n"
                "    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \\\n"
                f"    --change 'CMD [\"bash\"]' rootfs.tar {base.reference}\n"
                "What apt installs below is the lock's either way; the last but one stage also compares the base's packages."
            )
            + where
        )
    return syntax.comment(f"The base, which no registry has: it must be on this engine. Locked: {base.id}") + where


def _pinned(base: Base) -> str:
    return f"{base.reference.partition('@')[0]}@{base.digest}" if base.digest else base.reference


def _python(image: Image) -> str:
    uid, _, gid = image.user.partition(":")
    if not (uid.isdigit() and gid.isdigit()):
        raise ValueError(f"{image.user!r} is not uid:gid")
    entry = f"{image.user_name}:x:{uid}:{gid}::{HOME}:/bin/sh"
    text = "\n" + syntax.comment("Python for the bootstrapper, and certificates of public authorities.")
    text += _install(image, "python") or syntax.comment(f"The base has it: {image.python}.")
    text += "ENV LANG=${LANG:-C.UTF-8}\n\n"
    text += syntax.comment(
        "The user that scripts run as. By hand: useradd dates the entry, so every build would differ."
    )
    return text + (
        f"RUN grep -q '^[^:]*:[^:]*:{gid}:' /etc/group || echo '{image.user_name}:x:{gid}:' >>/etc/group; \\\n"
        f"    grep -q '^[^:]*:[^:]*:{uid}:' /etc/passwd || echo '{entry}' >>/etc/passwd; \\\n"
        f"    mkdir -p {HOME} && chown {uid}:{gid} {HOME}\n"
    )


def _r(image: Image) -> str:
    if not image.lock.r:
        return ""
    text = _install(image, "r") or syntax.comment("The base has it.")
    return "\n" + syntax.comment(f"R {image.lock.r}.") + text


def _apt(image: Image) -> str:
    return _block("Debian packages of `apt`, with what they need.", _install(image, "apt"))


def _r_binary(image: Image) -> str:
    return _block("R packages that Debian has built, and libraries that others need.", _install(image, "r-binary"))


def _block(what: str, text: str) -> str:
    return "\n" + syntax.comment(what) + text if text else ""


def _install(image: Image, stage: str) -> str:
    return parts.apt_run(f"{each.name}={each.version}" for each in image.lock.of("apt") if each.stage == stage)


def _complete(image: Image, parent: str) -> str:
    text = syntax.comment("The image, but for the proof that all of it loads.") + f"FROM {parent} AS complete\n"
    if image.pip:
        text += (
            f"COPY --from=pip {parts.VENV}/ {parts.VENV}/\nENV PATH={parts.VENV}/bin:$PATH VIRTUAL_ENV={parts.VENV}\n"
        )
    if image.env:
        text += "\n" + syntax.comment("Variables of `env`.") + syntax.settings("ENV", image.env)
    if image.run:
        text += "\n" + syntax.comment("The commands of `run`, in order, as root." + _secrets_told(image.secrets))
        text += "ARG DEBIAN_FRONTEND=noninteractive\nARG LC_ALL=C.UTF-8\n"
        mounts = "".join(f"--mount=type=secret,id={name},required=true " for name in image.secrets)
        text += "".join(f"RUN {mounts}{syntax.exec_form(['sh', '-euc', command])}\n" for command in image.run)
    return text


def _secrets_told(names: Sequence[str]) -> str:
    return f" {', '.join(names)}: below /run/secrets, in no layer." if names else ""


def _verified(image: Image) -> str:
    """See verify.py and steps/finish.py."""
    python = syntax.path(image.python)
    return (
        syntax.comment(
            "The proof, in a stage that is thrown away: finish.py puts the bootstrapper into /opt/runner and loads every\n"
            "declared library as the run-time user; check.py fails the build when one does not load, or when what is\n"
            "installed is not what the lock says."
        )
        + "FROM complete AS verified\n"
        "COPY verify/ /mnt/in/\n"
        "RUN chmod -R a+rX /mnt/in && mkdir -p /mnt/out \\\n"
        f" && {python} -I -S /mnt/in/finish.py \\\n"
        f" && {python} -I -S /mnt/in/check.py\n"
    )


def _final(image: Image) -> str:
    return (
        syntax.comment("The image: it gets the bootstrapper and the manifest only from a proof that went well.")
        + "FROM complete\n"
        "COPY --from=verified /opt/runner/ /opt/runner/\n"
        + syntax.settings("LABEL", image.labels)
        + f"USER {image.user}\nWORKDIR {HOME}\nENTRYPOINT []\n"
        + f"CMD {syntax.exec_form(['/bin/bash'])}\n"
    )
