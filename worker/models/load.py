"""Load: settings in, the models out, once a process, from a folder, with no network.

CTranslate2 reads Whisper, the largest of all, in a thread without Python's lock, while pyannote is
imported and its models are loaded. Raises `WorkerError` ``MODEL_UNAVAILABLE`` naming the model that
is missing or does not load.
"""

from __future__ import annotations

import gc
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pickle import UnpicklingError
from typing import TYPE_CHECKING, TypeVar

from worker.models.folder import ModelsFolder, unavailable
from worker.models.imports import go_offline
from worker.settings import WorkerSettings

go_offline()  # before what follows is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
from faster_whisper import WhisperModel  # noqa: E402

from worker.engines.whisper import Whisper  # noqa: E402
from worker.models.cpu_lanes import CpuLanes  # noqa: E402
from worker.models.device import (  # noqa: E402
    Device,
    choose_device,
    set_precision,
    use_bfloat16,
)
from worker.models.imports import light_imports, weights_only  # noqa: E402
from worker.models.sincnet import share_filters  # noqa: E402
from worker.types import SAMPLE_RATE_HZ, Waveform  # noqa: E402

if TYPE_CHECKING:
    from whisperx.diarize import DiarizationPipeline
    from whisperx.vads import Pyannote

    from worker.engines.alignment.acoustic import Aligner


logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Models:
    """Everything that stays in memory between jobs. For one job at a time: pyannote keeps state.

    Attributes:
        folder: Where they lie, and what they are called.
        device: What they run on.
        detector: Of speech.
        whisper: Of text.
        diarization: Tells speakers apart.
        shares_segmentation: Whether both of these look at windows with the same model, so that
            what the one has seen serves the other.
        lanes: The cores of a CPU, which all models share; None on CUDA.
    """

    folder: ModelsFolder
    device: Device
    detector: Pyannote
    whisper: Whisper
    diarization: DiarizationPipeline
    shares_segmentation: bool = False
    lanes: CpuLanes | None = None
    _aligners: dict[str, Aligner] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def aligner(self, language: str | None) -> Aligner | None:
        """Return the language's aligner, loaded on first use; None where the folder has none.

        From then on NLTK finds the tables that sentences are split by.
        """
        with self._lock:
            _ = self._tables
            if language is None or language not in self.folder.profile.align:
                return None
            if language not in self._aligners:
                self._aligners[language] = self._load_aligner(language)
            return self._aligners[language]

    @property
    def aligners_loaded(self) -> int:
        """How many languages' aligners are in memory."""
        return len(self._aligners)

    @cached_property
    @light_imports()
    def _tables(self) -> str:
        """Where NLTK finds tables, from the first look at this on."""
        from nltk.data import path as nltk_paths

        tables = str(self.folder.locate(self.folder.profile.nltk_data))
        nltk_paths.insert(0, tables)
        return tables

    @light_imports()
    def _load_aligner(self, language: str) -> Aligner:
        from whisperx.alignment import load_align_model

        from worker.engines.alignment.acoustic import Aligner

        import_module("torch.distributed.fsdp")  # as transformers does before each forward pass
        profile = self.folder.profile
        entry = profile.align[language]
        self.folder.verify(entry.path)
        path = str(self.folder.locate(entry.path))
        bundle = entry.kind == "torchaudio"  # by its name, and its weights by their folder
        where = {"model_name": entry.name, "model_dir": path} if bundle else {"model_name": path}
        with weights_only():
            model, metadata = _load(
                f"aligner {entry.name}",
                lambda: load_align_model(language, self.device.name, **where),
            )
        if self.lanes is not None:
            self.lanes.spread(model)
        return Aligner(model.eval(), metadata, entry.name)

    def get_ready_for_more(self) -> None:
        """Load what the first job needs last: a Whisper of one language has one aligner."""
        from worker.engines.alignment.ctc import warm

        languages = self.folder.whisper.languages or ()
        for language in languages if len(languages) == 1 else ():
            self.aligner(language)
        with light_imports():
            import_module("whisperx.alignment")
        warm()

    def rehearse(self) -> None:
        """Run every model that is loaded on a second of noise.

        Raises:
            RuntimeError: One does not run on the device; of torch's or CTranslate2's own.
            WorkerError: An aligner does not load.
        """
        from worker.engines.alignment.acoustic import log_probabilities
        from worker.engines.diarization.embeddings import embedder_of
        from worker.engines.segmentation import Segmenter, embedding_of, segmentation_of
        from worker.engines.whisper import Prompt

        self.get_ready_for_more()
        noise = np.random.default_rng(0).integers(-999, 999, SAMPLE_RATE_HZ).astype(np.int16)
        options = self.whisper.decoding_options(
            self.whisper.languages[0], Prompt(None, None, was_cut=False)
        )
        self.whisper.decode([Waveform(noise).part(0, len(noise))], options)
        for pipeline in (self.detector.vad_pipeline, self.diarization.model):
            segmenter = Segmenter(segmentation_of(pipeline))
            scores = segmenter.score(noise, [0])
        window = segmenter.grid.cut(noise, [0], segmenter.device)
        masks = torch.ones(1, 1, scores.shape[1], device=segmenter.device)
        with torch.inference_mode():
            embedder_of(embedding_of(self.diarization.model))(window, masks)
        for aligner in self._aligners.values():
            log_probabilities(torch.from_numpy(noise[None]), [len(noise)], aligner).cpu()


