"""The speaker embedding: its front end against transformers', its masks, its odd inputs."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.audio_utils import mel_filter_bank, spectrogram

from worker.models.ge2e import GE2EEmbedding


@pytest.fixture(scope="module")
def model() -> GE2EEmbedding:
    """A network with random weights that always start alike."""
    torch.manual_seed(0)
    return GE2EEmbedding().eval()


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> torch.Tensor:
    """Make noise (1, 1, samples) whose spectrum changes every 0.2 s."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, level, int(seconds * 16_000))
    carrier = np.sin(np.cumsum(np.repeat(rng.uniform(0.05, 2, len(samples) // 3200 + 1), 3200)))
    mixed = samples * (1 + carrier[: len(samples)])
    return torch.from_numpy(mixed.astype(np.float32))[None, None]


def embed(
    model: GE2EEmbedding, waveforms: torch.Tensor, weights: torch.Tensor | None = None
) -> NDArray[np.float32]:
    with torch.inference_mode():
        return np.asarray(model(waveforms, weights=weights))


def test_front_end_is_the_one_that_was_trained_with(model: GE2EEmbedding) -> None:
    """Linear power mels with Slaney's scale and norm, as librosa computes them."""
    sound, window = noise(1.03), np.hanning(401)[:400]
    filters = mel_filter_bank(201, 40, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    mels = {"mel_filters": filters, "mel_floor": 0.0, "power": 2.0, "pad_mode": "constant"}
    expected = spectrogram(sound[0, 0].numpy(), window, 400, 160, **mels)
    ours = model.mel_frames(sound[0])[0].numpy()
    np.testing.assert_allclose(ours, expected.T, rtol=2e-4, atol=1e-6)


def test_masked_part_has_no_influence(model: GE2EEmbedding) -> None:
    """What another speaker says in the same window must not colour the embedding."""
    one, other = noise(4.0), noise(4.0, level=0.5, seed=1)
    weights = torch.zeros(1, 40)
    weights[0, :20] = 1
    mixed = torch.cat([one[..., :32_400], other[..., 32_400:]], dim=-1)
    np.testing.assert_allclose(embed(model, mixed, weights), embed(model, one, weights), atol=1e-5)
    assert np.abs(embed(model, mixed) - embed(model, one)).max() > 1e-3


def test_kept_parts_are_joined(model: GE2EEmbedding) -> None:
    """Frames that are kept are windowed as if nothing had been between them."""
    sound, weights = noise(4.8), torch.zeros(1, 481)
    weights[0, :100] = 1
    weights[0, 300:400] = 1
    mels = model.mel_frames(sound[0])[0]
    joined = torch.cat([mels[:100], mels[300:400]])
    windows = torch.stack([joined[:160], torch.cat([joined[80:], torch.zeros(40, 40)])])
    expected = model._embed(windows).mean(dim=0)
    expected = (expected / expected.norm()).detach().numpy()
    np.testing.assert_allclose(embed(model, sound, weights)[0], expected, atol=1e-5)


def test_quiet_speech_is_raised_and_loud_speech_left(model: GE2EEmbedding) -> None:
    """Below -30 dBFS the level does not matter; above it does, as it did in training."""
    quiet, loud = noise(3.0, level=0.002), noise(3.0, level=0.2)
    np.testing.assert_allclose(embed(model, quiet), embed(model, quiet / 4), atol=1e-4)
    assert np.abs(embed(model, loud) - embed(model, loud / 4)).max() > 1e-3


def assert_unit(vectors: NDArray[np.float32]) -> None:
    """NaN in one row, or a row without a direction, would spoil the clustering of all."""
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("n_samples", [1, 159, 400, 25_600, 80_000])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_short_and_silent_input_has_a_direction(
    model: GE2EEmbedding, n_samples: int, level: float
) -> None:
    assert_unit(embed(model, torch.full((1, 1, n_samples), level)))


def test_an_empty_mask_and_an_answer_of_zeros_have_a_direction(model: GE2EEmbedding) -> None:
    """Silent speakers are asked for too, and ReLU can leave nothing but zeros."""
    assert_unit(embed(model, noise(5.0), torch.zeros(1, 293)))
    mute = GE2EEmbedding().eval()
    torch.nn.init.constant_(mute.linear.bias, -100.0)
    assert_unit(embed(mute, noise(2.0)))


def test_nothing_is_tied_to_the_cpu() -> None:
    """On a device without data, every tensor that is made must follow its input."""
    on_meta = GE2EEmbedding().to("meta")
    assert on_meta.mel_frames(torch.zeros(1, 16_000, device="meta")).device.type == "meta"
    assert {b.device.type for b in on_meta.buffers()} == {"meta"}
