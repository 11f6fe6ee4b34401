"""The request stays under 2,048 bytes, with three URLs of realistic length."""

import json

import pytest

from bucketscribe_contract import JobInput, RunRequest
from edge_client.jobs.callback_url import fill
from edge_client.services import presign
from edge_client.services import s3 as aws
from edge_client.services.presign import sign_urls
from edge_client.session import Session
from edge_client.settings import load
from edge_client.webhook.server import fresh_secret


def test_request_with_three_presigned_urls_is_under_2048_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "COGNITO_S3_BUCKET": "clouddrive-app-bucket",
        "AWS_REGION": "us-east-2",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    }.items():
        monkeypatch.setenv(name, value)
    session = Session("512b3590-30b1-707d-ed46-bf68df7b52d5", "session_2025-12-15T02_47_34_213Z")
    urls = sign_urls(aws.connect(load()), session, 604_800)
    request = RunRequest(
        input=JobInput(
            audio_url=urls.audio_url,
            result_url=urls.result_url,
            progress_url=urls.result_url,
            language="en",
            diarize=False,
            min_speakers=2,
            max_speakers=10,
            request_id="0" * 32,
        ),
        policy=presign.plan_lifetimes(74 * 60, 3600).policy(),
        webhook=fill(f"https://edge.example.com/webhook/{fresh_secret()}/{{session}}", session),
    )
    body = json.dumps(request.to_wire()).encode()  # as requests encodes it
    assert len(body) < 2048
    assert body.count(b"X-Amz-Signature=") == 3
