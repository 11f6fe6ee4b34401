"""RunPod's own Python client on the development stack; that of npm has its test in tests/soak."""

from __future__ import annotations

from pathlib import Path

import pytest
import runpod

from tests.fakes.queue_client import API_KEY, ENDPOINT_ID
from tests.fakes.sdk_worker import at_work
from tests.processes import wait_until


def test_runpods_own_client_finds_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with at_work(tmp_path) as server:
        monkeypatch.setattr(runpod, "endpoint_url_base", server.base_url)
        endpoint = runpod.Endpoint(ENDPOINT_ID, API_KEY)

        assert endpoint.run_sync({"input": {"parts": ["now"]}}, timeout=60) == ["now"]
        job = endpoint.run({"input": {"parts": ["a", {"b": 1}]}})
        assert (job.output(timeout=30), job.status()) == (["a", {"b": 1}], "COMPLETED")
        assert endpoint.run({"input": {"parts": 5}}).output(timeout=30) is None  # it failed

        waiting = endpoint.run({"input": {"wait": True}, "policy": {"executionTimeout": 60_000}})
        wait_until(lambda: waiting.status() == "IN_PROGRESS")
        assert endpoint.health()["workers"]["running"] == 1
        assert waiting.cancel() == {"id": waiting.job_id, "status": "CANCELLED"}
        assert waiting.status() == "CANCELLED"

        with pytest.raises(RuntimeError, match="401"):
            runpod.Endpoint(ENDPOINT_ID, "another").health()
