"""Subtitles: words become cues that can be read in the time that they are shown.

Takes a `Document` and a `Layout`; returns `Cue`s, none of which overlap. Where cues begin and end
is the cheapest way through all atoms (dynamic programming from the last to the first): short
cues, pauses within one and bad breaks are weighed against each other. Sources: Netflix's timed
text guide and the BBC's subtitle guidelines for the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

from bucketscribe_render.breaks import Atom, atoms_of, ends_sentence
from bucketscribe_render.document import Document
from bucketscribe_render.words import words_of

SHORTEST_MS, SHORT_MS, LONGEST_MS = 700, 1000, 7000
GAP_MS = 80
"""Two frames at 25 a second: cues that follow each other leave it, or none."""
LINGER_MS = 500
"""A gap shorter than this only flickers: the cue stays until the next."""
COLUMNS_PER_S = 17
DASH = "- "
INTERJECTION = 3
"""Words, at most."""
A_CUE, A_SHORT_S, A_PAUSE_S, A_DASH = 3.0, 25.0, 4.0, 12.0
"""What a cue more costs, a second that it is too short, one within it in which nobody speaks, and
a second speaker in it."""
UNEVEN = 12.0
"""What it costs that one line is empty and the other full."""


@dataclass(frozen=True)
class Layout:
    """The room for a cue: columns of a line (a full-width character takes two), and lines."""

    line_width: int = 42
    lines: int = 2


@dataclass(frozen=True)
class Cue:
    """What is shown at one time: lines, each with its speaker."""

    start_ms: int
    end_ms: int
    lines: tuple[tuple[str | None, str], ...]


def cues_of(document: Document, layout: Layout, named: bool = False) -> list[Cue]:
    """Return a document's cues in order; with ``named`` speakers are named in the text."""
    named = named and len(document.speakers) > 1
    atoms = atoms_of(words_of(document), layout.line_width, named)
    spans = _cheapest(atoms, layout)
    parts = [atoms[i:j] for i, j in spans]
    return [
        Cue(start_ms, end_ms, _lines_of(part, layout))
        for part, (start_ms, end_ms) in zip(parts, _times_of(parts), strict=True)
    ]


def _cheapest(atoms: Sequence[Atom], layout: Layout) -> list[tuple[int, int]]:
    """Return which atoms are a cue, so that all of them together cost least."""
    best = [(0.0, 0)] * (len(atoms) + 1)
    for i in range(len(atoms) - 1, -1, -1):
        best[i] = min(
            (cost + best[stop][0], stop) for stop, cost in _possible_cues(atoms, i, layout)
        )
    spans, i = [], 0
    while i < len(atoms):
        spans.append((i, best[i][1]))
        i = best[i][1]
    return spans


def _possible_cues(atoms: Sequence[Atom], i: int, layout: Layout) -> Iterator[tuple[int, float]]:
    """Return where a cue that begins with an atom can end, and what it costs then."""
    first = last = atoms[i]
    limit, lines, used, turn, pauses_s = layout.line_width, 1, first.width, 0, 0.0
    for stop in range(i + 1, len(atoms) + 1):
        following = atoms[stop] if stop < len(atoms) else None
        yield stop, A_CUE + A_PAUSE_S * pauses_s + _cost(atoms, i, turn, stop)
        if following is None or following.end_ms - first.start_ms > LONGEST_MS:
            return
        pauses_s += max(0, following.start_ms - last.end_ms - SHORT_MS) / 1000
        if following.speaker != last.speaker:
            limit = layout.line_width - len(DASH)
            if turn or lines > 1 or layout.lines < 2 or used > limit:
                return
            turn, lines, used = stop, layout.lines, following.width
        elif used + following.space + following.width <= limit:
            used += following.space + following.width
        else:
            lines, used = lines + 1, following.width
        if lines > layout.lines or used > limit:
            return
        last = following


def _cost(atoms: Sequence[Atom], start: int, turn: int, stop: int) -> float:
    """Return what a cue costs by its end, its time and its speakers."""
    cost, room_s = 0.0, LONGEST_MS / 1000
    if stop < len(atoms):
        cost = atoms[stop].before
        room_s = min(room_s, (atoms[stop].start_ms - atoms[start].start_ms) / 1000)
    cost += A_SHORT_S * max(0.0, SHORT_MS / 1000 - room_s)
    if not turn:
        return cost
    is_interjection = (
        stop - turn <= INTERJECTION
        and not ends_sentence(atoms[turn - 1].text)
        and stop < len(atoms)
        and atoms[stop].speaker == atoms[start].speaker
    )
    return cost + (0.0 if is_interjection else A_DASH)


def _lines_of(atoms: Sequence[Atom], layout: Layout) -> tuple[tuple[str | None, str], ...]:
    """Return a cue's lines: as few as hold it, of like length, broken where it costs least."""
    turn = next((i for i, (a, b) in enumerate(pairwise(atoms), 1) if a.speaker != b.speaker), 0)
    if turn:
        parts = (atoms[:turn], atoms[turn:])
        return tuple((part[0].speaker, DASH + _text(part)) for part in parts)
    for count in range(1, layout.lines + 1):
        fitting = list(_broken(atoms, count, layout.line_width))
        if fitting:
            lines = min(fitting, key=_unevenness)
            return tuple((atoms[0].speaker, _text(line)) for line in lines)
    raise AssertionError("a cue has no more atoms than its lines can hold")


def _broken(atoms: Sequence[Atom], count: int, line_width: int) -> Iterator[list[Sequence[Atom]]]:
    """Return all ways to have atoms on so many lines."""
    if count == 1 and _width(atoms) <= line_width:
        yield [atoms]
    elif 1 < count <= len(atoms) and _width(atoms) <= count * (line_width + 1):
        for i in range(1, len(atoms)):
            if _width(atoms[:i]) > line_width:
                return
            for rest in _broken(atoms[i:], count - 1, line_width):
                yield [atoms[:i], *rest]


def _unevenness(lines: Sequence[Sequence[Atom]]) -> float:
    widths = [_width(line) for line in lines]
    uneven = sum((width / max(1, *widths) - 1) ** 2 for width in widths)
    return UNEVEN * uneven + sum(line[0].before for line in lines[1:])


def _text(atoms: Sequence[Atom]) -> str:
    return "".join(" " * atom.space + atom.text for atom in atoms).strip()


def _width(atoms: Sequence[Atom]) -> int:
    return sum(atom.width + atom.space for atom in atoms) - atoms[0].space


def _times_of(cues: Sequence[Sequence[Atom]]) -> Iterator[tuple[int, int]]:
    """Return when each cue is shown: as long as it is spoken, and into silence for who reads.

    A cue that there is no time for is shown nevertheless, and the next one begins later.
    """
    end_ms = 0
    for cue, following in zip_longest(cues, cues[1:]):
        start_ms = max(cue[0].start_ms, end_ms)
        last_ms = start_ms + LONGEST_MS
        read_ms = max(SHORT_MS, round(1000 * _width(cue) / COLUMNS_PER_S))
        end_ms = max(start_ms + read_ms, *(atom.end_ms for atom in cue))
        if following is not None:
            free_ms = following[0].start_ms - GAP_MS
            if end_ms > free_ms - LINGER_MS:
                end_ms = free_ms
            if end_ms < start_ms + SHORTEST_MS:  # without a gap, or into the next cue's time
                end_ms = max(start_ms + SHORTEST_MS, following[0].start_ms)
        end_ms = min(end_ms, last_ms)
        yield start_ms, end_ms
