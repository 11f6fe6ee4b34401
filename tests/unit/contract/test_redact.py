"""No text, log record, error or failure shows a secret."""

import json
import logging
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bucketscribe_contract import FailureCode, Stage
from bucketscribe_contract.redact import ScrubbingFormatter, ScrubFilter, one_line, register, scrub
from worker.errors import WorkerError

SECRET = "5ec2e7" * 10
SIGNED = (
    "https://b.s3.amazonaws.com/k%20?X-Amz-Credential=AKIA%2F2026&X-Amz-Security-Token=tok"
    f"&X-Amz-Signature={SECRET}"
)


@given(
    before=st.sampled_from(["", "GET ", '"', "('", "url=", "<"]),
    after=st.sampled_from(["", " failed", '"', "')", ", next", ">"]),
)
def test_a_signed_url_is_masked_wherever_it_stands(before: str, after: str) -> None:
    masked = scrub(before + SIGNED + after)
    assert masked.startswith(f"{before}https://b.s3.amazonaws.com/k%20?***")
    assert SECRET not in masked


@pytest.mark.parametrize(
    "text",
    [
        f"X-Amz-Signature={SECRET}&x",
        f"{{'X-Amz-Signature': '{SECRET}'}}",
        json.dumps({"X-Amz-Security-Token": SECRET}),
        f"Bearer {SECRET}",
        f"key rpa_{SECRET}",
        f"exceeded with url: /k?X-Amz-Date=1&X-Amz-Signature={SECRET} (x)",  # urllib3
    ],
)
def test_secrets_outside_urls_are_masked(text: str) -> None:
    assert SECRET not in scrub(text)


PIECES = ["?", "http://", "://", "X-Amz-", "X-Amz-Signature", " ", ")", "(", "'", "\n", "&", "=",
          "Bearer ", "rpa_", "\x1b[0m", "\u202e", "%3D", "text", "/k?sig=", "\x00"]  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(before=st.lists(st.sampled_from(PIECES)), after=st.lists(st.sampled_from(PIECES)))
def test_no_text_around_a_signature_shows_it(before: list[str], after: list[str]) -> None:
    text = "".join(before) + SIGNED + "".join(after)
    assert SECRET not in scrub(text)
    line = one_line(text)
    assert SECRET not in line
    assert line.isprintable()


@pytest.mark.parametrize("signed", ["/k?Signature=", "/k?x=1&X-Goog-Signature=", "/k?sv=1&sig="])
def test_other_providers_signatures_are_masked_without_their_host(signed: str) -> None:
    assert SECRET not in scrub(f"exceeded with url: {signed}{SECRET} (x)")


@pytest.mark.parametrize("piece", [*PIECES, ")?", '?"', "?X-Amz-", "http://a?", "Bearer", "a?)"])
def test_a_megabyte_of_anything_is_scrubbed_in_linear_time(piece: str) -> None:
    """Quadratic, it takes hours."""
    started = time.process_time()
    for text in (piece * (1_000_000 // len(piece)), "X-Amz-Signature" + piece * 100_000):
        scrub(text)
        one_line(text)
        assert len(str(WorkerError(FailureCode.INTERNAL, text, Stage.FETCH))) < 10_000
    assert time.process_time() - started < 20


def test_a_registered_secret_is_masked_wherever_it_is_and_other_text_stays() -> None:
    register("hush-hush-hush")
    register("the")  # too short: it would mask words
    text = "sent 5 of 7 bytes? Submit again. the end"
    assert scrub(f"hush-hush-hush {text}") == f"*** {text}"


def test_a_worker_error_is_scrubbed_when_it_is_made() -> None:
    error = WorkerError(FailureCode.INTERNAL, f"could not get {SIGNED}", Stage.FETCH)
    assert SECRET not in str(error) + error.to_failure().model_dump_json()


def test_log_records_are_scrubbed_with_their_exceptions() -> None:
    error = OSError(f"no route to {SIGNED}")
    info = (OSError, error, None)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "at %s", (SIGNED,), info)
    formatted = ScrubbingFormatter("%(message)s").format(record)
    record.exc_text = None
    ScrubFilter().filter(record)
    for line in (formatted, logging.Formatter().format(record)):
        assert "no route" in line
        assert SECRET not in line


def test_one_line_is_one_short_line() -> None:
    assert one_line("a\n b\t" + "c" * 400, 10) == "a b ccccc…"
