"""How many windows go through a model at once.

On a GPU as many as fit into its memory, which `worker.device` looks at when the models are
loaded; the ladder of `worker.memory` halves them when that was too much after all. On a CPU few:
what a window leaves behind in the first layers (2.6 MB in the segmentation network, 10 MB in
ResNet34) then stays in the caches, and in less memory.
"""

from __future__ import annotations

import torch

SEGMENTED_ON_CPU = 8
"""CPU time of a window of 5 s on one core: 18 ms in fours, 20 in eights, 23 in thirty-twos. With
two lanes (`worker.lanes`) a batch is split in two."""
EMBEDDED_ON_CPU = 8


def segmentation_batch(device: torch.device, batch_size: int) -> int:
    """Tell how many windows to segment at once, at most ``batch_size``."""
    return min(batch_size, SEGMENTED_ON_CPU) if device.type == "cpu" else batch_size


def embedding_batch(device: torch.device, batch_size: int) -> int:
    """Tell how many windows to embed at once, each under all its masks."""
    return min(batch_size, EMBEDDED_ON_CPU) if device.type == "cpu" else batch_size
