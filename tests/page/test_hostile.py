"""Text that was said is shown, whatever it looks like; it never becomes a part of the page."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import expect

from bucketscribe_render.page import PAGE
from tests.page.conftest import Open, document, segment

TEXTS = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "<!--<script>",
    "\"onerror=window.pwned=1 x='",
    "<img/src=x/onerror=window.pwned=1>",
    "%DOCUMENT%%SCRIPT%%TITLE%",
    "javascript:window.pwned=1",
    "__proto__",
    "\u2028\u2029&lt;",
    "abc\u202edef\u2066ghi",
    "\x1b]0;x\x07",
    "w" * 10_000,
)
ELEMENTS = "[...document.querySelectorAll('script, img, iframe, object, [onerror]')].length"


def hostile() -> dict[str, Any]:
    segments = []
    for i, text in enumerate(TEXTS):
        segments.append(segment(i, i + 1, text, text, flags=[text]))
        segments[-1]["words"][0]["score"] = text
    odd: list[Any] = [None, 1, {"word": 1}, {"word": "x", "start": "y", "end": -1, "score": {}}]
    segments.append({"start": 20, "end": 21, "text": "x", "speaker": 7, "words": odd, "flags": 5})
    more: dict[str, Any] = {"dropped": [{"start": 0, "end": 1, "text": TEXTS[0]}]}
    more["uncovered"] = [None, {"start": "x"}]
    return document(segments[:-1], 1e300, language=TEXTS[3], warnings=list(TEXTS), **more) | {
        "segments": segments,
        "request_id": TEXTS[1],
    }


def test_hostile_text_does_nothing_but_show(open_page: Open) -> None:
    page = open_page(hostile(), title=TEXTS[1])
    shown = "\n".join(page.locator("#text p").all_text_contents())
    for text in TEXTS[:8]:
        assert text in shown
    assert "abcdefghi" in shown
    assert "w" * 10_000 in shown
    assert not set(shown) & set("\u202e\u2066\x1b\x07\u2028")
    expect(page.locator("h1")).to_have_text(TEXTS[1])
    for text in (TEXTS[0], TEXTS[3]):
        page.locator("#speakers").get_by_text(text, exact=True).click()
        page.keyboard.type(TEXTS[4])
        page.keyboard.press("Enter")
    page.get_by_role("searchbox").fill(TEXTS[0])
    expect(page.locator("#found")).to_have_text("1 of 2")
    assert page.evaluate(ELEMENTS) == 2  # the page's own script and link
    assert page.evaluate("window.pwned") is None
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0


def test_the_policy_lets_nothing_run_or_leave() -> None:
    head = PAGE.read_text(encoding="utf-8").partition("</head>")[0]
    assert "default-src 'none'; script-src 'sha256-" in head
    assert "unsafe" not in head
    assert "http" not in head.replace("http-equiv", "")
