"""Recordings made to take memory or time, and files that name other files or addresses."""

from __future__ import annotations

import io
import struct
from functools import cache

import av

from tests.mutated_recordings import sound

FILE, ADDRESS = b"file:///etc/hostname", b"http://127.0.0.1:9/sound.m4a"


@cache
def flac_with_comments(count: int) -> bytes:
    """Return a FLAC that FFmpeg takes minutes to open: it compares each comment with the others."""
    flac, at, is_last = sound("flac"), 4, False
    while not is_last:
        is_last = bool(flac[at] & 0x80)
        at += 4 + int.from_bytes(flac[at + 1 : at + 4], "big")
    comments = b"".join(struct.pack("<I7s", 7, b"%05x=1" % i) for i in range(count))
    block = struct.pack("<II", 0, count) + comments
    head = flac[:4] + b"\0" + flac[5:42]  # no longer the last block
    return head + b"\x84" + len(block).to_bytes(3, "big") + block + flac[at:]


def wav_with_title(declared: int = 1_100_000_000) -> bytes:
    """Return a WAV of 130 KB whose title is that long: FFmpeg allocates and clears it all."""
    wav = sound("wav")
    title = b"LIST" + struct.pack("<I4s4sI", declared + 12, b"INFO", b"INAM", declared)
    return wav[:12] + title + wav[12:]


def wav_of_exbibytes() -> bytes:
    """Return an RF64 whose header declares more than a file system holds."""
    wav, declared = sound("wav"), struct.pack("<4sIQQ12x", b"ds64", 28, 1 << 61, 1 << 61)
    wav = wav[:12] + declared + wav[12:]
    at = wav.index(b"data") + 4
    return b"RF64" + wav[4:at] + b"\xff" * 4 + wav[at + 4 :]


def caf_of_exbibytes() -> bytes:
    """Return a CAF whose first chunks end beyond what a file system holds."""
    caf = sound("caf")
    at = caf.index(b"desc") + 4
    free = struct.pack(">4sQ", b"free", 1 << 61)
    return caf[: at + 8 + 32] + free + caf[at + 8 + 32 :]


def mp3_that_changes() -> bytes:
    """Return an MP3 of one channel at 16 kHz, and then one at 48 kHz."""
    return sound("mp3") + sound("mp3", 48_000)


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), name) + body


def _full(name: bytes, *parts: bytes) -> bytes:
    return _box(name, bytes(4), *parts)


def mp4(samples: int = 20_000, reference: bytes = b"", codec: bytes = b"alaw") -> bytes:
    """Return an MP4 with 20 KB of A-law in one chunk.

    Args:
        samples: How many its tables declare; beyond those it has FFmpeg takes 36 bytes for each.
        reference: A data reference instead of "in this file", as a whole box.
        codec: The name of its codec.
    """
    ticks = 1 if samples == 20_000 else 1024  # of one tick they are read as a chunk
    start = _box(b"ftyp", b"M4A \0\0\0\0M4A ")
    entry = struct.pack(">6xH8xHHHHI", 1, 1, 16, 0, 0, 16_000 << 16)
    tables = (
        _full(b"stsd", struct.pack(">I", 1), _box(codec, entry)),
        _full(b"stts", struct.pack(">III", 1, samples, ticks)),
        _full(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
        _full(b"stsz", struct.pack(">II", 1, samples)),
        _full(b"stco", struct.pack(">II", 1, len(start) + 8)),
    )
    where = _full(b"dref", struct.pack(">I", 1), reference or _box(b"url ", b"\0\0\0\1"))
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">8xIIHH", 16_000, 160_000, 0x55C4, 0)),
        _full(b"hdlr", struct.pack(">4x4s13x", b"soun")),
        _box(b"minf", _full(b"smhd", bytes(4)), _box(b"dinf", where), _box(b"stbl", *tables)),
    )
    header = _box(b"tkhd", struct.pack(">I8xI4xI60x", 3, 1, 10_000))
    movie = _full(b"mvhd", struct.pack(">8xII80x", 1000, 10_000))
    sound_box = _box(b"mdat", b"\x55\xd5" * 10_000)
    return start + sound_box + _box(b"moov", movie, _box(b"trak", header, media))


def _alias(path: bytes) -> bytes:
    """Return a Macintosh alias record, as QuickTime refers to files with."""
    name = path.rpartition(b"/")[2]
    head = struct.pack(">4xHHH", 150, 2, 0) + b"\x04disk".ljust(28, b"\0")
    head += bytes(12) + bytes((len(name),)) + name.ljust(63, b"\0") + bytes(16)
    head += struct.pack(">HH16x", 1, 1)
    parts = ((0, b"etc"), (2, path.replace(b"/", b":")), (18, path))
    records = (struct.pack(">HH", kind, len(p)) + p + b"\0" * (len(p) % 2) for kind, p in parts)
    return _full(b"alis", head, *records, b"\xff\xff\0\0")


def _matroska_with_attachment() -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        output.add_attachment("../../etc/passwd", "font/ttf", b"no font")
        stream = output.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for packet in stream.encode(_silence()):
            output.mux(packet)
    return file.getvalue()


def _silence() -> av.AudioFrame:
    frame = av.AudioFrame(format="s16", layout="mono", samples=16_000)
    frame.planes[0].update(bytes(32_000))
    frame.sample_rate = 16_000
    return frame


def files_that_name_others() -> dict[str, bytes]:
    """Return files of all kinds that could make FFmpeg open a file or an address."""
    sdp = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n"
    mpd = b'<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet mimeType="audio/mp4">'
    mpd += b'<Representation id="1"><BaseURL>%s</BaseURL></Representation></AdaptationSet>' % FILE
    return {
        "mp4-url-file": mp4(reference=_full(b"url ", FILE + b"\0")),
        "mp4-url-http": mp4(reference=_full(b"url ", ADDRESS + b"\0")),
        "mp4-urn": mp4(reference=_full(b"urn ", b"x\0" + FILE + b"\0")),
        "mov-alias": mp4(reference=_alias(b"/etc/hostname")),
        "m3u8-file": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n%s\n#EXT-X-ENDLIST\n" % FILE,
        "m3u8-http": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n%s\n" % ADDRESS,
        "concat": b"ffconcat version 1.0\nfile /etc/hostname\n",
        "concat-http": b"ffconcat version 1.0\nfile %s\n" % ADDRESS,
        "sdp": sdp,
        "dash": mpd + b"</Period></MPD>",
        "ffmetadata": b";FFMETADATA1\ntitle=x\n[STREAM]\n",
        "rtsp": b"[Reference]\nRef1=rtsp://127.0.0.1:9/x\n",
        "smil": b'<smil><body><audio src="%s"/></body></smil>' % ADDRESS,
        "mkv-attachment": _matroska_with_attachment(),
    }
