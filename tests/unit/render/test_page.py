"""The page as text: what is said in it is data, and its policy lets nothing else in."""

import json
import re
from datetime import UTC, datetime

from bucketscribe_contract import PresignedUrl
from bucketscribe_render.page import as_html
from tools.page import main

DATA = re.compile(r'<script type="application/json" id="(\w+)">(.*?)</script>', re.DOTALL)
HOSTILE = "</script><!-- <b> & \u2028 \udc00 \u202e %LINK% \" onx='"
ENDS = datetime(2026, 11, 1, tzinfo=UTC)


def test_text_is_data_whatever_it_is() -> None:
    body = json.dumps({"segments": [], HOSTILE: HOSTILE, "score": float("nan")}).encode()
    page = as_html(body, HOSTILE)
    data = dict(DATA.findall(page))
    assert json.loads(data["document"]) == {"segments": [], HOSTILE: HOSTILE, "score": None}
    assert data["document"].isascii()
    assert set(data["document"]) & set("<>&") == set()
    assert (data["link"], "media-src blob:;" in page) == ("null", True)
    title = page.partition("<title>")[2].partition("</title>")[0]
    assert title == "&lt;/script&gt;&lt;!-- &lt;b&gt; &amp;       %LINK% &quot; onx=&#x27;"


def test_link_is_there_with_its_end_and_only_its_host_is_asked() -> None:
    url = PresignedUrl("https://b.example:9000/a.wav?X-Amz-Signature=1&x=%3C")
    page = as_html(b'{"segments": []}', "t", url, ENDS)
    link = {"url": url.reveal(), "expires_at": "2026-11-01T00:00:00+00:00"}
    assert json.loads(dict(DATA.findall(page))["link"]) == link
    assert "media-src blob: https://b.example:9000;" in page
    assert page.count("b.example") == 2


def test_built_page_is_current() -> None:
    assert main(["--check"]) == 0
