"""RunPod's API: what is repeated, what never is, which error an answer becomes; and its rates."""

import gzip
import json
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from urllib3.connection import HTTPConnection

from bucketscribe_contract import ExecutionPolicy, JobInput, JobState, RunRequest
from edge_client import errors
from edge_client.clock import Clock
from edge_client.services import runpod as runpod_
from edge_client.services.runpod import Kind, Rate, RunpodApi, TokenBucket
from tests.fakes import breaking
from tests.fakes.servers import Reply, RunpodServer
from tests.unit.edge_client.conftest import KEY
from tests.unit.edge_client.samples import FakeClock, job

HTML = b"<!DOCTYPE html><title>api.runpod.ai | 524: A timeout occurred</title>"


@pytest.fixture
def api(runpod: RunpodServer, clock: FakeClock) -> RunpodApi:
    return RunpodApi(f"{runpod.url}/v2/", "ep1", SecretStr(KEY), clock)


def request() -> RunRequest:
    return RunRequest(
        input=JobInput(audio_url="https://b.s3.amazonaws.com/a%20b?X-Amz-Signature=abc%2B"),
        policy=ExecutionPolicy(execution_timeout_ms=600_000, ttl_ms=700_000),
        webhook="https://edge.example.com/hook",
    )


def test_run_sends_policy_webhook_and_the_exact_url(api: RunpodApi, runpod: RunpodServer) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    assert api.run(request()).id == "job-1"
    (call,) = runpod.calls
    assert call.headers["Authorization"] == f"Bearer {KEY}"
    assert call.body == {
        "input": {"audio_url": "https://b.s3.amazonaws.com/a%20b?X-Amz-Signature=abc%2B"},
        "policy": {"executionTimeout": 600_000, "ttl": 700_000, "lowPriority": False},
        "webhook": "https://edge.example.com/hook",
    }


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(drop=True), errors.AnswerLost),
        (Reply(status=500), errors.AnswerLost),
        (Reply(HTML, status=524), errors.AnswerLost),  # RunPod's proxy, after 100 s
        (Reply(HTML, status=403), errors.AnswerLost),
        (Reply(HTML), errors.AnswerLost),
        (Reply({"ok": True}), errors.AnswerLost),
        (Reply({"id": ""}), errors.AnswerLost),
        (Reply(status=404), errors.EndpointNotFound),
        (Reply(status=429), errors.RateLimited),
        (Reply(HTML, status=429), errors.RateLimited),
        (Reply(status=400), errors.RequestRefused),
    ],
)
def test_run_is_never_repeated_and_a_refused_one_is_not_lost(
    api: RunpodApi, runpod: RunpodServer, reply: Reply, error: type[errors.EdgeError]
) -> None:
    runpod.on("/run", reply)
    with pytest.raises(error):
        api.run(request())
    assert runpod.count("/run") == 1


def test_submission_is_known_by_its_id_alone(api: RunpodApi, runpod: RunpodServer) -> None:
    runpod.on("/run", Reply({"id": "job-9", "status": "NEW_STATE", "executionTime": "x"}))
    assert api.run(request()).id == "job-9"


