"""Tell a recording's language from its speech.

Stock whisperx looks at the raw first 30 s, and leading silence or music gives it a wrong
language. Here the spans that hold most speech vote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from worker.recognise import Recogniser, Samples
from worker.values import SAMPLE_RATE_HZ, SpeechSpan, Waveform

VOTES = 4
_LONGEST = 30 * SAMPLE_RATE_HZ


def detect_language(
    waveform: Waveform, spans: Sequence[SpeechSpan], whisper: Recogniser
) -> tuple[str, float]:
    """Return the language and its probability, averaged over speech.

    Args:
        waveform: The recording.
        spans: At least one; the `VOTES` with most speech are listened to.
        whisper: A multilingual one.
    """
    chosen = sorted(spans, key=lambda span: span.speech_s, reverse=True)[:VOTES]
    seconds = sum(span.speech_s for span in chosen)
    weights: defaultdict[str, float] = defaultdict(float)
    for span in chosen:
        probabilities = whisper.language_probabilities(_cut(waveform, span))
        for language, probability in probabilities.items():
            weights[language] += probability * span.speech_s / seconds
    language = max(weights, key=weights.__getitem__)
    return language, min(round(weights[language], 4), 1.0)


def _cut(waveform: Waveform, span: SpeechSpan) -> Samples:
    start, end = int(span.start * SAMPLE_RATE_HZ), int(span.end * SAMPLE_RATE_HZ)
    return waveform.part(start, min(end, start + _LONGEST))
