"""What is transcribed against the clock, and the storage that it is fetched from."""

from dataclasses import replace
from hashlib import md5
from pathlib import Path

import numpy as np
import pytest
import requests

from bench.corpus import SAMPLE_RATE_HZ, SPEECH_DIR, load_reference, read_recording
from bench.speed.inputs import (
    GERMAN,
    LEAD_S,
    MEETING,
    PANEL,
    TELEPHONE,
    Dialogue,
    Storage,
    compose,
    cut,
    write_input,
)


@pytest.mark.parametrize("dialogue", [MEETING, PANEL], ids=lambda d: d.name)
def test_dialogues_are_long_known_and_the_same_every_time(dialogue: Dialogue) -> None:
    """Five minutes and not much more, on every machine; a first round in the script's order."""
    waveform = compose(dialogue)
    duration_s = len(waveform) / SAMPLE_RATE_HZ
    assert 300 <= duration_s == pytest.approx(dialogue.duration_s, rel=0.03)
    first = cut(load_reference(SPEECH_DIR / f"{dialogue.sources[0]}.flac"))[0].astype(float)
    lead = round(LEAD_S * SAMPLE_RATE_HZ)
    assert np.corrcoef(waveform[lead : lead + len(first)], first)[0, 1] > 0.99
    assert np.array_equal(waveform, compose(dialogue))


def test_utterances_that_others_talk_into_are_left_out() -> None:
    reference = load_reference(SPEECH_DIR / "planning3.flac")
    first, second, third, *_ = reference.utterances
    over_two = replace(second, start=first.end - 0.1)
    (left,) = cut(replace(reference, utterances=(first, over_two, third)))
    assert len(left) == round((third.end - third.start) * SAMPLE_RATE_HZ)


def test_an_input_is_written_once(tmp_path: Path) -> None:
    """16 kHz mono PCM16 WAV, as the edge uploads it."""
    assert len(read_recording(write_input(GERMAN, tmp_path))) > 60 * SAMPLE_RATE_HZ
    path = write_input(TELEPHONE, tmp_path)
    assert path.read_bytes()[:4] == b"RIFF"
    assert len(read_recording(path)) == 30 * SAMPLE_RATE_HZ
    path.write_bytes(b"kept")
    assert write_input(TELEPHONE, tmp_path).read_bytes() == b"kept"


def test_storage_keeps_files(tmp_path: Path) -> None:
    body = bytes(range(256)) * 4096
    (tmp_path / "speech.wav").write_bytes(body)
    with Storage(tmp_path) as storage:
        response = requests.get(storage.url("speech.wav"), timeout=10)
        assert (response.content, response.headers["Content-Length"]) == (body, str(len(body)))
        assert requests.get(storage.url("other.wav"), timeout=10).status_code == 404
        answer = requests.put(storage.url("result.json"), data=b"{}", timeout=10)
        assert answer.headers["ETag"] == f'"{md5(b"{}", usedforsecurity=False).hexdigest()}"'
    assert (tmp_path / "result.json").read_bytes() == b"{}"