@pytest.mark.parametrize(
    ("breaks", "url", "proxy", "error"),
    [
        (breaking.closed, "http://name.invalid", "", errors.NotSent),
        (breaking.closed, "http://127.0.0.1:{port}", "", errors.NotSent),
        (breaking.full, "http://127.0.0.1:{port}", "", errors.NotSent),
        (breaking.closed, "http://runpod.invalid", "http://127.0.0.1:{port}", errors.NotSent),
        (breaking.no_tunnel, "https://runpod.invalid", "http://127.0.0.1:{port}", errors.NotSent),
        ("untrusted", "https://127.0.0.1:{port}", "", errors.NotConfigured),
        ("trusted", "https://127.0.0.1:{port}", "", errors.AnswerLost),
        (breaking.reset, "http://127.0.0.1:{port}", "", errors.AnswerLost),
        (breaking.reset, "http://runpod.invalid", "http://127.0.0.1:{port}", errors.AnswerLost),
    ],
)
def test_only_what_proves_that_nothing_was_sent_frees_a_submission(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    breaks: Any,
    url: str,
    proxy: str,
    error: type[errors.EdgeError],
) -> None:
    monkeypatch.setattr(runpod_, "CONNECT_TIMEOUT_S", 0.5)
    pem = breaking.certificate(tmp_path)
    ca_bundle = pem if breaks == "trusted" else None
    if isinstance(breaks, str):
        breaks = breaking.over_tls(pem)
    where = breaks() if breaks in (breaking.closed, breaking.full) else breaking.listening(breaks)
    with where as port:
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.format(port=port))
        monkeypatch.setenv("no_proxy", "" if proxy else "*")
        root = f"{url.format(port=port)}/v2"
        api = RunpodApi(root, "ep1", SecretStr(KEY), ca_bundle=ca_bundle)
        with pytest.raises(errors.EdgeError) as caught:
            api.run(request())
    assert type(caught.value) is error, caught.value
    assert issubclass(errors.NotSent, errors.Unreachable)


def test_status_is_repeated_until_the_network_is_back_but_not_for_ever(
    api: RunpodApi, runpod: RunpodServer, clock: FakeClock
) -> None:
    runpod.on(
        "/status/job-1",
        Reply(drop=True),
        Reply(status=502),
        Reply(status=429, headers={"Retry-After": "7.5"}),
        Reply(job("COMPLETED")),
    )
    assert api.status("job-1").status is JobState.COMPLETED
    assert runpod.count("/status/job-1") == 4
    assert api._made == {"/status": 4}
    assert clock.slept == [7.5]  # the pause after a 429 is the bucket's
    runpod.on("/status/job-1", Reply(status=503))
    with pytest.raises(errors.Unreachable, match="503"):
        api.status("job-1")
    assert runpod.count("/status/job-1") == 8


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(status=404), errors.JobNotFound),
        (Reply(status=401), errors.Unauthorized),
        (Reply(HTML, status=401), errors.Unauthorized),
        (Reply(status=403), errors.Unauthorized),
        (Reply(HTML, status=403), errors.BadResponse),
        (Reply(HTML, status=404), errors.BadResponse),
        (Reply(status=400), errors.BadResponse),
        (Reply(status=302, headers={"Location": "http://127.0.0.1:1/"}), errors.BadResponse),
        (Reply(HTML), errors.BadResponse),
        (Reply([1]), errors.BadResponse),
        (Reply(job("NEW_STATE")), errors.BadResponse),
        (Reply(job("FAILED") | {"id": "job-2"}), errors.BadResponse),
    ],
)
def test_answer_that_says_nothing_is_an_outage_and_certain_ones_are_not_repeated(
    api: RunpodApi, runpod: RunpodServer, reply: Reply, error: type[errors.EdgeError]
) -> None:
    runpod.on("/status/job-1", reply)
    with pytest.raises(error):
        api.status("job-1")
    assert runpod.count("/status/job-1") == 1
    assert issubclass(errors.BadResponse, errors.Unreachable)


@pytest.mark.parametrize(
    ("told", "execution_time_ms", "error"),
    [
        ({"executionTime": "a while", "delayTime": [], "workerId": 5}, None, None),
        ({"executionTime": -1, "output": {"request_id": "r1"}}, None, None),
        ({"executionTime": 1500.0, "output": "r2", "error": {"code": "X"}}, 1500, '{"code": "X"}'),
    ],
)
def test_what_only_informs_never_fails_a_job(
    api: RunpodApi,
    runpod: RunpodServer,
    told: dict[str, Any],
    execution_time_ms: int | None,
    error: str | None,
) -> None:
    runpod.on("/status/job-1", Reply(job("COMPLETED", **told)))
    seen = api.status("job-1")
    assert (seen.execution_time_ms, seen.error) == (execution_time_ms, error)


