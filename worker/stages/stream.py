"""Stream: the samples of a recording while its download is still running.

Takes from the download how many bytes its file has; gives the samples of a WAV file of 16 kHz mono
PCM16, which needs no decoder. Raises `NotStreamable` for any other recording, and when the download
begins anew.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bucketscribe_contract import Stage
from bucketscribe_contract.wav import HEAD_BYTES, NotWav, WavHeader, parse_wav
from worker.cancel import CancelToken
from worker.types import SAMPLE_RATE_HZ, Samples

SAMPLE_BYTES = 2
_LEAST_BYTES = SAMPLE_RATE_HZ * SAMPLE_BYTES  # a second
_CANCEL_S = 0.2
_MOST_SAMPLES = 60 * SAMPLE_RATE_HZ  # read at once, however fast they arrive


class NotStreamable(Exception):
    """The samples cannot be read, or do not count, before the download is complete."""


class RecordingStream:
    """One recording that is downloading; iterating gives its samples from the start each time.

    Args:
        path: Where the download puts it.
        token: Checked while waiting.

    Attributes:
        n_samples: As many as its header declares, once that has arrived.
    """

    n_samples: int | None = None

    def __init__(self, path: Path, token: CancelToken) -> None:
        self._path = path
        self.token = token
        self._changed = threading.Condition()
        self._stored = 0
        self._is_over = self._is_void = False

    def grow(self, stored: int) -> None:
        """Take how many bytes stand in the file; fewer than before, and it has begun anew."""
        with self._changed:
            self._is_void |= stored < self._stored
            self._stored = stored
            self._changed.notify_all()

    def end(self) -> None:
        """Take that no more will come."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Samples]:
        """Give consecutive parts of the waveform, each (n_samples,), as they come.

        Raises:
            NotStreamable: Also for parts that were given already.
            JobCancelled: By the token.
        """
        header = self._header()
        declared = sys.maxsize if header.data_bytes is None else header.data_bytes // SAMPLE_BYTES
        self.n_samples = declared if header.data_bytes else None
        given = 0
        while given < declared:
            stored = self._wait(header.data_offset + given * SAMPLE_BYTES + _LEAST_BYTES)
            there = (stored - header.data_offset) // SAMPLE_BYTES
            there = min(there, declared, given + _MOST_SAMPLES)
            if there <= given:
                break
            yield self._read(header.data_offset, given, there)
            given = there
        # only a whole file tells whether what follows the declared end is sound as well
        there = self._sound_bytes(header, self._wait(None)) // SAMPLE_BYTES
        for start in range(given, there, _MOST_SAMPLES):
            yield self._read(header.data_offset, start, min(start + _MOST_SAMPLES, there))

    def _header(self) -> WavHeader:
        stored = self._wait(HEAD_BYTES)
        if not stored:
            raise NotStreamable("nothing arrived")
        with self._path.open("rb") as file:
            head = file.read(min(stored, HEAD_BYTES))
        try:
            header = parse_wav(head)
        except NotWav as exc:
            raise NotStreamable(str(exc)) from exc
        if not header.is_waveform(SAMPLE_RATE_HZ):
            raise NotStreamable("it has to be decoded")
        return header

    def _sound_bytes(self, header: WavHeader, stored: int) -> int:
        with self._path.open("rb") as file:
            file.seek(header.declared_end)
            return header.sound(stored, file.read(HEAD_BYTES)).bytes

    def _read(self, offset: int, start: int, stop: int) -> Samples:
        return np.fromfile(
            self._path, np.dtype("<i2"), count=stop - start, offset=offset + start * SAMPLE_BYTES
        )

    def _wait(self, wanted: int | None) -> int:
        """Return how many bytes there are: at least those wanted, or all; None: all."""
        with self._changed:
            while not self._is_void and not self._is_over:
                if wanted is not None and self._stored >= wanted:
                    break
                self.token.check(Stage.SPEECH)
                self._changed.wait(_CANCEL_S)
            if self._is_void:
                raise NotStreamable("the download began anew")
            return self._stored
