"""Tells what a session needs: first from the listing alone, then from its claim. Pure.

Takes a `Found` and the user's `Wishes`; returns an `Item`, or None where the listing cannot tell.
S3's own clock decides which of two objects is newer, an ETag whether a job ran on this recording.

Goes through the listing and says of each session what it needs.

Takes a bucket's sessions; yields an `Item` each, in the listing's order. A claim is read where the
listing cannot tell, a few at a time, and a transcript where its claim leaves a doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from edge_client.batch.listing import Later, Scope, in_order, scan
from edge_client.batch.types import Found, Item, Need
from edge_client.jobs import claim as claims
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.claim import Claim, StoredClaim
from edge_client.jobs.retry_policy import is_mended_by_time
from edge_client.jobs.transcript import Delivered
from edge_client.services.edge import Edge
from edge_client.services.s3 import ObjectInfo

CLOCK_STEP = timedelta(seconds=2)
"""Two objects written within so much may be listed in either order: S3 tells whole seconds."""

NEW = "new"
FORCED = "forced"
STALE = "the recording is newer than its transcript"
EMPTY_TRANSCRIPT = "its transcript is empty"
CHANGED_MEANWHILE = "the recording changed while its job ran"
CHANGED_SINCE = "the recording changed since its job failed"
TIME_OVER = "its job's time was over"
NOT_TAKEN = "RunPod refused its last submission"
OUT = "its job is out"
OUT_FOR_ANOTHER = "its job is out, for an earlier recording: that ends first"
UNANSWERED = "its submission's answer is not known"
DONE = "done"
LEFT_STALE = "its transcript is older than the recording (--no-stale)"
NO_RECORDING = "no recording, and no parts of one"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user wants done.

    Attributes:
        stale: Recordings that are newer than their transcript count as not transcribed.
        force: Everything that has a recording is submitted.
        since: Only recordings that were uploaded at that moment or later; aware.
        limit: At most so many sessions that need work.
        retry: Prefixes of sessions that are submitted although their job failed for good.
    """

    stale: bool = True
    force: bool = False
    since: datetime | None = None
    limit: int | None = None
    retry: frozenset[str] = frozenset()

    def passes_over(self, found: Found) -> bool:
        """Whether the recording is too old to be looked at. Chunks without one are not."""
        return (
            self.since is not None
            and found.audio is not None
            and found.audio.modified_at < self.since
        )


def from_listing(found: Found, wishes: Wishes) -> Item | None:
    """Say what a session needs; None if its claim has to be read first."""
    audio = found.audio
    if audio is None:
        return _without_audio(found)
    if audio.size_bytes == 0:
        return Item(found.session, Need.NO_AUDIO, "audio.wav is empty: upload it again", audio)
    if wishes.force:
        return None if found.claim else Item(found.session, Need.SUBMIT, FORCED, audio)
    if _has_transcript(found) and not wishes.stale:
        why = DONE if _is_fresh(found, audio) else LEFT_STALE
        return Item(found.session, Need.DONE, why, audio)
    if _is_fresh(found, audio) and not _is_suspect(found, audio):
        return Item(found.session, Need.DONE, DONE, audio)
    if found.claim is not None:
        return None
    return Item(found.session, Need.SUBMIT, _without_claim(found), audio)


def _without_audio(found: Found) -> Item:
    if _has_transcript(found):
        return Item(found.session, Need.DONE, "done; its recording is gone")
    if found.chunks:
        parts = f"{found.chunks:,} chunk{'' if found.chunks == 1 else 's'}, no audio.wav yet"
        return Item(found.session, Need.NOT_MERGED, parts)
    return Item(found.session, Need.NO_AUDIO, NO_RECORDING)


def _has_transcript(found: Found) -> bool:
    return found.transcript is not None and found.transcript.size_bytes > 0


def _is_fresh(found: Found, audio: ObjectInfo) -> bool:
    """Whether the transcript is not older than the recording; which one it is of is not said."""
    transcript = found.transcript
    return (
        transcript is not None
        and transcript.size_bytes > 0
        and transcript.modified_at >= audio.modified_at
    )


