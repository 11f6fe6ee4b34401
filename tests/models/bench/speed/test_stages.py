"""What the stages alone are given."""

import torch

from bench.speed.stages import remembering


def test_a_remembered_forward_is_not_done_again() -> None:
    """By its input's values; a result that was changed in place is still as it was."""
    double = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(double.weight, 2.0)
    double.forward = remembering(double.forward)  # type: ignore[method-assign]
    with torch.inference_mode():
        first = double(torch.ones(1, 1))
        assert double(torch.full((1, 1), 3.0)).item() == 6.0
        first += 100
        double.weight.fill_(5.0)
        assert double(torch.ones(1, 1)).item() == 2.0
