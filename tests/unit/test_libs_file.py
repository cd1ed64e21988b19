"""libs.yaml: every key that is taken, and the error of every slip: file, line, key, what was expected, the right word."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.libs import Libs, load

Load = Callable[[str], Libs]


@pytest.fixture(name="loads")
def _loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    def run(text: str) -> Libs:
        Path("libs.yaml").write_text(text)
        return load(Path("libs.yaml"))

    return run


WHOLE = """
name: churn-r
base: debian:bookworm-slim
apt: [libpq5, "libxml2=2.9.*", "g++-12"]
pip:
  - pandas==2.2.*
  - Scikit_Learn[extra]>=1; python_version < "3.13"
  - "pkg @ https://example.org/pkg-1.0.tar.gz"
  - ./local/thing-1.2-py3-none-any.whl
  - -r requirements.txt
r:
  cran: [data.table, DBI==1.2.3, "ggplot2 >= 3.4, < 4"]
  repos: [https://cran.example/, file:///srv/cran]
env: {TZ: UTC, N: 1.10, ON: yes, EMPTY: ""}
imports: {scikit-learn: sklearn, pkg: [pkg.one, two]}
ca_bundle: corp.pem
"""


def test_the_whole_file(loads: Load, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "thing-1.2-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "corp.pem").write_text("pem")
    (tmp_path / "requirements.txt").write_text(
        "# one\n-c more/c.txt\nrequests \\\n  >=2 --hash=sha256:abc\n\nx#y==1  # z\n"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "c.txt").write_text("idna<4\n")
    (tmp_path / "requirements.txt").write_text(
        "# one\n-c more/c.txt\nrequests \\\n  >=2 --hash=sha256:abc\n\nsix==1  # z\n"
    )

    libs = loads(WHOLE)

    assert (libs.name, libs.base, libs.r) == ("churn-r", "debian:bookworm-slim", True)
    assert [(p.name, p.version) for p in libs.apt] == [("libpq5", None), ("libxml2", "2.9.*"), ("g++-12", None)]
    assert [(p.name, p.file, p.line) for p in libs.pip] == [
        ("pandas", "libs.yaml", 6),
        ("scikit-learn", "libs.yaml", 7),
        ("pkg", "libs.yaml", 8),
        ("thing", "libs.yaml", 9),
        ("requests", "requirements.txt", 3),
        ("six", "requirements.txt", 6),
    ]
    assert libs.pip[1].marker == 'python_version < "3.13"'
    assert libs.pip_lines[-1] == "-r requirements.txt"
    assert [path.relative_to(tmp_path).as_posix() for path in libs.files] == [
        "local/thing-1.2-py3-none-any.whl", "requirements.txt", "more/c.txt",
    ]  # fmt: skip
    assert [(p.name, p.constraints) for p in libs.r_packages] == [
        ("data.table", ()),
        ("DBI", (("==", "1.2.3"),)),
        ("ggplot2", ((">=", "3.4"), ("<", "4"))),
    ]
    assert libs.repos == ("https://cran.example", "file:///srv/cran")
    assert libs.env == {"TZ": "UTC", "N": "1.10", "ON": "yes", "EMPTY": ""}
    assert libs.imports == {"scikit-learn": ("sklearn",), "pkg": ("pkg.one", "two")}
    assert libs.ca_bundle is not None
    assert libs.ca_bundle.samefile(tmp_path / "corp.pem")


@pytest.mark.parametrize("text", ["r:\n", "r: {}\n", "r: {cran: }\n", "r: {cran: []}\n"])
def test_r_without_packages_is_r(loads: Load, text: str) -> None:
    libs = loads(text)
    assert (libs.r, libs.r_packages) == (True, ())


def test_empty_keys_are_as_left_out_and_the_folder_gives_the_name(tmp_path: Path) -> None:
    folder = tmp_path / "My Project_2"
    folder.mkdir()
    (folder / "libs.yaml").write_text("apt:\npip:\nenv:\nname:\n")
    libs = load(folder / "libs.yaml")
    assert (libs.name, libs.apt, libs.pip, libs.r) == ("my-project-2", (), (), False)


@pytest.mark.parametrize(
    ("text", "where", "hint"),
    [
        ("name: a\npipp: [x]", "2: pipp: unknown key", "did you mean pip?"),
        ("zzz: 1", "1: zzz: unknown key", "known: name, base, apt, pip, r, env, imports, ca_bundle"),
        ("r: {crn: [x]}", "1: r.crn: unknown key", "did you mean cran?"),
        ("pip: pandas", "1: pip: expected a list ([a, b], or `- item` lines), found the text 'pandas'", ""),
        ("pip:\n  - a\n  - 1.5", "3: pip: expected text, found 1.5", "put it in quotes"),
        ("apt: [[a]]", "1: apt: expected text, found a list", ""),
        ("env: [a]", "1: env: expected a mapping", ""),
        ("env: {A: [1]}", "1: env.A: expected text, found a list", ""),
        ("env: {A-B: 1}", "1: env.A-B: 'A-B' is not a name of an environment variable", ""),
        ("r: [data.table]", "1: r: expected a mapping", ""),
        ("name: Churn R", "1: name: 'Churn R' is not an image name", ""),
        ("base: 'debian slim'", "1: base: 'debian slim' is not an image", ""),
        ("ca_bundle: ''", "1: ca_bundle: expected text that is not empty", ""),
        ("ca_bundle: no.pem", "1: ca_bundle: no such file: no.pem", "looked in"),
        ("apt: [LibPQ5]", "1: apt: 'LibPQ5' is not a Debian package", "did you mean libpq5?"),
        ("apt: [libpq5==1.2]", "1: apt: 'libpq5==1.2' is not a Debian package", "did you mean libpq5=1.2?"),
        ("apt: ['--purge']", "1: apt: '--purge' is not a Debian package", ""),
        ("apt: ['a b']", "1: apt: 'a b' is not a Debian package", "expected NAME or NAME=VERSION"),
        ("apt: [a1, b1, a1]", "1: apt: a1 is listed twice", ""),
        ("pip: [pandas=2.1]", "1: pip: 'pandas=2.1' is not a requirement", "did you mean pandas==2.1?"),
        ("pip: ['pandas 2.1']", "1: pip: 'pandas 2.1' is not a requirement", "did you mean pandas==2.1?"),
        ("pip: ['a b c']", "1: pip: 'a b c' is not a requirement", "expected NAME"),
        ("pip: [-r no.txt]", "1: pip: no such file: no.txt", "looked in"),
        ("pip: [-r ../x.txt]", "1: pip: ../x.txt is outside the folder of libs.yaml", "move or copy"),
        ("pip: [-e .]", "1: pip: an editable install cannot be part of an image", "build a wheel"),
        ("pip: ['--pre']", "1: pip: unknown option '--pre'", "known: -r FILE"),
        ("pip: ['./']", "1: pip: ./ is a folder", "build a wheel"),
        ("pip: ['https://example.org/latest']", "the package's name cannot be told", "") ,
        ("r: {cran: [r-lib/cli]}", "1: r.cran: 'r-lib/cli' is not an R package", "GitHub"),
        ("r: {cran: ['DBI=1.2']}", "1: r.cran: =1.2 is not a version constraint", "did you mean DBI==1.2?"),
        ("r: {cran: ['DBI>=new']}", "1: r.cran: >=new is not a version constraint", "expected =="),
        ("r: {cran: [DBI, 'DBI>=1']}", "1: r.cran: DBI is listed twice", ""),
        ("r: {repos: [cran.example]}", "1: r.repos: 'cran.example' is not an address", ""),
        ("imports: {numpy: x}\npip: [numpyy]", "1: imports.numpy: 'numpy' is not among the pip packages", "numpyy?"),
        ("pip: [a]\nimports: {a: 'b c'}", "2: imports.a: 'b c' is not a name to import", ""),
    ],
)  # fmt: skip
def test_slips(loads: Load, text: str, where: str, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text)
    message = str(caught.value)
    assert message.startswith("libs.yaml:")
    assert where in message
    assert hint in message


@pytest.mark.parametrize(
    ("text", "key"),
    [(f"{key}: x", key) for key in ("conda", "python", "run", "user", "registry")]
    + [(f"r: {{{key}: x}}", f"r.{key}") for key in ("bioconductor", "github", "snapshot", "sysreqs")],
)
def test_what_is_not_there_yet_is_refused_by_name(loads: Load, text: str, key: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(text)
    assert f"libs.yaml:1: {key}: not supported by this version of runner" in str(caught.value)
    assert caught.value.hints


def test_all_slips_are_told_at_once_in_the_order_of_lines(loads: Load) -> None:
    with pytest.raises(SpecError) as caught:
        loads("pip: 3\napt: [A B]\nzzz: 1\n")
    assert caught.value.line == 1
    assert [hint.split(": ")[1:3] for hint in caught.value.hints if hint.startswith("also: ")] == [
        ["libs.yaml:2", "apt"],
        ["libs.yaml:3", "zzz"],
    ]


def test_slips_in_requirements_files_are_told_there(loads: Load, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n\n-e .\n")
    with pytest.raises(SpecError, match=r"^requirements\.txt:3: an editable install"):
        loads("pip: [-r requirements.txt]")
    (tmp_path / "requirements.txt").write_bytes(b"six\n\xff\n")
    with pytest.raises(SpecError, match=r"^requirements\.txt:2: not UTF-8"):
        loads("pip: [-r requirements.txt]")


def test_requirements_that_include_each_other_end(loads: Load, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r b.txt\nsix\n")
    (tmp_path / "b.txt").write_text("-r a.txt\nidna\n")
    assert [package.name for package in loads("pip: [-r a.txt]").pip] == ["idna", "six"]


def test_the_spec_is_cheap_until_a_libs_file_is_parsed() -> None:
    code = "import sys, runner.builder; print([m for m in ('pydantic', 'docker', 'packaging', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
