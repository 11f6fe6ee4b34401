"""Load the models once per process, from a folder, with no network.

Raises `WorkerError` ``MODEL_UNAVAILABLE`` naming the model that is missing or does not load.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from worker.offline import go_offline
from worker.profile import Profile, unavailable
from worker.settings import WorkerSettings

go_offline()  # before what follows is imported

import torch  # noqa: E402
import whisperx  # noqa: E402
from nltk.data import path as nltk_paths  # noqa: E402
from whisperx.asr import FasterWhisperPipeline  # noqa: E402
from whisperx.diarize import DiarizationPipeline  # noqa: E402
from whisperx.vads import Pyannote  # noqa: E402

from worker.align import Aligner  # noqa: E402
from worker.device import Device, choose_device  # noqa: E402
from worker.speech import OFFSET, ONSET  # noqa: E402

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Models:
    """Everything that stays in memory between jobs. For one job at a time: whisperx keeps state."""

    folder: Path
    profile: Profile
    device: Device
    detector: Pyannote
    whisper: FasterWhisperPipeline
    whisper_name: str
    diarization: DiarizationPipeline
    _aligners: dict[str, Aligner] = field(default_factory=dict)

    def aligner(self, language: str | None) -> Aligner | None:
        """Return the language's aligner, loaded on first use; None where the folder has none."""
        entry = self.profile.align.get(language or "")
        if language is None or entry is None:
            return None
        if language not in self._aligners:
            path = str(self.folder / entry.path)
            model, metadata = _load(
                f"aligner {entry.name}",
                lambda: whisperx.load_align_model(language, self.device.name, model_name=path),
            )
            self._aligners[language] = Aligner(model.eval(), metadata, entry.name)
        return self._aligners[language]


def load_models(settings: WorkerSettings) -> Models:
    """Load what the settings name, onto the device there is."""
    profile = Profile.read(settings.models_dir)
    nltk_paths.insert(0, str(settings.models_dir / profile.nltk_data))
    device = choose_device(settings)
    torch.set_num_threads(device.threads)
    name = settings.whisper_model or profile.whisper.default
    if name not in profile.whisper.models:
        known = ", ".join(profile.whisper.models)
        raise unavailable(f"WHISPER_MODEL={name} is not in MODELS_DIR; it has {known}")
    detector = _load("speech detector", lambda: _load_detector(settings, profile, device))
    return Models(
        folder=settings.models_dir,
        profile=profile,
        device=device,
        detector=detector,
        whisper=_load(
            f"Whisper {name}", lambda: _load_whisper(settings, profile, name, device, detector)
        ),
        whisper_name=name,
        diarization=_load(
            "diarization",
            lambda: DiarizationPipeline(
                str(settings.models_dir / profile.diarization.path), device=device.torch_device
            ),
        ),
    )


def _load_detector(settings: WorkerSettings, profile: Profile, device: Device) -> Pyannote:
    return Pyannote(
        device.torch_device,
        model_fp=str(settings.models_dir / profile.vad.path),
        vad_onset=ONSET,
        vad_offset=OFFSET,
    )


def _load_whisper(
    settings: WorkerSettings, profile: Profile, name: str, device: Device, detector: Pyannote
) -> FasterWhisperPipeline:
    entry = profile.whisper.models[name]
    model = whisperx.asr.WhisperModel(
        str(settings.models_dir / entry.path),
        device=device.name,
        compute_type=device.compute_type,
        cpu_threads=device.threads,
        local_files_only=True,
    )
    return whisperx.load_model(
        name, device.name, compute_type=device.compute_type, model=model, vad_model=detector
    )


def _load(what: str, load: Callable[[], T]) -> T:
    started = time.perf_counter()
    try:
        loaded = load()
    except (OSError, RuntimeError, ValueError, LookupError, ImportError, AttributeError) as exc:
        raise unavailable(
            f"{what} does not load ({type(exc).__name__}: {exc}); make MODELS_DIR anew with "
            "python -m builder.fetch_models and check it with python -m builder.verify_offline"
        ) from exc
    logger.info("loaded %s in %.1f s", what, time.perf_counter() - started)
    return loaded
