"""What makes a text doubtful: loops in any script, and silence that speaks."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketscribe_contract import Flag
from worker.engines.doubt import (
    RUNS,
    compression_ratio,
    flags,
    is_confirmed,
    is_echo,
    is_loop,
    rank,
    words_of,
)

TAMIL = (
    "காலையில் அம்மா சந்தைக்குச் சென்றார். அங்கே காய்கறிகளையும் பழங்களையும் வாங்கினார். பிறகு "
    "வீட்டுக்குத் திரும்பி வந்து எங்களுக்குச் சமைத்தார். மாலை நேரத்தில் அப்பா எங்களுக்கு ஒரு பழைய கதை "
    "சொன்னார். அந்தக் கதை எல்லோருக்கும் மிகவும் பிடித்திருந்தது."
)


@pytest.mark.parametrize("size", RUNS)
@pytest.mark.parametrize("joiner", [" ", ", ", "。"])
def test_words_that_come_again_are_a_loop_from_a_number_on(size: int, joiner: str) -> None:
    phrase = " ".join(["Wind", "over", "dark", "water"][:size])
    rest = "and nothing at all was said by anybody else that night"
    often, seldom = (joiner.join([phrase] * n) for n in (RUNS[size], RUNS[size] - 1))
    assert is_loop(f"{rest} {often.upper()} {rest[::-1]}")
    assert not is_loop(f"{rest} {seldom} {rest[::-1]}")


def test_a_loop_without_spaces_is_one() -> None:
    assert is_loop("ご視聴ありがとうございました" * 8)
    assert is_loop("ந்து" + "க்கா" * 40)


def test_plain_speech_in_a_script_of_three_bytes_is_no_loop() -> None:
    assert compression_ratio(TAMIL) > 2.4
    assert not is_loop(TAMIL)


def test_a_combining_mark_is_part_of_its_word() -> None:
    assert words_of("Don't STOP—அம்மா, सुन!") == ["don't", "stop", "அம்மா", "सुन"]


@given(st.text())
def test_the_ratio_is_whispers(text: str) -> None:
    assert compression_ratio(text) == len(text.encode()) / len(zlib.compress(text.encode()))
    assert is_loop(text) in (True, False)


def test_what_loops_less_is_better_and_no_text_is_worst() -> None:
    loop, longer, spoken = "yeah " * 30, "yeah " * 100, "Yeah, look at all this."
    assert max("", loop, longer, spoken, key=rank) == spoken
    assert max("", longer, loop, key=rank) == loop


@pytest.mark.parametrize(
    ("avg_logprob", "no_speech_prob", "expected"),
    [
        (-0.3, 0.1, ()),
        (-0.3, 0.7, (Flag.NO_SPEECH,)),
        (-0.6, 0.5, ()),
        (-0.8, 0.2, ()),
        (-0.8, 0.4, (Flag.NO_SPEECH,)),
        (-1.1, 0.2, (Flag.LOW_CONFIDENCE,)),
        (-1.1, 0.4, (Flag.NO_SPEECH, Flag.LOW_CONFIDENCE)),
    ],
)
def test_low_figures_are_doubtful(
    avg_logprob: float, no_speech_prob: float, expected: tuple[Flag, ...]
) -> None:
    assert flags("Thank you.", avg_logprob, no_speech_prob) == expected
    assert flags(" ", avg_logprob, no_speech_prob) == ()


def test_a_loop_and_a_missing_end_are_doubtful() -> None:
    assert flags("yeah " * 30, -0.1, 0.0) == (Flag.REPETITION,)
    assert flags("Yeah, and then", -0.1, 0.0, is_cut=True) == (Flag.LOW_CONFIDENCE,)


PROMPT = "ComfyUI, Zuckerberg. The ship sails at noon. 我們明天早上在海邊的餐廳見面吃飯。"


@pytest.mark.parametrize(
    "text",
    [
        " the ship sails at noon!",
        "The ship sails at noon. The ship sails at noon. Yes.",
        "我們明天早上在海邊的餐廳見面",
    ],
)
def test_nearly_all_of_a_text_in_the_prompts_own_words_is_suspect(text: str) -> None:
    assert is_echo(text, PROMPT)
    assert not is_echo(text, "")
    assert not is_echo(f"{text} And there we were, the four of us, all alone at sea.", PROMPT)


@pytest.mark.parametrize("text", ["ComfyUI", "Zuckerberg", "The ship left late", "在海邊", "", "."])
def test_a_hotword_by_itself_is_not(text: str) -> None:
    assert not is_echo(text, PROMPT)


def test_what_is_heard_without_a_prompt_too_was_said() -> None:
    assert is_confirmed("Ingrid Svensson, captain.", "In great Svenson captain")
    assert not is_confirmed("Ingrid Svensson, captain.", "Thank you for watching.")
    assert not is_confirmed("Ingrid Svensson, captain.", "")
