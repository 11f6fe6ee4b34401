"""The receiver over real HTTP: the path decides, the body only hints; and its secret."""

import hmac
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from unittest.mock import Mock
from unittest.mock import call as mock_call
from urllib.parse import quote, urlsplit

import pytest
from pydantic import SecretStr

from bucketscribe_contract.redact import scrub
from edge_client import webhook as receiver_
from edge_client.errors import BadUsage, NotConfigured
from edge_client.jobs.callback_url import fill
from edge_client.session import DEFAULT, Session
from edge_client.webhook import (
    Receiver,
    Secret,
    bound,
    fresh_secret,
    http_server,
    load_secret,
    url_of,
)
from tests.unit.edge_client.samples import SESSION
from tests.unit.edge_client.webhook.conftest import SECRET

Call = Callable[..., tuple[int, dict[str, str], bytes]]
LONGEST = Session("u", "x" * 1024)


@pytest.fixture
def desk() -> Mock:
    """Takes every session in."""
    return Mock(return_value=True)


@pytest.fixture
def hints() -> dict[Session, str]:
    return {}


@pytest.fixture
def url(desk: Mock, hints: dict[Session, str]) -> Iterator[str]:
    """A server's."""
    server = http_server(Receiver(Secret(SECRET), desk, hints, DEFAULT))
    with bound("127.0.0.1:0") as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(server.run, sockets=[listener])
        yield url_of(listener)
        server.should_exit = True


@pytest.fixture
def call(url: str) -> Call:
    """Send one request, its path as it is."""

    def call(
        path: str, body: bytes | None = b"{}", method: str = "POST"
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
        connection.request(method, path, body)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        seen = answer.status, headers, answer.read()
        connection.close()
        return seen

    return call


def path_of(session: Session, secret: str = SECRET, mount: str = "/hooks") -> str:
    return urlsplit(fill(f"https://h.example{mount}/{secret}/{{session}}", session)).path


@pytest.mark.parametrize(
    ("name", "mount"),
    [("s1", ""), ("ses sion+%41 ü", "/hooks"), ("a?b#c&d=e", "/a/b"), ("..", "/hooks")],
)
def test_right_secret_takes_in_what_fits(call: Call, desk: Mock, name: str, mount: str) -> None:
    session = Session("u 1", name)
    decoded = f"{mount}/{SECRET}/" + "/".join(map(quote, session.prefix.split("/")))
    for path in (path_of(session, mount=mount), decoded):  # a proxy may decode the slashes
        assert call(path)[0] == 200
    assert desk.mock_calls == [mock_call(session)] * 2
    desk.return_value = False
    assert call(path)[0] == 503  # RunPod calls again


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", path_of(SESSION, secret=SECRET[:-1])),
        ("POST", path_of(SESSION, secret=SECRET + "0")),
        ("POST", path_of(SESSION, secret=SECRET.upper())),
        ("POST", "/health"),
        ("GET", "/healthy"),
        ("GET", path_of(SESSION)),
        ("PUT", path_of(SESSION)),
        ("POST", f"/?{SECRET}/{quote(SESSION.prefix, safe='')}"),
    ],
)
def test_wrong_secret_is_an_unknown_path(call: Call, desk: Mock, method: str, path: str) -> None:
    unknown = call("/unknown/path")
    answer = call(path, method=method)
    for seen in (unknown, answer):
        seen[1].pop("date")
    assert answer == unknown
    assert (answer[0], desk.called) == (404, False)


