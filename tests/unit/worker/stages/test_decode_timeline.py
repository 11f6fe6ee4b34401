"""Samples stand where timestamps put them: random clocks against a reference of a few lines.

Matroska takes any timestamp, and FLAC's packets say their own rate and channels: so every jump
and every change of format can be written, and 16 kHz comes back to the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt
import pytest
from av import AudioFrame, CodecContext, Packet, VideoFrame
from av.audio.codeccontext import AudioCodecContext
from av.container import OutputContainer
from av.video.stream import VideoStream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.cancel import StageContext
from worker.stages.decode import DecodeLimits, decode
from worker.types import SAMPLE_RATE_HZ, Recording, Samples, Waveform

pytestmark = pytest.mark.usefixtures("decoder_in_this_process")

MAX_MS = 100_000
JITTER_MS = 50
OVERLAP_MS = 10_000
TONE_HZ = 200
FORMATS = [(16_000, 1), (16_000, 2), (8_000, 1), (22_050, 2), (44_100, 2), (48_000, 1)]
PER_MS = SAMPLE_RATE_HZ // 1000
check = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Block:
    """So many milliseconds of sound, whose packet says `says_ms`."""

    says_ms: int
    length_ms: int
    rate_hz: int = SAMPLE_RATE_HZ
    channels: int = 1

    def sound(self, seed: int, rate_hz: int) -> npt.NDArray[np.int16]:
        """Make noise where nothing is resampled, a tone where it is; shape (n_samples,)."""
        n = rate_hz * self.length_ms // 1000
        if self.rate_hz == SAMPLE_RATE_HZ:
            return (np.random.default_rng(seed).normal(size=n) * 3000).astype(np.int16)
        return (np.sin(np.arange(n) / rate_hz * 2 * np.pi * TONE_HZ) * 8000).astype(np.int16)


@dataclass(frozen=True)
class Placed:
    """Where a block stands, without its first `cut_ms`."""

    block: Block
    at_ms: int
    cut_ms: int


def place(blocks: Sequence[Block]) -> tuple[list[Placed], int]:
    """Place blocks on the timeline; return them, and how many milliseconds are in gaps."""
    placed: list[Placed] = []
    gaps_ms = written = clock = offset = 0
    for block in blocks:
        jump = block.says_ms + offset - clock
        anew = jump < -OVERLAP_MS or (jump < -JITTER_MS and block.says_ms == 0)
        if anew or jump > MAX_MS:
            offset, jump = offset - jump, 0
        if abs(jump) > JITTER_MS:
            clock += jump
        gaps_ms += max(clock - written, 0) if placed else 0
        cut = min(max(written - clock, 0), block.length_ms)
        placed.append(Placed(block, clock + cut, cut))
        clock += block.length_ms
        written = max(written, clock)
    if 2 * sum(p.cut_ms for p in placed) > sum(block.length_ms for block in blocks):
        return one_after_the_other(blocks), 0
    return placed, gaps_ms


def one_after_the_other(blocks: Sequence[Block]) -> list[Placed]:
    """Place blocks whose clock is broken: more would be cut than kept."""
    starts = accumulate((block.length_ms for block in blocks), initial=0)
    return [Placed(block, start, 0) for block, start in zip(blocks, starts, strict=False)]


@st.composite
def recordings(draw: st.DrawFn, lengths_ms: st.SearchStrategy[int], jitter_ms: int) -> list[Block]:
    """Draw blocks whose timestamps are on one side of every limit, and plainly so."""
    late = draw(st.sampled_from([0, 0, 150, 2_000]))
    says = clock = written = late
    blocks: list[Block] = []
    for length in draw(st.lists(lengths_ms, min_size=1, max_size=20)):
        room = min(9_500 - written + clock, says - 1_000, clock - 1_000)
        possible = [(says, clock)] * 3
        if blocks:
            gap = draw(st.integers(150, 4_000))
            possible.append((says + gap, clock + gap))
        if blocks and room >= 150:
            back = draw(st.integers(150, room))
            possible.append((says - back, clock - back))
        if blocks and clock == written:
            possible.append((says + MAX_MS + draw(st.integers(150, 10**6)), clock))
            if not late and says >= 150:
                possible.append((0, clock))
            if says > OVERLAP_MS + 1_200:
                possible.append((draw(st.integers(1_000, says - OVERLAP_MS - 200)), clock))
        says, clock = draw(st.sampled_from(possible))
        jitter = draw(st.integers(-jitter_ms, jitter_ms)) if says >= 1_000 else 0
        blocks.append(Block(says + jitter, length))
        says, clock = says + length, clock + length
        written = max(written, clock)
    return blocks


def write_pcm(path: Path, blocks: Sequence[Block], channels: int) -> None:
    """Write blocks of one format as PCM, each channel the same."""
    packets = [
        np.repeat(block.sound(number, SAMPLE_RATE_HZ), channels).tobytes()
        for number, block in enumerate(blocks)
    ]
    write_packets(path, "pcm_s16le", f"{channels} channels", blocks, packets)


def write_flac(path: Path, blocks: Sequence[Block]) -> None:
    """Write blocks of any format as FLAC: each is one packet of an encoder of its own."""
    packets = []
    for number, block in enumerate(blocks):
        layout = {1: "mono", 2: "stereo"}[block.channels]
        encoder = cast(AudioCodecContext, CodecContext.create("flac", "w"))
        encoder.sample_rate, encoder.format, encoder.layout = block.rate_hz, "s16", layout
        encoder.time_base = Fraction(1, block.rate_hz)
        interleaved = np.repeat(block.sound(number, block.rate_hz), block.channels)[None]
        frame = AudioFrame.from_ndarray(interleaved, "s16", layout)
        frame.sample_rate = block.rate_hz
        packets += [bytes(p) for f in (frame, None) for p in encoder.encode(f) if p.size]
    write_packets(path, "flac", "mono", blocks, packets)


def write_packets(
    path: Path, codec: str, layout: str, blocks: Sequence[Block], packets: Sequence[bytes]
) -> None:
    """Write packets with the blocks' timestamps; where they start late, after a picture at 0."""
    options = {"avoid_negative_ts": "disabled", "fflags": "+bitexact"}
    with av.open(path, "w", format="matroska", options=options) as output:
        stream = output.add_stream(codec, rate=SAMPLE_RATE_HZ, layout=layout)
        if blocks[0].says_ms:
            write_picture(output)
        output.start_encoding()
        for number, (block, content) in enumerate(zip(blocks, packets, strict=True)):
            packet = Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts, packet.dts = block.says_ms, number - len(blocks)  # dts may not go back
            output.mux(packet)


