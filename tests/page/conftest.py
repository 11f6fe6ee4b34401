"""Chromium, and transcripts opened in it as files, without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from bucketscribe_render.page import as_html
from tests.recordings import short_speech, write_recording

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NAMES = ("chromium", "google-chrome", "chromium-browser")
Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium of this machine's."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "no Chromium: run `make test-page` as root, or install it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open a transcript; in the end, no page has reported an error or asked for anything else.

    Each call has the browser's storage for itself, unless ``again`` is a page that was opened.
    """
    said: list[str] = []

    def asked(url: str) -> None:
        if not url.startswith(("file:", "blob:", "https://bucket.example/")):
            said.append(f"asked for {url}")

    def open_(
        document: dict[str, Any] | None = None,
        title: str = "meeting",
        again: Page | None = None,
        link: tuple[Any, Any] = (None, None),
        **context: Any,
    ) -> Page:
        body = json.dumps(document or speech()).encode()
        path = tmp_path / "page.html"
        path.write_text(as_html(body, title, *link), encoding="utf-8")
        if again is not None:
            page = again.context.new_page()
        else:
            page = stack.enter_context(browser.new_context(**context)).new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked(request.url))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        if link[0]:
            page.route("https://bucket.example/**", lambda route: route.fulfill(path=link[0].path))
        page.goto(path.as_uri())
        return page

    with ExitStack() as stack:
        yield open_
    assert said == []


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`speech` as a file that browsers play: two voices, 5.5 s."""
    path = tmp_path_factory.mktemp("sound") / "speech.ogg"
    write_recording(path, short_speech(), encoding="ogg-opus")
    return path


def speech() -> dict[str, Any]:
    """Return a transcript of the short speech; words have equal shares of their sentence."""
    said = (
        (0.5, 2.55, "The train to the harbor leaves in ten minutes."),
        (2.95, 4.855, "Then we had better start walking now."),
    )
    segments = [segment(*each, f"SPEAKER_{i:02}") for i, each in enumerate(said)]
    return document(segments, 5.5)


def segment(start: float, end: float, text: str, speaker: str | None, **more: Any) -> Any:
    """Return a segment whose words follow one another without pause."""
    words = text.split()
    step = (end - start) / max(1, len(words))
    timed = [
        {"word": word, "start": start + i * step, "end": start + (i + 1) * step, "score": 0.9}
        for i, word in enumerate(words)
    ]
    return {"start": start, "end": end, "text": text, "speaker": speaker, "words": timed} | more


def document(segments: list[Any], duration_s: float, **more: Any) -> dict[str, Any]:
    """Return a transcript of segments."""
    return {
        "schema_version": 1,
        "segments": segments,
        "speakers": sorted({each["speaker"] for each in segments if each["speaker"]}),
        "language": "en",
        "duration_seconds": duration_s,
        "warnings": [],
        "request_id": "9036dcc1d3cf4530b8638edf8268ebc0",
        "audio_etag": '"e1"',
    } | more
