"""A login in an address is refused in every file, with the way out, and is never shown; variables stand for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.credentials import login_in
from runner.spec.libs import load
from runner.spec.named import named

ADDRESS = "https://me:hunter2@pkgs.example/x"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        ADDRESS, "https://token@h.example", "--index-url https://:hunter2@h.example/simple", "http://a:b:c@h",
        "https://${USER}:hunter2@h", "git+https://me:hunter2@h/x.git", "ssh://git:hunter2@h", "https://me:p@ss@h",
        "see https://a.example and https://me:hunter2@b.example", "HTTPS://me:hunter2@H",
    ],
)  # fmt: skip
def test_what_is_a_login(text: str) -> None:
    found = login_in(text)
    assert found is not None
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "text",
    [
        "https://h.example/a@b", "https://h.example?x=a@b", "https://h.example#a@b", "ssh://git@h/x", "git+ssh://git@h/x",
        "https://${USER}:${PASSWORD}@h", "https://${TOKEN}@h", "https://${TOKEN}:@h", "https://$TOKEN@h", "me@h.example",
        "<https://a.example>,<b@c.example>", "r-lib/cli@v1",
    ],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    assert login_in(text) is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (f"pip: [a]\nr: {{repos: ['{ADDRESS}']}}", "libs.yaml:2: r.repos: "),
        (f"pip: ['--index-url {ADDRESS}']", "libs.yaml:1: pip: "),
        (f"pip: ['a @ {ADDRESS}/a-1.tar.gz']", "libs.yaml:1: pip: "),
        (f"conda: {{channels: ['{ADDRESS}']}}", "libs.yaml:1: conda.channels: "),
        (f"r: {{github: ['{ADDRESS}/a_1.tar.gz']}}", "libs.yaml:1: r.github: "),
        (f"env: {{A: '{ADDRESS}'}}", "libs.yaml:1: env.A: "),
        (f"run: ['curl {ADDRESS}']", "libs.yaml:1: run: "),
        (f"registry: {ADDRESS}", "libs.yaml:1: registry: "),
        (f"nonsense: {{a: [{{b: '{ADDRESS}'}}]}}", "libs.yaml:1: nonsense.a.b: "),
        (f"env: {{'{ADDRESS}': a}}", "libs.yaml:1: a login"),
    ],
)
def test_in_a_libs_yaml(text: str, where: str) -> None:
    Path("libs.yaml").write_text(text)
    check(Path("libs.yaml"), where)


@pytest.mark.parametrize("line", [f"--extra-index-url {ADDRESS}", f"a @ {ADDRESS}/a-1.tar.gz", f"-f {ADDRESS}",
                                  f"{ADDRESS}/a-1-py3-none-any.whl"])  # fmt: skip
@pytest.mark.parametrize("file", ["requirements.txt", "c.txt"])
def test_in_a_requirements_file(line: str, file: str) -> None:
    Path("requirements.txt").write_text("six\n-c c.txt\n")
    Path("c.txt").write_text("six<2\n")
    with Path(file).open("a") as stream:
        stream.write(f"{line}\n")
    check(Path("requirements.txt"), f"{file}:{2 if file == 'c.txt' else 3}: ")


def test_in_the_others() -> None:
    Path("environment.yml").write_text(f"dependencies:\n- a\n- pip:\n  - --index-url {ADDRESS}\n")
    check(Path("environment.yml"), "environment.yml:4: dependencies.pip: ")
    Path("renv.lock").write_text(json.dumps({"R": {"Repositories": [{"URL": ADDRESS}]}, "Packages": {}}, indent=1))
    check(Path("renv.lock"), "renv.lock:5: R.Repositories.URL: ")


def check(libs: Path, where: str) -> None:
    for read in (load, named):
        with pytest.raises(SpecError) as caught:
            read(libs)
        message = str(caught.value)
        assert message.startswith(where)
        assert "a login stands in the address of pkgs.example" in message
        assert all(way in message for way in ("UV_INDEX_", "${USER}", "netrc"))
        assert "hunter2" not in message


def test_variables_stay_as_they_are_and_are_named() -> None:
    Path("c.txt").write_text(
        "--extra-index-url https://${U}:${P}@h.example/simple\nidna @ https://${T}@h.example/idna-3.tar.gz\n"
    )
    Path("libs.yaml").write_text(
        "pip: ['six @ https://${USER}@h.example/six-1.tar.gz', -r c.txt]\nenv: {A: '${NOT}'}\n"
    )
    libs = load(Path("libs.yaml"))
    assert libs.pip_variables == {"USER", "U", "P", "T"}
    assert libs.pip_lines[0] == "six @ https://${USER}@h.example/six-1.tar.gz"
    assert libs.pip_rest == ("--extra-index-url https://${U}:${P}@h.example/simple",)
