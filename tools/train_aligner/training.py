"""The training loop: frame labels all along, CTC on top once the frames are roughly right.

Runs for so many minutes on one thread. The schedule follows the clock, so that a slower machine
takes fewer steps rather than longer; two runs therefore differ slightly.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from tools.train_aligner.corpus import Utterance
from tools.train_aligner.network import BLANK, VOCABULARY, build, count_frames, save
from tools.train_aligner.windows import Batch, Windows

PEAK_RATE = 1.5e-3
WARM_UP_STEPS = 80
HOLD = 0.45
"""Share of the run after which the learning rate falls, along a cosine."""
LABEL_WEIGHT = 1.5
"""Of frames that are not blank."""
CTC_WEIGHT = 0.5
EMA_DECAY = 0.9985
LOG_EVERY = 25


@dataclass(frozen=True)
class Schedule:
    """What depends on the share of the run that is over, 0 to 1."""

    progress: float

    def rate(self, step: int) -> float:
        """Learning rate."""
        fall = max(0.0, (self.progress - HOLD) / (1 - HOLD))
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))
        return PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * cosine

    @property
    def ctc(self) -> float:
        """Weight of the CTC loss: none for the first tenth, all from 35 % on."""
        return CTC_WEIGHT * min(1.0, max(0.0, (self.progress - 0.10) / 0.25))

    @property
    def strength(self) -> float:
        """Share of distorted examples."""
        return 0.15 + 0.75 * min(1.0, self.progress / 0.5)


class Trainer:
    """A network, its optimizer and the running average of its weights.

    Args:
        seed: Of the network's start.
    """

    def __init__(self, seed: int = 0) -> None:
        self.model = build(seed)
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.steps = 0
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}],
            betas=(0.9, 0.98),
            eps=1e-7,
        )
        self._weights = torch.full((len(VOCABULARY),), LABEL_WEIGHT)
        self._weights[BLANK] = 1.0

    def step(self, batch: Batch, schedule: Schedule) -> float:
        """Take one step and return the frame loss, which unlike the sum is comparable."""
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.rate(self.steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(batch.sound).logits
        log_probs = logits.float().log_softmax(-1)
        frame_loss = F.nll_loss(log_probs.flatten(0, 1), batch.labels.flatten(), self._weights)
        loss = frame_loss + schedule.ctc * _ctc_loss(log_probs, batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self._optimizer.step()
        self.steps += 1
        self._update_average()
        return frame_loss.item()

    def _update_average(self) -> None:
        decay = min(EMA_DECAY, (1 + self.steps) / (20 + self.steps))
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)


def train(utterances: list[Utterance], minutes: float, folder: Path, seed: int = 1) -> list[float]:
    """Train a network from nothing and save its averaged weights.

    Args:
        utterances: The training corpus.
        minutes: How long to train.
        folder: Where to save it, for `whisperx.load_align_model`.
        seed: Of the batches.

    Returns:
        The frame loss of every step.
    """
    torch.set_num_threads(1)
    windows, trainer = Windows(utterances, seed), Trainer()
    started, losses = time.monotonic(), list[float]()
    while (progress := (time.monotonic() - started) / (60 * minutes)) < 1:
        schedule = Schedule(progress)
        losses.append(trainer.step(windows.draw(schedule.strength), schedule))
        if trainer.steps % LOG_EVERY == 0:
            recent = sum(losses[-LOG_EVERY:]) / LOG_EVERY
            print(f"step {trainer.steps}  {progress:4.0%}  frame loss {recent:.3f}", flush=True)
    save(trainer.average, folder)
    return losses


def _ctc_loss(log_probs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """CTC loss a character."""
    count, n_samples = batch.sound.shape
    lengths = torch.tensor([len(sequence) for sequence in batch.sequences])
    targets = torch.tensor([c for sequence in batch.sequences for c in sequence])
    frames = torch.full((count,), count_frames(n_samples))
    loss = F.ctc_loss(
        log_probs.transpose(0, 1), targets, frames, lengths, reduction="sum", zero_infinity=True
    )
    return loss / max(1, int(lengths.sum()))