def test_wrong_secret_is_answered_before_the_body_is_sent(url: str) -> None:
    with raw(url) as connection:
        head = f"POST {path_of(SESSION, secret='x' * 16)} HTTP/1.1\r\nHost: h\r\n"
        connection.sendall(f"{head}Content-Length: 1000000000\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    "path",
    [f"/hooks/{SECRET}", f"/hooks/{SECRET}/users/u1/audio/sessions", path_of(LONGEST)],
    ids=["none", "half", "longer than any key"],
)
def test_missing_session_is_told_to_who_knows_the_secret(call: Call, desk: Mock, path: str) -> None:
    status, _, body = call(path)
    assert (status, desk.called) == (400, False)
    assert b"{session}" in body


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b'{"delayTime": 5, "id": "abc-e1", "input": {"id": "x"}}', "abc-e1"),
        (b'{"id":"abc-u1"' + b" " * 100_000, "abc-u1"),
        (b'{"output": "' + b"x" * 20_000 + b'", "id": "late"}', None),
        (b'{"id": "../health?x"}', None),
        (b'{"id": "' + b"x" * 65 + b'"}', None),
        (b'{"id": 5}', None),
        (b"", None),
    ],
)
def test_job_that_a_body_names_is_a_hint(
    call: Call, desk: Mock, hints: dict[Session, str], body: bytes, hint: str | None
) -> None:
    assert call(path_of(SESSION), body)[0] == 200
    assert hints == ({SESSION: hint} if hint else {})
    desk.return_value = False
    assert call(path_of(SESSION), body)[0] == 503
    assert hints == {}  # no room for it, either


def test_body_is_of_no_consequence_but_bounded(
    call: Call, desk: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_, "MAX_BODY_BYTES", 1000)
    for body in (b"", b"\xff\xfe", b'{"status": "COMPLETED", "output": 1}'):
        assert call(path_of(SESSION), body)[0] == 200
    assert desk.mock_calls == [mock_call(SESSION)] * 3
    assert call(path_of(SESSION), b"x" * 1000)[0] == 200
    assert call(path_of(SESSION), b"x" * 1001)[0] == 413


def test_slow_body_ends_but_its_session_is_taken_in(
    url: str, desk: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_, "BODY_TIMEOUT_S", 0.05)
    with raw(url) as connection:
        head = f"POST {path_of(SESSION)} HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    desk.assert_called_once_with(SESSION)


def test_health_answers(call: Call) -> None:
    status, headers, body = call("/health", body=None, method="GET")
    assert (status, body, headers["connection"]) == (200, b"ok\n", "close")
    assert "server" not in headers  # nobody needs to know what runs here


def test_no_log_line_has_the_secret_or_a_path(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "edge_client.webhook")
    forged = path_of(Session("u", "s\nERROR forged"))
    for path in (path_of(SESSION), forged, f"/hooks/{SECRET}", path_of(SESSION, SECRET + "1")):
        call(path)
    assert f"{SESSION.prefix}: called" in caplog.text
    assert SECRET not in caplog.text
    assert "/hooks" not in caplog.text
    assert [record.message for record in caplog.records if "\n" in record.message] == []


def test_unreadable_or_taken_address_names_the_remedy(url: str, desk: Mock) -> None:
    for listen in ("8787", ":8787", "127.0.0.1:x", "h:70000"):
        with pytest.raises(BadUsage, match="HOST:PORT"):
            bound(listen)
    with pytest.raises(NotConfigured, match="choose another host or port"):
        bound(urlsplit(url).netloc)


def raw(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


@pytest.mark.parametrize("value", [SECRET[:15], SECRET + "/", SECRET + "ü", "a" * 129])
def test_weak_or_unfit_secret_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(NotConfigured, match="webhook secret") as caught:
        Secret(value)
    assert value not in str(caught.value)


def test_every_segment_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = Mock(wraps=hmac.compare_digest)
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for segments in (["", SECRET, "x"], ["", "0" * 24, "x"], ["", "", ""]):
        compare.reset_mock()
        Secret(SECRET).place_in(segments)
        assert [list(map(len, called.args)) for called in compare.mock_calls] == [[32, 32]] * 3


def test_secret_is_the_files_else_the_settings_and_a_fresh_one_is_hidden(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for absent in (None, file):
        with pytest.raises(NotConfigured, match="edge-client webhook secret"):
            load_secret(absent, None)
    file.write_text(SECRET + "\n")
    assert load_secret(file, SecretStr("another-secret-of-24-ch")).place_in([SECRET]) == 0
    assert load_secret(None, SecretStr(SECRET)).place_in([SECRET]) == 0
    one, other = fresh_secret(), fresh_secret()
    assert one != other
    assert other not in repr(Secret(other))
    assert other not in scrub(f"POST /hooks/{other}/x")
