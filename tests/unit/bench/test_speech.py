"""The committed speech says what its references say, when and by whom."""

import base64
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.corpus import (
    SAMPLE_RATE_HZ,
    SPEECH_DIR,
    Reference,
    Turn,
    Waveform,
    format_references,
    format_rttm,
    load_folder,
    parse_rttm,
    parse_stm,
    read_recording,
    telephone_sample,
)
from bench.dialogue import load_scripts
from bucketscribe_contract.job_input import JobInput
from tests.recordings import SHORT_SPEECH, short_reference, short_speech

ROOT = SPEECH_DIR.parent.parent
RECORDINGS = [*load_folder(SPEECH_DIR), short_reference()]
each_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda r: r.name)


@cache
def waveform_of(audio: Path) -> Waveform:
    """Decode once."""
    return read_recording(audio)


def rms(waveform: Waveform) -> float:
    """Root mean square, int16 units."""
    return float(np.sqrt((waveform.astype(float) ** 2).mean()))


def spoken_samples(recording: Reference, length: int) -> np.ndarray[tuple[int], np.dtype[np.bool]]:
    """True where anybody speaks."""
    spoken = np.zeros(length, dtype=bool)
    for u in recording.utterances:
        spoken[round(u.start * SAMPLE_RATE_HZ) : round(u.end * SAMPLE_RATE_HZ)] = True
    return spoken


def test_there_are_recordings() -> None:
    """Two and three speakers, and more than three minutes in all."""
    assert {len(recording.speakers) for recording in RECORDINGS} == {2, 3}
    assert sum(len(waveform_of(r.audio)) for r in RECORDINGS) > 180 * SAMPLE_RATE_HZ


@each_recording
def test_rttm_equals_the_reference(recording: Reference) -> None:
    """Times to the millisecond, speakers by name."""
    assert recording.turns == tuple(Turn(u.start, u.end, u.speaker) for u in recording.utterances)


@each_recording
def test_the_script_is_what_is_said(recording: Reference) -> None:
    """A script that was changed without speaking it again is noticed."""
    script = load_scripts(SPEECH_DIR / "scripts.toml")[recording.name]
    said = [(u.speaker, u.text) for u in recording.utterances]
    assert said == [(line.speaker, line.text) for line in script.lines]


@each_recording
def test_the_audio_covers_the_last_word(recording: Reference) -> None:
    """With a little room after it."""
    assert len(waveform_of(recording.audio)) / SAMPLE_RATE_HZ > recording.utterances[-1].end + 0.3


@each_recording
def test_speech_is_loud_and_pauses_are_quiet(recording: Reference) -> None:
    """Every utterance at least forty times the noise."""
    waveform = waveform_of(recording.audio)
    noise = rms(waveform[~spoken_samples(recording, len(waveform))])
    assert 1 < noise < 30
    for u in recording.utterances:
        speech = waveform[round(u.start * SAMPLE_RATE_HZ) : round(u.end * SAMPLE_RATE_HZ)]
        assert rms(speech) > 40 * noise, u.text


@each_recording
def test_utterances_start_at_their_times(recording: Reference) -> None:
    """The 5 ms after a start are louder than any 5 ms of noise; those before are noise."""
    waveform = waveform_of(recording.audio)
    spoken = spoken_samples(recording, len(waveform))
    for u in recording.utterances:
        start = round(u.start * SAMPLE_RATE_HZ)
        if not spoken[start - 1]:
            assert rms(waveform[start : start + 80]) > 40, u.text
            assert rms(waveform[start - 80 : start]) < 30, u.text


def test_planning_has_short_overlaps() -> None:
    """Else overlapped speech would never be scored."""
    planning = next(r for r in RECORDINGS if r.name == "planning3")
    ahead = zip(planning.utterances, planning.utterances[1:], strict=False)
    overlaps = [round(a.end - b.start, 3) for a, b in ahead if b.start < a.end]
    assert len(overlaps) == 2
    assert max(overlaps) <= 0.4


def test_short_speech_is_read_only_and_small() -> None:
    """It is shared by all tests."""
    assert SHORT_SPEECH.stat().st_size < 200_000
    with pytest.raises(ValueError, match="read-only"):
        short_speech()[0] = 1


def test_all_speech_is_small_enough_to_commit() -> None:
    """Six megabytes, once."""
    assert sum(file.stat().st_size for file in SPEECH_DIR.iterdir()) < 6_000_000


def test_test_input_is_a_valid_job_of_a_few_seconds(tmp_path: Path) -> None:
    """What `python handler.py` runs on a fresh machine."""
    job = json.loads((ROOT / "test_input.json").read_text())["input"]
    JobInput.model_validate(job)
    assert len(job["audio_base64"]) <= 40_000
    opus = tmp_path / "speech.ogg"
    opus.write_bytes(base64.b64decode(job["audio_base64"], validate=True))
    waveform = read_recording(opus)
    assert 5 <= len(waveform) / SAMPLE_RATE_HZ <= 8
    assert rms(waveform) > 1000


def test_telephone_sample_is_found_without_importing_it() -> None:
    """Two women, thirteen utterances, ten turns; the wave file is 30 s."""
    sample = telephone_sample()
    assert len(sample.utterances) == 13
    assert len(sample.turns) == 10
    assert len(sample.speakers) == 2
    assert len(waveform_of(sample.audio)) == 30 * SAMPLE_RATE_HZ


def test_references_and_rttm_read_back_what_was_written() -> None:
    """Both writers, all committed utterances."""
    for recording in RECORDINGS:
        assert parse_rttm(format_rttm("x", recording.utterances)) == recording.turns
        written = json.loads(format_references(recording.utterances))
        assert [u["text"] for u in written] == [u.text for u in recording.utterances]


def test_stm_text_keeps_its_spaces_and_case() -> None:
    """Everything after the fifth field is text."""
    (utterance,) = parse_stm("talk 1 Ann 0.5 1.25 Oh, hello there.\n\n")
    assert (utterance.start, utterance.end) == (0.5, 1.25)
    assert (utterance.speaker, utterance.text) == ("Ann", "Oh, hello there.")
