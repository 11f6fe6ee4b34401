"""Which URLs a worker touches: judged before any work, and again where it connects."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from bucketscribe_contract import FailureCode, PresignedUrl, Stage
from tests.fakes.worker import LOOPBACK, LoopbackS3
from worker.cancel import CancelToken, Deadline
from worker.errors import JobCancelled, WorkerError
from worker.http import exchange
from worker.runtime import Runtime
from worker.settings import WorkerSettings
from worker.urls import UrlPolicy, expires_at, is_public

FIELDS = ("audio_url", "result_url", "progress_url")
SIGNED = "?X-Amz-Signature=5ec2e7"
PUBLIC, OTHER = "8.8.8.8", "1.1.1.1"
Answers = list[str] | Exception
Dns = Callable[..., list[str]]


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses that sockets are connected to; none of them can be reached."""
    addresses: list[Any] = []
    others = set(threading.enumerate()) - {threading.current_thread()}  # left by other tests

    def connect(_: socket.socket, address: Any) -> None:
        if threading.current_thread() not in others:
            addresses.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    return addresses


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Dns:
    """Have DNS answer so, in turn, the last one for ever; gives the names that it was asked."""

    def answer(*answers: Answers) -> list[str]:
        asked: list[str] = []

        def look_up(host: str, port: int, **_: Any) -> list[Any]:
            asked.append(host)
            found = answers[min(len(asked), len(answers)) - 1]
            if isinstance(found, Exception):
                raise found
            real = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
            return [(*real, (address, port)) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        return asked

    return answer


def deadline(limit_s: float = 30, token: CancelToken | None = None) -> Deadline:
    return Deadline(limit_s, token or CancelToken(), Stage.VALIDATE)


def check(policy: UrlPolicy, url: str) -> None:
    policy.target(PresignedUrl(url), deadline())


def refusal(url: str, field: str = "audio_url") -> WorkerError:
    """How a job ends whose one field is the URL; nothing after the check can be reached."""
    worker = Runtime(WorkerSettings(models_dir="nowhere"))
    job = {"audio_url": f"https://{PUBLIC}/key"} | {field: url}
    with pytest.raises(WorkerError) as caught:
        worker.run(job, CancelToken(), worker.begin(None, print))
    assert "5ec2e7" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127%2e0%2e0%2e1", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1",
        "１２７.0.0.1", "127。0。0。1", "localhost", "LOCALHOST.", "0", "10.0.0.7",
        "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.200", "169.254.169.254",
        "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255",
        "[::1]", "[::]", "[fd00::1]", "[fd00:ec2::254]", "[fe80::1]", "[fe80::1%25lo]",
        "[fec0::1]", "[ff02::1]",
        "[::ffff:127.0.0.1]", "[::ffff:8.8.8.8]", "[::127.0.0.1]", "[64:ff9b::10.0.0.1]",
        "[64:ff9b:1::8.8.8.8]", "[2002:7f00:1::]", "[2001:0:1::1]", "[2001:db8::1]",
        "[2600::5efe:7f00:1]", "[2600::200:5efe:a00:1]", "[3fff::1]",
        "8.8.8.8:65536", "8.8.8.8:-1", "8.8.8.8:x", "8.8.8.8:0", "8.8.8.8:22", "8.8.8.8:9000",
        "a..b", ".", "%", "a%00b", f"{'a' * 64}.com", "a." * 200, "\\8.8.8.8", "@8.8.8.8", "a,b",
        "a;b", "a|b", "a^b",
    ],
)  # fmt: skip
def test_no_work_is_done_for_a_host_that_is_none_or_not_public(
    field: str, host: str, connected: list[Any]
) -> None:
    error = refusal(f"https://{host}/key{SIGNED}", field)
    assert error.code is FailureCode.URL_NOT_ALLOWED, error
    assert str(error).startswith(field)
    assert connected == []


@pytest.mark.parametrize("url", ["http://8.8.8.8/key", "https://8.8.8.8/schlüssel"])
def test_http_and_other_characters_than_were_signed_are_refused(url: str) -> None:
    for field in FIELDS:
        assert refusal(url + SIGNED, field).code is FailureCode.URL_NOT_ALLOWED


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True), ("52.218.0.1", True), ("2600:1f18::1", True), ("2a05:d018::1", True),
        ("64:ff9b::8.8.8.8", True), ("64:ff9b::127.0.0.1", False), ("4000::1", False),
        ("192.88.99.1", False), ("203.0.113.9", False), ("240.0.0.1", False),
    ],
)  # fmt: skip
def test_only_addresses_of_the_internet_are_public(
    address: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where Python's own tables know nothing."""
    parsed = ip_address(address)
    monkeypatch.setattr(type(parsed), "is_global", True)
    assert is_public(parsed) is expected


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ([], "URL_NOT_ALLOWED"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "URL_NOT_ALLOWED"),
        (socket.gaierror(socket.EAI_AGAIN, "busy"), "STORAGE_UNAVAILABLE"),
        ([PUBLIC, "10.0.0.1"], "URL_NOT_ALLOWED"),
        (["fe80::1%eth0"], "URL_NOT_ALLOWED"),
    ],
    ids=["empty", "no such name", "DNS is busy", "mixed", "scoped"],
)
def test_a_host_has_addresses_and_all_are_public(
    answer: Answers, code: str, dns: Dns, connected: list[Any]
) -> None:
    for field in FIELDS:
        dns([PUBLIC] if field != "audio_url" else answer, answer)
        url = f"https://s3.test/key{SIGNED}"
        assert refusal(url, field).code is FailureCode(code)
    assert connected == []


