"""The pipeline on real models: memory that runs out, stages that fail, URLs that die too soon."""

from __future__ import annotations

import base64
import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from bucketscribe_contract import FailureCode, JobInput, Stage, Transcript, UploadFailed, WordTiming
from tests.fakes.worker import Answer, LoopbackS3
from tests.recordings import SHORT_SPEECH, short_speech, write_recording
from tests.transcript_rules import broken_rules
from worker.cancel import CancelToken, StageContext
from worker.engines.segmentation import segmentation_of
from worker.engines.whisper import Whisper
from worker.errors import JobCancelled, WorkerError
from worker.host.progress import ProgressReporter
from worker.models.folder import unavailable
from worker.models.load import Models
from worker.pipeline import Job
from worker.settings import WorkerSettings
from worker.stages import align, diarize, transcribe
from worker.stages.validate import Speed
from worker.types import Recording, Samples

AUDIO = base64.b64encode(SHORT_SPEECH.read_bytes()).decode()


def job_of(models: Models, **fields: Any) -> Job:
    job = JobInput.model_validate({"audio_base64": AUDIO} | fields)
    progress = ProgressReporter([], 1.0)
    settings = WorkerSettings(allow_loopback_urls=True)
    return Job(job, models, settings, CancelToken(), progress, Speed(1.0))


@pytest.fixture(scope="module")
def undisturbed(models: Models) -> Transcript:
    """The transcript that nothing happened to."""
    document = Transcript.model_validate(job_of(models).run())
    assert broken_rules(document) == []
    return document


@dataclass
class Scene:
    """Jobs of the short speech, what may be patched under them, and where they work."""

    models: Models
    undisturbed: Transcript
    monkeypatch: pytest.MonkeyPatch
    folder: Path

    def job(self, **fields: Any) -> Job:
        """Make one."""
        return job_of(self.models, **fields)

    def run(self, **fields: Any) -> Transcript:
        """Make one, and return its transcript, which is in order."""
        document = Transcript.model_validate(self.job(**fields).run())
        assert broken_rules(document, fields.get("clip", {}).get("start_s", 0.0)) == []
        return document

    def wav_of(self, samples: Samples) -> bytes:
        """Return a file that needs no decoder."""
        write_recording(self.folder / "plain.wav", samples)
        return (self.folder / "plain.wav").read_bytes()


