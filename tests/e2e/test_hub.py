"""The hub's tests, as RunPod runs them: each input through the queue to a real worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bucketscribe_contract import Transcript
from tests.e2e.conftest import ROOT, Bench

TESTS = json.loads((ROOT / ".runpod/tests.json").read_text(encoding="utf-8"))["tests"]


@pytest.mark.parametrize("test", TESTS, ids=lambda test: str(test["name"]))
def test_the_hubs_test_succeeds(bench: Bench, test: dict[str, Any]) -> None:
    """But for `DEVICE=cuda`, which the hub's configuration sets: there is no GPU here."""
    status = bench.result(bench.submit(test["input"]), test["timeout"] / 1000)
    assert status["status"] == "COMPLETED", status
    document = Transcript.model_validate(status["output"])
    assert document.language == "en"
    assert document.segments
    assert bool(document.speakers) is test["input"].get("diarize", True)
