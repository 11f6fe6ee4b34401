"""The bucket: absent is None, changed is an error, everything else names its remedy."""

from functools import partial

import pytest

from edge_client.errors import (
    EdgeError,
    ObjectRefused,
    PreconditionFailed,
    StorageRefused,
    Unreachable,
)
from edge_client.services.edge import Edge
from tests.fakes.servers import S3Server, send


def test_objects_come_back_with_their_description(edge: Edge, s3: S3Server) -> None:
    s3.put("ä +%", b"0123456789")
    s3.put("empty", b"")
    whole = edge.bucket.head("ä +%")
    assert whole is not None
    assert (whole.size_bytes, whole.modified_at) == (10, s3.now)
    assert edge.bucket.read("ä +%") == (b"0123456789", whole)
    assert edge.bucket.read_head("ä +%", 4) == (b"0123", whole)
    assert edge.bucket.read_head("ä +%", 400) == (b"0123456789", whole)
    assert (edge.bucket.head("k"), edge.bucket.read("k")) == (None, None)
    assert edge.bucket.read_head("k", 4) is None
    assert len(s3.calls) == 7
    assert edge.bucket.read_head("empty", 4) == (b"", edge.bucket.head("empty"))


def test_create_and_replace_overwrite_nothing_unknown(edge: Edge, s3: S3Server) -> None:
    etag = edge.bucket.replace("k", b"1", None)
    with pytest.raises(PreconditionFailed):
        edge.bucket.replace("k", b"2", None)
    assert (s3.objects["k"].body, s3.objects["k"].content_type) == (b"1", "application/json")
    newer = edge.bucket.replace("k", b"2", etag)
    with pytest.raises(PreconditionFailed):
        edge.bucket.replace("k", b"3", etag)
    s3.objects.clear()
    with pytest.raises(PreconditionFailed):
        edge.bucket.replace("k", b"4", newer)


@pytest.mark.parametrize(
    ("refusal", "error", "said"),
    [
        # one object
        ((403, "AccessDenied"), ObjectRefused, "PUT k.*s3:ListBucket"),
        ((403, "InvalidObjectState"), ObjectRefused, "PUT k.*restore-object"),
        ((400, "KMS.DisabledException"), ObjectRefused, "PUT k.*doctor"),
        # every object
        ((404, "NoSuchBucket"), StorageRefused, "no such bucket: check COGNITO_S3_BUCKET"),
        ((403, "SignatureDoesNotMatch"), StorageRefused, "SignatureDoesNotMatch"),
        ((400, "ExpiredToken"), StorageRefused, "ExpiredToken"),
        ((409, "ConditionalRequestConflict"), PreconditionFailed, "somebody else"),
    ],
)
def test_refusals_name_their_remedy(
    edge: Edge, s3: S3Server, refusal: tuple[int, str], error: type[EdgeError], said: str
) -> None:
    s3.refuse = lambda method, key: refusal
    with pytest.raises(error, match=said):
        edge.bucket.write("k", b"1")


def test_of_an_object_over_the_limit_nothing_is_read(
    edge: Edge, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put("k", b"0123456789")
    assert edge.bucket.read("k", 10) is not None
    with pytest.raises(ObjectRefused, match="k has 10 bytes, over the limit of 9: .* move it"):
        edge.bucket.read("k", 9)
    told = {"Content_Length": str(10**12), "Last_Modified": "Sun, 01 Nov 2026 12:00:00 GMT"}
    answer = partial(send, status=200, cut=0, ETag='"e"', **told)  # whoever reads is cut off
    monkeypatch.setattr(s3, "answer", lambda request, body: answer(request))
    with pytest.raises(ObjectRefused, match="1,000,000,000,000 bytes"):
        edge.bucket.read("k")


def test_s3_that_stays_away_or_is_down_is_unreachable(edge: Edge, s3: S3Server) -> None:
    s3.refuse = lambda method, key: (503, "SlowDown")
    with pytest.raises(Unreachable, match="503"):
        edge.bucket.read("k")
    assert len(s3.calls) == 4  # botocore's own retries
    away = Edge(edge.settings.model_copy(update={"s3_url": "http://127.0.0.1:1"}))
    with pytest.raises(Unreachable, match="AWS_ENDPOINT_URL_S3"):
        away.bucket.read("k")


ODD_NAMES = ("a b", "ü+1", "50%20", "line\nbreak", "<&>", "\x0b", "n" * 200)


@pytest.mark.parametrize("page_keys", [1, 1000])
def test_listed_objects_are_as_head_tells(edge: Edge, s3: S3Server, page_keys: int) -> None:
    s3.page_keys = page_keys
    for name in ODD_NAMES:
        s3.put(f"p/{name}", name.encode())
    page = edge.bucket.list_page("p/")
    seen = [*page.objects]
    while page.is_truncated:
        page = edge.bucket.list_page("p/", seen[-1].key)
        seen += page.objects
    assert sorted(info.key for info in seen) == sorted(f"p/{name}" for name in ODD_NAMES)
    assert seen == [edge.bucket.head(info.key) for info in seen]
