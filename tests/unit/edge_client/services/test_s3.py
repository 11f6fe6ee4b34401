"""The bucket: absent is None, changed is an error, everything else names its remedy."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edge_client.errors import (
    EdgeError,
    NotConfigured,
    ObjectRefused,
    PreconditionFailed,
    StorageRefused,
    Unreachable,
)
from edge_client.services import edge as edge_
from edge_client.services import s3 as s3_
from edge_client.services.edge import Edge
from edge_client.settings import load
from tests.fakes import breaking
from tests.fakes.servers import S3Server, send

Caplog = pytest.LogCaptureFixture


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


ALL, ONE = StorageRefused, ObjectRefused


@pytest.mark.parametrize(
    ("status", "code", "error", "said"),
    [
        *((403, code, ALL, remedy) for code, remedy in s3_.CONCERNS_ALL.items()),
        *((403, code, ONE, remedy) for code, remedy in s3_.CONCERNS_ONE.items()),
        (501, "NotImplemented", ALL, "doctor"),  # never "later"
        (400, "InvalidArgument", ONE, "edge-client policy"),
        (409, "ConditionalRequestConflict", PreconditionFailed, "somebody else"),
        (503, "SlowDown", Unreachable, "try again later"),
    ],
)
def test_a_refusal_is_in_s3s_own_words_with_one_remedy(
    edge: Edge, s3: S3Server, status: int, code: str, error: type[EdgeError], said: str
) -> None:
    more = "<Message>Because of\n it.</Message><ServerTime>at noon</ServerTime>"
    s3.refuse = lambda method, key: (status, code, more)
    with pytest.raises(error, match=re.escape(said)) as caught:
        edge.bucket.write("k", b"1")
    text = str(caught.value)
    if error in (ALL, ONE):
        assert text.startswith(f"S3 answers {status} {code} (Because of")
    assert ("it is at noon at S3" in text) == (code == "RequestTimeTooSkewed")


def test_a_heads_refusal_says_what_a_get_would(edge: Edge, s3: S3Server) -> None:
    s3.refuse = lambda method, key: (
        *(403, "AccessDenied"),
        "<Message>no VPC endpoint policy allows the s3:GetObject action</Message>",
    )
    with pytest.raises(ObjectRefused, match="no VPC endpoint policy allows"):
        edge.bucket.head("k")
    assert s3.calls == [("HEAD", "k"), ("GET", "k")]


PROFILES = """
[profile role]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = base
[profile base]
aws_access_key_id = AK
aws_secret_access_key = SK
endpoint_url = http://127.0.0.1:9000
[profile sso]
sso_start_url = https://x.awsapps.com/start
sso_region = eu-west-1
sso_account_id = 123456789012
sso_role_name = R
"""


@pytest.fixture
def profile(
    tmp_path: Path, env: dict[str, str], s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Edge]:
    """Have the keys of a profile; STS is the fake server."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(PROFILES)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3.url)

    def of(name: str) -> Edge:
        for other in ("COGNITO_S3_BUCKET", "AWS_REGION"):
            monkeypatch.setenv(other, env[other])
        monkeypatch.setenv("AWS_PROFILE", name)
        return Edge(load())

    return of


def test_keys_that_cannot_be_had_are_told_in_the_words_of_their_service(
    profile: Callable[[str], Edge], s3: S3Server
) -> None:
    refused = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error>"
    answer = partial(send, status=403, body=refused + b"</ErrorResponse>")
    s3.answer = lambda request, body: answer(request)  # type: ignore[method-assign]
    try:
        with pytest.raises(NotConfigured, match="AWS keys: .*AssumeRole.*not you: renew them"):
            profile("role").bucket.head("k")
    finally:
        del s3.answer  # type: ignore[method-assign]
    with pytest.raises(NotConfigured, match="AWS keys: .*SSO Token.*aws sso login"):
        _ = profile("sso").bucket


def test_a_profiles_endpoint_counts_and_is_no_aws(profile: Callable[[str], Edge]) -> None:
    connection = profile("base").connection
    url = connection.sign("get_object", "k", 60, {}).reveal()
    assert url.startswith("http://127.0.0.1:9000/recordings/k?")
    assert (connection.is_aws, connection.bucket_region("users/")) == (False, None)


@pytest.mark.parametrize("is_known", [True, False])
def test_on_aws_urls_are_signed_for_the_region_that_the_bucket_is_in(
    edge: Edge, s3: S3Server, monkeypatch: pytest.MonkeyPatch, is_known: bool, caplog: Caplog
) -> None:
    monkeypatch.setattr(s3_, "_AWS_HOST", re.compile("127"))
    monkeypatch.setattr(edge_, "connect", s3_.connect)
    edge.settings = edge.settings.model_copy(update={"region": "us-east-2"})
    if not is_known:
        s3.refuse = lambda method, key: (503, "SlowDown")
    url = edge.connection.sign("put_object", "k", 60, {}).reveal()
    region = "eu-west-1" if is_known else "us-east-2"
    assert f"%2F{region}%2Fs3%2F" in url
    told = ["the bucket is in eu-west-1, not AWS_REGION=us-east-2: URLs are signed for it"]
    ours = [each.message for each in caplog.records if each.name.startswith("edge_client")]
    assert ours == (told if is_known else [])
    config = edge.connection.client.meta.config
    assert config.request_checksum_calculation == "when_supported"


def test_a_requester_who_pays_says_so_in_requests_and_urls(
    edge: Edge, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_, "connect", s3_.connect)
    edge.settings = edge.settings.model_copy(update={"request_payer": "requester"})
    edge.bucket.has_any("users/")
    assert s3.lists[-1]["x-amz-request-payer"] == "requester"
    for method in ("get_object", "put_object"):
        url = edge.connection.sign(method, "k", 60, {}).reveal()
        assert "x-amz-request-payer=requester" in url
        assert "payer" not in url.partition("SignedHeaders=")[2].partition("&")[0]


def test_a_certificate_is_named_and_the_setting_trusts_it(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = breaking.certificate(tmp_path)
    with breaking.listening(breaking.over_tls(pem)) as port:
        for name, value in (env | {"AWS_ENDPOINT_URL_S3": f"https://127.0.0.1:{port}"}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(NotConfigured, match="S3: its certificate .* set AWS_CA_BUNDLE"):
            Edge(load()).bucket.head("k")
        monkeypatch.setenv("AWS_CA_BUNDLE", str(pem))
        with pytest.raises(Unreachable):
            Edge(load()).bucket.head("k")  # trusted; then its TLS breaks


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


def test_a_list_that_has_no_end_is_not_read_to_it(
    edge: Edge, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        s3.put(f"p/{number:040}", b"x")
    assert len(edge.bucket.list_page("p/").objects) == 50
    monkeypatch.setattr(s3_, "MAX_ANSWER_BYTES", 4_000)
    with pytest.raises(StorageRefused, match="over 4,000 bytes"):
        edge.bucket.list_page("p/")
    assert edge.bucket.head("p/" + "0" * 40) is not None
    assert len(s3.lists) == 2
