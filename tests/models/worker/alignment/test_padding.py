"""A padded batch gives each recording the emission that it has alone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.recordings import short_speech
from tests.unit.worker.alignment.aligners import torchaudio_model, transformers_model

if TYPE_CHECKING:
    from torch import nn

    from worker.engines.alignment.acoustic import AcousticModel

pytestmark = pytest.mark.models

TOLERANCE = 1e-5


def on_cpu(module: nn.Module, kind: str) -> AcousticModel:
    """The model as the engine takes it."""
    import torch

    from worker.engines.alignment.acoustic import AcousticModel

    return AcousticModel(module.eval(), kind, torch.device("cpu"))  # type: ignore[arg-type]


def base_960h() -> nn.Module:
    """The architecture of WAV2VEC2_ASR_BASE_960H, its weights random."""
    import torch
    from torchaudio.models import wav2vec2_model
    from torchaudio.pipelines import WAV2VEC2_ASR_BASE_960H

    torch.manual_seed(0)
    return wav2vec2_model(**WAV2VEC2_ASR_BASE_960H._params)


def largest_difference(model: AcousticModel, lengths: list[int]) -> float:
    """How far a batch of slices is from the slices alone, over all their log-probabilities."""
    from worker.engines.alignment.acoustic import Batch, emit

    speech = short_speech()
    slices = [speech[n % 7000 :][:n] for n in lengths]
    alone = dict(emit(slices, [Batch((i,), (len(s),)) for i, s in enumerate(slices)], model))
    order = tuple(range(len(slices)))
    together = dict(emit(slices, [Batch(order, tuple(map(len, slices)))], model))
    assert [alone[i].shape for i in order] == [together[i].shape for i in order]
    assert min(np.ptp(alone[i]) for i in order) > 0.1
    return float(max(np.abs(alone[i] - together[i]).max() for i in order))


def test_base_960h_is_batched_exactly() -> None:
    assert largest_difference(on_cpu(base_960h(), "torchaudio"), [40_000, 16_123, 400]) < TOLERANCE


@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
def test_torchaudio_models_are_batched_exactly(mode: str) -> None:
    model = on_cpu(torchaudio_model(mode), "torchaudio")
    assert largest_difference(model, [60_000, 31_001, 9_999, 2_000, 401]) < TOLERANCE * 10


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_transformers_models_are_batched_exactly(norm: str) -> None:
    model = on_cpu(transformers_model(norm), "huggingface")
    assert largest_difference(model, [60_000, 31_001, 9_999, 2_000, 401]) < TOLERANCE * 10


def test_a_group_norm_that_is_not_told_is_far_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    monkeypatch.setattr(
        "worker.engines.alignment.acoustic.first_norm_told", lambda *_: nullcontext()
    )
    model = on_cpu(torchaudio_model(), "torchaudio")
    assert largest_difference(model, [60_000, 31_001]) > 0.1


def test_the_model_is_as_it_was_after_a_batch() -> None:
    from torch import nn

    from worker.engines.alignment.acoustic import first_norm_told

    module = torchaudio_model()
    layer = module.feature_extractor.conv_layers[0]
    with suppress(MemoryError), first_norm_told(module, [4000, 2000]):
        assert not isinstance(layer.layer_norm, nn.GroupNorm)
        raise MemoryError
    assert isinstance(layer.layer_norm, nn.GroupNorm)


def test_a_model_that_normalises_its_input_is_never_padded() -> None:
    from torchaudio.pipelines._wav2vec2.utils import _extend_model

    from worker.engines.alignment.acoustic import can_be_padded

    assert can_be_padded(torchaudio_model("layer_norm"))
    assert not can_be_padded(_extend_model(torchaudio_model("layer_norm"), True))


def test_a_model_that_is_not_known_is_never_padded() -> None:
    from torch import nn
    from torchaudio.models import wavlm_base

    from worker.engines.alignment.acoustic import can_be_padded

    assert not can_be_padded(nn.Linear(1, 1))
    assert not can_be_padded(wavlm_base())
