"""Secrets: whatever is logged, signatures and keys are not in it."""

import logging

import pytest

from bucketscribe_contract.redact import ScrubbingFormatter, one_line, register, scrub

SIGNED = (
    "https://b.s3.eu-west-1.amazonaws.com/users/u/audio.wav?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIA%2F2026&X-Amz-Security-Token=tok&X-Amz-Signature=deadbeef"
)


def test_query_of_a_presigned_url_goes() -> None:
    text = scrub(f'GET "{SIGNED}" failed')
    assert text == 'GET "https://b.s3.eu-west-1.amazonaws.com/users/u/audio.wav?***" failed'


@pytest.mark.parametrize(
    "text",
    ["X-Amz-Signature=deadbeef", "{'X-Amz-Signature': 'deadbeef'}", "Bearer deadbeef",
     "key rpa_deadbeef"],
)  # fmt: skip
def test_loose_secrets_go(text: str) -> None:
    assert "deadbeef" not in scrub(text)


def test_registered_secret_goes_wherever_it_is() -> None:
    register("hush-hush-hush")
    assert scrub("a hush-hush-hush b") == "a *** b"


def test_short_values_do_not_mask_words() -> None:
    register("the")
    assert scrub("the end") == "the end"


def test_tracebacks_are_scrubbed_too() -> None:
    formatter = ScrubbingFormatter("%(message)s")
    try:
        raise ValueError(SIGNED)
    except ValueError as exc:
        info = (type(exc), exc, exc.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "at %s", (SIGNED,), info)
    assert "deadbeef" not in formatter.format(record)


def test_one_line_is_one_short_line() -> None:
    assert one_line("a\n b\t" + "c" * 400, 10) == "a b ccccc…"
