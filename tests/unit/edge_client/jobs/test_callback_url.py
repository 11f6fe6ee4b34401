"""Webhook URLs: what RunPod could not call is refused, and a session fits into one segment."""

import re
from urllib.parse import quote, unquote

import pytest
from pydantic import SecretStr

from bucketscribe_contract.redact import scrub
from edge_client.errors import BadUsage, NotConfigured
from edge_client.jobs.callback_url import checked, fill
from edge_client.session import Session

RUNPOD = "https://api.runpod.ai/v2"
DEVSTACK = "http://127.0.0.1:4000/v2"
HERE = "http://127.0.0.1:8787/s/{session}"


@pytest.mark.parametrize(
    ("url", "runpod"),
    [
        ("https://edge.example.com:8443/hooks/s3cret?key=s3cret&session={session}", RUNPOD),
        ("https://[2001:db8::1]/somebody/else", RUNPOD),
        ("https://h.example/{secret}/{session}", RUNPOD),
        (HERE, DEVSTACK),
    ],
)
def test_url_that_can_be_called_is_taken_as_it_is(url: str, runpod: str) -> None:
    assert checked(url, runpod) == url


@pytest.mark.parametrize(
    ("url", "runpod", "word"),
    [
        ("https://h.example/{sesion}", RUNPOD, "{sesion}"),
        ("https://h.example/{session", RUNPOD, "{"),
        ("https://{session}.example/h", RUNPOD, "path"),
        ("https://{secret}/h", RUNPOD, "path"),
        ("https:///h", RUNPOD, "HOST"),
        ("https://user:pw@h.example/h", RUNPOD, "user"),
        ("https://h.example/h#f", RUNPOD, "fragment"),
        ("https://h.example/ü", RUNPOD, "percent-encode"),
        ("https://h.example:x/h", RUNPOD, "https://HOST/PATH"),
        ("http://h.example/h", RUNPOD, "https URLs only"),
        (HERE, RUNPOD, "https URLs only"),
        ("http://192.168.1.2/s", DEVSTACK, "https URLs only"),
    ],
)
def test_what_runpod_could_not_call_is_a_usage_error(url: str, runpod: str, word: str) -> None:
    with pytest.raises(BadUsage, match=f"^--webhook: .*{re.escape(word)}"):
        checked(url, runpod)


@pytest.mark.parametrize("name", ["s1", "ses sion+%41 ü", "..", "録音 {session}", "a?b#c&d=e"])
def test_any_session_is_one_path_segment_and_an_echo_of_the_secret_is_scrubbed(name: str) -> None:
    session = Session("u 1", name)
    url = fill("https://h.example/hooks/s3cret-of-ours/{session}", session)
    head, _, last = url.rpartition("/")
    assert head == "https://h.example/hooks/s3cret-of-ours"
    assert url.isascii()
    assert unquote(last) == session.prefix
    assert "s3cret-of-ours" not in scrub(f"bad webhook {url}")


def test_the_secret_comes_from_the_settings() -> None:
    template, session = "https://h.example/hooks/{secret}/{session}", Session("u", "s")
    url = fill(template, session, SecretStr("s3cret-of-settings"))
    assert url == f"https://h.example/hooks/s3cret-of-settings/{quote(session.prefix, safe='')}"
    assert "s3cret-of-settings" not in scrub(url)
    with pytest.raises(NotConfigured, match="WEBHOOK_SECRET, which is not set"):
        fill(template, session)
