"""Plans what a batch does with each session: from the listing, else from its claim, too.

Takes a `Filter`; yields a `PlannedSession` each, in the listing's order. A claim is read where the
listing cannot tell, and a transcript where its claim leaves a doubt. S3's own clock decides which
of two objects is newer, an ETag whether a job ran on this recording. Raises what S3 answers.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from edge_client.batch.listing import in_order, list_sessions
from edge_client.batch.types import Filter, ListedSession, PlannedAction, PlannedSession
from edge_client.errors import ObjectRefused
from edge_client.jobs import claim as claims
from edge_client.jobs.claim import Claim, StoredClaim
from edge_client.jobs.retry_policy import is_mended_by_time
from edge_client.jobs.transcript import find_of_job
from edge_client.services.edge import Edge
from edge_client.services.s3 import ObjectInfo

CLAIMS_READ_AT_ONCE = 4
DRAWN_AHEAD = 64
CLOCK_STEP = timedelta(seconds=2)
"""Two objects written within so much may be listed in either order: S3 tells whole seconds."""

NEW = "new"
FORCED = "forced"
STALE = "the recording is newer than its transcript"
EMPTY_TRANSCRIPT = "its transcript is empty"
CHANGED_MEANWHILE = "the recording changed while its job ran"
CHANGED_SINCE = "the recording changed since its job failed"
EXPIRED = "its last job expired"
NOT_TAKEN = "RunPod refused its last submission"
IN_FLIGHT = "its job is in flight"
IN_FLIGHT_FOR_ANOTHER = "its job is in flight for an earlier recording, and has to end first"
UNANSWERED = "RunPod's answer to its submission is not known"
DONE = "done"
LEFT_STALE = "its transcript is older than the recording (--no-stale)"
NO_RECORDING = "no recording, and no parts of one"
ABSENT = "there is no recording: check the session's name, or wait until it is uploaded"


def plan(edge: Edge, chosen: Filter) -> Generator[PlannedSession, None, None]:
    """Yield what a batch does with each session.

    Raises:
        EdgeError: S3 does not answer, or refuses; or the user has no session.
    """
    left = chosen.limit
    with closing(_planned(edge, chosen)) as sessions:
        for planned in sessions:
            if chosen.sessions and planned.why == NO_RECORDING:
                planned = replace(planned, action=PlannedAction.REFUSED, why=ABSENT)
            yield planned
            if left is not None and planned.action.is_work:
                left -= 1
                if left == 0:
                    return


def _planned(edge: Edge, chosen: Filter) -> Generator[PlannedSession, None, None]:
    with closing(list_sessions(edge.bucket, chosen)) as sessions:
        planned = (
            from_listing(listed, chosen) or partial(_from_claim, edge, listed, chosen)
            for listed in sessions
            if not is_too_old(listed, chosen)
        )
        yield from in_order(planned, workers=CLAIMS_READ_AT_ONCE, ahead=DRAWN_AHEAD)


def is_too_old(listed: ListedSession, chosen: Filter) -> bool:
    """Tell whether a session is left out by ``since``. Chunks without a recording are not."""
    since, audio = chosen.since, listed.audio
    return since is not None and audio is not None and audio.modified_at < since


def _from_claim(edge: Edge, listed: ListedSession, chosen: Filter) -> PlannedSession:
    if listed.audio is None:
        raise AssertionError("without a recording the listing tells everything")
    try:
        held = claims.read(edge.bucket, listed.session)
        planned = ClaimedSession(edge, chosen, listed, listed.audio, held).plan()
        if planned.action is PlannedAction.SUBMIT and listed.audio.is_archived:
            edge.bucket.read_head(listed.audio.key, 1)  # refused, unless it was restored
    except ObjectRefused as exc:
        return PlannedSession(listed.session, PlannedAction.REFUSED, str(exc), listed.audio)
    return planned


def from_listing(listed: ListedSession, chosen: Filter) -> PlannedSession | None:
    """Plan a session from its listing alone; None if S3 has to be asked for more."""
    audio = listed.audio
    if audio is None:
        return PlannedSession(listed.session, *_without_audio(listed))
    planned = partial(PlannedSession, listed.session, audio=audio)
    if audio.size_bytes == 0:
        return planned(PlannedAction.NO_AUDIO, "audio.wav is empty: upload it again")
    if chosen.force:
        return None if listed.claim or audio.is_archived else planned(PlannedAction.SUBMIT, FORCED)
    if listed.has_transcript and not chosen.stale:
        return planned(PlannedAction.DONE, DONE if listed.is_fresh else LEFT_STALE)
    if listed.is_fresh and not _is_suspect(listed, audio):
        return planned(PlannedAction.DONE, DONE)
    if listed.claim is not None or audio.is_archived:
        return None
    return planned(PlannedAction.SUBMIT, _without_claim(listed))


def _without_audio(listed: ListedSession) -> tuple[PlannedAction, str]:
    if listed.has_transcript:
        return PlannedAction.DONE, "done; its recording is gone"
    if listed.chunks:
        plural = "" if listed.chunks == 1 else "s"
        return PlannedAction.NOT_MERGED, f"{listed.chunks:,} chunk{plural}, no audio.wav yet"
    return PlannedAction.NO_AUDIO, NO_RECORDING


def _is_suspect(listed: ListedSession, audio: ObjectInfo) -> bool:
    """Tell whether the recording may have been replaced between submission and transcript."""
    claim = listed.claim
    return claim is not None and audio.modified_at > claim.modified_at - CLOCK_STEP


def _without_claim(listed: ListedSession) -> str:
    if listed.transcript is None:
        return NEW
    return STALE if listed.has_transcript else EMPTY_TRANSCRIPT


@dataclass(frozen=True, slots=True)
class ClaimedSession:
    """A session whose claim was read: ``held`` is None if it is gone meanwhile."""

    edge: Edge
    chosen: Filter
    listed: ListedSession
    audio: ObjectInfo
    held: StoredClaim | None

    def plan(self) -> PlannedSession:
        """Return what a batch does with the session."""
        action, why = self._decide()
        return PlannedSession(self.listed.session, action, why, self.audio, self.held)

    def _decide(self) -> tuple[PlannedAction, str]:
        if self.chosen.force:
            return PlannedAction.SUBMIT, FORCED
        if self.held is None or self.held.is_copy:
            if self.listed.is_fresh:
                return PlannedAction.DONE, DONE
            return PlannedAction.SUBMIT, _without_claim(self.listed)
        claim = self.held.claim
        if claim is None:
            key = self.listed.session.claim_key
            return PlannedAction.REFUSED, f"{key} is not this client's: --force replaces it"
        return self._by_transcript(claim) or self._by_claim(claim)

    def _by_transcript(self, claim: Claim) -> tuple[PlannedAction, str] | None:
        """Decide by the transcript that is there; None if it decides nothing."""
        is_fresh, is_same = self.listed.is_fresh, self._is_same(claim)
        if is_fresh and is_same:
            return PlannedAction.DONE, DONE
        is_in_flight = claim.ended is None and claim.is_alive(self.edge.clock.now())
        is_worth_it = self.listed.has_transcript and (is_fresh or is_same or is_in_flight)
        bucket, session = self.edge.bucket, self.listed.session
        if is_worth_it and (delivered := find_of_job(bucket, session, claim)) is not None:
            if delivered.is_of(self.audio, claim):
                return PlannedAction.DONE, DONE
            return PlannedAction.SUBMIT, CHANGED_MEANWHILE if is_fresh else STALE
        return (PlannedAction.DONE, DONE) if is_fresh else None

    def _by_claim(self, claim: Claim) -> tuple[PlannedAction, str]:
        if claim.ended is not None:
            return self._by_failure(claim, claim.ended)
        if not claim.is_alive(self.edge.clock.now()):
            if self.listed.transcript is not None:
                return PlannedAction.SUBMIT, _without_claim(self.listed)
            return PlannedAction.SUBMIT, NOT_TAKEN if claim.was_refused else EXPIRED
        if self.edge.settings.endpoint_id not in (None, claim.endpoint_id):  # None: a dry run
            there = claim.endpoint_id
            text = f"its job is on endpoint {there}: set RUNPOD_ENDPOINT_ID={there}, or submit"
            return PlannedAction.REFUSED, f"{text} again with --force"
        if claim.job_id is None:
            return PlannedAction.FOLLOW, UNANSWERED
        return PlannedAction.FOLLOW, IN_FLIGHT if self._is_same(claim) else IN_FLIGHT_FOR_ANOTHER

    def _by_failure(self, claim: Claim, ended: str) -> tuple[PlannedAction, str]:
        if not self._is_same(claim):
            return PlannedAction.SUBMIT, CHANGED_SINCE
        if self.chosen.sessions or is_mended_by_time(ended):
            return PlannedAction.SUBMIT, f"once more after {ended.partition(':')[0]}"
        return PlannedAction.FAILED_BEFORE, ended

    def _is_same(self, claim: Claim) -> bool:
        return claim.audio_etag == self.audio.etag
