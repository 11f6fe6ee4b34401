"""Transcripts, WhisperX's and ours, read alike."""

from bench.corpus import NOBODY, Turn, read_transcript


def test_missing_keys_and_nulls_read_alike() -> None:
    """WhisperX leaves keys out where our document has null."""
    theirs = {"segments": [{"text": " Hi 5.", "words": [{"word": "Hi"}, {"word": "5."}]}]}
    nulls = {"start": None, "end": None, "speaker": None, "score": None}
    ours = {
        "segments": [
            {
                "text": "Hi 5.",
                "speaker": None,
                "words": [{"word": "Hi", **nulls}, {"word": "5.", **nulls}],
            }
        ]
    }
    assert read_transcript(theirs) == read_transcript(ours)


def test_text_of_a_segment_without_words_is_kept() -> None:
    """It still belongs to the segment's speaker."""
    document = {"segments": [{"text": "too short", "speaker": "S", "words": []}]}
    assert read_transcript(document).text_by_speaker() == {"S": "too short"}


def test_a_word_without_a_speaker_takes_its_segments() -> None:
    """And without that it is nobody's, who is no speaker."""
    words = [{"word": "one"}, {"word": "two", "speaker": "B"}]
    with_speaker = read_transcript({"segments": [{"text": "", "speaker": "A", "words": words}]})
    without = read_transcript({"segments": [{"text": "", "words": words}]})
    assert with_speaker.text_by_speaker() == {"A": "one", "B": "two"}
    assert without.text_by_speaker() == {NOBODY: "one", "B": "two"}
    assert without.speakers == {"B"}


def test_turns_are_runs_of_one_speakers_words_inside_a_segment() -> None:
    """Untimed words are bridged; another speaker or another segment ends the run."""
    first = [
        {"word": "a", "start": 1.0, "end": 1.5, "speaker": "A"},
        {"word": "7", "speaker": "A"},
        {"word": "b", "start": 2.0, "end": 2.5, "speaker": "A"},
        {"word": "c", "start": 2.5, "end": 3.0, "speaker": "B"},
    ]
    second = [{"word": "d", "start": 4.0, "end": 5.0, "speaker": "B"}]
    document = {"segments": [{"text": "", "words": first}, {"text": "", "words": second}]}
    assert read_transcript(document).turns() == (
        Turn(1.0, 2.5, "A"),
        Turn(2.5, 3.0, "B"),
        Turn(4.0, 5.0, "B"),
    )
