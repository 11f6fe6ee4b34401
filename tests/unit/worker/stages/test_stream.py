"""Samples of a recording that still arrives: in order, once, and only where they count."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bucketscribe_contract.wav import HEAD_BYTES
from tests.recordings import write_recording
from worker.cancel import CancelToken, StageContext
from worker.errors import JobCancelled
from worker.stages.decode import DecodeLimits, decode
from worker.stages.stream import NotStreamable, RecordingStream
from worker.types import SAMPLE_RATE_HZ, Recording, Samples

SOUND = np.random.default_rng(3).integers(-9000, 9000, 5 * SAMPLE_RATE_HZ).astype(np.int16)


class Download:
    """Brings a file in parts, as told."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.path, self.content = folder / "recording", content
        self.token = CancelToken()
        self.arrival = RecordingStream(self.path, self.token)

    def bring(self, upto: int) -> None:
        """Let so many bytes be there."""
        self.path.write_bytes(self.content[:upto])
        self.arrival.grow(upto)

    def bring_all(self) -> None:
        """Come to the end."""
        self.bring(len(self.content))
        self.arrival.end()


@pytest.fixture
def download(tmp_path: Path) -> Download:
    """Of 5 s of sound."""
    write_recording(tmp_path / "whole.wav", SOUND)
    return Download(tmp_path, (tmp_path / "whole.wav").read_bytes())


def test_samples_come_while_the_rest_is_on_its_way(download: Download) -> None:
    parts = iter(download.arrival)
    download.bring(HEAD_BYTES + 1)
    found = [next(parts)]
    assert np.array_equal(found[0], SOUND[: len(found[0])])
    assert len(found[0]) == (HEAD_BYTES + 1 - 44) // 2
    download.bring(2 * HEAD_BYTES)
    found.append(next(parts))
    download.bring_all()
    found += parts
    assert np.array_equal(np.concatenate(found), SOUND)
    assert np.array_equal(np.concatenate(list(download.arrival)), SOUND)  # and again


def test_nothing_is_given_until_a_second_is_there(download: Download) -> None:
    parts = iter(download.arrival)
    download.bring(HEAD_BYTES)
    first = next(parts)
    waited: list[Samples] = []
    reader = threading.Thread(target=lambda: waited.append(next(parts)))
    reader.start()
    download.bring(HEAD_BYTES + 1000)
    download.bring(HEAD_BYTES + 2 * SAMPLE_RATE_HZ)
    reader.join(10)
    assert len(first) + len(waited[0]) == (HEAD_BYTES + 2 * SAMPLE_RATE_HZ - 44) // 2


@pytest.mark.parametrize(
    ("change", "sound"),
    [
        (lambda wav: wav + b"LIST\x04\0\0\0none", SOUND),
        (lambda wav: wav[:-1000], SOUND[:-500]),
    ],
    ids=["what follows the sound is none", "shorter than declared"],
)
def test_the_sound_ends_where_it_ends(download: Download, change: Any, sound: Samples) -> None:
    download.content = change(download.content)
    download.bring_all()
    assert np.array_equal(np.concatenate(list(download.arrival)), sound)


def sized(size: int) -> Any:
    """Change what the header says of the sound."""
    return lambda wav: wav[:40] + struct.pack("<I", size) + wav[44:]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000])
def test_sound_of_unknown_length_comes_while_the_rest_is_on_its_way(
    download: Download, size: int
) -> None:
    download.content = sized(size)(download.content)
    parts = iter(download.arrival)
    download.bring(HEAD_BYTES + 1)
    assert np.array_equal(next(parts), SOUND[: (HEAD_BYTES + 1 - 44) // 2])
    download.bring_all()
    assert np.array_equal(next(parts), SOUND[(HEAD_BYTES + 1 - 44) // 2 :])
    assert not list(parts)


@pytest.mark.parametrize(
    "change",
    [
        *map(sized, (0, 1, 64_000, 64_001, 0xFFFFFFFF, 0x7FFFF000)),
        lambda wav: wav + b"LIST\x04\0\0\0none",
        lambda wav: wav + wav,
        lambda wav: wav + wav[44:],
        lambda wav: wav + b"odd",
        lambda wav: wav[:-15],
        lambda wav: sized(0)(wav) + b"x",
        lambda wav: sized(64_000)(wav[:64_044] + b"cue \x04\xff\0\0" + wav[64_044:]),
    ],
)
def test_what_is_read_early_is_what_is_decoded_in_the_end(download: Download, change: Any) -> None:
    content = change(download.content)
    download.path.write_bytes(content)

    def arrive() -> None:
        for upto in (*range(0, len(content), 40_000), len(content)):
            download.arrival.grow(upto)
        download.arrival.end()

    arriving = threading.Thread(target=arrive)
    arriving.start()
    early = list(download.arrival)
    arriving.join(10)
    decoded = decode(Recording(download.path, len(content)), DecodeLimits(60), StageContext())
    assert np.array_equal(np.concatenate(early), decoded.samples[:])


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_a_download_that_begins_anew_is_not_followed(download: Download, when: str) -> None:
    def follow() -> Iterator[Samples]:
        if when == "before":
            anew()
        for part in download.arrival:
            if when == "between":
                anew()
            yield part
            if when == "after":
                download.bring_all()
                anew()

    def anew() -> None:
        download.bring(0)
        download.bring(len(download.content))

    download.bring(HEAD_BYTES + 100)
    with pytest.raises(NotStreamable):
        list(follow())


@pytest.mark.parametrize("content", [b"", b"ID3\x04", bytes(200_000), "another rate"])
def test_what_has_to_be_decoded_is_not_followed(download: Download, content: bytes | str) -> None:
    header = bytearray(download.content)
    header[24:32] = np.array([8000, 16_000], "<u4").tobytes()
    download.content = content if isinstance(content, bytes) else bytes(header)
    download.bring_all()
    with pytest.raises(NotStreamable):
        next(iter(download.arrival))


def test_a_download_that_failed_before_its_first_byte_is_not_followed(download: Download) -> None:
    download.arrival.end()
    with pytest.raises(NotStreamable):
        next(iter(download.arrival))


def test_waiting_ends_with_the_job(download: Download) -> None:
    parts = iter(download.arrival)
    download.bring(HEAD_BYTES)
    next(parts)
    download.token.cancel()
    with pytest.raises(JobCancelled):
        next(parts)
