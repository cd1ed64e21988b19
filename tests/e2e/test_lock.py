"""The lock on a real engine: what is locked stays, `--locked` builds exactly that or says what is in the way."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import pytest

from runner.builder import Options, build, content_tag
from runner.docker_api.images import look_up
from runner.errors import BuildError, SpecError, UsageError
from runner.spec import lock as locks
from runner.spec.lock import Lock
from tests.e2e.build_material import docker, make_wheel, served

pytestmark = [pytest.mark.docker]

Make = Callable[..., Any]


def lock_of(folder: Path) -> Lock:
    found = locks.read(folder / "libs.lock")
    assert found is not None
    return found


def edit(folder: Path, name: str, **changes: Any) -> None:
    """Change one package of the lock."""
    lock = lock_of(folder)
    packages = tuple(replace(each, **changes) if each.name == name else each for each in lock.packages)
    assert packages != lock.packages
    locks.write(folder / "libs.lock", replace(lock, packages=packages))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Python index in a folder: rnlib 1.0 and 1.1, rnmore 1.0. A salt in their code makes them this test's own."""
    folder = tmp_path / "index"
    for name, version in (("rnlib", "1.0"), ("rnlib", "1.1"), ("rnmore", "1.0")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        make_wheel(folder / name, name, version, f"salt = {os.urandom(4).hex()!r}")
    relist(folder)
    with served(folder) as address:
        monkeypatch.setenv("UV_INDEX", f"http://{address}/")
        yield folder


def relist(index: Path) -> None:
    for folder in index.iterdir():
        (folder / "index.html").write_text("".join(f'<a href="{each.name}">x</a>' for each in folder.glob("*.whl")))


def versions(made: Any) -> dict[str, str]:
    return {each.name: each.version for each in made.image.libraries}


def test_locked_versions_stay_until_they_are_upgraded(make: Make, tmp_path: Path, index: Path) -> None:
    first = make("name: runner-test-lock\npip: [rnlib<1.1]\n")
    assert versions(first) == {"rnlib": "1.0"}

    more = make("name: runner-test-lock\npip: [rnlib, rnmore]\n")
    assert versions(more) == {"rnlib": "1.0", "rnmore": "1.0"}, "1.1 is there, but 1.0 still fits"

    other = make("name: runner-test-lock\npip: [rnlib, rnmore]\n", upgrade=frozenset(["rnmore"]))
    assert versions(other) == {"rnlib": "1.0", "rnmore": "1.0"}
    assert "lock" not in other.stages, "there is no newer one, so the lock is what it was"
    newer = make("name: runner-test-lock\npip: [rnlib, rnmore]\n", upgrade=frozenset(["rnlib"]))
    assert versions(newer) == {"rnlib": "1.1", "rnmore": "1.0"}
    assert ("lock", "libs.lock  rewritten: 1 changed (rnlib 1.0 → 1.1)") in newer.told


@pytest.mark.slow
def test_upgrade_of_a_debian_package_of_r_by_either_name(make: Make, tmp_path: Path) -> None:
    text = "name: runner-test-lock\nr: {cran: [jsonlite]}\n"
    first = make(text)
    before = lock_of(tmp_path)
    edit(tmp_path, "r-cran-jsonlite", version="0.1-1")
    edit(tmp_path, "jsonlite", version="0.1-1")

    again = make(text, upgrade=frozenset(["r-cran-jsonlite"]))

    assert lock_of(tmp_path) == before
    assert versions(again) == versions(first)
    assert "lock" not in make(text, upgrade=frozenset(["jsonlite"])).stages


def test_upgrade_of_everything(make: Make, index: Path) -> None:
    make("name: runner-test-lock\npip: [rnlib<1.1]\n")
    assert versions(make("name: runner-test-lock\npip: [rnlib]\n", upgrade=frozenset(["*"]))) == {"rnlib": "1.1"}


def test_locked_builds_the_same_again(make: Make, tmp_path: Path) -> None:
    text = "name: runner-test-lock\napt: [procps]\npip: [six]\nr: {cran: [jsonlite]}\n"
    first = make(text)
    before = (tmp_path / "libs.lock").read_bytes()
    manifest = docker("run", "--rm", first.image.tag, "cat", "/opt/runner/manifest.json")

    again = make(text, locked=True, no_cache=True)

    assert again.image.built
    assert again.image.id != first.image.id
    assert docker("run", "--rm", again.image.tag, "cat", "/opt/runner/manifest.json") == manifest
    assert (tmp_path / "libs.lock").read_bytes() == before
    held = json.loads(manifest)
    assert held["installed"]["pip"]["six"] == versions(first)["six"]
    assert {each["name"] for each in held["lock"]["packages"] if each["kind"] == "r"} == {"jsonlite"}


def test_the_lock_names_everything_that_is_in_the_image(make: Make, tmp_path: Path) -> None:
    made = make("name: runner-test-lock\napt: [procps]\npip: [requests]\n")
    held = json.loads(docker("run", "--rm", made.image.tag, "cat", "/opt/runner/manifest.json"))["installed"]
    lock = lock_of(tmp_path)
    for kind in ("apt", "pip"):
        assert {each.name: each.version for each in lock.packages if each.kind == kind} == held[kind]
    assert all(each.hashes for each in lock.of("pip"))


def test_locked_without_a_lock(make: Make, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"libs\.lock: there is no lock yet"):
        make("name: runner-test-lock\npip: [six]\n", locked=True)


def test_locked_after_the_file_has_moved_on(make: Make, tmp_path: Path) -> None:
    make("name: runner-test-lock\npip: [six]\n")
    before = (tmp_path / "libs.lock").read_bytes()
    with pytest.raises(SpecError) as caught:
        make("name: runner-test-lock\napt: [procps]\npip: [idna]\n", locked=True)
    assert "libs.yaml has moved on from it" in str(caught.value)
    assert caught.value.hints[:2] == ("apt: + procps", "pip: + idna, - six")
    assert (tmp_path / "libs.lock").read_bytes() == before


def test_what_is_gone_is_named_and_a_plain_build_finds_another(make: Make, tmp_path: Path, index: Path) -> None:
    text = "name: runner-test-lock\npip: [rnlib, rnmore]\n"
    make(text)
    assert lock_of(tmp_path).find("pip", "rnlib").version == "1.1"  # type: ignore[union-attr]
    edit(tmp_path, "rnlib", version="1.0.9", hashes=("sha256:" + "0" * 64,))

    with pytest.raises(BuildError, match=r"rnlib 1\.0\.9 of the lock cannot be had any more"):
        make(text, locked=True)
    assert look_up(content_tag(tmp_path / "libs.yaml")) is None

    made = make(text)
    assert versions(made) == {"rnlib": "1.1", "rnmore": "1.0"}
    assert any("rnlib 1.0.9 cannot be had any more" in text for _, text in made.told)


def test_a_debian_version_that_is_gone(make: Make, tmp_path: Path) -> None:
    text = "name: runner-test-lock\napt: [libpopt0]\n"
    make(text)
    edit(tmp_path, "libpopt0", version="1.0-gone")
    with pytest.raises(BuildError, match=r"libpopt0 1\.0-gone of the lock cannot be had any more"):
        make(text, locked=True)
    made = make(text)
    assert any("libpopt0 1.0-gone cannot be had any more" in text for _, text in made.told)
    assert lock_of(tmp_path).find("apt", "libpopt0").version != "1.0-gone"  # type: ignore[union-attr]


def test_hashes_of_a_requirements_file_bind(make: Make, tmp_path: Path, index: Path) -> None:
    wheel = (index / "rnlib" / "rnlib-1.0-py3-none-any.whl").read_bytes()
    good, text = f"sha256:{sha256(wheel).hexdigest()}", "name: runner-test-lock\npip: [-r requirements.txt]\n"
    requirements = tmp_path / "requirements.txt"

    requirements.write_text(f"rnlib==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(SpecError) as caught:
        make(text)
    assert str(caught.value).startswith(f"{requirements}:1: rnlib 1.0: no file of it has a hash that is asked for")
    assert f"there is: {good}" in caught.value.hints
    assert not (tmp_path / "libs.lock").exists()

    requirements.write_text(f"rnlib==1.0 --hash=sha256:{'0' * 64} --hash={good}\n")
    assert versions(make(text)) == {"rnlib": "1.0"}
    found = lock_of(tmp_path).find("pip", "rnlib")
    assert found is not None
    assert found.hashes == (good,)

    requirements.write_text(f"rnlib==1.0 --hash=sha512:{'0' * 128}\n")
    with pytest.raises(SpecError, match=r"pip\.hashes: \+ rnlib sha512:0"):
        make(text, locked=True)
    with pytest.raises(BuildError, match=r"Hash mismatch for `rnlib==1\.0`"):
        make(text)


def test_a_lock_that_lacks_what_is_asked_for(make: Make, tmp_path: Path, index: Path) -> None:
    text = "name: runner-test-lock\npip: [rnlib, rnmore]\n"
    make(text)
    whole = lock_of(tmp_path)
    locks.write(tmp_path / "libs.lock", replace(whole, packages=tuple(p for p in whole.packages if p.name != "rnmore")))

    with pytest.raises(SpecError, match=r"libs\.lock: it lacks rnmore, which libs\.yaml asks for"):
        make(text, locked=True)
    again = make(text)

    assert ("resolve", "libs.lock lacks rnmore, resolving anew") in again.told
    assert lock_of(tmp_path) == whole


def test_a_file_that_has_changed_on_the_index_is_refused(make: Make, tmp_path: Path, index: Path) -> None:
    text = f"name: runner-test-lock\npip: [rnlib]\nenv: {{SALT: {os.urandom(4).hex()}}}\n"
    make(text)
    edit(tmp_path, "rnlib", hashes=("sha256:" + "0" * 64,))
    with pytest.raises(BuildError) as caught:
        make(text, locked=True, no_cache=True)
    assert "rnlib" in str(caught.value)
    assert "hash" in str(caught.value).lower()


def test_a_file_that_is_saved_during_the_build_is_not_taken_for_the_one_that_was_built(
    make: Make, tmp_path: Path
) -> None:
    libs = tmp_path / "libs.yaml"
    wheel = make_wheel(tmp_path, "rnsaved", "1.0", f"salt = {os.urandom(4).hex()!r}")
    text = f"name: runner-test-lock\npip: [./{wheel.name}]\n"
    libs.write_text(text)

    def save(stage: str, _text: str) -> None:
        if stage == "verify":
            libs.write_text(text.replace("]", ", runner-no-such-library-zzz]"))

    with pytest.raises(BuildError, match="was changed while it was built"):
        build(libs, options=Options(progress=save))
    assert look_up(content_tag(libs)) is None
    assert versions(make(text)) == {"rnsaved": "1.0"}


def test_another_index_s_file_of_the_same_version_is_another_package(
    make: Make, tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "name: runner-test-lock\npip: [rnmore]\n"
    first = make(text)
    other = tmp_path / "other"
    (other / "rnmore").mkdir(parents=True)
    make_wheel(other / "rnmore", "rnmore", "1.0", "salt = 'other'")
    relist(other)
    (tmp_path / "libs.lock").unlink()
    with served(other) as address:
        monkeypatch.setenv("UV_INDEX", f"http://{address}/")
        second = make(text)
    says = [docker("run", "--rm", made, "python3", "-c", "import rnmore; print(rnmore.salt)")
            for made in (first.image.id, second.image.id)]  # fmt: skip
    assert says[1] == "other\n"
    assert says[0] != says[1]


def test_what_the_base_has_of_a_package_is_not_taken_for_the_lock_s(
    make: Make, tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make("name: runner-test-lock-base\npip: [rnmore]\n")
    (tmp_path / "libs.lock").unlink()
    salt = os.urandom(4).hex()
    other = tmp_path / "other"
    (other / "rnmore").mkdir(parents=True)
    make_wheel(other / "rnmore", "rnmore", "1.0", f"salt = {salt!r}")
    relist(other)
    with served(other) as address:
        monkeypatch.setenv("UV_INDEX", f"http://{address}/")
        made = make(f"name: runner-test-lock\nbase: {base.image.tag}\npip: [rnmore]\n")
    assert docker("run", "--rm", made.image.tag, "python3", "-c", "import rnmore; print(rnmore.salt)") == f"{salt}\n"


def test_a_step_cannot_have_a_file_of_this_machine_read(make: Make, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("runner.leak=TOPSECRET\n")
    made = make(f'name: runner-test-run\nrun: ["ln -s {secret} /mnt/out/answers"]\n')
    assert "TOPSECRET" not in docker("inspect", made.image.tag)
    made = make("name: runner-test-run\nrun: [mkfifo /mnt/out/answers]\n")
    assert made.image.built


def test_a_lock_for_another_platform_or_python(make: Make, tmp_path: Path) -> None:
    text = f"name: runner-test-lock\npip: [six]\nenv: {{SALT: {os.urandom(4).hex()}}}\n"
    make(text)
    good = lock_of(tmp_path)
    locks.write(tmp_path / "libs.lock", replace(good, platform="linux/arm64"))
    with pytest.raises(SpecError, match=r"it is for linux/arm64, and the base here is for linux/"):
        make(text, locked=True)
    locks.write(tmp_path / "libs.lock", replace(good, python="9.9"))
    with pytest.raises(BuildError, match="the image does not hold what the lock says") as caught:
        make(text, locked=True)
    assert "python: 9.9 in the lock, 3." in str(caught.value)


def test_a_platform_that_the_base_is_not_for_is_refused(make: Make, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        make("name: runner-test-lock\npip: [six]\n", platform="linux/s390x")
    assert "and the target runs linux/s390x" in str(caught.value)
    assert not (tmp_path / "libs.lock").exists()


def test_a_lock_cannot_name_any_image_of_the_engine_as_the_base(make: Make, tmp_path: Path) -> None:
    other = make("name: runner-test-lock-other\npip: [six]\n")
    text = f"name: runner-test-lock\napt: [libpopt0]\nenv: {{SALT: {os.urandom(4).hex()}}}\n"
    (tmp_path / "libs.lock").unlink()
    make(text)
    good = lock_of(tmp_path)
    locks.write(tmp_path / "libs.lock", replace(good, base=replace(good.base, id=other.image.id)))
    made = make(text)
    assert lock_of(tmp_path).base == good.base
    with pytest.raises(CalledProcessError):
        docker("run", "--rm", made.image.tag, "python3", "-c", "import six")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"upgrade": frozenset(["sicks"])}, "--upgrade sicks: neither libs.yaml nor its lock has that package"),
        ({"upgrade": frozenset(["six"]), "locked": True}, "--locked builds exactly the lock"),
        ({"secrets": ("RUNNER_TEST_NOT_SET",)}, "--secret RUNNER_TEST_NOT_SET: the variable is not set"),
        ({"secrets": ("../x",)}, "not a name of a variable"),
    ],
)
def test_options_that_cannot_be(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make("name: runner-test-lock\npip: [six]\n", **options)
    assert message in str(caught.value)


def test_a_linked_libs_file(make: Make, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    wheel = make_wheel(real, "rnlinked", "1.0", "")
    (real / "libs.yaml").write_text(f"name: runner-test-lock\npip: [./{wheel.name}]\n")
    (tmp_path / "link.yaml").symlink_to(real / "libs.yaml")
    image = build(tmp_path / "link.yaml")
    assert [each.name for each in image.libraries] == ["rnlinked"]
    assert image.lock == real / "libs.lock"
    docker("rmi", image.tag)


def test_a_damaged_lock_is_told(make: Make, tmp_path: Path) -> None:
    (tmp_path / "libs.lock").write_text("{")
    with pytest.raises(SpecError, match=r"libs\.lock:1: it is no JSON"):
        make("name: runner-test-lock\npip: [six]\n")


def test_only_what_changed_is_asked_for(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("name: runner-test-lock\napt: [libpopt0]\npip: [six]\n")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/")
    made = make("name: runner-test-lock\napt: [libpopt0, libgpm2]\npip: [six]\n")
    assert ("lock", "libs.lock  rewritten: 1 added") in made.told
    with pytest.raises(BuildError):
        make("name: runner-test-lock\napt: [libpopt0, libgpm2]\npip: [six, idna]\n")


def test_commands_and_their_secrets(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = os.urandom(12).hex()
    monkeypatch.setenv("BUILD_TOKEN", secret)
    text = """name: runner-test-run
env: {GREETING: it's "here"}
run:
  - test "$GREETING" = "it's \\"here\\""
  - test "$(id -u)" = 0 && mkdir /opt/tool
  - |
    wc -c </run/secrets/BUILD_TOKEN >/opt/tool/length
    python3 -c 'open("/opt/tool/done", "w").write("yes")'
"""
    made = make(text, secrets=("BUILD_TOKEN",))
    assert docker("run", "--rm", made.image.tag, "cat", "/opt/tool/length", "/opt/tool/done").split() == ["24", "yes"]
    assert made.image.log is not None
    assert secret not in made.image.log.read_text()
    assert secret not in docker("inspect", made.image.tag) + docker("history", "--no-trunc", made.image.tag)
    assert docker("run", "--rm", made.image.tag, "sh", "-c", "ls -A /run/secrets").strip() == ""

    with pytest.raises(BuildError, match=r"the command ended with exit code 7"):
        make("name: runner-test-run\nrun: [exit 7]\n")


@pytest.mark.parametrize(("user", "expected"), [("ana", "ana"), ("4321:4322", "4321 4322"), ("root", "0 0")])
def test_the_user_is_the_one_asked_for(make: Make, user: str, expected: str) -> None:
    made = make(f"name: runner-test-user\nuser: '{user}'\npip: [six]\n")
    told = docker("run", "--rm", made.image.tag, "sh", "-c", "id -un 2>/dev/null; id -u; id -g").split()
    assert expected in {told[0], " ".join(told[-2:])}
    assert docker("run", "--rm", made.image.tag, "sh", "-c", "touch ~/x && pwd").strip() == "/home/runner"


def test_the_python_that_cannot_be_had_is_told_with_what_there_is(make: Make) -> None:
    assert make('name: runner-test-python\npython: "3.11"\n').image.built in {True, False}
    with pytest.raises(SpecError) as caught:
        make('name: runner-test-python\npython: "3.8"\n')
    assert "libs.yaml:2: python: Python 3.8 is not to be had on this base" in str(caught.value)
    assert "3.11" in str(caught.value)
