"""What apt would install, read from what `apt-get --print-uris` says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.builder import apt
from runner.builder.session import Finished
from runner.errors import BuildError

SAID = """\
Reading package lists...
The following additional packages will be installed:
  libc6-i386 libstdc++6
The following NEW packages will be installed:
  zip
'http://mirror.example/debian/pool/main/z/zip/zip_3.0-13%2bdeb12u1_amd64.deb' zip_3.0-13+deb12u1_amd64.deb 230316 SHA256:0a
'http://mirror.example/p/libstdc%2b%2b6_12.2.0-14_amd64.deb' libstdc++6_12.2.0-14_amd64.deb 613 SHA256:0b
'http://mirror.example/p/tzdata_2024a_all.deb' tzdata_2024a-0%3adeb12_all.deb 297 MD5Sum:0c
'file:/mirror/git_2.39_amd64.deb' git_1%3a2.39.5-0+deb12u2_amd64.deb 7260 SHA256:0d
"""


def plan(folder: Path, text: str) -> dict[str, str]:
    (folder / "plan").write_text(text)
    session: Any = SimpleNamespace(log_path=folder / "build.log")
    ran: Any = None
    return apt._plan(session, Finished(ran, [], {}, folder), "plan")


def test_names_and_versions(tmp_path: Path) -> None:
    assert plan(tmp_path, SAID) == {
        "zip": "3.0-13+deb12u1",
        "libstdc++6": "12.2.0-14",
        "tzdata": "2024a-0:deb12",
        "git": "1:2.39.5-0+deb12u2",
    }


def test_nothing_to_install(tmp_path: Path) -> None:
    assert plan(tmp_path, "zip is already the newest version (3.0-13).\n") == {}


def test_packages_of_the_image_that_would_go_are_named(tmp_path: Path) -> None:
    removed = (
        "The following packages will be REMOVED:\n  bsdutils mawk\n  python3\nThe following NEW packages:\n  zip\n"
    )
    with pytest.raises(BuildError, match="would remove bsdutils, mawk, python3 of the image"):
        plan(tmp_path, removed + SAID)
