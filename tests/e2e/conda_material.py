"""Material for the conda tests: a channel whose packages are made by hand, in both of conda's formats."""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

PLACEHOLDER = "/placehold_" * 12
"""What a package has where its folder will be. Longer than any real folder, as in conda's own packages."""
SITE = "lib/python3.11/site-packages"
BINARY = b"\x7fDATA\0" + PLACEHOLDER.encode() + b"/share/data\0end\n"
_CHANGED = 1_600_000_000


@dataclass(frozen=True)
class Conda:
    """A package to make. files: path → content; one that holds the placeholder gets the folder. links: path → target.

    noarch: `python` has its modules below site-packages/. executable: paths with mode 0755.
    """

    name: str
    version: str = "1.0"
    depends: tuple[str, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    executable: tuple[str, ...] = ()
    noarch: Literal["generic", "python"] | None = None
    entry_points: tuple[str, ...] = ()
    build: int = 0

    @property
    def subdir(self) -> str:
        """The channel's folder that it lies in."""
        return "noarch" if self.noarch else "linux-64"

    @property
    def stem(self) -> str:
        """Its file name without the suffix."""
        return f"{self.name}-{self.version}-{self.build_string}"

    @property
    def build_string(self) -> str:
        """`py_0`, `h0_0`."""
        return f"{'py' if self.noarch == 'python' else 'h0'}_{self.build}"


PYTHON = Conda(
    "python",
    "3.11.2",
    # The base's own interpreter in a folder of its own: what follows needs one that works, not a large one.
    files={"pyvenv.cfg": b"home = /usr/bin\ninclude-system-site-packages = false\n", f"{SITE}/README": b"modules\n"},
    links={"bin/python3.11": "/usr/bin/python3.11", "bin/python3": "python3.11", "bin/python": "python3.11"},
)
STANDARD = (
    PYTHON,
    Conda("rcdata", "1.0", noarch="generic", files={"share/rcdata/table.csv": b"a,b\n1,2\n"}),
    Conda("rcdata", "2.0", noarch="generic", files={"share/rcdata/table.csv": b"a,b\n3,4\n"}),
    Conda(
        "rcpure",
        "0.5",
        ("python >=3.8", "rcdata"),
        {
            "site-packages/rcpure/__init__.py": b"value = 42\n",
            "site-packages/rcpure/more.py": b"def main(): print(7)\n",
        },
        noarch="python",
        entry_points=("rcpure = rcpure.more:main",),
    ),
    Conda(
        "rctool",
        "1.2",
        ("rcdata >=1", "__glibc >=2.17"),
        {
            "bin/rctool": f"#!/bin/sh\ncat {PLACEHOLDER}/share/rcdata/table.csv\n".encode(),
            "lib/rctool.bin": BINARY,
            "etc/rctool.conf": b"plain\n",
        },
        {"lib/rctool.link": "rctool.bin"},
        ("bin/rctool",),
    ),
    Conda("rcadd", "1.0", noarch="generic", files={"share/rcadd": b"added\n"}),
)


def make_channel(folder: Path, packages: tuple[Conda, ...] = STANDARD) -> Path:
    """A channel of these packages. Those for one platform are .conda, the others .tar.bz2."""
    for subdir in ("noarch", "linux-64"):
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        repodata: dict[str, Any] = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "removed": []}
        for package in packages:
            if package.subdir == subdir:
                path = _make(folder / subdir, package)
                kind = "packages.conda" if path.suffix == ".conda" else "packages"
                repodata[kind][path.name] = {**_index(package), **_digests(path)}
        (folder / subdir / "repodata.json").write_text(json.dumps({**repodata, "repodata_version": 1}))
    return folder


def _make(folder: Path, package: Conda) -> Path:
    info, content = _info(package), _tar(package.files, package.links, package.executable)
    if package.noarch:
        path = folder / f"{package.stem}.tar.bz2"
        path.write_bytes(bz2.compress(_tar({**package.files, **info}, package.links, package.executable)))
        return path
    path = folder / f"{package.stem}.conda"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        archive.writestr(f"pkg-{package.stem}.tar.zst", _zstd(content))
        archive.writestr(f"info-{package.stem}.tar.zst", _zstd(_tar(info, {}, ())))
    return path


def _index(package: Conda) -> dict[str, Any]:
    index: dict[str, Any] = {
        "name": package.name,
        "version": package.version,
        "build": package.build_string,
        "build_number": package.build,
        "depends": list(package.depends),
        "subdir": package.subdir,
        "timestamp": _CHANGED * 1000,
        "license": "MIT",
    }
    if package.noarch:
        return {**index, "noarch": package.noarch}
    return {**index, "arch": "x86_64", "platform": "linux"}


def _info(package: Conda) -> dict[str, bytes]:
    paths = [_path(name, content) for name, content in package.files.items()]
    paths += [
        {"_path": name, "path_type": "softlink", "sha256": hashlib.sha256(b"").hexdigest(), "size_in_bytes": 0}
        for name in package.links
    ]
    files = {
        "info/index.json": _index(package),
        "info/paths.json": {"paths": sorted(paths, key=lambda each: str(each["_path"])), "paths_version": 1},
        "info/about.json": {"license": "MIT"},
    }
    if package.noarch == "python":
        files["info/link.json"] = {
            "noarch": {"type": "python", "entry_points": list(package.entry_points)},
            "package_metadata_version": 1,
        }
    return {name: json.dumps(content).encode() for name, content in files.items()}


def _path(name: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "_path": name,
        "path_type": "hardlink",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }
    if PLACEHOLDER.encode() in content:
        entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "binary" if b"\0" in content else "text"}
    return entry


def _tar(files: dict[str, bytes], links: dict[str, str], executable: tuple[str, ...]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(content), _CHANGED
            member.mode = 0o755 if name in executable else 0o644
            archive.addfile(member, io.BytesIO(content))
        for name, target in sorted(links.items()):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mtime = tarfile.SYMTYPE, target, _CHANGED
            archive.addfile(member)
    return stream.getvalue()


def _zstd(raw: bytes) -> bytes:
    """A Zstandard frame of stored blocks (RFC 8878): valid, and no compressor is needed."""
    blocks = [raw[start : start + (1 << 17)] for start in range(0, len(raw), 1 << 17)] or [b""]
    frame = b"\x28\xb5\x2f\xfd" + b"\xa0" + struct.pack("<I", len(raw))
    for number, block in enumerate(blocks):
        header = len(block) << 3 | (number == len(blocks) - 1)
        frame += struct.pack("<I", header)[:3] + block
    return frame


def _digests(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return {"md5": md5, "sha256": hashlib.sha256(raw).hexdigest(), "size": len(raw)}
