"""Where a push goes, and how what engines and registries say is understood. The pushing itself: tests/e2e/registry."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.builder.registry.errors import Problem, problem_of, push_error
from runner.builder.registry.push import Pushed, cloud_platform, digests, target_of
from runner.builder.registry.sign_in import Login
from runner.docker_api.images import Image
from runner.errors import SpecError
from runner.spec.config import Config
from runner.spec.reference import Target, place

HASH = "0123456789abcdef"


def target(
    explicit: str | None = None, libs: str | None = None, env: str | None = None, config: str | None = None
) -> str:
    found = target_of(
        "churn", HASH, explicit=explicit, libs_registry=libs, config=Config(config),
        environ={"RUNNER_REGISTRY": env} if env else {},
    )  # fmt: skip
    return found.reference if found else ""


def test_the_most_specific_wins() -> None:
    everything = {"libs": "libs.example.com", "env": "env.example.com", "config": "config.example.com"}
    assert target("x.example.com/a/b:v1", **everything) == "x.example.com/a/b:v1"
    assert target(**everything) == f"libs.example.com/churn:{HASH}"
    assert target(env="env.example.com/team", config="c.example.com") == f"env.example.com/team/churn:{HASH}"
    assert target(config="c.example.com:5000/a/b") == f"c.example.com:5000/a/b/churn:{HASH}"
    assert target() == ""


def test_the_command_line_names_the_repository_the_others_a_place() -> None:
    assert target("x.example.com/team") == f"x.example.com/team:{HASH}"
    assert target("x.example.com") == f"x.example.com/churn:{HASH}"
    assert target("localhost:5000/app:v1") == "localhost:5000/app:v1"
    assert target("[::1]:5000/app") == f"[::1]:5000/app:{HASH}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with a registry's host"),
        ("team/app", "for Docker Hub: docker.io/team/app"),
        ("https://x.example.com/app", "did you mean x.example.com/app?"),
        ("x.example.com/Team/App", "did you mean team/app?"),
        ("x.example.com/a//b", "no valid repository"),
        ("x.example.com/", "ends in /"),
        ("x.example.com/a:", "no valid tag: ''"),
        ("x.example.com/a:b/c", "no valid tag: 'b/c'"),
        ("x.example.com/a@sha256:" + "0" * 64, "has a digest"),
        ("x.example.com/a b", "no valid repository"),
        ("x.example.com:port/a", "no valid host"),
        ("-x.example.com/a", "no valid host"),
        ("x.example.com/" + "a" * 300, "longer than 255"),
        ("user:pass@x.example.com/a", "no valid host"),
        ("x.example.com\r\nX: y/a", "no valid host"),
    ],
)
def test_malformed(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        place(text, key="RUNNER_REGISTRY")
    assert message in str(caught.value)
    assert str(caught.value).startswith("RUNNER_REGISTRY: ")


@given(st.text(max_size=40))
def test_whatever_is_given_is_taken_apart_whole_or_refused(text: str) -> None:
    try:
        found = place(text)
    except SpecError:
        return
    assert text == found.host + (f"/{found.path}" if found.path else "") + (f":{found.tag}" if found.tag else "")


@pytest.mark.parametrize(
    ("host", "platform"),
    [
        ("my.azurecr.io", "linux/amd64"),
        ("docker.io", "linux/amd64"),
        ("ghcr.io:443", "linux/amd64"),
        ("20.1.2.3:5000", "linux/amd64"),
        ("localhost:5000", None),
        ("127.0.0.1:5000", None),
        ("[::1]:5000", None),
        ("10.1.2.3", None),
        ("registry:5000", None),
        ("nas.local", None),
        ("registry.corp.internal:5000", None),
    ],
)
def test_a_cloud_runs_amd64(host: str, platform: str | None) -> None:
    assert cloud_platform(host) == platform


def test_the_digests_of_the_target_s_repository_only() -> None:
    known = ("a.example.com/app@sha256:1", "b.example.com/app@sha256:2", "me/app@sha256:3", "debian@sha256:4")
    image = Image("sha256:0", 1, {}, {}, "", "amd64", (), known)
    assert digests(image, Target("a.example.com", "app", "v1")) == ["sha256:1"]
    assert digests(image, Target("docker.io", "me/app", "v1")) == ["sha256:3"]
    assert digests(image, Target("docker.io", "library/debian", "v1")) == ["sha256:4"]
    assert digests(image, Target("a.example.com", "other", "v1")) == []


def test_an_image_by_its_digest() -> None:
    assert (
        Pushed("h.example.com:5000/a/b:v1", "sha256:1", 1, already_there=False).by_digest
        == "h.example.com:5000/a/b@sha256:1"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("unauthorized: authentication required", Problem.WRONG_LOGIN),
        ("unauthorized: access token has insufficient scopes: denied", Problem.DENIED),
        ("denied: requested access to the resource is denied", Problem.DENIED),
        ("no basic auth credentials", Problem.MISSING_LOGIN),
        ('Get "https://x/v2/": dial tcp: lookup x on 10.0.0.1:53: no such host', Problem.NAME_NOT_KNOWN),
        ('Get "https://x/v2/": dial tcp 127.0.0.1:9: connect: connection refused', Problem.REFUSED),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", Problem.TIMEOUT),
        ('Get "https://x/v2/": net/http: TLS handshake timeout', Problem.TIMEOUT),
        ("x509: certificate signed by unknown authority", Problem.UNTRUSTED),
        ("tls: failed to verify certificate: x509: certificate has expired", Problem.UNTRUSTED),
        ("http: server gave HTTP response to HTTPS client", Problem.PLAIN_HTTP),
        ("write /srv/x: no space left on device", Problem.FULL),
        ("received unexpected HTTP status: 507 Insufficient Storage", Problem.FULL),
        ("denied: adding 3 GiB would exceed the storage quota", Problem.FULL),
        ("An image does not exist locally with the tag: x/y", Problem.NOT_ON_ENGINE),
        ("EOF", Problem.BROKEN_OFF),
        ("write tcp 1.2.3.4: connection reset by peer", Problem.BROKEN_OFF),
        ("received unexpected HTTP status: 500 Internal Server Error", Problem.BROKEN_OFF),
        ("something new", Problem.OTHER),
        ('Put "https://x/v2/quota/denied/blobs/uploads/1": EOF', Problem.BROKEN_OFF),
        ("write tcp 10.0.0.1:403->10.0.0.2:507: write: broken pipe", Problem.BROKEN_OFF),
    ],
)
def test_what_engines_and_registries_say(text: str, problem: Problem) -> None:
    assert problem_of(text) is problem


def test_the_same_words_mean_something_else_without_a_login_or_in_the_middle() -> None:
    assert problem_of("denied: no", anonymous=True) is Problem.MISSING_LOGIN
    assert problem_of("connection refused", begun=True) is Problem.BROKEN_OFF
    assert problem_of("connection refused", anonymous=True) is Problem.REFUSED


@pytest.mark.parametrize("problem", Problem)
def test_every_problem_has_its_words_and_a_fix(problem: Problem) -> None:
    where = Target("h.example.com", "a/b", "v1")
    found = push_error(problem, where, "the registry's\n own words", Login("docker's config.json", "me", "secret-word"))
    assert found.problem is problem
    assert "h.example.com" in found.message
    assert "it says: the registry's own words" in found.hints
    assert len(found.hints) > 1, "what to do"
    assert "secret-word" not in str(found)


def test_no_two_problems_are_told_alike() -> None:
    where = Target("h.example.com", "a/b", "v1")
    generic = {Problem.WRONG_PLATFORM}  # raised with words of its own
    told = [push_error(problem, where, "").message for problem in Problem if problem not in generic]
    assert len(set(told)) == len(told)
