"""Deliver: the document is in S3, or in an output that is strict JSON and small enough."""

import base64
import gzip
import hashlib
import json
import random
from typing import Any

import pytest

from bucketscribe_contract import (
    DroppedText,
    FailureCode,
    Flag,
    Interval,
    Segment,
    Stage,
    Transcript,
    Word,
)
from tests.fakes.worker import LOOPBACK, Answer, LoopbackS3
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.stages.deliver import (
    ATTEMPTS,
    MAX_OUTPUT_BYTES,
    checked_output,
    deliver,
    encode,
    encode_transcript,
    inline_fallback,
)

DOCUMENT = json.dumps({"text": "größer"}, ensure_ascii=False).encode()
MD5 = hashlib.md5(DOCUMENT, usedforsecurity=False).hexdigest()
JSON: dict[Any, str] = {"Content-Type": "application/json"}


@pytest.mark.parametrize("signed", [JSON, {"If-Match": '"1"', "x-amz-tagging": "a=b%20c"}])
def test_the_document_is_put_with_the_headers_that_were_signed(
    s3: LoopbackS3, signed: dict[Any, str]
) -> None:
    """As often as S3 fails in passing, or is busy with another PUT, or got other bytes."""
    digest = Answer(400, b"<Error><Code>BadDigest</Code></Error>")
    s3.answers = [Answer(503), digest, Answer(200)]
    deliver(DOCUMENT, s3.url("/b/k%20%2B?X-Amz-Signature=5ec2e7"), signed, LOOPBACK, CancelToken())
    own = {"Host", "User-Agent", "Accept-Encoding", "Content-Length", "Content-MD5"}
    md5 = base64.b64encode(bytes.fromhex(MD5)).decode()
    for method, path, headers, body in s3.requests:
        assert (method, path) == ("PUT", "/b/k%20%2B?X-Amz-Signature=5ec2e7")
        assert {name: value for name, value in headers.items() if name not in own} == signed
        assert (body, headers["Content-MD5"]) == (DOCUMENT, md5)
    assert len(s3.requests) == 3


@pytest.mark.parametrize("before", [[], [Answer(503)]], ids=["at once", "after a lost answer"])
@pytest.mark.parametrize("etag", ["", f'"{"0" * 32}"', f'"{MD5}"'], ids=["no ETag", "other", "own"])
def test_a_transcript_that_is_there_is_left_alone(
    s3: LoopbackS3, before: list[Answer], etag: str
) -> None:
    """Without a further try; it may be this very one, whose PUT was not answered."""
    refusal = b"<Error><Code>PreconditionFailed</Code></Error>"
    s3.answers = [*before, Answer(412, refusal, {"ETag": etag}), Answer(200)]
    if MD5 in etag:
        deliver(DOCUMENT, s3.url(), JSON, LOOPBACK, CancelToken())
    else:
        with pytest.raises(WorkerError, match="412 PreconditionFailed.*in the job's output") as no:
            deliver(DOCUMENT, s3.url(), JSON, LOOPBACK, CancelToken())
        assert no.value.code is FailureCode.RESULT_EXISTS
    assert len(s3.requests) == len(before) + 1


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (409, min(ATTEMPTS, 3)), (503, 3)])
def test_a_lasting_error_says_where_the_transcript_is(
    s3: LoopbackS3, status: int, tries: int
) -> None:
    s3.answers = [Answer(status, b"<Error><Code>AccessDenied</Code></Error>")]
    with pytest.raises(WorkerError, match="in the job's output") as caught:
        deliver(DOCUMENT, s3.url(), JSON, LOOPBACK, CancelToken())
    assert caught.value.code is FailureCode.STORAGE_UNAVAILABLE
    assert "5ec2e7" not in str(caught.value)
    assert len(s3.requests) == tries


@pytest.mark.parametrize(
    ("headers", "tries"),
    [
        ({"ETag": "0" * 32}, 2),
        ({"ETag": '"abc-2"'}, 1),
        ({"ETag": "0" * 32, "x-amz-server-side-encryption": "aws:kms"}, 1),
    ],
    ids=["another's MD5", "no MD5", "encrypted"],
)
def test_a_200_for_other_bytes_is_not_believed(
    s3: LoopbackS3, headers: dict[str, str], tries: int
) -> None:
    s3.answers = [Answer(headers=headers), Answer(headers={"ETag": f'"{MD5}"'})]
    deliver(DOCUMENT, s3.url(), JSON, LOOPBACK, CancelToken())
    assert len(s3.requests) == tries


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes", "x" * MAX_OUTPUT_BYTES])
def test_what_is_no_json_or_over_runpods_limit_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        checked_output({"value": value})


def test_a_lone_surrogate_is_replaced_not_posted() -> None:
    assert checked_output({"text": "a\ud800b"}) == {"text": "a?b"}


def document(words: int) -> Transcript:
    """A doubtful transcript that does not compress well."""
    noise = random.Random(1)  # noqa: S311
    spoken = tuple(
        Word(
            word=noise.randbytes(4).hex(),
            start=i,
            end=i + 1,
            score=noise.random(),
            speaker=None,
            timing="aligned",
        )
        for i in range(words)
    )
    text = " ".join(word.word for word in spoken)
    segment = Segment(
        id=0,
        start=0,
        end=words,
        text=text,
        speaker=None,
        words=spoken,
        avg_logprob=-0.25,
        compression_ratio=2.5,
        no_speech_prob=0.5,
        flags=(Flag.REPETITION,),
    )
    return Transcript(
        segments=(segment,),
        speakers=(),
        language="en",
        language_probability=None,
        duration_seconds=words,
        processing_time_seconds=1,
        models={},
        uncovered=(Interval(start=words, end=words + 3),),
        dropped=(DroppedText(start=0, end=1, text="gone", flags=(Flag.PROMPT,)),),
    )


@pytest.mark.parametrize("code", [FailureCode.STORAGE_UNAVAILABLE, FailureCode.RESULT_EXISTS])
def test_the_largest_form_that_fits_is_sent(code: FailureCode) -> None:
    error = WorkerError(code, "S3 does not take it", Stage.DELIVER)
    whole = document(5000)
    sha256 = hashlib.sha256(encode_transcript(whole)).hexdigest()
    sizes = {}
    for limit in (MAX_OUTPUT_BYTES, 150_000, 50_000):
        output = inline_fallback(whole, error, limit)
        assert len(encode(output)) <= limit
        assert (output["failure"]["code"], output["sent_sha256"]) == (code, sha256)
        sizes[output["form"]] = output
    assert list(sizes) == ["complete", "without_scores", "without_words"]
    bodies = []
    for output in sizes.values():
        body = gzip.decompress(base64.b64decode(output["transcript_gzip_base64"]))
        assert output["result"] == {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        bodies.append(json.loads(body))
    complete, unscored, bare = bodies
    assert Transcript.model_validate(complete) == whole
    assert [len(word) for word in unscored["segments"][0]["words"]] == [6] * 5000
    segment = complete["segments"][0] | {"words": []}
    for figure in ("avg_logprob", "compression_ratio", "no_speech_prob"):
        del segment[figure]
    assert bare == complete | {"segments": [segment]}
    with pytest.raises(WorkerError, match=f"too large .*{sha256}") as caught:
        inline_fallback(whole, error, 10_000)
    assert caught.value.code is code