@pytest.fixture
def scene(
    models: Models, undisturbed: Transcript, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Scene]:
    """A scene whose jobs leave nothing behind."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield Scene(models, undisturbed, monkeypatch, tmp_path)
    assert list(tmp_path.glob("bucketscribe-*")) == []


def dying(s3: LoopbackS3, seconds: float) -> str:
    """A result URL with so many seconds to live."""
    signed = datetime.now(UTC) + timedelta(seconds=seconds - 600)
    life = f"X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires=600"
    return s3.url(f"/b/k?{life}&X-Amz-Signature=5ec2e7").reveal()


def test_a_job_takes_its_stages_in_order_and_delivers(scene: Scene, s3: LoopbackS3) -> None:
    job = scene.job(result_url=dying(s3, seconds=60))
    job.run()
    [(method, _, _, body)] = s3.requests
    assert method == "PUT"
    assert Transcript.model_validate_json(body).segments == scene.undisturbed.segments
    assert list(job.runner.timings) == list(Stage)[1:]


def test_what_runs_beside_whisper_has_a_cuda_stream_of_its_own(scene: Scene) -> None:
    """Torch's default stream and CTranslate2's wait for one another."""
    current, seen = threading.local(), dict[str, str | None]()

    @contextmanager
    def stream(its: str) -> Iterator[None]:
        current.stream = its
        yield
        current.stream = None

    def noting(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **named: Any) -> Any:
            seen[name] = getattr(current, "stream", None)
            return run(*arguments, **named)

        return noted

    for stage in (align, diarize, transcribe):
        name = stage.__name__.rpartition(".")[2]
        scene.monkeypatch.setattr(stage, name, noting(name, getattr(stage, name)))
    streams: Any = {Stage.ALIGN: "one", Stage.DIARIZE: "other"}
    scene.monkeypatch.setattr("torch.cuda.stream", stream)
    scene.monkeypatch.setattr(scene.models, "device", replace(scene.models.device, streams=streams))
    assert scene.run().segments == scene.undisturbed.segments
    assert seen == {"align": "one", "diarize": "other", "transcribe": None}


def test_a_result_url_that_would_die_is_refused_before_the_gpu(
    scene: Scene, s3: LoopbackS3
) -> None:
    job = scene.job(result_url=dying(s3, seconds=20))
    with pytest.raises(WorkerError) as caught:
        job.run()
    failure = caught.value.to_failure()
    assert failure.code is FailureCode.RESULT_URL_EXPIRES_TOO_SOON
    assert failure.needed_seconds == 39  # 30 s, and 1.5 times 5.5 s of audio at speed 1
    assert Stage.SPEECH not in job.runner.timings
    assert s3.requests == []


def throttled(contents: list[bytes], after_part: Callable[[int], Any]) -> Callable[..., Recording]:
    """Stand for the fetch stage: bring one content after the other, each from the start."""

    def fetch(_: JobInput, into: Path, *rest: Any) -> Recording:
        on_stored, path = rest[-1], into / "recording"
        for content in contents:
            with path.open("wb", buffering=0) as file:
                on_stored(0)
                for start in range(0, len(content), 4000):
                    file.write(content[start : start + 4000])
                    on_stored(file.tell())
                    after_part(file.tell())
        return Recording(path, len(contents[-1]))

    return fetch


def test_speech_is_found_while_the_recording_arrives(scene: Scene) -> None:
    content = scene.wav_of(short_speech())
    heard = threading.Event()
    segmentation = segmentation_of(scene.models.detector.vad_pipeline)
    infer = segmentation.infer

    def hear(chunks: Any) -> Any:
        heard.set()
        return infer(chunks)

    def wait(size: int) -> None:
        assert size < len(content) or heard.wait(20), "nothing was looked at"

    scene.monkeypatch.setattr(segmentation, "infer", hear)
    scene.monkeypatch.setattr("worker.pipeline.fetch", throttled([content], wait))
    scene.monkeypatch.setattr("worker.stages.stream._LEAST_BYTES", 2)
    one_by_one = replace(scene.models.device, windows_batch_size=1)
    scene.monkeypatch.setattr(scene.models, "device", one_by_one)
    assert scene.run().segments == scene.undisturbed.segments


def test_what_was_heard_of_a_replaced_recording_does_not_count(scene: Scene) -> None:
    contents = [scene.wav_of(s) for s in (np.zeros(90_000, np.int16), short_speech())]
    scene.monkeypatch.setattr("worker.pipeline.fetch", throttled(contents, lambda _: None))
    assert scene.run().segments == scene.undisturbed.segments


def test_a_failure_in_what_arrived_is_the_speech_stages(scene: Scene) -> None:
    failed = threading.Event()
    content = scene.wav_of(short_speech())

    def broken_search(parts: Any, *_: Any) -> None:
        next(iter(parts))
        failed.set()
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    fetching = throttled([content], lambda size: size < 120_000 or failed.wait(9))
    scene.monkeypatch.setattr("worker.pipeline.fetch", fetching)
    scene.monkeypatch.setattr("worker.stages.speech.find_speech", broken_search)
    job = scene.job()
    with pytest.raises(RuntimeError, match="illegal memory"):
        job.run()
    assert job.progress.stage == Stage.SPEECH


def limited(infer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let a batched call fail for batches of more than three."""

    def run(chunks: Any) -> Any:
        if len(chunks) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return infer(chunks)

    return run


def test_each_stage_goes_on_with_a_smaller_batch(scene: Scene) -> None:
    write_recording(scene.folder / "twice", np.tile(short_speech(), 2))  # 11 s: 12 windows and more
    twice = base64.b64encode((scene.folder / "twice").read_bytes()).decode()
    whole = scene.run(audio_base64=twice)
    for pipeline, stage, shares in (
        (scene.models.detector.vad_pipeline, Stage.SPEECH, True),
        (scene.models.diarization.model, Stage.DIARIZE, False),
    ):
        segmentation = segmentation_of(pipeline)
        scene.monkeypatch.setattr(segmentation, "infer", limited(segmentation.infer))
        scene.monkeypatch.setattr(scene.models, "shares_segmentation", shares)
        document = scene.run(audio_base64=twice)
        assert f"BATCH_REDUCED: {stage} 2" in document.warnings
        assert document.segments == whole.segments
        scene.monkeypatch.undo()


@pytest.mark.parametrize("name", ["find_speech", "transcribe", "align", "diarize"])
def test_a_batch_of_one_that_does_not_fit_is_out_of_memory(scene: Scene, name: str) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError("batch_size ( 1) is probably too large.")

    stage = Stage(name.removeprefix("find_"))
    scene.monkeypatch.setattr(f"worker.stages.{stage}.{name}", full)
    job = scene.job()
    with pytest.raises(WorkerError) as caught:
        job.run()
    assert (caught.value.code, caught.value.stage) == (FailureCode.OUT_OF_MEMORY, stage)
    assert job.progress.stage is stage


