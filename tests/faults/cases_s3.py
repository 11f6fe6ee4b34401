"""Faults between worker and S3. Refusals are S3's own wherever they can be."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.faults.case import Case, Done, Failed
from tests.faults.exchange import Answer, Exchange
from tests.faults.orders import Order
from tests.faults.proxy import Rule, Trick
from tests.faults.scene import Scene

BLOCK_BYTES = 1 << 20
"""At most so many bytes of a broken transfer may be fetched twice."""
LARGE_TRANSCRIPT_BYTES = 20_000_000
TOO_LARGE_BYTES = {"scores": 32_000_000, "words": 40_000_000}
"""Random figures pack badly: what has to go so that the rest fits into the 10 MB of an output."""
HTML = b"<!doctype html><title>Welcome</title><p>Please log in to use this network.</p>" * 50
ERROR = (
    b"<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"
)


def is_get(exchange: Exchange) -> bool:
    """Whether a worker fetches a recording."""
    return exchange.method == "GET" and exchange.is_presigned


def is_put(exchange: Exchange) -> bool:
    """Whether a worker stores a transcript."""
    return exchange.method == "PUT" and exchange.is_presigned and _is_transcript(exchange)


def _is_transcript(exchange: Exchange) -> bool:
    return exchange.path.endswith("/transcription.json")


def on_get(trick: Trick, times: float = 1) -> list[Rule]:
    """Break the fetch."""
    return [Rule(is_get, trick, times)]


def on_put(trick: Trick, times: float = 1) -> list[Rule]:
    """Break the delivery."""
    return [Rule(is_put, trick, times)]


def internal_error(exchange: Exchange) -> None:
    """Answer as S3 does when it is in trouble."""
    exchange.reply(Answer(500, (("Content-Type", "application/xml"),), ERROR))


def wrong_signature(exchange: Exchange) -> None:
    """Ask S3 with a signature of other letters."""
    head, mark, signature = exchange.target.partition("X-Amz-Signature=")
    exchange.reply(exchange.forward(target=head + mark + signature[::-1]))


def expired(scene: Scene) -> Trick:
    """Ask S3 with a signature that has ended."""

    def trick(exchange: Exchange) -> None:
        url = scene.presign("audio.wav", 1)
        time.sleep(2.1)
        exchange.reply(exchange.forward(f"{exchange.path}?{urlsplit(url).query}"))

    return trick


def deleted(scene: Scene) -> Trick:
    """Remove the recording before S3 is asked."""

    def trick(exchange: Exchange) -> None:
        scene.delete("audio.wav")
        exchange.reply(exchange.forward())

    return trick


def broken_at(share: float) -> Trick:
    """Reset the connection when so much of the body has arrived."""

    def trick(exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.reply(answer, first_bytes=int(len(answer.body) * share))
        exchange.reset()

    return trick


def stalled(exchange: Exchange) -> None:
    """Send half and then nothing."""
    answer = exchange.forward()
    exchange.reply(answer, first_bytes=len(answer.body) // 2)
    exchange.wait_until_hung_up()


def declared_wrongly(by: int) -> Trick:
    """Tell another length than the body has."""

    def trick(exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.reply(answer, declared=len(answer.body) + by)

    return trick


def replaced(scene: Scene) -> Trick:
    """Have another file under the same key when half has arrived."""

    def trick(exchange: Exchange) -> None:
        answer = exchange.forward()
        exchange.reply(answer, first_bytes=len(answer.body) // 2)
        scene.put("audio.wav", scene.ground.recordings["padded otherwise"])
        exchange.reset()

    return trick


def answer_lost(exchange: Exchange) -> None:
    """Let S3 store it, and tell nobody."""
    exchange.forward()
    exchange.reset()


def cut_short(exchange: Exchange) -> None:
    """Let S3 store what is no JSON any more, and say that all is well."""
    exchange.reply(exchange.forward(body=exchange.body[:-1] + b" "))


def other_text(exchange: Exchange) -> None:
    """Let S3 store a readable transcript with another text, and say that all is well."""
    head, mark, text = exchange.body.partition(b'"text":"')
    exchange.reply(exchange.forward(body=head + mark + b"X" + text[1:]))


def resumed(scene: Scene) -> str:
    """Count the bytes: those that had arrived in whole blocks are not sent again."""
    first, *others = [e for e in scene.s3.exchanges if is_get(e)]
    size = len(scene.ground.recordings["padded"])
    assert len(others) == 1, f"{len(others) + 1} requests"
    wanted = others[0].header("Range") or "none"
    kept = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted != "none" else 0
    assert first.sent_bytes - BLOCK_BYTES <= kept <= first.sent_bytes, f"Range: {wanted}"
    assert kept > 0, "started over"
    assert others[0].header("If-Match"), "no If-Match"
    assert kept + others[0].sent_bytes == size, "not all bytes"
    return f"{first.sent_bytes + others[0].sent_bytes:,} bytes for {size:,}: went on at {kept:,}"


def started_over(scene: Scene) -> str:
    """See that a replaced file is not glued to what had arrived of the first."""
    statuses = [e.answer.status for e in scene.s3.exchanges if is_get(e) and e.answer]
    assert statuses == [200, 412, 200], f"S3 answered {statuses}"
    return "S3 answered 412 to `If-Match`, then the whole of the new file"


def stored(worker: int, edge: int = 0) -> Callable[[Scene], str]:
    """See who PUT the transcript, and how often: what the worker can do needs no edge."""

    def check(scene: Scene) -> str:
        puts = [e for e in scene.s3.exchanges if e.method == "PUT" and _is_transcript(e)]
        by_worker = sum(map(is_put, puts))
        seen = f"PUTs: worker {by_worker}, edge {len(puts) - by_worker}"
        assert (by_worker, len(puts) - by_worker) == (worker, edge), seen
        return seen

    return check


GETS = [
    Case("GET: 403 expired", runs=2, s3=lambda scene: on_get(expired(scene))),
    Case("GET: 403 signature", Failed("AUDIO_FORBIDDEN"), s3=lambda _: on_get(wrong_signature)),
    Case("GET: 404", Failed("AUDIO_NOT_FOUND"), s3=lambda scene: on_get(deleted(scene))),
    Case("GET: 500 twice, then fine", s3=lambda _: on_get(internal_error, 2)),
    *(
        Case(
            f"GET: reset at {share:.0%}",
            s3=lambda _, share=share: on_get(broken_at(share)),  # type: ignore[misc]
            check=resumed,
            recording="padded",
        )
        for share in (0.1, 0.5, 0.99)
    ),
    Case("GET: stalled body", s3=lambda _: on_get(stalled), check=resumed, recording="padded"),
    Case("GET: Content-Length too large", s3=lambda _: on_get(declared_wrongly(1000))),
    Case("GET: Content-Length too small", s3=lambda _: on_get(declared_wrongly(-1000))),
    Case(
        "GET: HTML instead of audio",
        Failed("AUDIO_UNREADABLE"),
        s3=lambda _: on_get(
            lambda e: e.reply(Answer(200, (("Content-Type", "text/html"),), HTML)), math.inf
        ),
    ),
    Case(
        "GET: object replaced during the download",
        s3=lambda scene: on_get(replaced(scene)),
        check=started_over,
        recording="padded",
    ),
]

PUTS = [
    Case("PUT: 403", s3=lambda _: on_put(wrong_signature, math.inf), check=stored(1, 1)),
    Case("PUT: 500 twice, then fine", s3=lambda _: on_put(internal_error, 2), check=stored(3)),
    Case("PUT: reset after the body was sent", s3=lambda _: on_put(answer_lost), check=stored(2)),
    Case("PUT: 200, other bytes stored", s3=lambda _: on_put(other_text), check=stored(2)),
    Case(
        "PUT: 200, cut short in S3, each time",
        s3=lambda _: on_put(cut_short, math.inf),
        check=stored(4, 1),
    ),
    Case(
        "PUT: 200, other text stored, each time",
        s3=lambda _: on_put(other_text, math.inf),
        check=stored(4, 1),
    ),
    Case(
        "PUT: down for good, small transcript",
        s3=lambda _: on_put(Exchange.reset, math.inf),
        check=stored(4, 1),
    ),
    Case(
        "PUT: down for good, 20 MB transcript",
        Done(),
        s3=lambda _: on_put(Exchange.reset, math.inf),
        check=stored(4, 1),
        order=Order("attribute", "inflate", LARGE_TRANSCRIPT_BYTES),
    ),
    *(
        Case(
            f"PUT: down for good, {size // 10**6} MB transcript that does not fit into an output",
            Done(without=less),
            s3=lambda _: on_put(Exchange.reset, math.inf),
            check=stored(4, 1),
            order=Order("attribute", "inflate", size),
        )
        for less, size in TOO_LARGE_BYTES.items()
    ),
]