@pytest.mark.parametrize("later", [["127.0.0.1"], [PUBLIC, "::1"], []])
def test_a_host_that_rebinds_after_the_check_is_not_connected_to(
    later: list[str], dns: Dns, connected: list[Any]
) -> None:
    dns([PUBLIC], later)
    check(UrlPolicy(), "https://s3.test/key")
    refused = pytest.raises(WorkerError, match=r"s3\.test")
    url = PresignedUrl("https://s3.test/key")
    with refused as caught, exchange("GET", url, UrlPolicy(), deadline()):
        pass
    assert caught.value.code is FailureCode.URL_NOT_ALLOWED
    assert connected == []


def test_what_was_judged_is_what_is_connected_to(dns: Dns, connected: list[Any]) -> None:
    """One address after the other; the name is not asked for again."""
    asked = dns([PUBLIC, OTHER], ["127.0.0.1"])
    url = PresignedUrl("https://s3.test/key")
    with pytest.raises(WorkerError), exchange("GET", url, UrlPolicy(), deadline()):
        pass
    assert (connected, asked) == ([PUBLIC, OTHER], ["s3.test"])


def test_a_look_up_that_hangs_ends_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, token = threading.Event(), CancelToken()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(30) and [])
    threading.Timer(0.1, token.cancel).start()
    with pytest.raises(JobCancelled):
        UrlPolicy().target(PresignedUrl("https://s3.test/key"), deadline(20, token))
    with pytest.raises(WorkerError, match="took over"):
        UrlPolicy().target(PresignedUrl("https://s3.test/key"), deadline(0.1))
    answer.set()


def test_loopback_is_taken_only_where_the_stack_says_so(dns: Dns) -> None:
    for taken in ("http://127.0.0.1:9000/key", "https://127.0.0.1:65535/key"):
        check(LOOPBACK, taken)
        with pytest.raises(WorkerError):
            check(UrlPolicy(), taken)
    dns(["127.0.0.1", PUBLIC])
    for elsewhere in ("http://8.8.8.8/key", "https://10.0.0.7/key", "http://mixed/key"):
        with pytest.raises(WorkerError):
            check(LOOPBACK, elsewhere)


@pytest.mark.parametrize(
    ("host", "is_taken"),
    [
        ("b.s3.test", True), ("B.S3.Test.", True), ("ｂ.ｓ３.test", True), ("x.b.s3.test", False),
        ("other.s3.test", False), ("minio.test", True), ("a.minio.test", True),
        ("evilminio.test", False), ("minio.test.evil.com", False), ("bücher.test", True),
        ("xn--bcher-kva.test", True),
    ],
)  # fmt: skip
def test_hosts_can_be_limited_to_names_and_dotted_suffixes(
    host: str, is_taken: bool, dns: Dns
) -> None:
    asked = dns([PUBLIC])
    policy = UrlPolicy(hosts=("b.s3.test", ".minio.test", "xn--bcher-kva.test"))
    url = f"https://{host}/key"
    if is_taken:
        check(policy, url)
        return
    with pytest.raises(WorkerError, match="ALLOWED_URL_HOSTS"):
        check(policy, url)
    assert asked == []


def test_ports_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_URL_PORTS", "443, 9000")
    policy = UrlPolicy.of(WorkerSettings())
    check(policy, "https://8.8.8.8:9000/key")
    with pytest.raises(WorkerError, match="ALLOWED_URL_PORTS"):
        check(policy, "https://8.8.8.8:9001/key")


@pytest.mark.parametrize("path", ["", "?sig=1", "/a/..//b?x=%7e&y='()*", "/k?a?b#part"])
def test_the_request_line_is_what_was_signed(path: str, s3: LoopbackS3) -> None:
    with exchange("GET", s3.url(path), LOOPBACK, deadline()) as response:
        assert response.status == 200
    sent = path.partition("#")[0]
    assert s3.requests[0][1] == (sent if sent.startswith("/") else f"/{sent}")


@pytest.mark.parametrize("query", ["", "X-Amz-Date=x&X-Amz-Expires=60", "X-Amz-Expires=60"])
def test_other_urls_tell_no_end(query: str) -> None:
    assert expires_at(PresignedUrl(f"https://h/k?{query}")) is None
