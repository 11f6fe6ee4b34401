"""How good a transcript is: WER, cpWER, DER, number of speakers, word times.

Pure: takes a `Reference`, a `Hypothesis` and the recording's length; returns a `Score`. Words
are compared under `bench.scoring`.

The text normalisation under which words are compared, reference and hypothesis alike.

The rules, in order: Unicode NFKC and lower case; straight apostrophes; figures are spelled out
("$950" → "nine hundred fifty dollars", "7:30" → "seven thirty", "3rd" → "third", "5%" → "five
percent"); every other character than letters and apostrophes inside a word parts words, so
punctuation goes and "twenty-five" is two words; "and" inside a number goes; the sounds of
hesitation in `HESITATIONS` go; "ok" is "okay". Nothing else: a contraction is not its long form,
and British spelling is not American.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate
from scipy.optimize import linear_sum_assignment

from bench.corpus import Hypothesis, Reference, SpokenWord, Turn, Utterance

HESITATIONS = frozenset({"uh", "um", "hmm", "mm", "mhm"})
SPELLINGS = {"ok": "okay"}
CURRENCIES = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}

# SIM905 is off twice: as list literals these would be one word a line
_ONES = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"))
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_NUMBER_WORDS = frozenset([*_ONES, *_TENS, "hundred", *(name for _, name in _SCALES)])

_TOKEN = re.compile(
    r"(?P<currency>[$£€])?(?P<whole>\d{1,3}(?:,\d{3})+|\d+)"
    r"(?:(?P<clock>:)(?P<minutes>\d\d)(?!\d)|\.(?P<decimals>\d+))?"
    r"(?P<suffix>st|nd|rd|th|%)?"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
)


@dataclass(frozen=True)
class Token:
    """A normalised word and the index of the written word that it comes from."""

    text: str
    source: int


def normalise(text: str) -> list[str]:
    """Normalise a text to the words that are compared."""
    return [token.text for token in normalise_words(text.split())]


def normalise_words(words: Sequence[str]) -> list[Token]:
    """Normalise written words, remembering which word each token comes from.

    Args:
        words: Written words, with their punctuation; one may become several tokens or none.

    Returns:
        The tokens in order.
    """
    tokens = [
        Token(SPELLINGS.get(text, text), index)
        for index, word in enumerate(words)
        for text in _tokens_of(word)
        if text not in HESITATIONS
    ]
    return [token for index, token in enumerate(tokens) if not _inside_number(tokens, index)]


def spell(number: int) -> list[str]:
    """Spell a whole number below 10^12 the American way: without "and"."""
    for size, name in _SCALES:
        if number >= size:
            return [*spell(number // size), name, *_spell_rest(number % size)]
    if number >= 100:
        return [_ONES[number // 100], "hundred", *_spell_rest(number % 100)]
    if number >= 20:
        return [_TENS[number // 10], *_spell_rest(number % 10)]
    return [_ONES[number]]


def _spell_rest(number: int) -> list[str]:
    return spell(number) if number else []


def _inside_number(tokens: list[Token], index: int) -> bool:
    """Tell whether a token is the "and" of "nine hundred and fifty"."""
    if tokens[index].text != "and" or not 0 < index < len(tokens) - 1:
        return False
    before, after = tokens[index - 1].text, tokens[index + 1].text
    return before in {"hundred", "thousand"} and after in _NUMBER_WORDS


def _tokens_of(word: str) -> list[str]:
    plain = (
        unicodedata.normalize("NFKC", word).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return [text for match in _TOKEN.finditer(plain) for text in _tokens_of_match(match)]


def _tokens_of_match(match: re.Match[str]) -> list[str]:
    if match["word"]:
        return [match["word"]]
    figures = match["whole"].replace(",", "")
    if len(figures) > 12:
        return [_ONES[int(figure)] for figure in figures]
    whole = int(figures)
    if match["currency"]:
        return _spell_money(whole, match["decimals"], *CURRENCIES[match["currency"]])
    if match["clock"]:
        return [*spell(whole), *_spell_minutes(match["minutes"])]
    number = spell(whole)
    if match["decimals"]:
        number += ["point", *(_ONES[int(figure)] for figure in match["decimals"])]
    if match["suffix"] == "%":
        return [*number, "percent"]
    return [*number[:-1], _ordinal(number[-1])] if match["suffix"] else number


def _spell_money(whole: int, decimals: str | None, unit: str, part: str) -> list[str]:
    parts = int((decimals or "0").ljust(2, "0")[:2])
    money = [*spell(whole), unit if whole == 1 else f"{unit}s"]
    return [*money, *spell(parts), part if parts == 1 else f"{part}s"] if parts else money


def _spell_minutes(minutes: str) -> list[str]:
    if minutes == "00":
        return []
    return ["oh", _ONES[int(minutes)]] if minutes[0] == "0" else spell(int(minutes))


def _ordinal(word: str) -> str:
    if word in _IRREGULAR_ORDINALS:
        return _IRREGULAR_ORDINALS[word]
    return f"{word[:-1]}ieth" if word.endswith("y") else f"{word}th"


COLLAR_S = 0.25
"""As pyannote.metrics counts: 0.125 s on either side of each boundary of the reference."""


@dataclass(frozen=True)
class Score:
    """How one recording came out; rates are parts of one, times are seconds.

    Attributes:
        wer: Word error rate over the recording in order of time.
        cpwer: Concatenated minimum-permutation WER (CHiME-6): wrong speakers count too.
        der: Diarization error rate, overlap included, collar `COLLAR_S`.
        der_no_collar: The same without a collar.
        speakers_found: Speakers in the transcript.
        speakers_true: Speakers in the reference.
        first_words: Utterances whose first word was recognised and timed.
        first_word_median_s: Median error of those words' starts; None without any.
        first_word_p90_s: 90th percentile of the same.
    """

    wer: float
    cpwer: float
    der: float
    der_no_collar: float
    speakers_found: int
    speakers_true: int
    first_words: int
    first_word_median_s: float | None
    first_word_p90_s: float | None


def score(
    reference: Reference,
    hypothesis: Hypothesis,
    duration_s: float,
    turns: Sequence[Turn] | None = None,
) -> Score:
    """Score one recording.

    Args:
        reference: What was really said.
        hypothesis: What was recognised.
        duration_s: The recording's length: all of it is scored.
        turns: The diarizer's own turns; None takes them from the words of the transcript.

    Returns:
        Every figure.
    """
    found = hypothesis.turns() if turns is None else turns
    spoken = normalise(" ".join(utterance.text for utterance in reference.utterances))
    errors_s = first_word_errors(reference.utterances, hypothesis.words)
    return Score(
        wer=edits(spoken, normalise(hypothesis.text)) / len(spoken),
        cpwer=cp_edits(_texts(reference.utterances), _normalised(hypothesis)) / len(spoken),
        der=diarization_error(reference.turns, found, duration_s, COLLAR_S),
        der_no_collar=diarization_error(reference.turns, found, duration_s, 0.0),
        speakers_found=len({turn.speaker for turn in found} | hypothesis.speakers),
        speakers_true=len(reference.speakers),
        first_words=len(errors_s),
        first_word_median_s=float(np.median(errors_s)) if errors_s else None,
        first_word_p90_s=float(np.percentile(errors_s, 90)) if errors_s else None,
    )


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Count the fewest words to substitute, delete and insert."""
    if not reference:  # jiwer counts one error for any text against an empty one
        return len(hypothesis)
    output = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return int(output.substitutions + output.deletions + output.insertions)