def broken(*_: Any, **__: Any) -> None:
    """Fail as a poisoned GPU does."""
    raise RuntimeError("CUDA error: device-side assert triggered")


def test_a_failed_alignment_delivers_interpolated_words(scene: Scene) -> None:
    scene.monkeypatch.setattr("worker.stages.align.align", broken)
    job = scene.job()
    document = Transcript.model_validate(job.run())
    assert document.warnings == ("ALIGNMENT_FAILED",)
    assert job.runner.is_poisoned
    words = [word for segment in document.segments for word in segment.words]
    assert {word.timing for word in words} == {WordTiming.INTERPOLATED}
    expected = [word.word for segment in scene.undisturbed.segments for word in segment.words]
    assert [word.word for word in words] == expected
    assert document.speakers == scene.undisturbed.speakers


def test_a_failed_diarization_delivers_the_text(scene: Scene) -> None:
    scene.monkeypatch.setattr("worker.stages.diarize.diarize", broken)
    document = scene.run()
    assert document.warnings == ("DIARIZATION_FAILED",)
    assert document.speakers == ()
    assert [s.text for s in document.segments] == [s.text for s in scene.undisturbed.segments]


@pytest.mark.parametrize("fidelity", ["improved", "stock"])
def test_speech_that_no_word_covers_is_listed_but_in_stocks_result(
    scene: Scene, fidelity: Literal["improved", "stock"]
) -> None:
    rule = "attribute" if fidelity == "improved" else "attribute_as_stock"
    scene.monkeypatch.setattr(f"worker.stages.attribute.{rule}", lambda *_: ())
    job = scene.job()
    job.settings = job.settings.model_copy(update={"fidelity": fidelity})
    document = Transcript.model_validate(job.run())
    codes = [warning.partition(":")[0] for warning in document.warnings]
    assert codes == ["NO_SPEECH"] + ["UNCOVERED_SPEECH"] * (fidelity == "improved")
    assert bool(document.uncovered) == (fidelity == "improved")
    assert broken_rules(document) == []


def test_an_aligner_that_does_not_load_fails_a_strict_job_only(scene: Scene) -> None:
    def refuse(*_: Any) -> None:
        raise unavailable("the aligner's weights do not load")

    scene.monkeypatch.setattr(type(scene.models), "aligner", refuse)
    document = scene.run()
    assert document.warnings == ("ALIGNMENT_UNAVAILABLE: words timed by attention",)
    words = [word for segment in document.segments for word in segment.words]
    assert {word.timing for word in words} == {WordTiming.ATTENTION}
    expected = [word for segment in scene.undisturbed.segments for word in segment.words]
    for word, aligned in zip(words, expected, strict=True):
        assert word.word == aligned.word
        assert word.start == pytest.approx(aligned.start, abs=0.25)
    with pytest.raises(WorkerError) as caught:
        scene.job(strict=True).run()
    assert caught.value.code is FailureCode.MODEL_UNAVAILABLE


def test_a_translation_is_not_given_to_an_aligner(scene: Scene) -> None:
    scene.monkeypatch.setattr(Whisper, "can_translate", True)
    translated = scene.run(task="translate", strict=True)
    assert "harbor" in " ".join(segment.text for segment in translated.segments)
    timings = {word.timing for segment in translated.segments for word in segment.words}
    assert WordTiming.ALIGNED not in timings


@pytest.mark.parametrize(("fidelity", "is_stock"), [("stock", True), ("improved", False)])
def test_the_setting_says_whether_text_is_stocks(
    scene: Scene, fidelity: Literal["stock", "improved"], is_stock: bool
) -> None:
    run_transcribe, given = transcribe.transcribe, []

    def spy(*args: Any, is_stock: bool) -> Any:
        given.append(is_stock)
        return run_transcribe(*args, is_stock=is_stock)

    scene.monkeypatch.setattr(transcribe, "transcribe", spy)
    job = scene.job()
    job.settings = WorkerSettings(fidelity=fidelity)
    job.run()
    assert given == [is_stock]


def test_what_speech_detection_saw_serves_the_diarization(scene: Scene) -> None:
    """The demo's detector and segmentation are one checkpoint."""
    assert scene.models.shares_segmentation
    scene.monkeypatch.setattr(segmentation_of(scene.models.diarization.model), "infer", broken)
    assert scene.run().segments == scene.undisturbed.segments


