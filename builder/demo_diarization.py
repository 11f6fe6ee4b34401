"""The demo profile's speaker diarization, as a folder that `pyannote.audio` loads.

Takes whisperx's segmentation checkpoint and resemblyzer's GE2E weights; writes
`config.yaml`, `segmentation/`, `embedding/` and `plda/`. How the parameters were chosen is in
`builder/README.md`.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pyannote.audio.core.task import Problem, Resolution, Specifications

EMBEDDING_DIMENSION = 256
WINDOW_S = 1.6

CONFIG = """\
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: AgglomerativeClustering
    segmentation: $model/segmentation
    embedding: $model/embedding
    plda: $model/plda
    segmentation_batch_size: 32
    embedding_batch_size: 32
    embedding_exclude_overlap: true
params:
  clustering: {method: centroid, threshold: 0.5, min_cluster_size: 12}
  segmentation: {threshold: 0.5, min_duration_off: 0.0}
"""


def write_config(folder: Path) -> None:
    """Write `config.yaml` and the matrices that it refers to."""
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    # PLDA that changes nothing: pyannote.audio 4 loads it even though centroid clustering does not
    # use it.
    plda = folder / "plda"
    plda.mkdir()
    zeros, identity = np.zeros(EMBEDDING_DIMENSION), np.eye(EMBEDDING_DIMENSION)
    np.savez(plda / "xvec_transform.npz", mean1=zeros, mean2=zeros, lda=identity)
    np.savez(plda / "plda.npz", mu=zeros, tr=identity, psi=np.ones(EMBEDDING_DIMENSION))


def write_embedding(weights: Path, checkpoint: Path) -> None:
    """Write the GE2E network as a checkpoint of `worker.models.ge2e.GE2EEmbedding`.

    Args:
        weights: resemblyzer's `pretrained.pt`; its optimizer state and loss scale are left out.
        checkpoint: The `pytorch_model.bin` to write.
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    network = {k: v for k, v in state.items() if k.startswith(("lstm.", "linear."))}
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": network, **_description()}, checkpoint)


def _description() -> dict[str, object]:
    """What pyannote.audio and lightning want to find beside the weights."""
    specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=WINDOW_S
    )
    return {
        "hyper_parameters": {"sample_rate": 16000, "num_channels": 1},
        "pytorch-lightning_version": version("lightning"),
        "pyannote.audio": {
            "versions": {"pyannote.audio": version("pyannote.audio")},
            "architecture": {"module": "worker.models.ge2e", "class": "GE2EEmbedding"},
            "specifications": specifications,
        },
    }
