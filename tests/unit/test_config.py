"""runner.yaml: where it is looked for, what wins, and the error of everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import SpecError
from runner.spec.config import Config, load


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def error(tmp_path: Path, text: str) -> SpecError:
    write(tmp_path / "runner.yaml", text)
    with pytest.raises(SpecError) as caught:
        load(tmp_path, {})
    return caught.value


def test_nothing_anywhere(tmp_path: Path) -> None:
    assert load(tmp_path, {}) == Config()


def test_the_first_file_upward_is_the_project_s(tmp_path: Path) -> None:
    top = write(tmp_path / "runner.yaml", "registry: top.example.com\n")
    inner = write(tmp_path / "a" / "runner.yaml", "registry: inner.example.com/team\n")
    (tmp_path / "a" / "b").mkdir()
    (tmp_path / "c").mkdir()
    assert load(tmp_path / "a" / "b", {}) == Config("inner.example.com/team", {}, (inner,))
    assert load(tmp_path / "c", {}) == Config("top.example.com", {}, (top,))


def test_the_user_s_file_lies_below_it_key_by_key_and_host_by_host(tmp_path: Path) -> None:
    user = write(
        tmp_path / "xdg" / "runner" / "runner.yaml",
        "registry: user.example.com\nregistries: {a.example.com: {auth: basic}, b.example.com: {auth: acr}}\n",
    )
    project = write(tmp_path / "p" / "runner.yaml", "registries: {a.example.com: {auth: docker}}\n")
    found = load(tmp_path / "p", {"XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    assert found.registry == "user.example.com"
    assert found.registries == {"a.example.com": "docker", "b.example.com": "acr"}
    assert found.files == (project, user)
    assert found.named == {"user.example.com", "a.example.com", "b.example.com"}


def test_a_checkout_cannot_have_the_azure_sign_in_sent_to_a_host_of_its_choice(tmp_path: Path) -> None:
    file = write(tmp_path / "runner.yaml", "registries:\n  evil.example.com: {auth: acr}\n")
    with pytest.raises(SpecError) as caught:
        load(tmp_path, {})
    assert str(caught.value).startswith(f"{file}:2: registries.evil.example.com.auth: a project's file may not have")
    assert load(tmp_path, {}, file).registries == {"evil.example.com": "acr"}, "a file that is named is trusted"
    assert load(tmp_path, {"RUNNER_CONFIG": str(file)}).registries == {"evil.example.com": "acr"}


def test_only_files_of_the_user_s_own_choice_name_hosts(tmp_path: Path) -> None:
    """Which is what RUNNER_REGISTRY_PASSWORD may be sent to."""
    text = "registry: r.example.com:5000/team\nregistries: {s.example.com: {auth: basic}}\n"
    file = write(tmp_path / "runner.yaml", text)
    both = {"r.example.com:5000", "s.example.com"}
    assert load(tmp_path, {}).named == frozenset()
    assert load(tmp_path, {}, file).named == both
    assert load(tmp_path, {"RUNNER_CONFIG": str(file)}).named == both
    user = write(tmp_path / "xdg" / "runner" / "runner.yaml", "registries: {t.example.com: {auth: acr}}\n")
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert load(tmp_path, environ).named == {"t.example.com"}
    assert load(user.parent, environ).named == {"t.example.com"}, "found upward, but the user's own all the same"


def test_home_where_xdg_says_nothing(tmp_path: Path) -> None:
    write(tmp_path / ".config" / "runner" / "runner.yaml", "registry: user.example.com\n")
    start = tmp_path / "elsewhere"
    start.mkdir()
    assert load(start, {"HOME": str(tmp_path)}).registry == "user.example.com"


def test_a_file_that_is_named_takes_the_project_s_place(tmp_path: Path) -> None:
    write(tmp_path / "runner.yaml", "registry: project.example.com\n")
    by_variable = write(tmp_path / "ci.yaml", "registry: ci.example.com\n")
    by_option = write(tmp_path / "own.yaml", "registry: own.example.com\n")
    environ = {"RUNNER_CONFIG": str(by_variable)}
    assert load(tmp_path, environ).registry == "ci.example.com"
    assert load(tmp_path, environ, by_option).registry == "own.example.com"
    with pytest.raises(SpecError, match=r"nothing\.yaml: no such file"):
        load(tmp_path, {"RUNNER_CONFIG": str(tmp_path / "nothing.yaml")})


def test_a_folder_above_that_everyone_may_write_to_is_not_looked_in(tmp_path: Path) -> None:
    """A stranger's runner.yaml in /tmp would decide where images and logins go."""
    shared = tmp_path / "shared"
    write(shared / "runner.yaml", "registry: stranger.example.com\n")
    (shared / "mine").mkdir()
    assert load(shared / "mine", {}).registry == "stranger.example.com"
    shared.chmod(0o1777)
    assert load(shared / "mine", {}).registry is None
    assert load(shared, {}).registry == "stranger.example.com", "who works there has seen it"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("regsitry: a.example.com\n", 1, "regsitry: unknown key\n  did you mean registry?"),
        ("\nregistry: [a]\n", 2, "registry: expected text, found a list"),
        ("registry: team/app\n", 1, "does not begin with a registry's host"),
        ("registry: a.example.com/team:v1\n", 1, "leave out :v1"),
        ("registry: https://a.example.com/team\n", 1, "did you mean a.example.com/team?"),
        ("registries: [a]\n", 1, "expected HOST: {auth: …} lines, found a list"),
        ("registries:\n  a.example.com: acr\n", 2, "expected {auth: …}, found 'acr'"),
        ("registries:\n  a.example.com: {auth: dockr}\n", 2, "acr, docker, basic, found 'dockr'\n  did you mean docker?"),
        ("registries:\n  a.example.com: {}\n", 2, "found nothing"),
        ("registries:\n  a.example.com: {aut: acr}\n", 2, "did you mean auth?"),
        ("registries:\n  a.example.com/team: {auth: acr}\n", 2, "did you mean a.example.com?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_line_and_key(tmp_path: Path, text: str, line: int, message: str) -> None:
    found = error(tmp_path, text)
    assert message in str(found)
    assert (found.file, found.line) == (str(tmp_path / "runner.yaml"), line)