def _is_suspect(found: Found, audio: ObjectInfo) -> bool:
    """Whether the recording may have been replaced between a submission and its transcript."""
    claim = found.claim
    return claim is not None and audio.modified_at > claim.modified_at - CLOCK_STEP


def _without_claim(found: Found) -> str:
    if found.transcript is None:
        return NEW
    return STALE if _has_transcript(found) else EMPTY_TRANSCRIPT


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A session whose claim was read.

    Attributes:
        held: The claim; None if it is gone meanwhile.
        wishes: The user's.
        endpoint_id: This box's; None if it has none (a dry run).
        now: The time of day.
        delivered: Looks into the transcript; None if it is of none of the claim's submissions.
    """

    found: Found
    audio: ObjectInfo
    held: StoredClaim | None
    wishes: Wishes
    endpoint_id: str | None
    now: datetime
    delivered: Callable[[Claim], Delivered | None]

    def answer(self) -> Item:
        """Say what the session needs."""
        claim = self.held.claim if self.held is not None else None
        if self.wishes.force:
            return self._item(Need.SUBMIT, FORCED)
        if self.held is None:
            is_done = _is_fresh(self.found, self.audio)
            return self._item(*((Need.DONE, DONE) if is_done else (Need.SUBMIT, self._reason())))
        if claim is None:
            text = f"{self.found.session.claim_key} is no claim of this client: --force replaces it"
            return self._item(Need.REFUSED, text)
        return self._of_transcript(claim) or self._of_claim(claim)

    def _of_transcript(self, claim: Claim) -> Item | None:
        """Judge the transcript that is there; None if it settles nothing."""
        fresh, same = _is_fresh(self.found, self.audio), self._is_same(claim)
        if fresh and same:
            return self._item(Need.DONE, DONE)
        is_out = claim.ended is None and claim.is_alive(self.now)
        is_worth_it = _has_transcript(self.found) and (fresh or same or is_out)
        delivered = self.delivered(claim) if is_worth_it else None
        if delivered is not None:
            if delivered.is_of(self.audio, claim):
                return self._item(Need.DONE, DONE)
            return self._item(Need.SUBMIT, CHANGED_MEANWHILE if fresh else STALE)
        return self._item(Need.DONE, DONE) if fresh else None

    def _of_claim(self, claim: Claim) -> Item:
        if claim.ended is not None:
            return self._item(*self._of_failure(claim, claim.ended))
        if not claim.is_alive(self.now):
            return self._item(Need.SUBMIT, self._reason(claim))
        if self.endpoint_id is not None and claim.endpoint_id != self.endpoint_id:
            text = (
                f"its job is on endpoint {claim.endpoint_id}: set "
                f"RUNPOD_ENDPOINT_ID={claim.endpoint_id}, or submit again with --force"
            )
            return self._item(Need.REFUSED, text)
        if claim.job_id is None:
            return self._item(Need.FOLLOW, UNANSWERED)
        return self._item(Need.FOLLOW, OUT if self._is_same(claim) else OUT_FOR_ANOTHER)

    def _of_failure(self, claim: Claim, ended: str) -> tuple[Need, str]:
        if not self._is_same(claim):
            return Need.SUBMIT, CHANGED_SINCE
        wanted = self.found.session.prefix in self.wishes.retry
        if wanted or is_mended_by_time(ended):
            return Need.SUBMIT, f"once more after {ended.partition(':')[0]}"
        return Need.FAILED_BEFORE, ended

    def _reason(self, claim: Claim | None = None) -> str:
        """Say why a session is submitted whose claim stands in nobody's way."""
        if claim is None or self.found.transcript is not None:
            return _without_claim(self.found)
        return NOT_TAKEN if claim.was_refused else TIME_OVER

    def _is_same(self, claim: Claim) -> bool:
        return claim.audio_etag == self.audio.etag

    def _item(self, need: Need, why: str) -> Item:
        return Item(self.found.session, need, why, self.audio, self.held)


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
