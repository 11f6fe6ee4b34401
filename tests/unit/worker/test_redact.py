"""No log line, error or failure shows the query of a presigned URL."""

import io
import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from bucketscribe_contract import FailureCode, Stage
from bucketscribe_contract.redact import ScrubFilter, scrub
from worker.errors import WorkerError

SECRET = "5ec2e7" * 10
SIGNED = f"https://b.s3.amazonaws.com/k%20?X-Amz-Date=1&X-Amz-Signature={SECRET}"


@given(
    before=st.sampled_from(["", "GET ", '"', "('", "url=", "<"]),
    after=st.sampled_from(["", " failed", '"', "')", ", next", ">"]),
)
def test_a_signed_url_is_masked_wherever_it_stands(before: str, after: str) -> None:
    masked = scrub(before + SIGNED + after)
    assert SECRET not in masked
    assert "b.s3.amazonaws.com/k%20?***" in masked


def test_a_path_with_its_query_is_masked() -> None:
    # as urllib3 words it: "Max retries exceeded with url: /k?X-Amz-…"
    assert SECRET not in scrub(f"exceeded with url: /k?X-Amz-Date=1&X-Amz-Signature={SECRET} (x)")


def test_lone_parameters_are_masked() -> None:
    assert SECRET not in scrub(f"X-Amz-Signature={SECRET}&x")
    assert SECRET not in scrub(json.dumps({"X-Amz-Security-Token": SECRET}))


def test_text_without_urls_stays_as_it_is() -> None:
    text = "sent 5 of 7 bytes? Submit again."
    assert scrub(text) == text


def test_a_worker_error_is_scrubbed_when_it_is_made() -> None:
    error = WorkerError(FailureCode.INTERNAL, f"could not get {SIGNED}", Stage.FETCH)
    assert SECRET not in str(error) + error.to_failure().model_dump_json()


def test_log_records_are_scrubbed_with_their_exceptions() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(ScrubFilter())
    logger = logging.Logger("scrubbed")
    logger.addHandler(handler)
    try:
        raise OSError(f"no route to {SIGNED}")
    except OSError:
        logger.exception("fetching %s", SIGNED)
    assert SECRET not in stream.getvalue()
    assert "no route" in stream.getvalue()
