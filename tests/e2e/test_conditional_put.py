"""A worker's PUT on a real S3 server: it replaces what its URL was signed for, and nothing else."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from bucketscribe_contract import FailureCode, Transcript, UploadFailed
from edge_client.services.edge import Edge
from edge_client.services.presign import SignedUrls, only_over, sign_urls
from edge_client.session import Session
from edge_client.settings import load
from tests.e2e.conftest import Bench
from tests.processes import wait_until
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.stages.deliver import deliver
from worker.urls import UrlPolicy

SESSION = Session("u", "conditional")
KEY = SESSION.result_key
SSE = "x-amz-server-side-encryption"


@pytest.fixture
def edge(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    """An edge box that encrypts what it writes; the session has no transcript."""
    for name, value in {**bench.stack.env, "S3_SSE": "AES256"}.items():
        monkeypatch.setenv(name, value)
    yield Edge(load())
    bench.s3.delete_object(Bucket=bench.stack.s3.bucket, Key=KEY)


def signed(edge: Edge) -> SignedUrls:
    """Sign for the transcript that is there now, or for none."""
    there = edge.bucket.head(KEY)
    condition = only_over(there.etag if there is not None else None, edge.settings)
    return sign_urls(edge.connection, SESSION, 600, condition, progress=True)


def put(body: bytes, urls: SignedUrls) -> None:
    """Deliver a document as a worker does."""
    headers: Any = urls.result_headers
    deliver(body, urls.result_url, headers, UrlPolicy(allow_loopback=True), CancelToken())


@pytest.mark.parametrize("before", [None, b"old"], ids=["first", "replaced"])
def test_only_the_first_of_two_puts_is_stored(
    bench: Bench, edge: Edge, before: bytes | None
) -> None:
    if before is not None:
        edge.bucket.write(KEY, before)
    late, urls = signed(edge), signed(edge)
    put(b"new", urls)
    for refused in (urls, late):
        with pytest.raises(WorkerError, match="412 PreconditionFailed") as caught:
            put(b"late", refused)
        assert caught.value.code is FailureCode.RESULT_EXISTS
    assert bench.read(KEY) == b"new"
    put(b"newer", signed(edge))
    assert bench.read(KEY) == b"newer"


def test_whoever_leaves_a_header_out_is_refused(bench: Bench, edge: Edge) -> None:
    urls = signed(edge)
    for name in urls.result_headers:
        fewer = {key: value for key, value in urls.result_headers.items() if key != name}
        answer = requests.put(urls.result_url.reveal(), b"{}", headers=fewer, timeout=10)
        assert answer.status_code == 403, name
    assert KEY not in bench.keys(SESSION.prefix)


def test_all_that_edge_and_worker_write_is_encrypted(bench: Bench, edge: Edge) -> None:
    def kind() -> str | None:
        return bench.get(KEY).get("ServerSideEncryption")

    put(b"1", signed(edge))
    found = [kind()]
    edge.bucket.replace(KEY, b"2", bench.get(KEY)["ETag"])
    found.append(kind())
    edge.bucket.write(KEY, b"3")
    found.append(kind())
    bench.s3.delete_object(Bucket=bench.stack.s3.bucket, Key=KEY)
    edge.bucket.replace(KEY, b"4", None)
    assert [*found, kind()] == ["AES256"] * 4
    plain = edge.settings.model_copy(update={"sse": None})
    Edge(plain).bucket.write(KEY, b"5")
    assert kind() is None


def test_doctor_sees_that_the_bucket_keeps_conditions(bench: Bench) -> None:
    for _ in ("created", "replaced"):
        found = json.loads(bench.edge_client("doctor", "--json"))
        write = next(check for check in found["checks"] if check["name"] == "write")
        assert (write["ok"], "replace nothing unseen" in write["detail"]) == (True, True)


def test_a_worker_that_finds_a_transcript_answers_with_its_own(
    bench: Bench, edge: Edge, short_wav: bytes
) -> None:
    """And says which one it sent: had only the answer to its PUT been lost, S3 would have it."""
    urls = signed(edge)
    assert urls.progress_url is not None
    edge.bucket.replace(KEY, b"{}", None)
    bench.put(SESSION.audio_key, short_wav)
    job = {
        "audio_url": urls.audio_url.reveal(),
        "result_url": urls.result_url.reveal(),
        "result_headers": urls.result_headers,
        "progress_url": urls.progress_url.reveal(),
        "request_id": "r1",
    }
    answer = UploadFailed.model_validate(bench.run(job)["output"])
    body = gzip.decompress(base64.b64decode(answer.transcript_gzip_base64))
    assert answer.failure.code is FailureCode.RESULT_EXISTS
    assert answer.sent_sha256 == hashlib.sha256(body).hexdigest()
    assert Transcript.model_validate_json(body).request_id == "r1"
    assert bench.read(KEY) == b"{}"
    wait_until(lambda: SESSION.progress_key in bench.keys(SESSION.prefix))  # a thread of its own
    assert bench.get(SESSION.progress_key)["ServerSideEncryption"] == "AES256"
    status = bench.run({**job, "result_headers": {**urls.result_headers, "X-Other": "1"}})
    assert "result_headers.X-Other" in status["error"]
