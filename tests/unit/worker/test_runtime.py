"""The runtime: where the models are, when a fresh worker is asked for, what is logged of a job."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from tests.fakes.models_folder import make
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.host.health import Check
from worker.host.log import quiet_libraries
from worker.models.folder import unavailable
from worker.runtime import Runtime
from worker.settings import WorkerSettings

INLINE = {"audio_base64": "UklGRg=="}


def runtime(folder: Path, **settings: Any) -> Runtime:
    return Runtime(WorkerSettings(models_dir=folder, models_volume=folder / "none", **settings))


def run(worker: Runtime, raw: dict[str, Any]) -> dict[str, Any]:
    """Run a job that fails, as the handler does."""
    progress = worker.begin("job-1", print)
    with pytest.raises(WorkerError) as caught:
        worker.run(raw, CancelToken(), progress)
    progress.close()
    return worker.finish({"error": caught.value.to_failure().model_dump_json()})


def lines(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == name]


def test_the_folder_that_is_used_is_told_once_and_those_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    baked = make(tmp_path / "baked")
    (make(tmp_path / "volume" / "models") / "vad/pytorch_model.bin").unlink()
    worker = Runtime(WorkerSettings(models_dir=baked, models_volume=tmp_path / "volume"))
    with caplog.at_level(logging.INFO, "worker.runtime"):
        assert worker.find_models() is worker.find_models()
    passed_over, used = lines(caplog, "worker.runtime")
    assert passed_over.startswith("not used: MODELS_DIR")
    assert used == f"models: {baked} (production), Whisper large-v3"


def test_models_that_are_not_there_are_left_to_the_health_check(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # no killed worker left anything here
    threads = threading.active_count()
    with caplog.at_level(logging.INFO):
        runtime(tmp_path).load_early()
    assert threading.active_count() == threads
    assert lines(caplog, "worker.runtime") == []
    registered: list[Check] = []
    runtime(tmp_path).register_checks(registered.append)
    names = [check.__name__ for check in registered]
    assert names == [
        "scratch_has_room", "authority_is_one", "models_are_complete", "gpu_runs_a_kernel",
        "gpu_runs_the_models",
    ]  # fmt: skip


@pytest.mark.parametrize("has_volume", [True, False])
def test_what_cuda_compiles_is_kept_on_the_volume_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_volume: bool
) -> None:
    monkeypatch.delenv("CUDA_CACHE_PATH", raising=False)
    volume = tmp_path if has_volume else tmp_path / "none"
    Runtime(WorkerSettings(models_dir=tmp_path, models_volume=volume)).load_early()
    kept = str(tmp_path / "cuda-cache") if has_volume else None
    assert os.environ.pop("CUDA_CACHE_PATH", None) == kept


def test_a_job_is_logged_once_whatever_became_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = runtime(make(tmp_path))
    with caplog.at_level(logging.INFO, "worker.job"):
        run(worker, {"audio_url": "key"})
        worker.begin("job-2", print)
        with pytest.raises(ValueError, match="JSON"):
            worker.finish({"value": float("nan")})
        worker.finish({"error": json.dumps({"code": "INTERNAL"})})
        worker.finish({"status": "ok"})  # nothing was begun
    first, second = lines(caplog, "worker.job")
    assert first.startswith("job job-1 failed INVALID_INPUT")
    assert second.startswith("job job-2 failed INTERNAL")


@pytest.mark.parametrize(("code", "fresh"), [("MODEL_UNAVAILABLE", True), ("INTERNAL", False)])
def test_a_worker_whose_models_do_not_load_asks_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, fresh: bool
) -> None:
    worker = runtime(make(tmp_path))

    def load() -> Any:
        raise WorkerError(FailureCode(code), "it does not load", unavailable("").stage)

    monkeypatch.setattr(worker, "_load", load)
    monkeypatch.setattr("worker.pipeline.fetch", lambda *_: _Fetched())
    monkeypatch.setattr("worker.pipeline.decode", lambda *_: _Fetched())
    assert run(worker, INLINE).get("refresh_worker", False) is fresh


class _Fetched:
    etag = None
    duration_s = 1.0


def test_libraries_that_set_their_own_level_stay_quiet() -> None:
    quiet_libraries()
    import lightning.pytorch
    import whisperx.alignment
    import whisperx.vads.pyannote

    for module in (whisperx.alignment, whisperx.vads.pyannote):
        assert not module.logger.isEnabledFor(logging.WARNING), module.__name__
    migration = logging.getLogger(f"{lightning.pytorch.__name__}.utilities.migration.utils")
    assert not migration.isEnabledFor(logging.INFO)
