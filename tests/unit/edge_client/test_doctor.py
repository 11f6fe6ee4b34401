"""The doctor: every check can fail, and says the fix."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_client.doctor import PROBE_KEY, Check, run_checks
from edge_client.services.edge import Edge
from edge_client.settings import load
from tests.fakes.servers import Reply, RunpodServer, S3Server
from tests.unit.edge_client.samples import FakeClock

Checks = Callable[[], dict[str, Check]]


@pytest.fixture
def checks(edge: Edge, runpod: RunpodServer) -> Checks:
    runpod.on("/health", Reply({"jobs": {"inQueue": 2}, "workers": {"idle": 1, "running": 2}}))
    object.__setattr__(edge, "clock", FakeClock(datetime.now(UTC)))
    return lambda: {check.name: check for check in run_checks(edge)}


def test_all_is_well_and_workers_that_are_not_up_are_explained(
    checks: Checks, s3: S3Server, runpod: RunpodServer
) -> None:
    s3.put("users/u/audio/sessions/s/audio.wav", b"x")
    found = checks()
    assert [check for check in found.values() if not check.ok] == []
    assert "there are recordings" in found["list"].detail
    assert "3 workers up, 2 jobs" in found["endpoint"].detail
    assert {key for method, key in s3.calls if method != "GET"} == {PROBE_KEY}
    assert [check for check in checks().values() if not check.ok] == []  # and once it is there
    runpod.on("/health", Reply({"workers": {"idle": 0, "throttled": 2}}))
    detail = checks()["endpoint"].detail
    for told in ("0 workers up", "2 throttled", "after 7 days"):
        assert told in detail
    runpod.on("/health", Reply({"workers": {"idle": 0, "unhealthy": 1}}))
    endpoint = checks()["endpoint"]
    assert endpoint.ok is False
    assert "1 unhealthy: they crash or fail their checks: a worker's log" in endpoint.detail


def test_wrong_clock_and_region_are_noticed(checks: Checks, edge: Edge) -> None:
    for minutes, side in ((5, "ahead of"), (-5, "behind")):
        edge.clock = FakeClock(datetime.now(UTC) + timedelta(minutes=minutes))
        check = checks()["clock"]
        assert check.ok is False
        assert re.search(rf"(299|300|301) s {side}", check.detail)
    edge.settings = edge.settings.model_copy(update={"region": "us-east-2"})
    assert "set AWS_REGION=eu-west-1" in checks()["bucket"].detail


def test_refused_bucket_hides_the_rest(checks: Checks, s3: S3Server, runpod: RunpodServer) -> None:
    s3.refuse = lambda method, key: (403, "AccessDenied")
    runpod.on("/health", Reply(status=404))
    found = {name: check.ok for name, check in checks().items()}
    assert found["bucket"] is found["endpoint"] is False
    assert [found[name] for name in ("list", "clock", "signature", "write")] == [None] * 4


@pytest.mark.parametrize(("code", "ok"), [("SignatureDoesNotMatch", False), ("AccessDenied", True)])
def test_signature_is_tried(checks: Checks, s3: S3Server, code: str, ok: bool) -> None:
    s3.refuse = lambda method, key: (403, code) if ".edge-client-doctor" in key else None
    check = checks()["signature"]
    assert check.ok is ok
    assert "X-Amz" not in check.detail


@pytest.mark.parametrize(
    ("conditional_put", "knows", "refusal", "ok", "told"),
    [
        (True, True, None, True, "replace nothing unseen"),
        (True, False, None, False, "S3_CONDITIONAL_PUT=0"),
        (False, False, None, True, "may replace a newer"),
        (True, True, (400, "InvalidArgument"), False, "400 InvalidArgument on PUT"),
        (False, True, (403, "AccessDenied"), False, "403 AccessDenied on PUT"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_puts_are_tried_as_a_worker_sends_them(
    checks: Checks,
    edge: Edge,
    s3: S3Server,
    conditional_put: bool,
    knows: bool,
    refusal: tuple[int, str] | None,
    ok: bool,
    told: str,
    there: bool,
) -> None:
    edge.settings = edge.settings.model_copy(update={"conditional_put": conditional_put})
    s3.conditional = knows
    s3.refuse = lambda method, key: refusal if method == "PUT" else None
    if there:
        s3.put(PROBE_KEY, b"{}")
    check = checks()["write"]
    assert (check.ok, bool(re.search(told, check.detail))) == (ok, True), check.detail
    assert checks()["list"].detail == "nothing is under users/ yet"  # the probe is not


def test_boxes_that_try_conditions_at_the_same_time_are_no_fault_of_s3(
    checks: Checks, s3: S3Server
) -> None:
    others = iter((b"1", b"2"))

    def replaced(method: str, key: str) -> None:
        """Another box's probe comes between, twice."""
        if method == "PUT" and key == PROBE_KEY and key in s3.objects:
            with suppress(StopIteration):
                s3.put(PROBE_KEY, next(others))

    s3.refuse = replaced
    check = checks()["write"]
    assert check.ok, check.detail
    assert next(others, None) is None


def test_missing_settings_are_named_and_the_rest_is_looked_at(env_file: Path) -> None:
    lines = env_file.read_text().splitlines()
    env_file.write_text("\n".join(line for line in lines if "RUNPOD_API_KEY" not in line))
    found = {check.name: check for check in run_checks(Edge(load(env_file)))}
    assert "RUNPOD_API_KEY" in found["settings"].detail
    assert found["list"].ok is True
    assert found["endpoint"].ok is False


def test_no_netrc_is_sent_to_a_presigned_url_and_puts_carry_their_md5(
    checks: Checks, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password hush\n")
    (tmp_path / ".netrc").chmod(0o600)
    sent, answer = list[tuple[str, bool, bool]](), s3.answer

    def look(request: Any, body: bytes) -> None:
        is_url, headers = "X-Amz-Signature" in request.path, request.headers
        if is_url or request.command == "PUT":
            has_one = "Authorization" in headers
            sent.append((request.command, has_one == is_url, "Content-MD5" in headers))
        answer(request, body)

    monkeypatch.setattr(s3, "answer", look)
    checks()
    assert sent == [("GET", False, False), *[("PUT", False, True)] * 4]
