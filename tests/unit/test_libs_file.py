"""libs.yaml: every key that is taken, and the error of every slip: file, line, key, what was expected, the right word."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.libs import Libs, Remote, load

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
python: "3.11"
apt: [libpq5, "libxml2=2.9.*", "g++-12"]
pip:
  - pandas==2.2.*
  - Scikit_Learn[extra]>=1; python_version < "3.13"
  - "pkg @ https://example.org/pkg-1.0.tar.gz"
  - ./local/thing-1.2-py3-none-any.whl
  - -r requirements.txt
conda:
  channels: [./chan nel, conda-forge, "https://repo.example/conda/", pytorch/label/nightly]
  packages: [Numpy=1.26, "scipy >=1.11,<2", "conda-forge::xz 5.* h1*", "ruamel.yaml[version='>=0.17']"]
r:
  cran: [data.table, DBI==1.2.3, "ggplot2 >= 3.4, < 4"]
  bioconductor: [limma, "edgeR>=3"]
  github:
    - r-lib/cli@v3.6.0
    - tidyverse/dtplyr/sub/folder@a1b2c3
    - other=owner/repo.git
    - https://example.org/src/remote_1.0-2.tar.gz?x=1
    - ./mypkg
    - local/tar_0.1.tar.gz
  repos: [https://cran.example/, file:///srv/cran]
  snapshot: 2026-06-01
  sysreqs: none
env: {TZ: UTC, N: 1.10, ON: yes, EMPTY: ""}
run:
  - echo one
  - |
    for i in 1 2; do
      echo $i
    done
user: 1000:50
registry: myregistry.azurecr.io:443/team/data_science
imports: {scikit-learn: sklearn, pkg: [pkg.one, two], ruamel-yaml: ruamel.yaml}
ca_bundle: corp.pem
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """All files that WHOLE names."""
    for name in ("local", "more", "mypkg", "chan nel"):
        (tmp_path / name).mkdir()
    (tmp_path / "local" / "thing-1.2-py3-none-any.whl").write_bytes(b"wheel")
    (tmp_path / "local" / "tar_0.1.tar.gz").write_bytes(b"archive")
    (tmp_path / "mypkg" / "DESCRIPTION").write_text("Type: Package\nPackage: my.package\nVersion: 1\n")
    (tmp_path / "corp.pem").write_text("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n")
    (tmp_path / "requirements.txt").write_text(
        f"# one\n-c more/c.txt\nrequests \\\n  >=2 --hash=sha256:{'a' * 64}\n\nsix==1  # z\n"
        "private @ https://${USER_1}:${PASSWORD}@example.org/private-1.tar.gz\n"
    )
    (tmp_path / "more" / "c.txt").write_text("idna<4\n")
    return tmp_path


def test_the_whole_file(loads: Load, folder: Path) -> None:
    libs = loads(WHOLE)

    assert (libs.name, libs.base, libs.base_line, libs.r) == ("churn-r", "debian:bookworm-slim", 3, True)
    assert (libs.python, libs.python_line) == ("3.11", 4)
    assert [(p.name, p.version) for p in libs.apt] == [("libpq5", None), ("libxml2", "2.9.*"), ("g++-12", None)]
    assert libs.env == {"TZ": "UTC", "N": "1.10", "ON": "yes", "EMPTY": ""}
    assert libs.run == ("echo one", "for i in 1 2; do\n  echo $i\ndone\n")
    assert (libs.user, libs.registry) == ("1000:50", "myregistry.azurecr.io:443/team/data_science")
    assert libs.imports == {
        "scikit-learn": ("sklearn",), "pkg": ("pkg.one", "two"), "ruamel-yaml": ("ruamel.yaml",),
    }  # fmt: skip
    assert libs.ca_bundle is not None
    assert libs.ca_bundle.samefile(folder / "corp.pem")
    assert [package.kind for package in libs.declared] == ["apt"] * 3 + ["conda"] * 4 + ["cran"] * 3 + [
        "bioconductor"
    ] * 2 + ["github"] * 6 + ["pip"] * 7


def test_the_whole_file_its_pip_part(loads: Load, folder: Path) -> None:
    libs = loads(WHOLE)
    assert [(p.name, p.file, p.line) for p in libs.pip] == [
        ("pandas", "libs.yaml", 7),
        ("scikit-learn", "libs.yaml", 8),
        ("pkg", "libs.yaml", 9),
        ("thing", "libs.yaml", 10),
        ("requests", "requirements.txt", 3),
        ("six", "requirements.txt", 6),
        ("private", "requirements.txt", 7),
    ]
    assert libs.pip[1].marker == 'python_version < "3.13"'
    assert libs.pip_lines[-1] == "-r requirements.txt"
    assert libs.pip_rest == ("-c idna<4",)
    assert libs.pip_variables == {"USER_1", "PASSWORD"}
    assert libs.pip[-1].spec == "private @ https://${USER_1}:${PASSWORD}@example.org/private-1.tar.gz"
    assert [path.relative_to(folder).as_posix() for path in libs.files] == [
        "local/thing-1.2-py3-none-any.whl", "requirements.txt", "more/c.txt",
    ]  # fmt: skip


def test_the_whole_file_its_conda_part(loads: Load, folder: Path) -> None:
    libs = loads(WHOLE)
    assert [package.name for package in libs.conda] == ["numpy", "scipy", "xz", "ruamel.yaml"]
    assert libs.conda[2].spec == "conda-forge::xz 5.* h1*"
    assert libs.conda_channels == (
        f"file://{folder}/chan%20nel", "conda-forge", "https://repo.example/conda", "pytorch/label/nightly",
    )  # fmt: skip


def test_the_whole_file_its_r_part(loads: Load, folder: Path) -> None:
    libs = loads(WHOLE)
    assert [(p.name, p.constraints) for p in libs.r_packages if not p.remote] == [
        ("data.table", ()),
        ("DBI", (("==", "1.2.3"),)),
        ("ggplot2", ((">=", "3.4"), ("<", "4"))),
        ("limma", ()),
        ("edgeR", ((">=", "3"),)),
    ]
    assert [(p.name, p.remote) for p in libs.r_packages if p.remote] == [
        ("cli", Remote("github", "r-lib/cli", "v3.6.0")),
        ("folder", Remote("github", "tidyverse/dtplyr", "a1b2c3", "sub/folder")),
        ("other", Remote("github", "owner/repo")),
        ("remote", Remote("url", "https://example.org/src/remote_1.0-2.tar.gz?x=1")),
        ("my.package", Remote("path", str(folder / "mypkg"))),
        ("tar", Remote("path", str(folder / "local" / "tar_0.1.tar.gz"))),
    ]
    assert libs.repos == ("https://cran.example", "file:///srv/cran")
    assert (libs.snapshot, libs.sysreqs) == ("2026-06-01", False)


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
        ("zzz: 1", "1: zzz: unknown key", "known: name, base, python, apt, pip, conda, r, env, run, user, registry"),
        ("r: {crn: [x]}", "1: r.crn: unknown key", "did you mean cran?"),
        ("pip: pandas", "1: pip: expected a list ([a, b], or `- item` lines), found the text 'pandas'", ""),
        ("pip:\n  - a\n  - 1.5", "3: pip: expected text, found 1.5", "put it in quotes"),
        ("apt: [[a]]", "1: apt: expected text, found a list", ""),
        ("env: [a]", "1: env: expected a mapping", ""),
        ("env: {A: [1]}", "1: env.A: expected text, found a list", ""),
        ("env: {A-B: 1}", "1: env.A-B: 'A-B' is not a name of an environment variable", ""),
        ("r: [data.table]", "1: r: expected a mapping", ""),
        ("name: Churn R", "1: name: 'Churn R' is not an image name", "did you mean churn-r?"),
        (f"name: {'a' * 129}", "is not an image name: up to 128", f"did you mean {'a' * 128}?"),
        ("base: 'debian slim'", "1: base: 'debian slim' is not an image", ""),
        ("base: Debian:12", "1: base: 'Debian:12' is not an image", "did you mean debian:12?"),
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
        ("pip: ['-r https://x.example/r.txt']", "1: pip: https://x.example/r.txt is an address", "download it"),
        ("pip: ['numpy @ file:///croot/numpy_1/work/x.whl']", "1: pip: /croot/numpy_1/work/x.whl is an absolute path",
         "or ask for a version, as `pip list --format=freeze`"),
        ("pip: [-rlibs.yaml]", "1: pip: unknown option '-rlibs.yaml'", "did you mean -r libs.yaml?"),
        ("pip: [--requirements libs.yaml]", "1: pip: unknown option '--requirements'", "known: -r FILE"),
        ("pip: ['six==1 --hash=sha256:ab']", "1: pip: 'six==1 --hash=sha256:ab' has a hash", "-r FILE"),
        ("pip: [pandas: 2.2]", "1: pip: expected text, found a mapping", "text that holds `: ` must be in quotes"),
        ("pip: ['./']", "1: pip: ./ is a folder", "build a wheel"),
        ("pip: ['https://example.org/latest']", "the package's name cannot be told", "") ,
        ("r: {cran: [r-lib/cli]}", "1: r.cran: 'r-lib/cli' is not an R package", "put it under r.github"),
        ("r: {cran: ['DBI (>= 1.2)']}", "1: r.cran: 'DBI (>= 1.2)' is not an R package", "did you mean DBI>= 1.2?"),
        ("r: {cran: ['DBI@1.2']}", "1: r.cran: 'DBI@1.2' is not an R package", "did you mean DBI==1.2?"),
        ("r: {cran: [data_table]}", "1: r.cran: 'data_table' is not an R package", "did you mean data.table?"),
        ("r: {cran: ['-x']}", "1: r.cran: '-x' is not an R package", "expected NAME"),
        ("r: {cran: ['DBI=1.2']}", "1: r.cran: =1.2 is not a version constraint", "did you mean DBI==1.2?"),
        ("r: {cran: ['DBI>=new']}", "1: r.cran: >=new is not a version constraint", "expected =="),
        ("r: {cran: [DBI, 'DBI>=1']}", "1: r.cran: DBI is listed twice", ""),
        ("r: {repos: [cran.example]}", "1: r.repos: 'cran.example' is not an address", ""),
        ("imports: {numpy: x}\npip: [numpyy]", "1: imports.numpy: 'numpy' is not among the pip and conda packages",
         "did you mean numpyy?"),
        ("cran: [DBI]", "1: cran: unknown key", "did you mean r.cran?"),
        ("chanels: [x]", "1: chanels: unknown key", "did you mean conda.channels?"),
        ("image: debian", "1: image: unknown key", "did you mean base?"),
        ("r: {pip: [x]}", "1: r.pip: unknown key", "did you mean pip (at the top)?"),
        ("name: a\npython: 3.10", "2: python: expected text, found the number 3.1 (written 3.10)",
         'put it in quotes: "3.10"'),
        ("python: 3.11", "1: python: expected text, found 3.11", 'put it in quotes: "3.11"'),
        ("python: 3", "1: python: expected text, found 3", 'put it in quotes: "3"'),
        ("python: '2.7'", "1: python: '2.7' is not a version of Python", "expected 3.11 or 3.11.2"),
        ("python: '>=3.11'", "1: python: '>=3.11' is not a version of Python", 'did you mean "3.11"?'),
        ("python: [a]", "1: python: expected text, found a list", ""),
        ("conda: [numpy]", "1: conda: expected a mapping", "such as conda: {packages: [NAME]}"),
        ("conda: numpy", "1: conda: expected a mapping", ""),
        ("conda: {package: [x]}", "1: conda.package: unknown key", "did you mean packages?"),
        ("conda: {packages: x}", "1: conda.packages: expected a list", ""),
        ("conda: {packages: [1]}", "1: conda.packages: expected text, found 1", 'put it in quotes: "1"'),
        ("conda: {packages: ['numpy=>1']}", "conda.packages: 'numpy=>1' is not a conda package", "did you mean numpy>=1?"),
        ("conda: {packages: ['a b']}", "1: conda.packages: 'a b' is not a conda package", "expected NAME"),
        ("conda: {packages: ['a[x]==1']}", "'a[x]==1' is not a conda package", "conda has no extras"),
        ("conda: {packages: ['a[x]']}", "'a[x]' is not a conda package", "conda has no extras"),
        ("conda: {packages: ['./a-1-0.conda']}", "1: conda.packages: './a-1-0.conda' is one file", "into a channel"),
        ("conda: {packages: [a, 'A>=1']}", "1: conda.packages: a is listed twice (first in line 1)", ""),
        ("conda: {channels: [a b]}", "1: conda.channels: 'a b' is not a conda channel", "expected a name"),
        ("conda: {channels: [./none]}", "1: conda.channels: no such file: ", "looked in"),
        ("conda: {channels: ['file:///none']}", "1: conda.channels: no such file: /none", ""),
        ("conda: {channels: [./libs.yaml]}", "1: conda.channels: ./libs.yaml is not a folder", "noarch/"),
        ("conda: {channels: ['https://x.example/t/tk-1/c']}", "1: conda.channels: a token stands in", "netrc"),
        ("conda: {file: none.yml}", "1: conda.file: no such file: none.yml", "looked in"),
        ("conda: {file: ../e.yml}", "1: conda.file: ../e.yml is outside the folder", "move or copy"),
        ("conda: {file: libs.yaml}", "1: conda.file: libs.yaml is no environment.yml", ""),
        ("conda: {file: [a]}", "1: conda.file: expected text, found a list", ""),
        ("r: {file: none.lock}", "1: r.file: no such file: none.lock", ""),
        ("r: {file: libs.yaml}", "1: r.file: libs.yaml is no renv.lock", ""),
        ("r: {bioconductor: ['limma=3']}", "1: r.bioconductor: =3 is not a version constraint", "did you mean limma==3?"),
        ("r: {bioconductor: [a1, a1]}", "1: r.bioconductor: a1 is listed twice", ""),
        ("r: {bioconductor: x}", "1: r.bioconductor: expected a list", ""),
        ("r: {github: x}", "1: r.github: expected a list", ""),
        ("r: {github: [cli]}", "1: r.github: 'cli' is not a package on GitHub", "expected owner/repo"),
        ("r: {github: ['a/b#12']}", "1: r.github: 'a/b#12' is not a package on GitHub", "a pull request's content changes"),
        ("r: {github: ['a/b@*release']}", "'a/b@*release' is not a package on GitHub", "the latest release changes"),
        ("r: {github: ['a/b/../c']}", "1: r.github: 'a/b/../c' is not a package on GitHub", ""),
        ("r: {github: ['a/b@--x']}", "1: r.github: 'a/b@--x' is not a package on GitHub", ""),
        ("r: {github: ['github::a/b']}", "1: r.github: 'github::a/b' is not a package", "did you mean a/b?"),
        ("r: {github: ['https://github.com/a/b']}", "is not the address of a source archive", "did you mean a/b?"),
        ("r: {github: ['https://x.example/v1.tar.gz']}", "the package's name cannot be told", "write NAME=https://"),
        ("r: {github: ['https://x.example/${A}/p_1.tar.gz']}", "holds no variables", "GITHUB_TOKEN"),
        ("r: {github: [./none]}", "1: r.github: no such file: ./none", "looked in"),
        ("r: {github: [../x_1.tar.gz]}", "1: r.github: ../x_1.tar.gz is outside the folder", ""),
        ("r: {github: [.]}", "1: r.github: . is no R package: it has no file DESCRIPTION", ""),
        ("r: {github: [./libs.yaml]}", "1: r.github: './libs.yaml' is neither a folder nor a source archive", ""),
        ("r: {github: [a/b, c/b]}", "1: r.github: b is listed twice", ""),
        ("r: {repos: ['https://x.example/${A}']}", "variables are expanded in pip lines only", "RUNNER_CRAN"),
        ("r: {snapshot: yesterday}", "1: r.snapshot: 'yesterday' is not a day", "2026-06-01"),
        ("r: {snapshot: '2026-02-30'}", "1: r.snapshot: '2026-02-30' is not a day", ""),
        ("r: {snapshot: 2026-13-01}", "1: r.snapshot: '2026-13-01' is not a valid value", "YYYY-MM-DD"),
        ("r: {snapshot: 20260601}", "1: r.snapshot: '20260601' is not a day", ""),
        ("r: {snapshot: [a]}", "1: r.snapshot: expected text, found a list", ""),
        ("r: {sysreqs: atuo}", "1: r.sysreqs: expected 'auto' or 'none', found the text 'atuo'", "did you mean auto?"),
        ("r: {sysreqs: no}", "1: r.sysreqs: expected 'auto' or 'none', found no", ""),
        ("run: make", "1: run: expected a list", ""),
        ('run: [echo "a: b"]', "1: run: expected text, found a mapping", "text that holds `: ` must be in quotes"),
        ("run:\n- a\n- ' '", "3: run: the command is empty", ""),
        ("run: [true]", "1: run: expected text, found true", 'put it in quotes: "true"'),
        ('run: ["a\\0b"]', "1: run: character U+0000 is not allowed", ""),
        ("user: Runner!", "1: user: 'Runner!' is not a user", "UID or UID:GID"),
        ("user: [a]", "1: user: expected text, found a list", ""),
        ("registry: https://r.example/team/", "1: registry: 'https://r.example/team/'", "did you mean r.example/team?"),
        ("registry: r.example/team/x:1.0", "is not a registry", "did you mean r.example/team/x?"),
        ("registry: r.example/Team", "is not a registry", "did you mean r.example/team?"),
        ("registry: team", "1: registry: 'team' is not a registry", "such as myregistry.azurecr.io/team"),
        ("registry: [x]", "1: registry: expected text, found a list", ""),
        ("ca_bundle: [x]", "1: ca_bundle: expected text, found a list", ""),
        (f"ca_bundle: {'x' * 300}", "1: ca_bundle: no such file: xxx", ""),
        (f"pip: [-r {'x' * 300}]", "1: pip: no such file: xxx", ""),
        ("base: [x]", "1: base: expected text, found a list", ""),
        ("name: [x]", "1: name: expected text, found a list", ""),
        ("imports: [x]", "1: imports: expected a mapping", ""),
        ("pip: ['a\n\n-i x']", "is more than one line", "an item of its own"),
        ("pip: [--find-links ./wheels]", "1: pip: a folder of wheels is not taken", "name the wheels themselves"),
        ("pip: [A.b, a-b]", "1: pip: a-b is listed twice", ""),
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


def test_one_name_in_two_kinds_is_two_packages(loads: Load) -> None:
    text = "apt: [numpy]\npip: [numpy]\nconda: {packages: [numpy]}\nr: {cran: [limma], bioconductor: [limma]}\n"
    assert [package.name for package in loads(text).declared] == ["numpy", "numpy", "limma", "limma", "numpy"]


def test_a_requirement_may_differ_by_marker(loads: Load) -> None:
    text = "pip:\n  - six<2; python_version < '3.12'\n  - six>=1; python_version >= '3.12'\n"
    assert [package.name for package in loads(text).pip] == ["six", "six"]


@pytest.mark.parametrize(("text", "channels"), [("conda:\n", ()), ("conda: {packages: [a]}\n", ("conda-forge",)),
                                               ("conda: {packages: [x::a]}\n", ("conda-forge",)),
                                               ("conda: {channels: [b]}\n", ("b",)), ("apt: [a1]\n", ())])  # fmt: skip
def test_the_channel_where_none_is_named(loads: Load, text: str, channels: tuple[str, ...]) -> None:
    assert loads(text).conda_channels == channels


@pytest.mark.parametrize("user", ["app", "'1000'", "1000", "1000:1000", "1000:50", "_x-1"])
def test_a_user_is_taken_as_written(loads: Load, user: str) -> None:
    assert loads(f"user: {user}").user == user.strip("'")


@pytest.mark.parametrize("day", ["2026-06-01", "'2026-06-01'"])
def test_a_day_is_taken_as_written(loads: Load, day: str) -> None:
    assert loads(f"r: {{snapshot: {day}}}").snapshot == "2026-06-01"


def test_all_slips_are_told_at_once_in_the_order_of_lines(loads: Load) -> None:
    with pytest.raises(SpecError) as caught:
        loads("pip: 3\napt: [A B]\nzzz: 1\n")
    assert caught.value.line == 1
    assert [hint.split(": ")[1:3] for hint in caught.value.hints if hint.startswith("also: ")] == [
        ["libs.yaml:2", "apt"],
        ["libs.yaml:3", "zzz"],
    ]


def test_each_of_several_slips_has_the_nearest_right_word(loads: Load) -> None:
    with pytest.raises(SpecError) as caught:
        loads("apt: [A B]\ncran: [x]\nzzz: 1\n")
    assert "also: libs.yaml:2: cran: unknown key; did you mean r.cran?" in caught.value.hints
    assert "also: libs.yaml:3: zzz: unknown key" in caught.value.hints


def test_hashes_of_requirements_and_constraints_are_kept_with_their_names(loads: Load) -> None:
    a, b, c, d = (f"sha256:{letter * 64}" for letter in "abcd")
    long = f"sha512:{'e' * 128}"
    Path("c.txt").write_text(f"idna<4 --hash={a}\n")
    Path("requirements.txt").write_text(
        f"-c c.txt\nSix_Pack==1 \\\n  --hash={b} \\\n  --hash {long}  # why\n"
        f"two==1; python_version < '3.12' --hash={c}\ntwo==2; python_version >= '3.12' --hash={d}\nfree\n"
    )
    libs = loads("pip: [-r requirements.txt]\n")
    assert libs.pip_hashes == {"idna": {a}, "six-pack": {b, long}, "two": {c, d}}
    assert libs.pip[0].spec == "Six_Pack==1"


@pytest.mark.parametrize("form", ["--requirement ", "--requirement=", "-r=", "-r   "])
def test_an_included_file_is_handed_on_in_one_form(loads: Load, folder: Path, form: str) -> None:
    (folder / "more" / "r.txt").write_text("six\n")
    assert loads(f"pip: ['{form}more/r.txt']\n").pip_lines == ("-r more/r.txt",)


@pytest.mark.parametrize("form", ["-r {}/more/c.txt", "{}/local/thing-1.2-py3-none-any.whl",
                                  "thing @ file://{}/local/thing-1.2-py3-none-any.whl"])  # fmt: skip
def test_a_path_of_this_machine_alone_is_refused(loads: Load, folder: Path, form: str) -> None:
    with pytest.raises(SpecError, match=r"libs\.yaml:1: pip: /.* is an absolute path.*\n  write \./(more|local)/"):
        loads(f"pip: ['{form.format(folder)}']\n")


def test_slips_in_requirements_files_are_told_there(loads: Load, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n\n-e .\n")
    with pytest.raises(SpecError, match=r"^requirements\.txt:3: an editable install"):
        loads("pip: [-r requirements.txt]")
    (tmp_path / "requirements.txt").write_text("six\nidna==1 \\\n --hash=sha256:ab\n")
    with pytest.raises(SpecError, match=r"^requirements\.txt:2: 'sha256:ab' is not a hash"):
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


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("numpy", "numpy"), ("numpy=1.26", "numpy"), ("numpy==1.26.4", "numpy"), ("numpy 1.26.*", "numpy"),
        ("numpy=1.26.*=py311*", "numpy"), ("conda-forge/linux-64::numpy==1.26.4=py311h64a7726_0", "numpy"),
        ("python>=3.8,<3.12.0a0", "python"), ("python 3.11.* *_cpython", "python"), ("numpy >1, <2|>3", "numpy"),
        ("blas=*=openblas", "blas"), ("libblas * *mkl", "libblas"), ("pytorch=2.1=*cuda*", "pytorch"), ("a!=1.5", "a"),
        ("_r-mutex 1.* anacondar_1", "_r-mutex"), ("numpy~=1.26", "numpy"), ("numpy=1!2.0+local.1", "numpy"),
        ("numpy[version='>=1.2', build=x]", "numpy"), ("https://repo.example/conda::R6", "r6"), ("numpy =1.2", "numpy"),
    ],
)  # fmt: skip
def test_match_specs_of_conda(loads: Load, spec: str, name: str) -> None:
    (package,) = loads(f'conda: {{packages: ["{spec}"]}}').conda
    assert (package.name, package.spec) == (name, spec)


@pytest.mark.parametrize(
    "spec",
    ["", "numpy=", "numpy scipy", "numpy,scipy", "=1.2", "numpy>=", "numpy=1,", "numpy=1=b=c", "--yes", "numpy;x", "$(id)",
     "numpy 1.2 b c", "a::b::c", "numpy[", "-c x", "numpy @ file", "./numpy", "numpy => 1"],
)  # fmt: skip
def test_what_is_no_match_spec(loads: Load, spec: str) -> None:
    with pytest.raises(SpecError, match=r"^libs\.yaml:1: conda\.packages: .* is not a conda package"):
        loads(f'conda: {{packages: ["{spec}"]}}')


@pytest.mark.parametrize(
    "registry",
    ["myregistry.azurecr.io/team", "myregistry.azurecr.io", "localhost/x", "localhost:5000", "127.0.0.1:5000/a/b_c/d--e",
     "host:5000/x", "docker.io/me"],
)  # fmt: skip
def test_registries(loads: Load, registry: str) -> None:
    assert loads(f"registry: {registry}").registry == registry


@pytest.mark.parametrize(
    "registry", ["r.example/Team", "r.example//x", "r.example/x@sha256:a", "a b", "/x", "r.example:port/x"]
)
def test_what_is_no_registry(loads: Load, registry: str) -> None:
    with pytest.raises(SpecError, match=r"^libs\.yaml:1: registry: .* is not a registry"):
        loads(f"registry: {registry}")
