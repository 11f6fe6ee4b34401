"""The storage that benchmarks fetch from."""

import time
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path

import pytest
import requests

from bench.speed.inputs import Storage

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """A server with one file."""
    (tmp_path / "speech.wav").write_bytes(BODY)
    with Storage(tmp_path) as running:
        yield running


def test_a_file_comes_back_whole_or_in_part(storage: Storage) -> None:
    """With the length it has."""
    url = storage.url("speech.wav")
    whole = requests.get(url, timeout=10)
    part = requests.get(url, headers={"Range": "bytes=100-199"}, timeout=10)
    assert whole.content == BODY
    assert (part.status_code, part.content) == (206, BODY[100:200])
    assert requests.get(storage.url("other.wav"), timeout=10).status_code == 404


def test_a_rate_is_kept(storage: Storage) -> None:
    """1 MiB at 4 MiB a second takes a quarter of a second."""
    started = time.monotonic()
    requests.get(storage.url("speech.wav", rate=4 << 20), timeout=10)
    assert 0.2 < time.monotonic() - started < 2.0


def test_results_are_kept_and_every_request_is_told(storage: Storage) -> None:
    """With Unix times, so that another process's clock can be compared."""
    before = time.time()
    answer = requests.put(storage.url("result.json"), data=b"{}", timeout=10)
    assert answer.headers["ETag"] == f'"{md5(b"{}", usedforsecurity=False).hexdigest()}"'
    assert (storage.folder / "result.json").read_bytes() == b"{}"
    [request] = storage.requests()
    assert (request["method"], request["name"]) == ("PUT", "result.json")
    assert before <= float(request["began"]) <= float(request["ended"]) <= time.time()
