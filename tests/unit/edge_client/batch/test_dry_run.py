"""The dry run: what would run, in lines and sums, and nothing but reading."""

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from edge_client.batch.dry_run import NAMED_AT_MOST, Forecast, Planned, dry_run, show, with_lengths
from edge_client.batch.listing import Scope
from edge_client.batch.plan import Wishes
from edge_client.batch.types import Item, Need
from edge_client.errors import StorageRefused
from edge_client.jobs.claim import StoredClaim
from edge_client.services.edge import Edge
from edge_client.services.presign import Length, LengthSource
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from tests.unit.edge_client.batch.sample_bucket import GOLDEN, fill, lines, printed
from tests.unit.edge_client.samples import NOW, claim
from tests.unit.edge_client.servers import RunpodServer, S3Server


def test_the_golden_output(edge: Edge, s3: S3Server) -> None:
    fill(s3)
    assert printed(edge) == GOLDEN.read_text(encoding="utf-8")


def test_nothing_is_written_or_posted(edge: Edge, s3: S3Server, runpod: RunpodServer) -> None:
    fill(s3)
    before = dict(s3.objects)
    printed(edge)
    printed(edge, Wishes(force=True), as_json=True)
    assert s3.objects == before
    assert {method for method, _ in s3.calls} == {"GET"}
    assert runpod.calls == []


def test_json_says_the_same(edge: Edge, s3: S3Server) -> None:
    fill(s3)
    *sessions, last = lines(edge)
    found = {line["session"].rpartition("/")[2]: line for line in sessions}
    assert last["summary"]["sessions"] == {
        "submit": 8, "follow": 2, "done": 1, "not_merged": 1, "no_audio": 2, "failed_before": 1,
        "refused": 1,
    }  # fmt: skip
    assert "done" not in found
    assert found["new"] == {
        "session": "users/ada/audio/sessions/new",
        "need": "submit",
        "why": "new",
        "audio_bytes": 1_440_044,
        "audio_seconds": 90.0,
        "is_estimated": False,
        "job_id": None,
    }
    assert found["out"]["job_id"] == "job-1"
    assert (found["no-wav"]["audio_seconds"], found["no-wav"]["is_estimated"]) == (2.0, True)
    assert found["chunks"]["audio_seconds"] is None
    assert last["summary"]["audio_seconds"] == 193.0
    assert last["summary"]["audio_seconds_followed"] == 602.0
    assert last["summary"]["gpu_seconds_estimated"] == pytest.approx(0.2 * 193 + 15 * 8)


def test_the_exit_code_tells_of_refusals(edge: Edge, s3: S3Server) -> None:
    s3.put(Session("u", "s").audio_key, b"x")
    assert dry_run(edge, Scope(), Wishes(), as_json=False) == 0
    typo = Scope(sessions=(Session("u", "typo"),))
    assert dry_run(edge, typo, Wishes(), as_json=False) == 1


def test_a_bucket_where_all_is_done_says_so(edge: Edge) -> None:
    assert printed(edge) == "No sessions pending transcription\nalready done: 0\n"


def test_the_limit_is_said(edge: Edge, s3: S3Server) -> None:
    fill(s3)
    text = printed(edge, Wishes(limit=2))
    assert "would submit: 2 sessions, " in text
    assert text.endswith("the listing ended at --limit 2: there may be more\n")
    assert lines(edge, Wishes(limit=2))[-1]["summary"]["ended_at_limit"] is True
    assert "--limit" not in printed(edge, Wishes(limit=20))


def test_a_recording_that_may_not_be_read_ends_it(edge: Edge, s3: S3Server) -> None:
    fill(s3)
    s3.refuse = lambda method, key: (403, "AccessDenied") if key.endswith("audio.wav") else None
    with pytest.raises(StorageRefused, match="403"):
        printed(edge)


def test_a_recording_that_goes_meanwhile_is_estimated(edge: Edge, s3: S3Server) -> None:
    s3.put(Session("u", "s").audio_key, bytes(64_000))
    s3.refuse = lambda method, key: (404, "NoSuchKey") if key.endswith("audio.wav") else None
    (line, _) = lines(edge)
    assert (line["audio_seconds"], line["is_estimated"]) == (2.0, True)


def work(number: int, size_bytes: int = 100, need: Need = Need.SUBMIT, **more: Any) -> Item:
    session = Session("u", f"s{number}")
    audio = ObjectInfo(session.audio_key, '"e"', size_bytes, NOW)
    return Item(session, need, "new", audio, **more)


