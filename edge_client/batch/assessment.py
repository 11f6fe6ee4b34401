"""Tells what a session needs: first from the listing alone, then from its claim. Pure.

Takes a `Found` and the user's `Wishes`; returns an `Item`, or None where the listing cannot tell.
S3's own clock decides which of two objects is newer, an ETag whether a job ran on this recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from edge_client.batch.values import Found, Item, Need
from edge_client.claim import Claim, Held
from edge_client.recovery import is_mended_by_time
from edge_client.storage import ObjectInfo
from edge_client.transcripts import Delivered

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
    held: Held | None
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
