"""Where lines and cues may break, and how much each break disturbs who reads.

Takes `Spoken` words; returns `Atom`s, which nothing breaks: a number, a name, a word with what
clings to it. Languages are told apart by their letters alone. Sources: JIS X 4051 and UAX 14 for
what begins or ends no line, Netflix's timed text guide for where lines end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from bucketscribe_render.words import SPACELESS, Spoken, spread, width_of

CLAUSE, PLAIN, BAD = 2.0, 5.0, 8.0
"""What it costs to break after a comma, between two words, and after the likes of "the"."""

_CLOSING = r"""["'”’»›)\]」』）】》]*$"""
_ENDS_SENTENCE = re.compile(r"[.!?…。．！？؟۔।]" + _CLOSING)
_ENDS_CLAUSE = re.compile(r"[,;:–—،؛、，；：]" + _CLOSING)
_TITLE = re.compile(r"(?:[A-HJ-Z]|Mrs?|Ms|Mx|Dr|Prof|St|Nr|Hr|Fr|Mme|Mlle|Sra?)\.")
_SCALE = re.compile(
    r"hundred|thousand|hundert|tausend|mille?\b|mil\b|[mbt]r?ill?i|milh|mi[ol]\b|mrd\b|bn\b"
    r"|тысяч|милли|per ?cent|pro[zc]ent",
    re.IGNORECASE,
)
_AMOUNT = re.compile(r"[\d%‰°€$£¥₹]")
_SYMBOL = re.compile(r"[€$£¥₹№§#]")
_FIRST_PERSON = re.compile(r"I(?:['’]|\W*$)")
_SPACELESS = re.compile(f"[{SPACELESS}]")
_RUNS = (re.compile(r"[ァ-ヺー]{2}"), re.compile(r"[\d零〇一二两三四五六七八九十百千万亿億兆]{2}"))
_COUNTED = re.compile(r"\d[年月日時时分秒人円元个個回歳岁度階%％]")
_BEGINS_NO_LINE = frozenset(
    "、。，．・：；？！ゝゞ々ー）］｝〕〉》」』】”’ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ…%％"
    "ะาำๅๆฯະາຳ"
)
_ENDS_NO_LINE = frozenset("（［｛〔〈《「『【“‘«([{¿¡" + "เแโใไເແໂໃໄ" + "\u200d")


@dataclass(frozen=True, slots=True)
class Atom:
    """What stays on one line; ``before`` is what a break before it costs."""

    text: str
    width: int
    start_ms: int
    end_ms: int
    speaker: str | None
    space: bool
    before: float


def atoms_of(words: Iterable[Spoken], line_width: int, named: bool) -> list[Atom]:
    """Join what belongs together, as far as a line can hold it.

    Args:
        words: In order; each atom begins when or after the one before it does.
        line_width: Columns; a longer word is cut.
        named: Whether ``[NAME]`` stands before what a speaker begins.
    """
    atoms: list[Atom] = []
    last, last_opens = None, True
    for word in _cut(_with_names(words) if named else words, line_width):
        opens = last is None or last.speaker != word.speaker or ends_sentence(last.text)
        width = width_of(word.text)
        start_ms = max(round(word.start_s * 1000), atoms[-1].start_ms if atoms else 0)
        end_ms = max(round(word.end_s * 1000), start_ms)
        if last is not None and not opens and _belong(last, word, last_opens):
            whole = atoms[-1].width + word.space + width
            if whole <= line_width:
                text = atoms[-1].text + " " * word.space + word.text
                end_ms = max(end_ms, atoms[-1].end_ms)
                atoms[-1] = replace(atoms[-1], text=text, width=whole, end_ms=end_ms)
                last, last_opens = word, opens
                continue
        cost = 0.0 if last is None or opens else _cost(last, word)
        atoms.append(Atom(word.text, width, start_ms, end_ms, word.speaker, word.space, cost))
        last, last_opens = word, opens
    return atoms


def ends_sentence(text: str) -> bool:
    """Return whether a word is a sentence's last, by its punctuation."""
    return bool(_ENDS_SENTENCE.search(text)) and not _TITLE.fullmatch(text)


def _with_names(words: Iterable[Spoken]) -> Iterator[Spoken]:
    speaker = None
    for word in words:
        is_new = word.speaker is not None and word.speaker != speaker
        speaker = word.speaker
        yield replace(word, text=f"[{speaker}] {word.text}", space=True) if is_new else word


def _cut(words: Iterable[Spoken], line_width: int) -> Iterator[Spoken]:
    """Cut words that no line can hold, in time as in text."""
    for word in words:
        if width_of(word.text) <= line_width:
            yield word
            continue
        parts = _parts(word.text, line_width)
        times = spread(word.start_s, word.end_s, parts)
        for i, (part, (start_s, end_s)) in enumerate(zip(parts, times, strict=True)):
            space = word.space and i == 0
            yield replace(word, text=part, start_s=start_s, end_s=end_s, space=space)


def _parts(text: str, line_width: int) -> list[str]:
    total = width_of(text)
    limit = min(line_width, total // -(-total // line_width) + 2)
    parts, begin, cut, used = [], 0, 0, 0
    for i, character in enumerate(text):
        if i and not _cling(text[i - 1], character):
            cut = i
        if used + width_of(character) > limit:
            at = cut if cut > begin else i
            parts.append(text[begin:at])
            begin, used = at, width_of(text[at:i])
        used += width_of(character)
    return [*parts, text[begin:]]


def _cling(a: str, b: str) -> bool:
    """Return whether one character ends no line, or the next begins none."""
    is_mark = unicodedata.category(b) in ("Mn", "Mc", "Me", "Cf")
    return is_mark or b in _BEGINS_NO_LINE or a in _ENDS_NO_LINE


def _belong(a: Spoken, b: Spoken, a_opens: bool) -> bool:
    """Return whether two words of a sentence are one number, one name, or written as one."""
    last, first = a.text[-1], b.text[0]
    if not b.space and (_SPACELESS.match(last) or _SPACELESS.match(first)):
        pair = last + first
        is_run = any(run.match(pair) for run in _RUNS) or _COUNTED.match(pair)
        return bool(is_run) or _cling(last, first)
    if not b.space or last in _ENDS_NO_LINE or not any(c.isalnum() for c in b.text):
        return True
    if _TITLE.fullmatch(a.text):
        return True
    if last.isdigit() or _SYMBOL.fullmatch(a.text):
        return bool(_AMOUNT.match(b.text) or _SCALE.match(b.text))
    return last.isalnum() and bool(_SCALE.match(b.text) or (not a_opens and _is_name(a, b)))


def _is_name(a: Spoken, b: Spoken) -> bool:
    """Return whether both words are capitalised, in text that is not so throughout."""
    texts = (a.text, b.text)
    if any(not text[0].isupper() or _FIRST_PERSON.match(text) for text in texts):
        return False
    return not all(text.isupper() and len(text) > 1 for text in texts)


def _cost(a: Spoken, b: Spoken) -> float:
    """Return what a break within a sentence costs; a pause of a second makes it free."""
    if _ENDS_CLAUSE.search(a.text):
        cost = CLAUSE
    elif b.space:
        cost = BAD if width_of(a.text) <= 3 else PLAIN
    else:  # in Japanese a particle is in hiragana, and what follows is not
        cost = PLAIN if "ぁ" <= a.text[-1] <= "ゖ" and not "ぁ" <= b.text[0] <= "ゖ" else BAD
    return max(0.0, cost - 6 * max(0.0, b.start_s - a.end_s))
