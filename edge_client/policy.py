"""The least IAM policy for what the commands do on a bucket.

Takes the bucket's name and region; returns the document, without a call. The keys that it is for
sign the presigned URLs, too, so what the worker reads and writes through those is in it.

``s3:ListBucket`` is more than listing: with it a missing key answers 404, without it 403, and S3
asks for it as if the key were the prefix (what Ceph does "to match aws behavior":
github.com/ceph/ceph/pull/68577). HEAD of the bucket has no prefix at all, so nothing here does it.
"""

from __future__ import annotations

from typing import Any

from edge_client.layout import USERS, Session

_ANY = Session(user="*", name="*")


def policy(bucket: str, region: str) -> dict[str, Any]:
    """Return the policy document.

    Args:
        bucket: Its name.
        region: Such as ``eu-west-1``; decides the partition (``aws-cn``, ``aws-us-gov``).
    """
    arn = f"arn:{partition_of(region)}:s3:::{bucket}"
    transcript_and_claim = [f"{arn}/{_ANY.result_key}", f"{arn}/{_ANY.claim_key}"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "FindSessions",
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": arn,
                "Condition": {"StringLike": {"s3:prefix": f"{USERS}*"}},
            },
            _allow("ReadRecordings", "s3:GetObject", f"{arn}/{_ANY.audio_key}"),
            _allow(
                "KeepTranscriptsAndClaims", ["s3:GetObject", "s3:PutObject"], transcript_and_claim
            ),
            _allow("WriteProgress", "s3:PutObject", f"{arn}/{_ANY.progress_key}"),
        ],
    }


def _allow(sid: str, action: str | list[str], resource: str | list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}


def partition_of(region: str) -> str:
    """Return the partition of a region, ``aws`` for one that botocore does not know."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session(region_name=region).get_partition_for_region(region)
    except BotoCoreError:
        return "aws"
