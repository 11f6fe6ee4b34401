"""Audio files, transcripts and references; and that the committed speech is what these say."""

import base64
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from bench.corpus import (
    SAMPLE_RATE_HZ,
    SPEECH_DIR,
    Reference,
    Turn,
    Utterance,
    load_folder,
    parse_rttm,
    parse_stm,
    read_recording,
    read_transcript,
    telephone_sample,
)
from bucketscribe_contract.job_input import JobInput
from tests.encodings import write_recording
from tests.recordings import short_reference, short_speech
from tests.speech import format_references, format_rttm, load_scripts

ROOT = SPEECH_DIR.parent.parent
CODECS = {
    "wav-mulaw": ("wav", "pcm_mulaw", 8_000),
    "m4a": ("mov,mp4,m4a,3gp,3g2,mj2", "aac", 44_100),
    "ogg-vorbis": ("ogg", "vorbis", 16_000),
    "webm-opus": ("matroska,webm", "opus", 48_000),
    "mxf": ("mxf", "pcm_s16le", 48_000),
}
RECORDINGS = [*load_folder(SPEECH_DIR), short_reference()]


@pytest.mark.parametrize("encoding", CODECS)
def test_each_encoding_is_what_it_is_called(encoding: str, tmp_path: Path) -> None:
    """As FFmpeg's demuxers see it; what it sounds like, the tests of the worker's decoder tell."""
    file = tmp_path / "speech"
    write_recording(file, short_speech(), encoding=encoding)
    with av.open(file) as container:
        stream = container.streams.audio[0]
        found = container.format.name, stream.codec_context.name, stream.rate
        assert found == CODECS[encoding]
    write_recording(tmp_path / "again", short_speech(), encoding=encoding)
    assert file.read_bytes() == (tmp_path / "again").read_bytes()  # no random serial in Ogg


def test_words_without_a_speaker_are_their_segments_or_nobodys() -> None:
    """Also the text of a segment without words; WhisperX leaves out what is null in ours."""
    words = [{"word": "one", "speaker": None, "start": None}, {"word": "two", "speaker": "B"}]
    short: dict[str, Any] = {"text": "too short", "speaker": "S", "words": []}
    segments = [{"text": "", "speaker": "A", "words": words}, {"text": "", "words": words}, short]
    found = read_transcript({"segments": segments})
    assert found.text_by_speaker() == {"A": "one", "B": "two two", None: "one", "S": "too short"}
    assert found.speakers == {"A", "B", "S"}


def test_turns_are_runs_of_one_speakers_words_inside_a_segment() -> None:
    """Untimed words are bridged; another speaker or another segment ends the run."""
    times = [("a", 1.0, 1.5, "A"), ("7", None, None, "A"), ("b", 2.0, 2.5, "A")]
    times += [("c", 2.5, 3.0, "B"), ("d", 4.0, 5.0, "B")]
    words = [dict(zip(("word", "start", "end", "speaker"), word, strict=True)) for word in times]
    segments = [{"text": "", "words": words[:4]}, {"text": "", "words": words[4:]}]
    turns = Turn(1.0, 2.5, "A"), Turn(2.5, 3.0, "B"), Turn(4.0, 5.0, "B")
    assert read_transcript({"segments": segments}).turns() == turns


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda r: r.name)
def test_script_reference_and_rttm_say_the_same(recording: Reference) -> None:
    """A script that was changed without speaking it again is noticed."""
    script = load_scripts(SPEECH_DIR / "scripts.toml")[recording.name]
    said = [(u.speaker, u.text) for u in recording.utterances]
    assert said == [(line.speaker, line.text) for line in script.lines]
    assert recording.turns == tuple(Turn(u.start, u.end, u.speaker) for u in recording.utterances)
    assert parse_rttm(format_rttm("x", recording.utterances)) == recording.turns
    written = json.loads(format_references(recording.utterances))
    assert tuple(Utterance(**u) for u in written) == recording.utterances


def test_test_input_is_a_valid_job_of_a_few_seconds(tmp_path: Path) -> None:
    job = json.loads((ROOT / "test_input.json").read_text())["input"]
    JobInput.model_validate(job)
    assert len(job["audio_base64"]) <= 40_000
    opus = tmp_path / "speech.ogg"
    opus.write_bytes(base64.b64decode(job["audio_base64"], validate=True))
    waveform = read_recording(opus)
    assert 5 <= len(waveform) / SAMPLE_RATE_HZ <= 8
    assert np.abs(waveform).mean() > 500


def test_telephone_sample_is_found_without_importing_it() -> None:
    """Two women, thirteen utterances, ten turns; the wave file is 30 s."""
    sample = telephone_sample()
    assert [len(x) for x in (sample.speakers, sample.utterances, sample.turns)] == [2, 13, 10]
    assert len(read_recording(sample.audio)) == 30 * SAMPLE_RATE_HZ
    assert parse_stm("talk 1 Ann 0.5 1.25 Oh, hello.\n\n") == (
        Utterance(0.5, 1.25, "Ann", "Oh, hello."),
    )
