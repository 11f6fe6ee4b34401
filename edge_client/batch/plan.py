"""Plans what a batch does with each session: from the listing, else from its claim, too.

Takes a `Filter`; yields a `PlannedSession` each, in the listing's order. The listing's names, sizes
and times are believed; claim and transcript are read where they leave a doubt. A claim that was
closed behind its transcript leaves none: a batch closes those that nobody followed.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from edge_client.batch.listing import in_order, list_sessions
from edge_client.batch.types import Filter, ListedSession, PlannedAction, PlannedSession
from edge_client.errors import ClaimConflict, ObjectRefused
from edge_client.jobs import claim as claims
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.claim import Claim, StoredClaim
from edge_client.jobs.retry_policy import is_mended_by_time
from edge_client.jobs.transcript import UNPROVEN_WHY, Match, StoredTranscript, is_same, match
from edge_client.services.edge import Edge
from edge_client.services.s3 import ObjectInfo

CLOCK_STEP = timedelta(seconds=2)
"""Two objects written within so much may be listed in either order: S3 tells whole seconds."""

FORCED = "forced"
STALE = "the recording is newer than its transcript"
EMPTY_TRANSCRIPT = "its transcript is empty"
CHANGED_MEANWHILE = "the recording changed while its job ran"
CHANGED_SINCE = "the recording changed since its job failed"
EXPIRED = "its last job expired"
GONE = "its transcript is gone"
UNREADABLE = "its transcript cannot be read"
FOREIGN = "another program wrote its transcript, after the recording"
NOT_TAKEN = "RunPod refused its last submission"
IN_FLIGHT = "its job is in flight"
IN_FLIGHT_FOR_ANOTHER = "its job is in flight for an earlier recording, and has to end first"
UNANSWERED = "RunPod's answer to its submission is not known"
DONE = "done"
LEFT_STALE = "its transcript is older than the recording (--no-stale)"
NO_RECORDING = "no recording, and no parts of one"
ABSENT = "there is no recording: check the session's name, or wait until it is uploaded"


def plan(
    edge: Edge, chosen: Filter, *, closes: bool = False
) -> Generator[PlannedSession, None, None]:
    """Yield what a batch does with each session; ``closes``: also close claims of those done."""
    left = chosen.limit
    with closing(list_sessions(edge.bucket, chosen)) as sessions:
        for planned in in_order(
            from_listing(listed, chosen) or partial(_from_claim, edge, listed, chosen, closes)
            for listed in sessions
        ):
            if chosen.sessions and planned.why == NO_RECORDING:
                planned = replace(planned, action=PlannedAction.REFUSED, why=ABSENT)
            yield planned
            if left is not None and planned.action.is_work:
                left -= 1
                if left == 0:
                    return


def _from_claim(edge: Edge, listed: ListedSession, chosen: Filter, closes: bool) -> PlannedSession:
    if (audio := listed.audio) is None:
        raise AssertionError("without a recording the listing tells everything")
    try:
        held = claims.read(edge.bucket, listed.session) if listed.claim is not None else None
        stored, claim = None, None if held is None else held.claim
        is_closed = claim is not None and claim.ended == claims.DONE  # perhaps since the listing
        if (listed.has_transcript or is_closed) and not chosen.force:
            stored = transcripts.read(edge.bucket, listed.session)
        planned = ClaimedSession(edge, chosen, listed, audio, held, stored).plan()
        if closes and planned.action is PlannedAction.DONE and stored is not None:
            _close(edge, planned, stored)
        if planned.action is PlannedAction.SUBMIT and audio.is_archived:
            edge.bucket.read_head(audio.key, 1)  # refused, unless it was restored
    except ObjectRefused as exc:
        return PlannedSession(listed.session, PlannedAction.REFUSED, str(exc), audio)
    return planned


def _close(edge: Edge, planned: PlannedSession, stored: StoredTranscript) -> None:
    """Write behind its transcript that a session is done: later listings tell it alone.

    Unless its job is in flight, and the transcript another's, or the recording is another now.
    """
    claim, audio = planned.claim, planned.audio
    if claim is None or (claim.is_open(edge.clock.now()) and claim.request_id != stored.request_id):
        return
    now = None if audio is None else edge.bucket.head(audio.key)
    if audio is not None and now is not None and is_same(now.etag, audio.etag):
        with suppress(ClaimConflict):
            claims.store(edge.bucket, planned.session, claim.closed_as_done(), planned.held)


def from_listing(listed: ListedSession, chosen: Filter) -> PlannedSession | None:
    """Plan a session from its listing alone; None if S3 has to be asked for more."""
    audio, is_there, has_transcript = (
        listed.audio,
        listed.transcript is not None,
        listed.has_transcript,
    )
    planned = partial(PlannedSession, listed.session, audio=audio, has_transcript=is_there)
    if audio is None and has_transcript:
        return planned(PlannedAction.DONE, "done; its recording is gone")
    if audio is None and listed.chunks:
        plural = "" if listed.chunks == 1 else "s"
        return planned(
            PlannedAction.NOT_MERGED, f"{listed.chunks:,} chunk{plural}, no audio.wav yet"
        )
    if audio is None:
        return planned(PlannedAction.NO_AUDIO, NO_RECORDING)
    if audio.size_bytes == 0:
        file = audio.key.rpartition("/")[2]
        return planned(PlannedAction.NO_AUDIO, f"{file} is empty: upload it again")
    if chosen.force:
        return None if listed.claim or audio.is_archived else planned(PlannedAction.SUBMIT, FORCED)
    if has_transcript and chosen.verify:
        return None
    if has_transcript and not chosen.stale:
        return planned(PlannedAction.DONE, DONE if listed.is_fresh else LEFT_STALE)
    if listed.is_fresh and not _is_suspect(listed, audio):
        return planned(PlannedAction.DONE, DONE)
    if listed.claim is not None or audio.is_archived:
        return None
    return planned(PlannedAction.SUBMIT, _without_claim(listed))


def _is_suspect(listed: ListedSession, audio: ObjectInfo) -> bool:
    """Tell whether the transcript may be of an earlier recording.

    It is not if its claim was closed behind it: after another look at the recording.
    """
    claim, transcript = listed.claim, listed.transcript
    if claim is None or transcript is None:
        return False
    is_replaced = audio.modified_at > claim.modified_at - CLOCK_STEP
    is_closed = claim.size_bytes < claims.OPEN_BYTES
    return is_replaced or not is_closed or transcript.modified_at > claim.modified_at


def _without_claim(listed: ListedSession) -> str:
    if listed.transcript is None:
        return "new"
    return STALE if listed.has_transcript else EMPTY_TRANSCRIPT


@dataclass(frozen=True, slots=True)
class ClaimedSession:
    """A session whose claim and transcript were read; None: it has none, or is gone meanwhile."""

    edge: Edge
    chosen: Filter
    listed: ListedSession
    audio: ObjectInfo
    held: StoredClaim | None
    stored: StoredTranscript | None = None

    def plan(self) -> PlannedSession:
        """Return what a batch does with the session."""
        action, why = self._decide()
        has_transcript = self.listed.transcript is not None or self.held is not None
        session = self.listed.session
        return PlannedSession(session, action, why, self.audio, self.held, has_transcript)

    def _decide(self) -> tuple[PlannedAction, str]:
        if self.chosen.force:
            return PlannedAction.SUBMIT, FORCED
        claim = None if self.held is None else self.held.claim
        found = match(self.audio, claim, self.stored)
        if found is Match.REPLACED and self.chosen.verify:
            return PlannedAction.UNPROVEN, FOREIGN
        if found.is_done:
            return PlannedAction.DONE, DONE
        if found is Match.UNPROVEN:
            action = PlannedAction.SUBMIT if self.chosen.changed else PlannedAction.UNPROVEN
            return action, UNPROVEN_WHY
        if self.held is not None and claim is None and not self.held.is_copy:
            key = self.listed.session.claim_key
            return PlannedAction.REFUSED, f"{key} is not this client's: --force replaces it"
        if claim is None:
            return PlannedAction.SUBMIT, self._undone()
        written_by = None if self.stored is None else self.stored.request_id
        if found is Match.OUTDATED and written_by == claim.request_id:
            return PlannedAction.SUBMIT, CHANGED_MEANWHILE  # so that very job has ended
        return self._by_claim(claim)

    def _undone(self) -> str:
        if self.stored is None:
            return _without_claim(self.listed)
        return STALE if self.stored.delivered is not None else UNREADABLE

    def _by_claim(self, claim: Claim) -> tuple[PlannedAction, str]:
        now, endpoint_id = self.edge.clock.now(), self.edge.settings.endpoint_id
        if not claim.is_open(now):
            return self._by_end(claim)
        if endpoint_id not in (None, claim.endpoint_id):  # None: a dry run
            there = claim.endpoint_id
            text = f"its job is on endpoint {there}: set RUNPOD_ENDPOINT_ID={there}, or submit"
            return PlannedAction.REFUSED, f"{text} again with --force"
        if claim.job_id is None:
            return PlannedAction.FOLLOW, UNANSWERED
        return PlannedAction.FOLLOW, IN_FLIGHT if self._is_same(claim) else IN_FLIGHT_FOR_ANOTHER

    def _by_end(self, claim: Claim) -> tuple[PlannedAction, str]:
        """Decide about a job that is over and left no transcript of this recording."""
        if not self._is_same(claim):
            is_failed = claim.ended not in (None, claims.DONE)
            return PlannedAction.SUBMIT, CHANGED_SINCE if is_failed else STALE
        if claim.ended == claims.DONE:
            return PlannedAction.SUBMIT, GONE if self.stored is None else self._undone()
        ended, limit = claim.ended or EXPIRED, self.edge.settings.retry_attempts
        if claim.submissions >= limit:
            return PlannedAction.FAILED_BEFORE, f"{ended}; submitted {limit} times, see --force"
        if claim.ended is None:
            return PlannedAction.SUBMIT, NOT_TAKEN if claim.was_refused else EXPIRED
        if self.chosen.sessions:
            return PlannedAction.SUBMIT, f"once more after {ended.partition(':')[0]}"
        if not is_mended_by_time(ended):
            return PlannedAction.FAILED_BEFORE, ended
        if claim.retry_at is not None and self.edge.clock.now() < claim.retry_at:
            at = f"{claim.retry_at:%Y-%m-%d %H:%M:%S} UTC"
            return PlannedAction.FAILED_BEFORE, f"{ended}; tried again after {at}"
        return PlannedAction.SUBMIT, f"once more after {ended.partition(':')[0]}"

    def _is_same(self, claim: Claim) -> bool:
        return is_same(claim.audio_etag, self.audio.etag)
