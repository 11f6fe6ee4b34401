"""The demo profile's speaker diarization, as a folder that `pyannote.audio` loads.

Takes whisperx's segmentation checkpoint and resemblyzer's GE2E weights; writes
`config.yaml`, `segmentation/`, `embedding/` and `plda/`. How the parameters were chosen is in
`builder/README.md`.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio.core.task import Problem, Resolution, Specifications

EMBEDDING_DIMENSION = 256
WINDOW_S = 1.6

CONFIG = """\
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: {kind}
    segmentation: $model/segmentation
    embedding: $model/embedding
    plda: $model/plda
    segmentation_batch_size: 32
    embedding_batch_size: 32
    embedding_exclude_overlap: true
params:
  clustering: {{{clustering}}}
  segmentation: {{{segmentation}}}
"""


def write_demo_config(folder: Path) -> None:
    """Write `config.yaml`, and the PLDA that it names and centroid clustering does not use."""
    clustering = "method: centroid, threshold: 0.5, min_cluster_size: 12"
    segmentation = "threshold: 0.5, min_duration_off: 0.0"
    config = CONFIG.format(
        kind="AgglomerativeClustering", clustering=clustering, segmentation=segmentation
    )
    identity = np.eye(EMBEDDING_DIMENSION)
    write_pipeline(folder, config, identity, np.ones(EMBEDDING_DIMENSION))


def write_pipeline(
    folder: Path, config: str, lda: NDArray[np.float64], psi: NDArray[np.float64]
) -> None:
    """Write `config.yaml`, and PLDA matrices without means.

    Args:
        folder: Of the pipeline.
        config: Made of `CONFIG`.
        lda: Shape (n_embedding, n_plda).
        psi: Shape (n_plda,), variances between speakers.
    """
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    plda = folder / "plda"
    plda.mkdir(exist_ok=True)
    before, after = (np.zeros(size) for size in lda.shape)
    np.savez(plda / "xvec_transform.npz", mean1=before, mean2=after, lda=lda)
    np.savez(plda / "plda.npz", mu=after, tr=np.eye(len(psi)), psi=psi)


def write_demo_embedding(weights: Path, target: Path) -> None:
    """Write the GE2E network as a checkpoint of `worker.models.ge2e.GE2EEmbedding`.

    Args:
        weights: resemblyzer's `pretrained.pt`; its optimizer state and loss scale are left out.
        target: The `pytorch_model.bin` to write.
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
    network = {k: v for k, v in state.items() if k.startswith(("lstm.", "linear."))}
    parameters = {"sample_rate": 16000, "num_channels": 1}
    specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=WINDOW_S
    )
    architecture = "worker.models.ge2e.GE2EEmbedding"
    write_checkpoint(target, network, parameters, architecture, specifications)


def write_checkpoint(
    target: Path, state: Any, parameters: Any, architecture: str, specifications: Specifications
) -> None:
    """Write weights with what pyannote.audio and lightning want to find beside them."""
    module, _, name = architecture.rpartition(".")
    checkpoint = {
        "state_dict": state,
        "hyper_parameters": parameters,
        "pytorch-lightning_version": version("lightning"),
        "pyannote.audio": {
            "versions": {"pyannote.audio": version("pyannote.audio")},
            "architecture": {"module": module, "class": name},
            "specifications": specifications,
        },
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, target)