def cp_edits(reference: Sequence[Sequence[str]], hypothesis: Sequence[Sequence[str]]) -> int:
    """Count the edits under the best assignment of found speakers to true ones.

    Speakers beyond the other side's number are matched with silence, so missed speakers are all
    deletions and invented ones all insertions (cpWER, Watanabe et al. 2020, arXiv:2004.09249).
    A minimum over permutations of a sum of pairs is a linear assignment.

    Args:
        reference: One list of words a true speaker.
        hypothesis: One list of words a found speaker.

    Returns:
        The edits, summed over speakers.
    """
    size = max(len(reference), len(hypothesis))
    rows = [*reference, *([()] * (size - len(reference)))]
    columns = [*hypothesis, *([()] * (size - len(hypothesis)))]
    costs = np.array([[edits(row, column) for column in columns] for row in rows])
    return int(costs[linear_sum_assignment(costs)].sum()) if size else 0


def diarization_error(
    reference: Iterable[Turn], hypothesis: Iterable[Turn], duration_s: float, collar_s: float
) -> float:
    """Measure DER over the whole recording with overlapped speech included (pyannote.metrics)."""
    metric = DiarizationErrorRate(collar=collar_s, skip_overlap=False)
    whole = Timeline([Segment(0.0, duration_s)])
    return float(metric(_annotation(reference), _annotation(hypothesis), uem=whole))


def first_word_errors(utterances: Sequence[Utterance], words: Sequence[SpokenWord]) -> list[float]:
    """Measure how far the first words of utterances are from where these start.

    Args:
        utterances: In order of their starts.
        words: The recognised words, in order.

    Returns:
        Absolute errors in seconds, of those first words that were recognised and timed.
    """
    spoken = [normalise(utterance.text) for utterance in utterances]
    heard = normalise_words([word.text for word in words])
    match = _matches(sum(spoken, []), [token.text for token in heard])
    errors_s: list[float] = []
    position = 0
    for utterance, tokens in zip(utterances, spoken, strict=True):
        found = match.get(position)
        position += len(tokens)
        start_s = words[heard[found].source].start_s if found is not None else None
        if start_s is not None:
            errors_s.append(abs(start_s - utterance.start))
    return errors_s


def _matches(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[int, int]:
    """Pair the words that are equal in the best alignment: index of one to index of the other."""
    output = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    return {
        chunk.ref_start_idx + offset: chunk.hyp_start_idx + offset
        for chunk in output.alignments[0]
        if chunk.type == "equal"
        for offset in range(chunk.ref_end_idx - chunk.ref_start_idx)
    }


def _texts(utterances: Iterable[Utterance]) -> list[list[str]]:
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for utterance in utterances:
        texts[utterance.speaker].append(utterance.text)
    return [normalise(" ".join(said)) for said in texts.values()]


def _normalised(hypothesis: Hypothesis) -> list[list[str]]:
    return [normalise(text) for text in hypothesis.text_by_speaker().values()]


def _annotation(turns: Iterable[Turn]) -> Annotation:
    """Build pyannote's annotation; one track a turn, as turns of two speakers may coincide."""
    annotation = Annotation()
    for track, turn in enumerate(turns):
        annotation[Segment(turn.start_s, turn.end_s), track] = turn.speaker
    return annotation
