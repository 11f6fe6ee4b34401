"""One check for each kind of model: load it, run one second of audio through it.

Each takes a path and one second of sound; each raises whatever the library raises, or
`ModelBroken` where the library answers without complaint but the answer is unusable.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from builder.errors import ModelBroken

SAMPLE_RATE_HZ = 16_000

Second = NDArray[np.float32]


def one_second() -> Second:
    """Make a second of sound, float32 (16000,): a tone that swells, in faint noise."""
    time_s = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE_HZ)
    swell = 0.3 * np.sin(np.pi * time_s) * np.sin(2 * np.pi * 220 * time_s)
    return np.asarray(swell + noise, dtype=np.float32)


def check_whisper(folder: Path, sound: Second) -> None:
    """Transcribe the second with a CTranslate2 Whisper model."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    language = None if model.model.is_multilingual else "en"
    segments, _ = model.transcribe(sound, language=language, beam_size=1, max_new_tokens=8)
    list(segments)


def check_segmentation(checkpoint: Path, sound: Second) -> None:
    """Score the second with a pyannote.audio segmentation model."""
    from pyannote.audio import Model

    model = Model.from_pretrained(checkpoint)
    with torch.inference_mode():
        _finite(model.eval()(torch.from_numpy(sound)[None, None]), checkpoint)


def check_aligner(folder: Path, entry: dict[str, str], language: str, sound: Second) -> None:
    """Align two sentences with the second through `whisperx.align`, sentence splitter included.

    Args:
        folder: The models folder.
        entry: The aligner's, of `profile.json`.
        language: ISO 639-1.
        sound: Float32 (16000,).
    """
    import whisperx

    path = str(folder / entry["path"])
    where = (
        {"model_name": entry["name"], "model_dir": path}
        if entry["kind"] == "torchaudio"
        else {"model_name": path, "model_cache_only": True}
    )
    model, metadata = whisperx.load_align_model(language, "cpu", **where)
    segment = {"start": 0.0, "end": 1.0, "text": "Ta. Da."}
    result = whisperx.align([segment], model, metadata, sound, "cpu")
    # Languages without spaces give back characters, the others words.
    given_back = "".join(word["word"] for word in result["word_segments"])
    if given_back.replace(" ", "") != "Ta.Da.":
        raise ModelBroken(f"{entry['name']} does not give back the words it was given")


def check_diarization(folder: Path, sound: Second) -> None:
    """Diarize the second, and embed it: a second may hold too little speech to be embedded."""
    from pyannote.audio import Model, Pipeline

    waveform = torch.from_numpy(sound)[None]
    Pipeline.from_pretrained(folder)({"waveform": waveform, "sample_rate": SAMPLE_RATE_HZ})
    embedding = Model.from_pretrained(folder / "embedding").eval()
    with torch.inference_mode():
        _finite(embedding(waveform[None], weights=torch.ones(1, 50)), folder)


def check_splitters(folder: Path) -> None:
    """Split a text with every language's sentence splitter."""
    import nltk

    if str(folder) not in nltk.data.path:
        nltk.data.path.insert(0, str(folder))
    for tables in sorted((folder / "tokenizers" / "punkt_tab").iterdir()):
        splitter = nltk.tokenize.PunktTokenizer(tables.name)
        if len(list(splitter.span_tokenize("Ab cd efg. Hij kl mno."))) != 2:
            raise ModelBroken(f"the {tables.name} tables do not split two sentences")


def _finite(output: torch.Tensor, path: Path) -> None:
    if not torch.isfinite(output).all():
        raise ModelBroken(f"{path.name} gives numbers that are not finite")
