"""Labels of frames: in order, on time, one to an event."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.train_aligner.network import BLANK, BOUNDARY, LABELS, VOCABULARY, count_frames
from tools.train_aligner.windows import FRAME_S, label_frames

T, O = LABELS["T"], LABELS["O"]  # noqa: E741  # the letter
SECOND = 16_000


def frames_of(labels: np.ndarray, label: int) -> list[int]:
    """Say in which frames a label stands."""
    return np.flatnonzero(labels == label).tolist()


def test_letter_stands_where_it_begins() -> None:
    """Within a frame of its time."""
    labels = label_frames([(T, 0.31), (O, 0.515), (BOUNDARY, 0.7)], SECOND)
    assert abs(frames_of(labels, T)[0] * FRAME_S - 0.31) <= FRAME_S
    assert abs(frames_of(labels, O)[0] * FRAME_S - 0.515) <= FRAME_S


def test_pause_gives_the_word_end_a_second_frame() -> None:
    """A word end right before the next word gets one, and gives way to it."""
    events = [(T, 0.3), (BOUNDARY, 0.5), (O, 0.51), (BOUNDARY, 0.7)]
    assert len(frames_of(label_frames(events, SECOND), BOUNDARY)) == 1 + 2


def test_repeated_letter_has_a_blank_between() -> None:
    """CTC would read two adjacent equal labels as one."""
    first, second = frames_of(label_frames([(O, 0.3), (O, 0.3)], SECOND), O)
    assert second == first + 2


def test_word_end_before_the_first_letter_is_not_labelled() -> None:
    """Nothing in the sound tells of it."""
    labels = label_frames([(BOUNDARY, 0.0), (T, 0.3), (BOUNDARY, 0.4)], SECOND)
    assert frames_of(labels, BOUNDARY)[0] > frames_of(labels, T)[0]


@given(
    st.lists(st.tuples(st.integers(BOUNDARY, len(VOCABULARY) - 1), st.floats(0, 1.2)), max_size=40)
)
def test_labels_keep_the_order_of_events(events: list[tuple[int, float]]) -> None:
    """Letters that do not fit are pushed later or off the end, never swapped or merged."""
    ordered = sorted(events, key=lambda event: event[1])
    labels = label_frames(ordered, SECOND)
    letters = [label for label in labels.tolist() if label > BOUNDARY]
    expected = [label for label, _ in ordered if label > BOUNDARY]
    assert letters == expected[: len(letters)]
    assert len(labels) == count_frames(SECOND)
    assert set(labels.tolist()) <= {BLANK, *(label for label, _ in events)}


@pytest.mark.models
def test_network_gives_as_many_frames_as_are_labelled() -> None:
    """Also for whisperx's shortest input, 400 samples."""
    import torch

    from tools.train_aligner.network import build

    model = build().eval()
    for n_samples in (400, 16_000, 43_200):
        with torch.inference_mode():
            assert model(torch.zeros(1, n_samples)).logits.shape[1] == count_frames(n_samples)
