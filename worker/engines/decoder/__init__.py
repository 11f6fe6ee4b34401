"""FFmpeg in a process of its own: any recording in, mono int16 samples at 16 kHz out.

`process` starts the child and gives it one recording; `child` limits itself and decodes: `audio`
reads packets and knows the stream's clock, `waveform` mixes, resamples and puts samples in place.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """What of a recording is wanted.

    Attributes:
        start: First sample.
        stop: One past the last; None: all.
        limit: Most samples.
        ignore_length: Read a WAV on beyond the length in its header.
        ignore_clock: Take no notice of timestamps.
    """

    start: int
    stop: int | None
    limit: int
    ignore_length: bool = False
    ignore_clock: bool = False