def write_picture(output: OutputContainer) -> None:
    """Write a video of one picture at time zero."""
    video = cast(VideoStream, output.add_stream("mjpeg", rate=25))
    video.width, video.height, video.pix_fmt = 64, 64, "yuvj420p"
    picture = VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), "yuvj420p")
    picture.pts = 0
    output.mux([*video.encode(picture), *video.encode(None)])


def run(path: Path) -> Waveform:
    """Decode a file."""
    limits = DecodeLimits(MAX_MS / 1000)
    return decode(Recording(path, path.stat().st_size), limits, StageContext())


def has_damage(waveform: Waveform) -> bool:
    """Tell whether a warning counts damage."""
    return any(warning.startswith("AUDIO_DAMAGED: ") for warning in waveform.warnings)


@check
@given(recordings(st.integers(1, 60), jitter_ms=20), st.sampled_from([1, 2, 3, 9]))
def test_blocks_of_one_format_stand_where_their_clock_says_to_the_sample(
    tmp_path: Path, blocks: list[Block], channels: int
) -> None:
    write_pcm(tmp_path / "r", blocks, channels)
    placed, gaps_ms = place(blocks)
    expected = np.zeros(length(placed), np.int16)
    for number, p in enumerate(placed):
        sound = p.block.sound(number, SAMPLE_RATE_HZ)[p.cut_ms * PER_MS :]
        expected[p.at_ms * PER_MS :][: len(sound)] = sound
    waveform = run(tmp_path / "r")
    assert len(waveform.samples) == len(expected)
    assert np.array_equal(waveform.samples[:], expected)
    if gaps_ms or all(p.cut_ms == 0 for p in placed):
        assert has_damage(waveform) == (gaps_ms > 0)


@check
@given(recordings(st.just(20), jitter_ms=0), st.lists(st.sampled_from(FORMATS), min_size=20))
def test_a_format_that_changes_goes_on_at_its_clock(
    tmp_path: Path, blocks: list[Block], formats: list[tuple[int, int]]
) -> None:
    """What is resampled is compared without its edges; each change may cost a sample."""
    blocks = [
        replace(block, rate_hz=rate_hz, channels=channels)
        for block, (rate_hz, channels) in zip(blocks, formats, strict=False)
    ]
    write_flac(tmp_path / "r", blocks)
    samples = run(tmp_path / "r").samples
    placed, _ = place(blocks)
    slack = 2 * sum(block.rate_hz != SAMPLE_RATE_HZ for block in blocks)
    assert abs(len(samples) - length(placed)) <= slack
    for number, p in enumerate(placed):
        edge_ms = 5 if p.block.rate_hz != SAMPLE_RATE_HZ else 0
        first_ms, stop_ms = max(p.cut_ms, edge_ms), p.block.length_ms - edge_ms
        sound = p.block.sound(number, SAMPLE_RATE_HZ)[first_ms * PER_MS : stop_ms * PER_MS]
        at = (p.at_ms - p.cut_ms + first_ms) * PER_MS
        assert not len(sound) or stands(samples, sound, at, slack)


def length(placed: Sequence[Placed]) -> int:
    """Count the samples up to the end of the last of them."""
    return PER_MS * max(p.at_ms + p.block.length_ms - p.cut_ms for p in placed)


def stands(samples: Samples, sound: Samples, at: int, slack: int) -> bool:
    """Tell whether a sound is where it should be, or a few samples beside that."""
    shifted = (samples[max(at + shift, 0) :][: len(sound)] for shift in range(-slack, slack + 1))
    return any(len(s) == len(sound) and np.allclose(s, sound, rtol=0, atol=200) for s in shifted)
