"""Webhook URLs: what RunPod could not call is refused, and a session fits into one segment."""

from urllib.parse import unquote

import pytest

from bucketscribe_contract.redact import scrub
from edge_client.errors import BadUsage
from edge_client.jobs.callback_url import checked, fill
from edge_client.session import Session

RUNPOD = "https://api.runpod.ai/v2"
DEVSTACK = "http://127.0.0.1:4000/v2"


@pytest.mark.parametrize(
    "url",
    [
        "https://edge.example.com/hooks/s3cret/{session}",
        "https://edge.example.com:8443/h?key=s3cret&session={session}",
        "https://somebody.example.com/else",
        "https://[2001:db8::1]/h/{session}",
    ],
)
def test_https_url_is_taken_as_it_is(url: str) -> None:
    assert checked(url, RUNPOD) == url


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("https://h.example/{sesion}", "{sesion}"),
        ("https://h.example/{Session}", "{Session}"),
        ("https://h.example/{}", "{}"),
        ("https://h.example/{session", "{"),
        ("https://h.example/session}", "}"),
        ("https://{session}.example/h", "path"),
        ("https:///h", "HOST"),
        ("https://user:pw@h.example/h", "user"),
        ("https://h.example/h#f", "fragment"),
        ("https://h.example/ü", "percent-encode"),
        ("https://h.example/a b", "percent-encode"),
        ("https://h.example:x/h", "https://HOST/PATH"),
        ("http://h.example/h", "https"),
        ("ftp://h.example/h", "https"),
        ("h.example/h", "HOST"),
        ("", "percent-encode"),
    ],
)
def test_what_runpod_could_not_call_is_a_usage_error(url: str, word: str) -> None:
    with pytest.raises(BadUsage, match=r"^--webhook: .*") as caught:
        checked(url, RUNPOD)
    assert word in str(caught.value)


def test_http_is_for_a_queue_and_a_receiver_on_this_machine_only() -> None:
    here = "http://127.0.0.1:8787/s/{session}"
    assert checked(here, DEVSTACK) == here
    for url, runpod in [(here, RUNPOD), ("http://192.168.1.2/s", DEVSTACK)]:
        with pytest.raises(BadUsage, match="https URLs only"):
            checked(url, runpod)


@pytest.mark.parametrize("name", ["s1", "ses sion+%41 ü", "..", "録音 {session}", "a?b#c&d=e"])
def test_any_session_is_one_path_segment(name: str) -> None:
    session = Session("u 1", name)
    url = fill("https://h.example/hooks/s3cret/{session}", session)
    head, _, last = url.rpartition("/")
    assert head == "https://h.example/hooks/s3cret"
    assert url.isascii()
    assert unquote(last) == session.prefix


def test_url_without_placeholder_is_passed_as_it_is_and_an_echo_of_a_secret_scrubbed() -> None:
    assert fill("https://h.example/h?x=%20y", Session("u", "s")) == "https://h.example/h?x=%20y"
    url = fill("https://h.example/hooks/s3cret-of-ours/{session}", Session("u", "s"))
    assert "s3cret-of-ours" not in scrub(f"bad webhook {url}")
