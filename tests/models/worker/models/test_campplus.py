"""CAM++: what it hears of a window, and what it says of too little; its weights are in no test."""

import numpy as np
import pytest
import torch

from tests.models.worker.models.test_ge2e import noise
from worker.models.campplus import DIMENSION, SHORTEST, CamPlusPlusEmbedding


@pytest.fixture(scope="module")
def model() -> CamPlusPlusEmbedding:
    """A network with random weights that always start alike."""
    torch.manual_seed(0)
    return CamPlusPlusEmbedding().eval()


def embed(
    model: CamPlusPlusEmbedding, waveforms: torch.Tensor, weights: torch.Tensor | None = None
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Embed, to unit length: random weights give tiny numbers."""
    with torch.inference_mode():
        vectors = model(waveforms, weights=weights)
    return np.asarray(torch.nn.functional.normalize(vectors, dim=-1))


def test_it_has_the_parts_that_its_weights_are_for(model: CamPlusPlusEmbedding) -> None:
    """A tensor each of 3D-Speaker's file, whose names builder/ passes on."""
    state = model.state_dict()
    assert len(state) == 937
    assert sum(tensor.numel() for tensor in model.parameters()) == pytest.approx(6.8e6, rel=0.05)
    assert state["xvector.block3.tdnnd16.linear1.weight"].shape == (128, 992, 1)
    assert state["xvector.dense.linear.weight"].shape == (DIMENSION, 1024, 1)


def test_masked_part_has_no_influence(model: CamPlusPlusEmbedding) -> None:
    """What another speaker says in the same window must not colour the embedding."""
    one, other = noise(4.0), noise(4.0, level=0.5, seed=1)
    weights = torch.zeros(1, 40)
    weights[0, :20] = 1
    mixed = torch.cat([one[..., :33_000], other[..., 33_000:]], dim=-1)
    np.testing.assert_allclose(embed(model, mixed, weights), embed(model, one, weights), atol=1e-5)
    assert np.abs(embed(model, mixed) - embed(model, one)).max() > 1e-3


def test_many_masks_are_as_one_by_one_and_too_little_is_like_nothing(
    model: CamPlusPlusEmbedding,
) -> None:
    sound, masks = noise(2.0), torch.zeros(1, 3, 100)
    masks[0, 0, :50] = 1
    masks[0, 1, :5] = 1
    together = embed(model, sound, masks)
    assert together.shape == (1, 3, DIMENSION)
    assert np.isfinite(together).all()
    assert (together >= 0).all()
    np.testing.assert_array_equal(together[0, 1], together[0, 2])
    np.testing.assert_allclose(together[:, 0], embed(model, sound, masks[:, 0]), atol=1e-6)


def test_less_than_half_a_second_is_refused_so_that_pyannote_knows(
    model: CamPlusPlusEmbedding,
) -> None:
    with pytest.raises(ValueError, match="7999 samples are too few"):
        embed(model, torch.zeros(1, 1, SHORTEST - 1))
    assert np.isfinite(embed(model, torch.zeros(1, 1, SHORTEST))).all()
