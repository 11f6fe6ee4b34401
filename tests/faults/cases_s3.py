"""Faults between worker and S3. Refusals are S3's own wherever they can be."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any
from urllib.parse import urlsplit

from tests.faults.case import Case, Done, Failed
from tests.faults.orders import Order
from tests.faults.proxy import Answer, Exchange, Rule, Trick
from tests.faults.scene import Scene

BLOCK_BYTES = 1 << 20
"""At most so many bytes of a broken transfer may be fetched twice."""
HTML = b"<!doctype html><title>Welcome</title><p>Please log in to use this network.</p>" * 50
ERROR = (
    b"<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"
)
ARCHIVED = (
    b"<Error><Code>InvalidObjectState</Code><Message>The operation is not valid for the object's "
    b"storage class</Message></Error>"
)


def is_get(exchange: Exchange) -> bool:
    return exchange.method == "GET" and exchange.is_presigned


def is_put(exchange: Exchange) -> bool:
    return exchange.is_presigned and stores_transcript(exchange)


def stores_transcript(exchange: Exchange) -> bool:
    return exchange.method == "PUT" and exchange.path.endswith("/transcription.json")


def internal_error(exchange: Exchange, _: Scene) -> None:
    exchange.reply(Answer(500, (("Content-Type", "application/xml"),), ERROR))


def archived(exchange: Exchange, _: Scene) -> None:
    exchange.reply(Answer(403, (("Content-Type", "application/xml"),), ARCHIVED))


def login_page(exchange: Exchange, _: Scene) -> None:
    """Answer as a network that wants a login."""
    exchange.reply(Answer(200, (("Content-Type", "text/html"),), HTML))


def wrong_signature(exchange: Exchange, _: Scene) -> None:
    """Ask S3 with a signature of other letters."""
    head, mark, signature = exchange.target.partition("X-Amz-Signature=")
    exchange.pass_on(head + mark + signature[::-1])


def expired(exchange: Exchange, scene: Scene) -> None:
    url = scene.presign("audio.wav", 1)
    time.sleep(2.1)
    exchange.pass_on(f"{exchange.path}?{urlsplit(url).query}")


def deleted(exchange: Exchange, scene: Scene) -> None:
    scene.delete("audio.wav")
    exchange.pass_on()


def cut_at(share: float, then: Trick) -> Trick:
    """Send so much of the body, and then something else."""

    def trick(exchange: Exchange, scene: Scene) -> None:
        answer = exchange.forward()
        exchange.reply(answer, first_bytes=int(len(answer.body) * share))
        then(exchange, scene)

    return trick


def down(exchange: Exchange, _: Scene) -> None:
    exchange.reset()


def silent(exchange: Exchange, _: Scene) -> None:
    """Send nothing more."""
    exchange.wait_until_hung_up()


def replaced(exchange: Exchange, scene: Scene) -> None:
    """Have another file under the same key, and reset the connection."""
    scene.put("audio.wav", scene.ground.recordings["padded otherwise"])
    exchange.reset()


def declared_wrongly(by: int) -> Trick:
    def trick(exchange: Exchange, _: Scene) -> None:
        answer = exchange.forward()
        exchange.reply(answer, declared=len(answer.body) + by)

    return trick


def answer_lost(exchange: Exchange, _: Scene) -> None:
    """Let the server do what it is asked, and tell nobody."""
    exchange.forward()
    exchange.reset()


def cut_short(exchange: Exchange, _: Scene) -> None:
    """Let S3 store what is no JSON any more, and say that all is well."""
    store(exchange, exchange.body[:-1] + b" ")


def other_text(exchange: Exchange, _: Scene) -> None:
    """Let S3 store a readable transcript with another text, and say that all is well."""
    head, mark, text = exchange.body.partition(b'"text":"')
    store(exchange, head + mark + b"X" + text[1:])


def store(exchange: Exchange, body: bytes) -> None:
    """Store other bytes in a server that compares no MD5."""
    del exchange.headers["Content-MD5"]
    exchange.pass_on(body=body)


def resumed(scene: Scene) -> str:
    """Count the bytes: those that had arrived in whole blocks are not sent again."""
    first, *others = [e for e in scene.s3.exchanges if is_get(e)]
    size = len(scene.ground.recordings["padded"])
    assert len(others) == 1, f"{len(others) + 1} requests"
    wanted = others[0].headers.get("Range", "bytes=0-")
    kept = int(wanted.removeprefix("bytes=").removesuffix("-"))
    assert first.sent_bytes - BLOCK_BYTES <= kept <= first.sent_bytes, f"Range: {wanted}"
    assert kept > 0, "started over"
    assert others[0].headers["If-Match"], "no If-Match"
    assert kept + others[0].sent_bytes == size, "not all bytes"
    return f"{first.sent_bytes + others[0].sent_bytes:,} bytes for {size:,}: went on at {kept:,}"


def started_over(scene: Scene) -> str:
    """See that a replaced file is not glued to what had arrived of the first."""
    statuses = [e.answer.status for e in scene.s3.exchanges if is_get(e) and e.answer]
    assert statuses == [200, 412, 200], f"S3 answered {statuses}"
    return "S3 answered 412 to `If-Match`, then the whole of the new file"


def stored(worker: int, edge: int) -> Callable[[Scene], str]:
    """See who PUT the transcript, and how often: what the worker can do needs no edge."""

    def check(scene: Scene) -> str:
        puts = [e.is_presigned for e in scene.s3.exchanges if stores_transcript(e)]
        seen = f"PUTs: worker {sum(puts)}, edge {len(puts) - sum(puts)}"
        assert seen == f"PUTs: worker {worker}, edge {edge}", seen
        return seen

    return check


def get(fault: str, trick: Trick, times: float = 1, **more: Any) -> Case:
    return Case(f"GET: {fault}", rules=[Rule(is_get, trick, times)], **more)


def get_large(fault: str, trick: Trick, check: Callable[[Scene], str] = resumed) -> Case:
    return get(fault, trick, check=check, recording="padded")


def put(
    fault: str, trick: Trick, times: float = inf, *, worker: int, edge: int = 1, **more: Any
) -> Case:
    """Break the delivery, which takes the worker so many PUTs; the edge mends what it cannot."""
    check = stored(worker, edge)
    return Case(f"PUT: {fault}", rules=[Rule(is_put, trick, times)], check=check, **more)


def put_inflated(fault: str, megabytes: int, without: str = "") -> Case:
    order = Order("attribute", "inflate", megabytes * 10**6)
    expected = Done(without=without)
    return put(
        f"down for good, {megabytes} MB transcript{fault}",
        down,
        worker=4,
        order=order,
        expected=expected,
    )


GETS = [
    get("403 expired", expired, runs=2),
    get("403 signature", wrong_signature, expected=Failed("AUDIO_FORBIDDEN")),
    get("404", deleted, expected=Failed("AUDIO_NOT_FOUND")),
    get("500 twice, then fine", internal_error, 2),
    *(get_large(f"reset at {share:.0%}", cut_at(share, down)) for share in (0.1, 0.5, 0.99)),
    get_large("stalled body", cut_at(0.5, silent)),
    get("Content-Length too large", declared_wrongly(1000)),
    get("Content-Length too small", declared_wrongly(-1000)),
    get("HTML instead of audio", login_page, inf, expected=Failed("AUDIO_UNREADABLE")),
    get_large("object replaced during the download", cut_at(0.5, replaced), started_over),
]
PUTS = [
    put("403", wrong_signature, worker=1),
    put("500 twice, then fine", internal_error, 2, worker=3, edge=0),
    put("reset after the body was sent", answer_lost, 1, worker=2, edge=0),
    # `If-None-Match` keeps a worker from replacing even its own
    put("200, other bytes stored", other_text, 1, worker=2),
    put("200, cut short in S3, each time", cut_short, worker=2),
    put("200, other text stored, each time", other_text, worker=2),
    put("down for good, small transcript", down, worker=4),
    put_inflated("", 20),
    # random figures pack badly: what has to go so that the rest fits into the 10 MB of an output
    put_inflated(" that does not fit into an output", 32, "scores"),
    put_inflated(" that does not fit into an output", 48, "words"),
]
