"""Which URLs a worker touches."""

from datetime import UTC, datetime

import pytest

from bucketscribe_contract import FailureCode, JobInput, PresignedUrl
from worker.errors import WorkerError
from worker.http import UrlPolicy, expires_at


def check(policy: UrlPolicy, field: str, url: str) -> None:
    """Check a job whose one field is the URL."""
    fields = {"audio_url": "https://8.8.8.8/key?s=1"} | {field: url}
    policy.check_job(JobInput.model_validate(fields))


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8/key",
        "https://127.0.0.1/key",
        "https://10.0.0.7/key",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/key",
        "https://[fd00::1]/key",
        "https://[::ffff:127.0.0.1]/key",
        "https://localhost/key",
        "https://0.0.0.0/key",
    ],
)
def test_http_and_private_addresses_are_refused_by_field(url: str) -> None:
    for field in ("audio_url", "result_url", "progress_url"):
        with pytest.raises(WorkerError, match=field) as caught:
            check(UrlPolicy(), field, url + "?X-Amz-Signature=5ec2e7")
        assert caught.value.code is FailureCode.URL_NOT_ALLOWED
        assert "5ec2e7" not in str(caught.value)


def test_loopback_is_taken_only_where_the_stack_says_so() -> None:
    policy = UrlPolicy(allow_loopback=True)
    check(policy, "audio_url", "http://127.0.0.1:9000/key")
    check(policy, "audio_url", "http://localhost:9000/key")
    for elsewhere in ("http://8.8.8.8/key", "https://10.0.0.7/key"):
        with pytest.raises(WorkerError):
            check(policy, "audio_url", elsewhere)


def test_hosts_can_be_limited_to_suffixes() -> None:
    policy = UrlPolicy(host_suffixes=("amazonaws.com",))
    check(policy, "audio_url", "https://b.s3.amazonaws.com/key")
    with pytest.raises(WorkerError, match="ALLOWED_URL_HOSTS"):
        check(policy, "audio_url", "https://evilamazonaws.com/key")


def test_a_url_tells_when_it_ends() -> None:
    url = PresignedUrl("https://h/k?X-Amz-Date=20251215T213705Z&X-Amz-Expires=3600")
    assert expires_at(url) == datetime(2025, 12, 15, 22, 37, 5, tzinfo=UTC)


@pytest.mark.parametrize("query", ["", "X-Amz-Date=x&X-Amz-Expires=60", "X-Amz-Expires=60"])
def test_other_urls_tell_no_end(query: str) -> None:
    assert expires_at(PresignedUrl(f"https://h/k?{query}")) is None
