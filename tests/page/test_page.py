"""What a reader and listener does with the page, in a real browser."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from bucketscribe_contract import PresignedUrl
from tests.page.conftest import Open, document, segment, speech

WORDS = [word for each in speech()["segments"] for word in each["words"]]
WATCH = """() => {
  window.lit = [];
  new MutationObserver((changes) => {
    for (const { target } of changes) {
      if (target.matches(".w.now")) lit.push([Number(target.dataset.word), audio.currentTime]);
    }
  }).observe(text, { attributes: true, subtree: true, attributeFilter: ["class"] });
}"""
HEARD = "(what) => new Promise((done) => audio.addEventListener(what, done, { once: true }))"
SCORES = [0.9, 0.1, 0.9]


class Link(PresignedUrl):
    """A presigned URL that the test answers with a file."""

    __slots__ = ("path",)

    def __init__(self, path: Path) -> None:
        super().__init__("https://bucket.example/audio.wav?X-Amz-Signature=5ecret")
        self.path = path


def lit(page: Page) -> list[str]:
    return page.locator(".w.now").all_text_contents()


def test_words_light_up_while_they_are_heard(open_page: Open, recording: Path) -> None:
    page = open_page()
    page.evaluate(WATCH)
    page.set_input_files("#file", recording)
    page.keyboard.press("Space")
    page.evaluate(HEARD, "ended")
    seen = page.evaluate("lit")
    for word, at in seen:
        assert WORDS[word]["start"] - 0.1 <= at <= WORDS[word]["end"] + 0.1, (word, at)
    late = [at - WORDS[word]["start"] for word, at in seen]
    typical_ms = sorted(late)[len(late) // 2] * 1000
    print(f"\n{len(seen)} words lit, {typical_ms:.0f} ms after they begin")  # noqa: T201 - wanted
    assert len({word for word, _ in seen}) >= 5
    assert lit(page) == []


def test_words_times_lanes_and_keys_move_the_sound(open_page: Open, recording: Path) -> None:
    page = open_page()
    page.set_input_files("#file", recording)
    expect(page.get_by_role("button", name="Choose another recording")).to_be_visible()
    page.get_by_text("harbor", exact=True).click()
    assert lit(page) == ["harbor"]
    assert page.evaluate("audio.currentTime") == pytest.approx(WORDS[4]["start"], abs=0.001)
    page.get_by_role("button", name="0:02").click()
    assert lit(page) == ["Then"]
    lanes = page.locator("#timeline").bounding_box()
    assert lanes is not None
    page.mouse.click(lanes["x"] + lanes["width"] * 1.0 / 5.5, lanes["y"] + 12)
    assert page.evaluate("audio.currentTime") == pytest.approx(1.0, abs=0.05)
    slider = page.get_by_role("slider", name="Place in the recording")
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "0:05 of 0:05")
    page.locator("body").press("j")
    assert page.evaluate("audio.currentTime") == 0
    page.keyboard.press("Shift+ArrowRight")
    assert lit(page) == ["Then"]
    page.keyboard.press(".")
    assert page.evaluate("audio.playbackRate") == 1.25
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.keyboard.press("?")
    page.get_by_label("Keys work without Ctrl or Alt").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    assert page.evaluate("audio.currentTime") > 2


def test_text_follows_the_sound_until_somebody_scrolls(open_page: Open, recording: Path) -> None:
    turns = [segment(i / 20, (i + 1) / 20, f"turn {i}", f"SPEAKER_{i % 2:02}") for i in range(100)]
    page = open_page(document(turns, 5.5), reduced_motion="reduce")
    page.set_input_files("#file", recording)
    for _ in range(3):
        page.keyboard.press(".")
    page.keyboard.press("Space")
    page.evaluate(HEARD, "ended")
    expect(page.get_by_text("99", exact=True)).to_be_in_viewport()
    page.get_by_role("slider").press("Home")
    expect(page.get_by_text("0", exact=True)).to_be_in_viewport()
    page.evaluate("audio.playbackRate = 0.1")
    page.keyboard.press("k")
    follow = page.get_by_role("button", name="Keep the text at the sound")
    expect(follow).to_have_attribute("aria-pressed", "true")
    page.locator("#text").hover()
    page.mouse.wheel(0, 30_000)
    expect(follow).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_text("99", exact=True)).to_be_in_viewport()
    page.keyboard.press("f")
    expect(page.locator(".w.now").first).to_be_in_viewport()


def test_a_shorter_recording_and_one_that_cannot_be_played_are_named(
    open_page: Open, recording: Path, tmp_path: Path
) -> None:
    page = open_page(document([segment(60, 62, "Later.", None)], 62))
    page.set_input_files("#file", recording)
    expect(page.locator("#notice")).to_contain_text("is it the right one?")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    page.set_input_files("#file", broken)
    expect(page.locator("#notice")).to_contain_text("cannot play that file")


def test_a_link_plays_until_it_ends_and_is_called_a_secret(
    open_page: Open, recording: Path
) -> None:
    ends = datetime.now(UTC) + timedelta(hours=1)
    page = open_page(link=(Link(recording), ends))
    expect(page.locator("#notice")).to_contain_text("secret link")
    expect(page.get_by_role("button", name="Choose another recording")).to_be_visible()
    page = open_page(link=(Link(recording), ends - timedelta(hours=2)))
    expect(page.locator("#notice")).to_contain_text("The link to the sound ended")
    assert page.evaluate("audio.src") == ""


def test_search_finds_whatever_the_case_accents_and_divided_words(open_page: Open) -> None:
    segments = [segment(0, 2, "Zoë met Zoe at the café.", None), segment(3, 5, "At THE cafe", None)]
    page = open_page(document(segments, 5))
    box = page.get_by_role("searchbox")
    wanted = {"zoe": "1 of 2", "the  Café": "1 of 2", "e m": "1 of 1", "x": "none"}
    for query, found in wanted.items():
        box.fill(query)
        expect(page.locator("#found")).to_have_text(found)
    box.press("Escape")
    expect(box).to_have_value("")
    page.keyboard.press("/")
    page.keyboard.type("the café")
    assert page.locator(".w.here").all_text_contents() == ["the", "café."]
    box.press("Enter")
    assert page.locator(".w.here").all_text_contents() == ["THE", "cafe"]
    assert page.locator(".w.hit").count() == 4
    box.press("Shift+Enter")
    assert page.locator("#found").text_content() == "1 of 2"
    box.fill("")
    assert page.locator(".w.hit").count() == 0


def test_speakers_keep_their_new_names_and_exports_have_them(open_page: Open) -> None:
    page = open_page()
    page.locator("#speakers").get_by_role("button", name="Speaker 1").click()
    page.keyboard.type('Nora <b>&"')
    page.keyboard.press("Enter")
    page.locator("#text").get_by_role("button", name="Speaker 2").click()
    page.keyboard.type("Nobody")
    page.keyboard.press("Escape")
    page = open_page(again=page)
    assert page.locator("#text button.name").all_text_contents() == ['Nora <b>&"', "Speaker 2"]
    saved = {ending: saved_as(page, name) for ending, name in EXPORTS.items()}
    assert json.loads(saved["speakers.json"]) == {
        "request_id": speech()["request_id"],
        "audio_etag": '"e1"',
        "speakers": {"SPEAKER_00": 'Nora <b>&"'},
    }
    assert saved["txt"].startswith('[0:00] Nora <b>&": The train to the harbor leaves')
    assert saved["srt"].startswith('1\n00:00:00,500 --> 00:00:02,550\n[Nora <b>&"] The train')
    assert '\n\n00:00:00.500 --> 00:00:02.550\n<v Nora &lt;b&gt;&amp;">The' in saved["vtt"]
    lines = [line for line in saved["srt"].splitlines() if "-->" not in line]
    assert max(map(len, lines)) <= 42


def test_names_in_the_transcript_are_shown_until_they_are_changed(open_page: Open) -> None:
    page = open_page(speech() | {"speaker_names": {"SPEAKER_00": "Ann", "SPEAKER_01": "<i>Bo"}})
    assert page.locator("#text button.name").all_text_contents() == ["Ann", "<i>Bo"]
    page.locator("#speakers").get_by_role("button", name="Ann").click()
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    assert page.locator("#text button.name").all_text_contents() == ["Speaker 1", "<i>Bo"]
    saved = json.loads(saved_as(page, "speakers' names"))
    assert saved["speakers"] == {"SPEAKER_00": "", "SPEAKER_01": "<i>Bo"}


EXPORTS = {"txt": "Text", "srt": "SRT", "vtt": "VTT", "speakers.json": "speakers' names"}


def saved_as(page: Page, name: str) -> str:
    page.get_by_role("button", name="Copy or download").click()
    with page.expect_download() as waited:
        page.get_by_role("button", name=f"Download {name}").click()
    page.keyboard.press("Escape")
    return Path(waited.value.path()).read_text(encoding="utf-8")


def test_copying_is_possible(open_page: Open) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy or download").click()
    page.get_by_role("button", name="Copy VTT").click()
    expect(page.locator("#notice")).to_have_text("Copied as VTT.")
    assert page.evaluate("navigator.clipboard.readText()").startswith("WEBVTT\n\n")


def test_doubts_are_marked_on_demand(open_page: Open) -> None:
    first = segment(0, 2, "Hello fine world", "SPEAKER_00")
    for word, score in zip(first["words"], SCORES, strict=True):
        word["score"] = score
    flagged = segment(3, 4, "Yeah.", "SPEAKER_00", flags=["no_speech", "low_confidence"])
    page = open_page(document([first, flagged], 4))
    line = "getComputedStyle(document.querySelector('#text .low')).textDecorationLine"
    assert page.evaluate(line) == "none"
    page.get_by_role("button", name="Mark doubtful words").click()
    assert page.evaluate(line) == "underline"
    assert page.locator("#text .low").all_text_contents() == ["fine"]
    assert page.locator("#text .flagged").all_text_contents() == ["Yeah."]
    about = "0:04 · English · 1 speaker · 4 words · 2 doubtful"
    assert page.locator("#about").text_content() == about


def test_other_documents_are_read(open_page: Open) -> None:
    """WhisperX's own, one without words or speakers, and languages without spaces."""
    page = open_page({"segments": [{"start": 1, "end": 3, "text": " Hi there"}]})
    page.get_by_text("Hi there").click()
    assert lit(page) == ["Hi there"]
    expect(page.locator("#speakers")).to_be_hidden()
    words = [{"word": each} for each in ("今日", "は")]
    asian = [{"start": 0, "end": 2, "text": "今日は。", "words": words, "speaker": "A"}]
    page = open_page({"segments": asian + [{"start": 2, "end": 3, "text": "晴れ", "speaker": "A"}]})
    assert page.locator("#text p").all_text_contents() == ["今日は。晴れ"]
    page = open_page({"segments": []})
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#about")).to_have_text("0:01 · 0 words")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_accessible_and_looks_well(
    open_page: Open, request: pytest.FixtureRequest, scheme: str, width: int
) -> None:
    other = "dark" if scheme == "light" else "light"  # the toggle turns it round
    size = {"width": width, "height": 844}
    page = open_page(meeting(), "Harbour meeting", viewport=size, color_scheme=other)
    page.get_by_role("button", name="Dark or light").click()
    page.get_by_role("button", name="Mark doubtful words").click()
    page.get_by_role("searchbox").fill("harbour")
    page.locator("#text .w").nth(40).click()
    folder = request.config.getoption("--screenshots")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"page-{width}-{scheme}.png")
    found = Axe().run(page).response["violations"]
    for name in ("Copy or download", "Help and keys") if width == 390 else ():
        page.get_by_role("button", name=name).click()
        found += Axe().run(page).response["violations"]
        page.keyboard.press("Escape")
    assert [(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found] == []
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, #keys')].filter((each) => {"
        " const box = each.getBoundingClientRect();"
        " return box.width && (box.width < 24 || box.height < 24); }).map((each) => each.outerHTML)"
    )
    assert [each for each in small if 'id="keys"' not in each] == []


def meeting() -> dict[str, object]:
    """Return a conversation of three that fills the window."""
    said = (
        "Shall we begin with the harbour? The survey came back on Monday, and it is better than "
        "we had feared.",
        "Better in what way? The last one said that the eastern wall would not hold.",
        "It holds. They measured it twice, and the harbour master was there both times.",
        "Then the money for the wall is free, and we could talk about the ferry again.",
        "Yes.",
        "I would rather wait for the second report before we promise anything to anybody.",
    )
    segments, start = [], 2.0
    for i in range(30):
        text = said[i % len(said)]
        end = start + len(text) / 15
        flags = {"flags": ["low_confidence"]} if text == "Yes." else {}
        segments.append(segment(start, end, text, f"SPEAKER_{i % 3:02}", **flags))
        segments[-1]["words"][-1].update(score=0.2)
        segments[-1]["words"][0].update(overlap=i % 4 == 1)
        start = end + 0.5 * (i % 4)
    return document(segments, start + 3, warnings=["FLAGGED: low_confidence 5"])
