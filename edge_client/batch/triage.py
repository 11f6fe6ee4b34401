"""Goes through the listing and says of each session what it needs.

Takes a bucket's sessions; yields an `Item` each, in the listing's order. A claim is read where the
listing cannot tell, a few at a time, and a transcript where its claim leaves a doubt.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from functools import partial

from edge_client import claim as claims
from edge_client import transcripts
from edge_client.batch.assessment import NO_RECORDING, Inquiry, Wishes, from_listing
from edge_client.batch.in_order import Later, in_order
from edge_client.batch.scan import Scope, scan
from edge_client.batch.values import Found, Item, Need
from edge_client.edge import Edge

READERS = 4
DRAWN_AHEAD = 64


def items(edge: Edge, scope: Scope, wishes: Wishes) -> Generator[Item, None, None]:
    """Yield what each session of ``scope`` needs; those older than ``wishes.since`` are left out.

    Sessions that the scope names are submitted although their job failed for good. Closing the
    iterator stops the listing.

    Raises:
        EdgeError: S3 does not answer, or refuses; or the scope's user has no session.
    """
    if wishes.limit is not None and wishes.limit < 1:
        return
    named = frozenset(session.prefix for session in scope.sessions)
    wishes = replace(wishes, retry=wishes.retry | named)
    left = wishes.limit
    with closing(_drawn(edge, scope, wishes)) as drawn:
        for item in drawn:
            yield _refused_if_absent(item) if named else item
            if left is not None and item.need.is_work:
                left -= 1
                if left == 0:
                    return


def _drawn(edge: Edge, scope: Scope, wishes: Wishes) -> Generator[Item, None, None]:
    with closing(scan(edge.bucket, scope)) as sessions:
        triaged = (
            from_listing(found, wishes) or Later(partial(_looked_at, edge, found, wishes))
            for found in sessions
            if not wishes.passes_over(found)
        )
        yield from in_order(triaged, workers=READERS, ahead=DRAWN_AHEAD)


def _looked_at(edge: Edge, found: Found, wishes: Wishes) -> Item:
    if found.audio is None:
        raise AssertionError("without a recording the listing tells everything")
    return Inquiry(
        found=found,
        audio=found.audio,
        held=claims.read(edge.bucket, found.session),
        wishes=wishes,
        endpoint_id=edge.settings.endpoint_id,
        now=edge.clock.now(),
        delivered=partial(transcripts.find_of_job, edge.bucket, found.session),
    ).answer()


def _refused_if_absent(item: Item) -> Item:
    """Say so if a session that the user named is not there."""
    if item.why != NO_RECORDING:
        return item
    text = "there is no recording: check the session's name, or wait until it is uploaded"
    return replace(item, need=Need.REFUSED, why=text)
