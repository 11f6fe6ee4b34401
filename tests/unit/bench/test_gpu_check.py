"""What the check of a GPU compares, and how its page reads with a card and without."""

from __future__ import annotations

import copy
from typing import Any

from bench import gpu_check


def transcript(*words: tuple[str, float, str]) -> dict[str, Any]:
    said = [{"word": w, "start": s, "end": s + 0.2, "speaker": who} for w, s, who in words]
    segment = {"text": " ".join(w for w, *_ in words), "speaker": "A", "words": said}
    return {"segments": [segment], "duration_seconds": 3.0, "language": "en"}


ON_CPU = transcript(("One", 0.0, "A"), ("two", 1.0, "A"), ("three.", 2.0, "B"), ("Four.", 2.5, "B"))


def test_the_cards_words_times_and_speakers_are_compared_with_the_cpus() -> None:
    assert gpu_check.compare(ON_CPU, copy.deepcopy(ON_CPU)) == {
        **{"words": 4, "speakers": 2, "same text": True, "same within 1 ms": 1.0},
        **{"same speaker": 1.0, "largest shift s": 0.0},
    }
    on_card = transcript(
        ("One", 0.0, "A"), ("two", 1.02, "B"), ("tree.", 2, "B"), ("Four.", 2.5, "B")
    )
    assert gpu_check.compare(ON_CPU, on_card) == {
        **{"words": 4, "speakers": 2, "same text": False, "same within 1 ms": 0.5},
        **{"same speaker": 0.5, "largest shift s": 0.02},
    }
    assert list(gpu_check.compare(ON_CPU, None).values()) == [4, 2, *[None] * 4]


def test_the_page_says_whether_it_is_worth_keeping_and_dashes_what_was_not_measured() -> None:
    report = {
        "date": "2026-11-27",
        "machine": {"gpu": None, "cores": 2, "cpu": "x", "versions": {"torch": "2.8.0"}},
        "driver": "no driver",
        "profile": "production",
        "models": {"transcribe": "large-v3", "align": None},
        "device": "cpu",
        "tables": {"Checks": [{"check": "gpu", "CPU": 0.1, "card": None}]},
    }
    page = gpu_check.markdown(report)
    assert "| gpu | 0.1 | – |" in page
    assert gpu_check.NOT_WORTH in page
    assert gpu_check.EARLIER in gpu_check.markdown(report | {"device": "cuda"})
    demo = gpu_check.markdown(report | {"device": "cuda", "profile": "demo"})
    assert gpu_check.NOT_WORTH in demo
