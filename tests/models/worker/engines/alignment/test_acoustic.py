"""Which slices go together, that a batch gives what each gives alone, and that nothing is kept."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchaudio.models import wav2vec2_model, wavlm_base
from torchaudio.pipelines import WAV2VEC2_ASR_BASE_960H
from torchaudio.pipelines._wav2vec2.utils import _extend_model

from tests.fakes.alignment import torchaudio_model, transformers_model
from tests.recordings import short_speech
from worker.engines.alignment.acoustic import (
    Aligner,
    Batch,
    can_be_padded,
    emit,
    first_norm_told,
    log_probabilities,
    plan_batches,
)


def model_on(device: str, module: nn.Module) -> Aligner:
    """The model as the engine takes it, on a device."""
    kind = "huggingface" if hasattr(module, "wav2vec2") else "torchaudio"
    return Aligner(module.to(device), {"type": kind}, "test")


@pytest.fixture(scope="module")
def model() -> Aligner:
    """One that can be padded, on the CPU."""
    return model_on("cpu", torchaudio_model())


@given(
    lengths=st.lists(st.integers(0, 480_000) | st.integers(0, 800), max_size=40),
    batch_size=st.integers(1, 4),
)
@settings(deadline=None)
def test_every_slice_is_in_one_batch_that_is_not_too_large(
    model: Aligner, lengths: list[int], batch_size: int
) -> None:
    batches = plan_batches(lengths, batch_size, model)
    assert sorted(i for b in batches for i in b.members) == list(range(len(lengths)))
    for batch in batches:
        assert batch.n_samples == tuple(lengths[i] for i in batch.members)
        assert list(batch.n_samples) == sorted(batch.n_samples, reverse=True)
        if len(batch.members) > 1:
            assert batch_size > 1
            assert min(batch.n_samples) >= 400
            assert len(batch.members) * batch.n_samples[0] <= batch_size * 480_000
    firsts = [batch.n_samples[0] for batch in batches]
    assert firsts == sorted(firsts, reverse=True)


def test_a_model_that_cannot_be_padded_gets_one_slice_at_a_time() -> None:
    """Neither one that is not known, nor one that normalises its whole input."""
    assert can_be_padded(torchaudio_model("layer_norm"))
    assert not can_be_padded(_extend_model(torchaudio_model("layer_norm"), True))
    assert not can_be_padded(wavlm_base())
    batches = plan_batches([5000] * 4, 8, model_on("cpu", nn.Linear(1, 1)))
    assert [len(batch.members) for batch in batches] == [1] * 4


def test_slices_that_are_short_or_empty_have_an_emission(model: Aligner) -> None:
    slices = [np.zeros(n, np.int16) for n in (0, 1, 399, 400, 5000)]
    batches = plan_batches([len(s) for s in slices], 4, model)
    found = dict(emit(slices.__getitem__, batches, model))
    assert [len(found[i]) for i in range(5)] == [1, 1, 1, 1, 15]
    assert all(np.isfinite(emission).all() for emission in found.values())


def test_a_short_slice_is_told_of_its_padding_as_whisperx_tells_it(model: Aligner) -> None:
    samples = torch.full((1, 400), 9000, dtype=torch.int16)
    with torch.inference_mode():
        told, _ = model.model(samples / 32768, lengths=torch.tensor([300]))
        untold, _ = model.model(samples / 32768)
    found = log_probabilities(samples, [300], model)
    assert torch.equal(found, told.log_softmax(-1))
    assert not torch.equal(found, untold.log_softmax(-1))


def base_960h() -> nn.Module:
    """The architecture of WAV2VEC2_ASR_BASE_960H, its weights random."""
    torch.manual_seed(0)
    return wav2vec2_model(**WAV2VEC2_ASR_BASE_960H._params)


@pytest.mark.parametrize(
    ("build", "lengths", "rounding"),
    [
        (partial(torchaudio_model, "group_norm"), [60_000, 31_001, 9_999, 2_000, 401], 1e-4),
        (partial(torchaudio_model, "layer_norm"), [60_000, 31_001, 9_999, 2_000, 401], 1e-4),
        (partial(transformers_model, "group"), [60_000, 31_001, 9_999, 2_000, 401], 1e-4),
        (partial(transformers_model, "layer"), [60_000, 31_001, 9_999, 2_000, 401], 1e-4),
        (base_960h, [40_000, 16_123, 400], 1e-5),
    ],
)
def test_a_padded_batch_gives_each_slice_what_it_has_alone(
    build: Callable[[], nn.Module], lengths: list[int], rounding: float
) -> None:
    model, speech = model_on("cpu", build().eval()), short_speech()
    slices = [speech[n % 7000 :][:n] for n in lengths]
    alone = dict(
        emit(slices.__getitem__, [Batch((i,), (len(s),)) for i, s in enumerate(slices)], model)
    )
    order = tuple(range(len(slices)))
    together = dict(emit(slices.__getitem__, [Batch(order, tuple(map(len, slices)))], model))
    for i in order:
        np.testing.assert_allclose(together[i], alone[i], rtol=0, atol=rounding)
        assert np.ptp(alone[i]) > 0.1


def test_the_model_is_as_it_was_after_a_batch() -> None:
    module = torchaudio_model()
    layer = module.feature_extractor.conv_layers[0]
    with suppress(MemoryError), first_norm_told(module, [4000, 2000]):
        assert not isinstance(layer.layer_norm, nn.GroupNorm)
        raise MemoryError
    assert isinstance(layer.layer_norm, nn.GroupNorm)


@pytest.mark.parametrize("lengths", [[3000], [200], [3000, 2000]])
@pytest.mark.parametrize("kind", ["torchaudio", "transformers"])
def test_everything_is_where_the_model_is(lengths: list[int], kind: str) -> None:
    host = torch.zeros(len(lengths), max([400, *lengths]), dtype=torch.int16)
    eager = transformers_model("group", attention="eager")  # sdpa looks whether it has a mask
    module = torchaudio_model() if kind == "torchaudio" else eager
    emissions = log_probabilities(host, lengths, model_on("meta", module))
    assert emissions.device.type == "meta"
    assert emissions.shape[0] == len(lengths)


def test_lanes_run_side_by_side_and_give_the_same(model: Aligner) -> None:
    noise = np.random.default_rng(0).normal(0, 3000, 9000).astype(np.int16)
    slices = [noise[:n] for n in (9000, 8000, 3000, 2000, 450, 10)]
    batches = [Batch((i,), (len(s),)) for i, s in enumerate(slices)]
    alone = dict(emit(slices.__getitem__, batches, model))
    both = threading.Barrier(2, timeout=30)

    def meet(*_: object) -> None:
        both.wait()

    with model.model.register_forward_pre_hook(meet):
        together = list(emit(slices.__getitem__, batches, model, lanes=2))
    assert [i for i, _ in together] == list(range(6))
    assert all(np.array_equal(emission, alone[i]) for i, emission in together)


def test_what_breaks_in_a_lane_comes_out_and_ends_the_others(model: Aligner) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    batches = [Batch((0,), (500,))] * 20
    with model.model.register_forward_pre_hook(refuse), pytest.raises(MemoryError):
        list(emit([np.zeros(500, np.int16)].__getitem__, batches, model, lanes=2))
    assert not [t for t in threading.enumerate() if t.name.startswith("align")]


def test_nothing_of_a_batch_is_kept(model: Aligner) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    slices = [np.ones(n, np.int16) for n in (4000, 3000)]
    counts = []
    for _ in range(2):
        dict(emit(slices.__getitem__, [Batch((0, 1), (4000, 3000))], model))
        counts.append(tensors())
    assert counts[0] == counts[1]