def test_submission_whose_turn_is_far_off_is_not_sent(
    api: RunpodApi, runpod: RunpodServer, clock: FakeClock
) -> None:
    runpod.on("/run", Reply(status=429, headers={"Retry-After": "86400"}), Reply(job("IN_QUEUE")))
    for _ in range(3):
        with pytest.raises(errors.RateLimited) as caught:
            api.run(request())
        assert caught.value.retry_after_s == 300  # no more than that, and no place was taken
    assert runpod.count("/run") == 1
    clock.sleep(296.0)
    assert api.run(request()).id == "job-1"
    assert clock.slept == [296.0, 4.0]


def test_many_threads_share_few_connections_and_no_cookies(
    api: RunpodApi, runpod: RunpodServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, connect = list[HTTPConnection](), HTTPConnection.connect
    monkeypatch.setattr(HTTPConnection, "connect", lambda it: made.append(it) or connect(it))
    cookie = {"Set-Cookie": "server=7; Path=/"}
    runpod.on("/status/job-1", Reply(job("COMPLETED"), headers=cookie))
    with ThreadPoolExecutor(3 * runpod_.CONNECTIONS) as pool:
        list(pool.map(api.status, ["job-1"] * 190))
    assert 1 <= len(made) <= runpod_.CONNECTIONS
    assert not [call for call in runpod.calls if "Cookie" in call.headers]


def test_health_counts_as_status_and_other_kinds_go_on(
    runpod: RunpodServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runpod_, "RATES", dict.fromkeys(Kind, Rate(per_s=1, burst=1)))
    api = RunpodApi(f"{runpod.url}/v2", "ep1", SecretStr(KEY), clock)
    runpod.on("/cancel/job-1", Reply(job("CANCELLED")))
    runpod.on("/health", Reply({"jobs": {}}))
    runpod.on("/status/job-1", Reply(job("COMPLETED")))
    api.health()
    api.cancel("job-1")
    api.status("job-1")
    assert clock.slept == [1.0]


def test_cancel_is_posted_once_and_a_job_id_is_one_path_segment(
    api: RunpodApi, runpod: RunpodServer
) -> None:
    runpod.on("/cancel/job-1", Reply(status=503))
    with pytest.raises(errors.Unreachable):
        api.cancel("job-1")
    assert [(call.method, call.path) for call in runpod.calls] == [("POST", "/cancel/job-1")]
    for job_id in ("..", ".", "", "../health?x", "a/b", "a%2Fb", "j" * 129, "j\n"):
        for ask in (api.status, api.cancel):
            with pytest.raises(errors.JobNotFound, match="is no job's id"):
                ask(job_id)
    assert len(runpod.calls) == 1


def test_a_refusal_has_runpods_words_and_after_good_answers_it_is_looked_at_again(
    runpod: RunpodServer,
) -> None:
    clock, good = FakeClock(), Reply({"jobs": {}, "workers": {}})
    api = RunpodApi(f"{runpod.url}/v2", "ep1", SecretStr(KEY), clock)
    refused = Reply({"error": "key of another team"}, status=403)
    runpod.on("/health", refused)
    with pytest.raises(errors.Unauthorized, match="403 .*key of another team.*: check RUNPOD_API"):
        api.health()
    runpod.on("/health", good, refused, good, refused)
    api.health()
    with pytest.raises(errors.BadResponse, match="looking again"):
        api.health()
    api.health()
    runpod.on("/health", refused)
    for _ in range(3):
        with pytest.raises(errors.BadResponse):
            api.health()
        clock.sleep(14)
    with pytest.raises(errors.Unauthorized):
        api.health()
    runpod.on("/run", refused)
    with pytest.raises(errors.Unauthorized):  # a refused submission is refused
        api.run(request())


def test_an_answer_that_has_no_end_is_not_read_to_it(
    api: RunpodApi, runpod: RunpodServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runpod_, "MAX_ANSWER_BYTES", 100_000)
    big = gzip.compress(json.dumps({"id": "job-1", "x": "0" * 10_000_000}).encode())
    for path, call in (
        ("/status/job-1", partial(api.status, "job-1")),
        ("/run", partial(api.run, request())),
    ):
        runpod.on(path, Reply(big, headers={"Content-Encoding": "gzip"}))
        with pytest.raises((errors.BadResponse, errors.AnswerLost), match="over 100,000 bytes"):
            call()


def test_netrc_does_not_replace_the_key_and_no_error_shows_it_or_a_signature(
    api: RunpodApi, runpod: RunpodServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    runpod.on("/health", Reply({"jobs": {}, "workers": {}}))
    api.health()
    assert runpod.calls[0].headers["Authorization"] == f"Bearer {KEY}"
    text = f"bad https://b/a?X-Amz-Signature=abc Bearer {KEY}"
    runpod.on("/run", Reply(text.encode(), status=400))
    with pytest.raises(errors.RequestRefused) as caught:
        api.run(request())
    assert "abc" not in str(caught.value)
    assert KEY not in str(caught.value) + repr(api.__dict__)


MOST = {Kind.RUN: 1000, Kind.STATUS: 2000, Kind.CANCEL: 100}
"""What it takes in ten seconds."""


def sent(bucket: TokenBucket, clock: FakeClock, requests: int) -> list[float]:
    """Send as fast as the bucket lets us; return when each was sent."""
    times = []
    for _ in range(requests):
        bucket.accepted(bucket.acquire())
        times.append(clock.monotonic())
    return times


def most_in_a_window(times: list[float]) -> int:
    return max(bisect_left(times, at + 10) - i for i, at in enumerate(times))


@pytest.mark.parametrize("kind", Kind)
def test_no_window_holds_more_than_runpod_takes(kind: Kind, clock: FakeClock) -> None:
    times = sent(TokenBucket(runpod_.RATES[kind], clock), clock, 3 * MOST[kind])
    assert 0.85 * MOST[kind] <= most_in_a_window(times) <= 0.91 * MOST[kind]


def test_pause_holds_who_sleeps_already_and_the_rate_is_kept_after_it(clock: FakeClock) -> None:
    def refused_meanwhile(seconds: float) -> None:
        clock.sleep(seconds)
        if len(clock.slept) == 1:
            bucket.refused(0, 30.0)

    bucket = TokenBucket(
        runpod_.RATES[Kind.CANCEL], Clock(clock.now, clock.monotonic, refused_meanwhile)
    )
    times = sent(bucket, clock, 200)
    burst = runpod_.RATES[Kind.CANCEL].burst
    assert times[burst] == times[burst - 1] + clock.slept[0] + 30.0
    assert most_in_a_window(times[burst:]) <= 81  # no burst after a pause


@pytest.fixture
def bucket(clock: FakeClock) -> TokenBucket:
    return TokenBucket(Rate(1000, 1000), clock, jitter=lambda: 1.0)


def test_pauses_double_to_a_limit_and_start_anew_after_an_answer_to_a_later_request(
    bucket: TokenBucket, clock: FakeClock
) -> None:
    early, refused = bucket.acquire(), bucket.acquire()
    bucket.refused(refused, None)
    bucket.accepted(early)
    for _ in range(8):
        bucket.refused(bucket.acquire(), None)
    bucket.accepted(bucket.acquire())
    bucket.refused(bucket.acquire(), None)
    bucket.acquire()
    pauses, most = [s for s in clock.slept if s > 0.5], runpod_.MAX_PAUSE_S
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, most, most, most, 1])


def test_requests_refused_together_count_once_and_the_longest_retry_after_wins(
    bucket: TokenBucket, clock: FakeClock
) -> None:
    together = [bucket.acquire() for _ in range(4)]
    for pauses, asked_s in zip(together, [None, 5.0, 20.0, 3.0], strict=True):
        bucket.refused(pauses, asked_s)
    bucket.refused(bucket.acquire(), None)
    bucket.acquire()
    assert clock.slept == [20.0, 2.0]


def test_jitter_shortens_own_pauses_alone(clock: FakeClock) -> None:
    bucket = TokenBucket(runpod_.RATES[Kind.STATUS], clock, jitter=lambda: 0.5)
    bucket.refused(bucket.acquire(), None)
    bucket.refused(bucket.acquire(), 8.0)
    bucket.acquire()
    assert clock.slept == [0.5, 8.0]
