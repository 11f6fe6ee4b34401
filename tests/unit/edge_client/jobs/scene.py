"""A session with its recording, its claim and its job, on two loopback servers."""

import base64
import gzip
import hashlib
import json
from typing import Any

from bucketscribe_contract import (
    FailureCode,
    JobFailure,
    Stage,
    StoredResult,
    TranscriptForm,
    UploadFailed,
)
from edge_client import api
from edge_client.api import Submission
from edge_client.jobs import claim as claims
from edge_client.jobs.claim import Claim
from edge_client.jobs.outcome import Outcome
from edge_client.services.edge import Edge
from tests.fakes.servers import Reply, RunpodServer, S3Server
from tests.unit.edge_client.samples import SESSION, FakeClock, claim, job, transcript, wav

IDLE = Reply({"jobs": {"inQueue": 0, "inProgress": 0}, "workers": {"idle": 1, "running": 0}})
GONE = Reply(status=404)


def failed(code: FailureCode, needed_s: int | None = None) -> dict[str, Any]:
    failure = JobFailure.of(code, "it failed", Stage.FETCH, needed_s)
    return job("FAILED", error=failure.model_dump_json())


def upload_failed(
    body: bytes = b"", form: TranscriptForm = TranscriptForm.COMPLETE, **changes: Any
) -> dict[str, Any]:
    """What a worker answers that could not store its transcript."""
    body = body or transcript()
    answer = UploadFailed(
        failure=JobFailure.of(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.DELIVER),
        transcript_gzip_base64=base64.b64encode(gzip.compress(body)).decode(),
        result=StoredResult(bytes=len(body), sha256=hashlib.sha256(body).hexdigest()),
        form=form,
        request_id="r1",
    )
    return answer.model_dump(mode="json") | changes


def undelivered(
    form: TranscriptForm = TranscriptForm.COMPLETE, body: bytes = b"", request_id: str = "r1"
) -> Reply:
    return Reply(job("COMPLETED", output=upload_failed(body, form, request_id=request_id)))


class Scene:
    """An edge box, what it says, its bucket and its endpoint.

    The endpoint names what follows job-1 job-2, job-3 and so on.
    """

    def __init__(self, edge: Edge, s3: S3Server, runpod: RunpodServer, clock: FakeClock) -> None:
        self.edge, self.s3, self.runpod, self.clock = edge, s3, runpod, clock
        self.said: list[str] = []
        s3.put(SESSION.audio_key, wav(2))
        runpod.on("/run", *[Reply(job("IN_QUEUE") | {"id": f"job-{n}"}) for n in range(1, 9)])
        runpod.on("/health", IDLE)

    @property
    def audio_etag(self) -> str:
        """Of the recording as it is now."""
        return self.s3.objects[SESSION.audio_key].etag

    def held(self, **changes: Any) -> Claim:
        """Store a claim, in place of the one that is there; what is posted next is job-2."""
        mine = claim(**({"audio_etag": self.audio_etag, "execution_timeout_s": 600} | changes))
        claims.store(self.edge.bucket, SESSION, mine, claims.read(self.edge.bucket, SESSION))
        replies = [Reply(job("IN_QUEUE") | {"id": f"job-{n}"}) for n in range(2, 9)]
        self.runpod.on("/run", *replies)
        return mine

    def ends(self, *statuses: Reply | dict[str, Any]) -> None:
        """Say how job-1, job-2, and so on end."""
        for number, status in enumerate(statuses, start=1):
            reply = status if isinstance(status, Reply) else Reply(status)
            self.runpod.on(f"/status/job-{number}", reply)

    def done_by(self, number: int) -> None:
        """Have a job store its transcript when it is asked for."""

        def look(method: str, key: str) -> None:
            asked = self.runpod.count(f"/status/job-{number}")
            if asked and SESSION.result_key not in self.s3.objects:
                self.store_result(request_id=self.stored().request_id)

        self.s3.refuse = look
        self.runpod.on(f"/status/job-{number}", Reply(job("COMPLETED")))

    def store_result(self, **changes: Any) -> None:
        """Put a transcript into the bucket."""
        self.s3.put(SESSION.result_key, transcript(**changes))

    def submit(self, **changes: Any) -> Submission:
        """Submit the session, in English and without speakers unless it is said otherwise."""
        asked = {"language": "en", "diarize": False, "say": self.said.append} | changes
        return api.submit(self.edge, SESSION, **asked)

    def go(self, timeout_s: float | None = None) -> Outcome:
        """Wait, as any box can."""
        return api.wait(self.edge, SESSION, timeout_s=timeout_s).outcome

    def stored(self) -> Claim:
        """The claim as it is in S3, without a request."""
        return Claim.model_validate_json(self.s3.objects[SESSION.claim_key].body)

    def stored_body(self) -> Any:
        """The claim's JSON, whatever it is."""
        return json.loads(self.s3.objects[SESSION.claim_key].body)

    @property
    def posts(self) -> list[Any]:
        """The bodies of all POSTs of /run."""
        return [call.body for call in self.runpod.calls if call.path == "/run"]


def expires_s(url: str) -> int:
    return int(url.split("X-Amz-Expires=")[1].split("&")[0])
