"""Deliver: the document is in S3, or the failure says that it is not."""

import hashlib
import json

import pytest

from bucketscribe_contract import FailureCode
from tests.fakes.worker import Answer, LoopbackS3
from worker.errors import WorkerError
from worker.stages.deliver import ATTEMPTS, EncodedTranscript, deliver

DOCUMENT = EncodedTranscript(json.dumps({"text": "größer"}, ensure_ascii=False).encode())


def test_the_document_is_put_with_the_content_type_that_was_signed(s3: LoopbackS3) -> None:
    deliver(DOCUMENT, s3.url("/b/k%20%2B?X-Amz-Signature=5ec2e7"))
    method, path, headers, body = s3.requests[0]
    assert (method, path) == ("PUT", "/b/k%20%2B?X-Amz-Signature=5ec2e7")
    assert headers["Content-Type"] == "application/json"
    assert body == DOCUMENT.body


def test_a_passing_error_is_tried_again(s3: LoopbackS3) -> None:
    s3.answers = [Answer(503), Answer(500), Answer(200)]
    deliver(DOCUMENT, s3.url())
    assert [request[3] for request in s3.requests] == [DOCUMENT.body] * 3


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (503, min(ATTEMPTS, 3))])
def test_a_lasting_error_says_where_the_transcript_is(
    s3: LoopbackS3, status: int, tries: int
) -> None:
    s3.answers = [Answer(status, b"<Error><Code>AccessDenied</Code></Error>")]
    with pytest.raises(WorkerError, match="in the job's output") as caught:
        deliver(DOCUMENT, s3.url())
    assert caught.value.code is FailureCode.STORAGE_UNAVAILABLE
    assert "5ec2e7" not in str(caught.value)
    assert len(s3.requests) == tries


@pytest.mark.parametrize(("etags", "tries"), [(["0" * 32, None], 2), (['"abc-2"'], 1)])
def test_a_200_for_other_bytes_is_not_believed(
    s3: LoopbackS3, etags: list[str | None], tries: int
) -> None:
    good = hashlib.md5(DOCUMENT.body, usedforsecurity=False).hexdigest()
    s3.answers = [Answer(headers={"ETag": etag or f'"{good}"'}) for etag in etags]
    deliver(DOCUMENT, s3.url())
    assert len(s3.requests) == tries


def test_an_etag_that_is_no_md5_is_not_compared(s3: LoopbackS3) -> None:
    kms = {"ETag": "0" * 32, "x-amz-server-side-encryption": "aws:kms"}
    s3.answers = [Answer(headers=kms)]
    deliver(DOCUMENT, s3.url())
    assert len(s3.requests) == 1