def test_diarization_and_alignment_go_on_while_text_is_written(scene: Scene) -> None:
    """The transcription ends only when the other two have begun."""
    begun = {"align": threading.Event(), "diarize": threading.Event()}

    def noted(name: str, stage: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            begun[name].set()
            return stage(*given, **named)

        return run

    run_transcribe = transcribe.transcribe

    def waiting(*given: Any, **options: Any) -> Any:
        found = run_transcribe(*given, **options)
        assert all(event.wait(20) for event in begun.values())
        return found

    scene.monkeypatch.setattr(align, "align", noted("align", align.align))
    scene.monkeypatch.setattr(diarize, "diarize", noted("diarize", diarize.diarize))
    scene.monkeypatch.setattr(transcribe, "transcribe", waiting)
    assert scene.run().segments == scene.undisturbed.segments


@pytest.mark.parametrize("stage", ["align", "diarize"])
def test_a_failure_beside_the_transcription_ends_it(scene: Scene, stage: str) -> None:
    run_transcribe = transcribe.transcribe

    def endless(*given: Any, **options: Any) -> None:
        run_transcribe(*given, **options)
        ctx: StageContext = given[4]
        while True:
            ctx.cancel.check(Stage.TRANSCRIBE)
            time.sleep(0.005)

    scene.monkeypatch.setattr(transcribe, "transcribe", endless)
    scene.monkeypatch.setattr(f"worker.stages.{stage}.{stage}", broken)
    job = scene.job(strict=True)
    with pytest.raises(WorkerError, match="strict") as caught:
        job.run()
    assert (caught.value.code, caught.value.stage) == (FailureCode.INTERNAL, stage)
    assert job.progress.stage == stage
    assert job.runner.is_poisoned
    names = {thread.name.split("_")[0] for thread in threading.enumerate()}
    assert not names & {"task", "transcribe"}


@pytest.mark.parametrize("error", [None, OSError("disk"), MemoryError()])
def test_a_transcript_that_cannot_be_delivered_comes_back(
    scene: Scene, s3: LoopbackS3, error: Exception | None
) -> None:
    """Refused by S3, or by a delivery that breaks."""

    def break_down(*_: Any) -> None:
        raise error or AssertionError

    s3.answers = [Answer(403, b"<Error><Code>AccessDenied</Code></Error>")]
    if error:
        scene.monkeypatch.setattr("worker.pipeline.deliver", break_down)
    output = UploadFailed.model_validate(scene.job(result_url=s3.url().reveal()).run())
    body = gzip.decompress(base64.b64decode(output.transcript_gzip_base64))
    assert Transcript.model_validate_json(body).segments == scene.undisturbed.segments
    code = FailureCode.INTERNAL if error else FailureCode.STORAGE_UNAVAILABLE
    assert output.failure.code is code


@pytest.mark.parametrize("stage", list(Stage)[1:])
def test_a_cancelled_job_stops_at_the_next_stage_and_leaves_nothing(
    scene: Scene, s3: LoopbackS3, stage: Stage
) -> None:
    job = scene.job(result_url=s3.url().reveal())
    original = job.progress.report

    def cancel_at(current: Stage, share: float = 0.0) -> None:
        original(current, share)
        if current is stage:
            job.token.cancel()

    job.progress.report = cancel_at  # type: ignore[method-assign]
    if stage is Stage.DELIVER:
        job.run()
        assert len(s3.requests) == 1  # what is nearly there is delivered
        return
    with pytest.raises(JobCancelled):
        job.run()
    assert s3.requests == []


@pytest.mark.parametrize(
    ("start_s", "end_s", "fields"),
    [
        (0.4, 2.4, {}),
        (0.4, 4.0, {"diarize": False}),
        (2.9, 4.4, {}),
        (0.0, 5.0, {"clip": {"start_s": 2.9, "end_s": 4.5}}),
    ],
)
def test_nothing_ends_after_the_recording(
    scene: Scene, start_s: float, end_s: float, fields: dict[str, Any]
) -> None:
    """Somebody speaks to the very end: the detector's and the aligner's frames go beyond it."""
    content = scene.wav_of(short_speech()[int(start_s * 16_000) : int(end_s * 16_000)])
    document = scene.run(audio_base64=base64.b64encode(content).decode(), **fields)
    last_s = fields["clip"]["end_s"] if "clip" in fields else end_s - start_s
    timed = [*document.segments, *(word for s in document.segments for word in s.words)]
    assert last_s - 0.5 < max(span.end for span in timed) <= last_s