def exact(item: Item) -> Length:
    """Ten bytes a second."""
    assert item.audio is not None
    return Length(item.audio.size_bytes / 10, LengthSource.HEADER)


def test_the_first_recordings_are_measured_the_others_estimated_alike() -> None:
    items = [work(number, 100 * (number + 1)) for number in range(6)]
    asked: list[Item] = []

    def measure(item: Item) -> Length:
        asked.append(item)
        return exact(item)

    planned = list(with_lengths(items, measure, at_most=4))
    assert [one.item for one in planned] == items
    assert {item.session for item in asked} == {item.session for item in items[:4]}
    assert [one.audio_s for one in planned] == [10, 20, 30, 40, 50, 60]
    assert [one.is_about for one in planned] == [False] * 4 + [True] * 2


def test_without_a_measured_one_the_seeds_recordings_are_assumed() -> None:
    (planned,) = with_lengths([work(0, 64_000)], exact, at_most=0)
    assert (planned.audio_s, planned.is_about) == (2.0, True)


def test_a_length_that_is_guessed_sets_no_pace() -> None:
    def measure(item: Item) -> Length:
        return Length(7.0, LengthSource.ESTIMATE) if item.session.name == "s0" else exact(item)

    planned = list(with_lengths([work(0), work(1), work(2)], measure, at_most=2))
    assert [(one.audio_s, one.is_about) for one in planned] == [(7, True), (10, False), (10, True)]


def test_a_job_that_is_out_is_as_long_as_its_claim_says() -> None:
    held = StoredClaim(claim(duration_s=33.0), '"c"')
    (planned,) = with_lengths([work(0, need=Need.FOLLOW, held=held)], exact)
    assert (planned.audio_s, planned.is_about) == (33.0, False)


def test_what_does_not_run_is_not_measured() -> None:
    (planned,) = with_lengths([work(0, need=Need.FAILED_BEFORE)], lambda item: 1 / 0)
    assert planned.audio_s is None


def test_few_of_many_are_named() -> None:
    forecast = Forecast()
    for number in range(NAMED_AT_MOST + 1000):
        forecast.add(Planned(work(number, need=Need.NOT_MERGED)))
    text = forecast.text()
    assert text.count("users/") == NAMED_AT_MOST
    assert "not merged: 1,020 " in text
    assert "  and 1,000 more" in text


def test_the_cost_is_there_if_the_price_is_known() -> None:
    forecast = Forecast(price_per_s=Decimal("0.01"))
    forecast.add(Planned(work(0), 25.0))
    assert forecast.facts()["cost_estimated"] == pytest.approx(0.2)
    assert "0.3 min, cost 0.20 (" in forecast.text()
    assert Forecast().facts()["cost_estimated"] is None


def test_long_spans_are_hours() -> None:
    forecast = Forecast()
    forecast.add(Planned(work(0), 360_000.0))
    assert "would submit: 1 session, 100.0 h of audio" in forecast.text()
    assert "GPU time, estimated: 20.0 h (" in forecast.text()


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (142_300_000, "142.3 MB"),
        (5 * 10**12, "5,000.0 GB"),
    ],
)
def test_sizes_are_short(size_bytes: int, shown: str) -> None:
    out = io.StringIO()
    show([Planned(work(0, size_bytes), 1.0)], Forecast(), as_json=False, out=out)
    assert f"submit  {shown:>9}  " in out.getvalue()


def test_lines_come_as_sessions_are_found() -> None:
    out = io.StringIO()

    def planned() -> Iterator[Planned]:
        for number in range(3):
            assert out.getvalue().count("users/") == number
            yield Planned(work(number), 1.0)

    show(planned(), Forecast(), as_json=False, out=out)
    assert out.getvalue().count("\n") == 1 + 3 + 4


def test_a_terminal_without_unicode_gets_what_it_can_show() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    item = Item(Session("ü", "s"), Need.SUBMIT, "new", work(0).audio)
    show([Planned(item, 1.0)], Forecast(), as_json=False, out=out)
    show([Planned(item, 1.0)], Forecast(), as_json=True, out=out)
    out.seek(0)
    text = out.read()
    assert "users/\\xfc/audio" in text
    assert json.loads(text.splitlines()[-2])["session"] == item.session.prefix
