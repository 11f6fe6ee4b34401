"""The worker's fixtures."""

from typing import IO, Any

import pytest

from tests.fakes.worker import models, no_sleep_between_retries, s3

__all__ = ["decoder_in_this_process", "models", "no_sleep_between_retries", "s3"]


@pytest.fixture
def decoder_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode without a child, which takes 0.3 s to start, where many files are decoded."""
    from dataclasses import asdict

    from worker.engines.decoder.audio import decode_audio

    def decode_file(source: IO[bytes], target: IO[bytes], wanted: Any, *_: object) -> Any:
        raw = open(source.fileno(), "rb", buffering=0, closefd=False)  # noqa: PTH123, SIM115
        return asdict(decode_audio(raw, target, wanted, lambda *_: None))  # type: ignore[arg-type]

    monkeypatch.setattr("worker.stages.decode.decode_file", decode_file)
