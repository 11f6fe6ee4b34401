"""One exchange: with whom it is, what it takes from a server, and when it ends."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import stamina

from bucketscribe_contract import FailureCode, JobInput, PresignedUrl, Stage
from tests.fakes.authority import authority, server_side
from tests.fakes.breaking import Act, full, listening
from tests.fakes.worker import LOOPBACK, LoopbackS3
from worker.cancel import CancelToken, Deadline, StageContext
from worker.errors import JobCancelled, WorkerError
from worker.host.progress import ProgressReporter, put_to_url
from worker.http import exchange
from worker.stages.deliver import deliver
from worker.stages.fetch import DownloadLimits, fetch
from worker.urls import UrlPolicy

AT_ONCE_S = 2.0
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 100000\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
JSON: dict[Any, str] = {"Content-Type": "application/json"}
_over = threading.Event()


@pytest.fixture(autouse=True)
def servers_end() -> Iterator[None]:
    _over.clear()
    yield
    _over.set()


def reads(then: Act) -> Act:
    """Read the request, or a part of it, before acting."""

    def act(connection: socket.socket) -> None:
        connection.recv(65536)
        then(connection)

    return act


def says(first: bytes, again: bytes) -> Act:
    """Answer with something, then drip something else for as long as the test lasts."""

    def act(connection: socket.socket) -> None:
        connection.sendall(first)
        while not _over.wait(0.05):
            connection.sendall(again)

    return reads(act)


def hold(connection: socket.socket) -> None:
    """Read nothing, say nothing."""
    _over.wait(30)


DRIPS = {
    "no TLS": hold,
    "nothing": reads(hold),
    "status line": says(b"HTTP/1.1 200 ", b"O"),
    "header": says(OK + b"X: ", b"x"),
    "headers": says(OK, b"X: x\r\n"),
    "1xx": says(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": says(OK + LENGTH, b"x"),
    "stalled body": says(OK + LENGTH, b""),
    "body without end": says(OK + b"\r\n", b"x"),
    "chunk size": says(CHUNKED, b"0"),
    "chunk": says(CHUNKED + b"fffff\r\n", b"x"),
    "trailer": says(CHUNKED + b"1\r\nx\r\n0\r\n", b"X: x\r\n"),
    "refusal": says(b"HTTP/1.1 403 Forbidden\r\n" + LENGTH, b"x"),
    "stores nothing": hold,
}


@pytest.fixture(params=DRIPS)
def dripping(request: pytest.FixtureRequest) -> Iterator[PresignedUrl]:
    """A URL of a server that drips."""
    scheme = "https" if request.param == "no TLS" else "http"
    with listening(DRIPS[request.param]) as port:
        yield PresignedUrl(f"{scheme}://127.0.0.1:{port}/b/k?X-Amz-Signature=5ec2e7")
        _over.set()


def ends_at_once(work: Callable[[CancelToken], object]) -> WorkerError | None:
    """Cancel work that has begun; it ends then, if not by a limit of its own."""
    token = CancelToken()
    started = time.monotonic()
    timer = threading.Timer(0.3, token.cancel)
    timer.start()
    try:
        work(token)
    except WorkerError as exc:
        return exc
    else:
        return None
    finally:
        assert time.monotonic() - started < 0.3 + AT_ONCE_S
        timer.cancel()


def exchanged(url: PresignedUrl, deadline: Deadline) -> None:
    """Send more than a socket takes, read all that comes."""
    with exchange("PUT", url, LOOPBACK, deadline, b"x" * 8_000_000) as response:
        for _ in response.stream(1024):
            pass


def test_no_drip_holds_a_worker(dripping: PresignedUrl) -> None:
    ended = ends_at_once(lambda token: exchanged(dripping, Deadline(60, token, Stage.FETCH)))
    assert isinstance(ended, JobCancelled)


def test_no_drip_holds_a_worker_past_its_limit(dripping: PresignedUrl) -> None:
    ended = ends_at_once(lambda _: exchanged(dripping, Deadline(0.3, CancelToken(), Stage.FETCH)))
    assert ended is not None
    assert ended.code is FailureCode.STORAGE_UNAVAILABLE
    assert "took over" in str(ended)


def test_a_server_that_takes_no_connection_holds_nobody() -> None:
    with full() as port:
        url = PresignedUrl(f"http://127.0.0.1:{port}/b/k")
        ended = ends_at_once(lambda token: exchanged(url, Deadline(60, token, Stage.FETCH)))
    assert isinstance(ended, JobCancelled)


def test_download_upload_and_progress_end_with_their_job(
    dripping: PresignedUrl, tmp_path: Path
) -> None:
    def progress(token: CancelToken) -> None:
        reporter = ProgressReporter([put_to_url(dripping, JSON, LOOPBACK, token)], 0.0)
        reporter.report(Stage.FETCH)
        reporter.close()

    job, limits = JobInput(audio_url=dripping), DownloadLimits(1 << 20, LOOPBACK)
    ends_at_once(lambda token: fetch(job, tmp_path, limits, StageContext(token)))
    ends_at_once(progress)
    body = b"x" * 8_000_000
    ended = ends_at_once(lambda token: deliver(body, dripping, JSON, LOOPBACK, token))
    assert ended is None or isinstance(ended, JobCancelled)  # None: a status has it all


def test_a_pause_between_two_tries_ends_with_the_job(tmp_path: Path) -> None:
    """Also a late one, which backing off has made longer."""
    tries: list[float] = []
    token = CancelToken()

    def refuse(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        tries.append(time.monotonic())
        if len(tries) == 7:
            threading.Timer(0.1, token.cancel).start()

    with listening(reads(refuse)) as port, stamina.set_testing(False):
        url = PresignedUrl(f"http://127.0.0.1:{port}/b/k")
        job, limits = JobInput(audio_url=url), DownloadLimits(1 << 20, LOOPBACK)
        with pytest.raises(JobCancelled):
            fetch(job, tmp_path, limits, StageContext(token))
        assert time.monotonic() - tries[6] < 0.1 + AT_ONCE_S
        assert ends_at_once(lambda token: deliver(b"{}", url, JSON, LOOPBACK, token)) is not None


def deadline() -> Deadline:
    return Deadline(10, CancelToken(), Stage.FETCH)


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED + b"-5\r\nx\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"f" * 70000,
        CHUNKED + b"5\r\nx",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        OK + b"X: x\r\n" * 200,
        OK + b"X: " + b"x" * 70000,
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 -2 OK\r\n\r\n",
        b"\x00\xff" * 100,
        b"",
    ],
)
def test_what_is_no_http_is_storage_unavailable(answer: bytes) -> None:
    with listening(reads(lambda connection: connection.sendall(answer))) as port:
        url = PresignedUrl(f"http://127.0.0.1:{port}/b/k?X-Amz-Signature=5ec2e7")
        with (
            pytest.raises(WorkerError) as caught,
            exchange("GET", url, LOOPBACK, deadline()) as response,
        ):
            for _ in response.stream(1024):
                pass
    assert caught.value.code is FailureCode.STORAGE_UNAVAILABLE
    assert "5ec2e7" not in str(caught.value)


def test_an_answer_before_the_whole_body_was_sent_is_heard() -> None:
    """The connection is reset: most of the body was not read."""
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    with listening(reads(lambda connection: connection.sendall(refusal))) as port:
        url = PresignedUrl(f"http://127.0.0.1:{port}/b/k")
        with exchange("PUT", url, LOOPBACK, deadline(), b"x" * 8_000_000) as response:
            assert response.status == 403


def test_a_slow_upload_is_no_stalled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(32_000_000)
    monkeypatch.setattr("worker.http.READ_STALL_S", 1.5)

    def take_slowly(connection: socket.socket) -> None:
        left = len(body)
        while left > 0 and not _over.wait(0.02):
            left -= len(connection.recv(200_000))
        connection.sendall(OK + b"Content-Length: 0\r\n\r\n")

    with listening(take_slowly) as port:
        url = PresignedUrl(f"http://127.0.0.1:{port}/b/k")
        with exchange("PUT", url, LOOPBACK, deadline(), body) as response:
            assert response.status == 200


def test_no_proxy_and_no_netrc_has_a_say(
    s3: LoopbackS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password 5ec2e7")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with exchange("GET", s3.url(), LOOPBACK, deadline()) as response:
        assert response.status == 200
    assert set(s3.requests[0][2]) == {"Host", "User-Agent", "Accept-Encoding"}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every name lead to loopback."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _, port, **rest: real("127.0.0.1", port, **rest)
    )


Asked = list[str | None]


@pytest.fixture
def over_tls(tmp_path: Path) -> Callable[..., tuple[Act, Asked]]:
    """Answer 200 over TLS; notes the names that were asked for."""

    def serve(host: str, days: int = 1) -> tuple[Act, Asked]:
        context, asked = server_side(tmp_path, host, days), Asked()
        context.sni_callback = lambda _, name, __: asked.append(name)

        def act(connection: socket.socket) -> None:
            with suppress(ssl.SSLError):
                tls = context.wrap_socket(connection, server_side=True)
                with tls:
                    tls.recv(65536)
                    tls.sendall(OK + b"Content-Length: 0\r\n\r\n")

        return act, asked

    return serve


def test_an_address_that_does_not_answer_gives_way_to_the_next(
    s3: LoopbackS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a family that this machine does not have, and one where nobody listens."""
    stream, port = (socket.SOCK_STREAM, 6, ""), s3.port
    found = [
        (socket.AF_UNIX, *stream, ("127.0.0.1", port)),
        (socket.AF_INET, *stream, ("127.0.0.1", 1)),
        (socket.AF_INET, *stream, ("127.0.0.1", port)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with exchange("GET", s3.url(), LOOPBACK, deadline()) as response:
        assert response.status == 200


@pytest.mark.parametrize("as_file", [True, False])
def test_a_certificate_is_verified_against_the_name_by_an_authority_of_ones_own(
    names: None, over_tls: Callable[..., tuple[Act, Asked]], tmp_path: Path, as_file: bool
) -> None:
    ca = authority()
    if as_file:
        (tmp_path / "ca.pem").write_text(ca)
        ca = str(tmp_path / "ca.pem")
    act, asked = over_tls("s3.test")
    with listening(act) as port:
        url = PresignedUrl(f"https://S3.Test.:{port}/b/k")
        policy = UrlPolicy(allow_loopback=True, ca=ca)
        with exchange("GET", url, policy, deadline()) as response:
            assert response.status == 200
    assert asked == ["s3.test"]


@pytest.mark.parametrize(
    ("host", "days", "ca", "why"),
    [
        ("other.test", 1, authority(), "Hostname mismatch"),
        ("s3.test", -1, authority(), "expired"),
        ("s3.test", 1, None, "unable to get local issuer"),
    ],
    ids=["another's name", "expired", "unknown authority"],
)
def test_a_certificate_that_is_not_trusted_is_named_and_not_tried_again(
    names: None,
    over_tls: Callable[..., tuple[Act, Asked]],
    tmp_path: Path,
    host: str,
    days: int,
    ca: str | None,
    why: str,
) -> None:
    act, asked = over_tls(host, days)
    policy = UrlPolicy(allow_loopback=True, ca=ca)
    with listening(act) as port:
        url = PresignedUrl(f"https://s3.test:{port}/b/k?X-Amz-Signature=5ec2e7")
        job, limits = JobInput(audio_url=url), DownloadLimits(1 << 20, policy)
        with pytest.raises(WorkerError, match=f"{why}.*ALLOWED_URL_CA") as fetched:
            fetch(job, tmp_path, limits, StageContext())
        with pytest.raises(WorkerError, match=f"{why}.*in the job's output") as delivered:
            deliver(b"{}", url, JSON, policy, CancelToken())
    for caught in (fetched, delivered):
        assert caught.value.code is FailureCode.URL_NOT_ALLOWED
    assert len(asked) == 2