def load_models(settings: WorkerSettings, folder: ModelsFolder) -> Models:
    """Load the folder's models onto the device that the settings name."""
    device = choose_device(settings, folder)
    set_precision()
    torch.set_num_threads(device.threads)
    lanes = CpuLanes(device.lanes) if device.name == "cpu" else None
    with ThreadPoolExecutor(1, "load") as pool, _without_collections(), light_imports():
        whisper = pool.submit(_load_whisper, folder, device, lanes)
        with weights_only():
            detector = _load("speech detector", lambda: _load_detector(folder, device))
            diarization = _load("diarization", lambda: _load_diarization(folder, device))
        models = Models(
            folder=folder,
            device=device,
            detector=detector,
            whisper=whisper.result(),
            diarization=diarization,
            shares_segmentation=_is_same(detector, diarization),
            lanes=lanes,
        )
    torch.set_num_threads(device.threads)  # CTranslate2 sets it too
    if lanes is not None:
        _fit_to_cpu(models, lanes, is_stock=settings.fidelity == "stock")
    return models


@contextmanager
def _without_collections() -> Iterator[None]:
    """Collect no garbage meanwhile, and never look at what is there at the end again.

    Imports make millions of objects that stay; the collector goes through them again and again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _load_detector(folder: ModelsFolder, device: Device) -> Pyannote:
    from whisperx.vads import Pyannote

    path = folder.locate(folder.profile.vad.path)
    # whisperx wants an onset; `worker.stages.speech` has its own thresholds
    return Pyannote(device.torch_device, model_fp=str(path), vad_onset=0.5)


def _load_diarization(folder: ModelsFolder, device: Device) -> DiarizationPipeline:
    from whisperx.diarize import DiarizationPipeline

    path = folder.locate(folder.profile.diarization.path)
    return DiarizationPipeline(str(path), device=device.torch_device)


def _is_same(detector: Pyannote, diarization: DiarizationPipeline) -> bool:
    from worker.engines.segmentation import same_segmentation, segmentation_of

    return same_segmentation(
        segmentation_of(detector.vad_pipeline), segmentation_of(diarization.model)
    )


def _load_whisper(folder: ModelsFolder, device: Device, lanes: CpuLanes | None) -> Whisper:
    path = folder.locate(folder.whisper.path)
    model = _load(
        f"Whisper {folder.whisper_name}",
        lambda: WhisperModel(
            str(path),
            device=device.name,
            compute_type=device.compute_type,
            cpu_threads=device.threads,
            num_workers=device.lanes,
            local_files_only=True,
        ),
    )
    core = lanes.core if lanes else nullcontext
    return Whisper(model, device.lanes, core, folder.whisper_name)


def _fit_to_cpu(models: Models, lanes: CpuLanes, *, is_stock: bool) -> None:
    """Have the window models share the lanes.

    Unless stock's numbers are wanted, in bfloat16 and with filters that windows share. Whisper and
    the aligners take their lanes elsewhere.
    """
    from worker.engines.segmentation import Segmenter, embedding_of, segmentation_of

    segmentations = [
        segmentation_of(pipeline)
        for pipeline in (models.detector.vad_pipeline, models.diarization.model)
    ]
    if not is_stock:
        for segmentation in segmentations:
            share_filters(segmentation.model, Segmenter(segmentation).grid.hop)
    for model in (
        *(segmentation.model for segmentation in segmentations),
        embedding_of(models.diarization.model).model_,
    ):
        if not is_stock:
            use_bfloat16(model)
        lanes.spread(model)
        if hasattr(model, "forward_frames"):  # WeSpeaker's trunk, which `diarize` calls itself
            lanes.spread(model, "forward_frames")


def _load(what: str, load: Callable[[], T]) -> T:
    started = time.perf_counter()
    try:
        loaded = load()
    except UnpicklingError as exc:
        named = re.search(r"GLOBAL (\S+)", str(exc))
        raise unavailable(
            f"{what} holds other things than weights ({named[1] if named else 'damaged'}); make "
            "MODELS_DIR anew with python -m builder.fetch_models"
        ) from exc
    except (OSError, RuntimeError, ValueError, LookupError, ImportError, AttributeError) as exc:
        raise unavailable(
            f"{what} does not load ({type(exc).__name__}: {exc}); make MODELS_DIR anew with "
            "python -m builder.fetch_models and check it with python -m builder.verify_offline"
        ) from exc
    logger.info("loaded %s in %.1f s", what, time.perf_counter() - started)
    return loaded
