"""Times and scores are whisperx's own, to the bit, whatever the text and the times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.recordings import short_speech
from tests.unit.worker.alignment.stock import stock_sentences
from worker.types import TextSegment, Waveform

if TYPE_CHECKING:
    from tests.unit.worker.alignment.aligners import Aligners
    from worker.engines.alignment.words import PlacedSentence
    from worker.engines.alignment.acoustic import Aligner

pytestmark = pytest.mark.models

SPEECH = Waveform(short_speech())

SAYINGS = [
    "Well.", "5", "no", "Dr. Smith", "?", "$3.50", "são", "€1,000.00!", "7%", "|", "İstanbul",
    "...", "№ 12", "It's", "(A.", "B.)", '"Go!"', "привет.", "你好。", "\n", "\t", "  ", "<pad>",
    "e\u0301t\u00e9", "x" * 60, "\u200b", "\u3000", "A. 7. B.", "1.", "z",
]  # fmt: skip
texts = (
    st.text(max_size=60)
    | st.lists(st.sampled_from(SAYINGS), max_size=12).map(" ".join)
    | st.lists(st.sampled_from(SAYINGS), max_size=12).map("".join)
)
starts = st.floats(0, 6.5) | st.sampled_from([0.0, 5.4, SPEECH.duration_s, 100.0])
lengths = st.floats(0.3, 6) | st.sampled_from([0.0, 0.01, 0.025, 0.03, 0.2])
segments = st.builds(
    lambda start, length, text: TextSegment(start, start + length, text, -0.1),
    starts,
    lengths,
    texts,
)
many = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def placed(segments: list[TextSegment], aligner: Aligner) -> list[list[PlacedSentence]]:
    """What the engine gives for each segment, before any text is made up for."""
    import torch

    from worker.engines.alignment.acoustic import AcousticModel
    from worker.stages.align import _place

    model = AcousticModel(aligner.model, aligner.metadata["type"], torch.device("cpu"))
    found = dict(_place(SPEECH, segments, aligner, model, 1))
    return [found[i] for i in range(len(segments))]


@given(kind=st.integers(0, 3), spoken=st.lists(segments, min_size=1, max_size=3))
@many
def test_sentences_words_times_and_scores_are_those_of_whisperx(
    aligners: Aligners, kind: int, spoken: list[TextSegment]
) -> None:
    aligner = list(aligners)[kind]
    spoken = [segment for segment in spoken if segment.text.strip()]
    expected = [stock_sentences(SPEECH, segment, aligner) for segment in spoken]
    assert repr(placed(spoken, aligner)) == repr([plain(s) for s in expected])


def plain(sentences: list[PlacedSentence]) -> list[PlacedSentence]:
    """The same with Python's numbers for NumPy's, so that they are written alike."""
    from worker.engines.alignment.words import PlacedSentence, PlacedWord

    return [
        PlacedSentence(
            s.text,
            float(s.start),
            float(s.end),
            tuple(
                PlacedWord(
                    w.word,
                    float(w.start),
                    float(w.end),
                    None if w.score is None else float(w.score),
                )
                for w in s.words
            ),
        )
        for s in sentences
    ]
