"""The bucket, as the few calls that the edge client makes.

botocore's errors become `StorageRefused`, `ObjectRefused`, `Unreachable`, `NotConfigured` or
`PreconditionFailed`. Signs with SigV4 for the region's own host: boto3's default gives some regions
the legacy global host, whose redirect breaks a presigned URL's signature.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
from botocore import exceptions as aws
from botocore.config import Config
from urllib3.exceptions import HTTPError

from bucketscribe_contract import PresignedUrl
from bucketscribe_contract.redact import one_line
from edge_client import errors
from edge_client.session import DEFAULT, RecordingPattern
from edge_client.settings import STORAGE, Settings

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest, AWSRequest
    from botocore.credentials import Credentials
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef


MAX_READ_BYTES = 64 * 2**20
"""A transcript of a day of speech has half of it."""
MAX_ANSWER_BYTES = 16 * 2**20
"""A LIST's page of 1,000 of the longest keys, encoded, has a quarter of it."""
CONNECTIONS = 32
"""At most. Up to 24 threads of a batch speak to S3; botocore keeps 10 and drops the others."""


@dataclass(frozen=True)
class Connection:
    """An S3 client, and the keys behind it; ``temporary`` ones come with a session token.

    Every PUT is sent with ``put_headers``.
    """

    client: S3Client
    bucket: str
    credentials: Credentials = field(repr=False)
    temporary: bool
    put_headers: Mapping[str, str]
    is_aws: bool = True

    def keys_end(self) -> datetime | None:
        """Return when the keys that sign now stop working, None if never or unknown.

        botocore renews keys that it fetched itself, and keeps their end in this attribute only.
        Raises `NotConfigured` if they ended.
        """
        if not self.temporary:
            return None
        with _translated_key_errors():
            self.credentials.get_frozen_credentials()
        return getattr(self.credentials, "_expiry_time", None)

    def bucket_region(self, prefix: str) -> str | None:
        """Ask AWS for the bucket's region; None if it does not say. botocore finds it anyway."""
        if not self.is_aws or ":" in self.bucket:
            return None
        answer: Mapping[str, Any]
        try:
            answer = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=1)
        except aws.ClientError as exc:
            answer = exc.response
        except (aws.BotoCoreError, RuntimeError, ValueError):
            return None  # what is done next says why
        headers: Mapping[str, str] = answer["ResponseMetadata"].get("HTTPHeaders", {})
        return headers.get("x-amz-bucket-region")

    def sign(
        self, method: str, key: str, expires_s: int, headers: Mapping[str, str]
    ) -> PresignedUrl:
        """Sign ``get_object`` or ``put_object`` of a key; ``headers`` are part of the signature."""
        params = {"Bucket": self.bucket, "Key": key, **put_params(headers)}
        with _translated_key_errors():
            return PresignedUrl(self.client.generate_presigned_url(method, params, expires_s))


@contextmanager
def _translated_key_errors() -> Iterator[None]:
    """Turn what botocore, STS and SSO say about keys and profiles into `NotConfigured`."""
    try:
        yield
    except (aws.BotoCoreError, aws.ClientError, RuntimeError, ValueError) as exc:
        raise _bad_keys(exc) from exc


def _bad_keys(exc: Exception) -> errors.NotConfigured:
    remedy = "renew them (`aws sso login`), or check AWS_PROFILE and ~/.aws"
    return errors.NotConfigured(f"AWS keys: {one_line(str(exc))}: {remedy}")


def connect(settings: Settings) -> Connection:
    """Make the S3 client, with no call; raises `NotConfigured` without bucket, region or keys."""
    settings.require(*STORAGE)
    bucket = settings.bucket or ""
    with _translated_key_errors():
        session = boto3.Session(region_name=settings.region)
        credentials = session.get_credentials()
        make = partial(session.client, "s3", endpoint_url=settings.s3_url)
        client = make(config=_config(bucket, is_aws=True))
        is_aws = _AWS_HOST.search(client.meta.endpoint_url) is not None
        if not is_aws:  # as boto3 found it in the environment, or in the profile
            client = make(config=_config(bucket, is_aws=False))
        temporary = credentials is not None and credentials.token is not None  # renews, if it must
    if credentials is None:
        raise errors.NotConfigured(
            "no AWS keys: put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into .env or the "
            "environment, or set AWS_PROFILE"
        )
    _bound_answers(client)
    if settings.request_payer is not None:
        client.meta.events.register("before-sign.s3", _pay)
    return Connection(client, bucket, credentials, temporary, settings.put_headers, is_aws)


def _bound_answers(client: Any) -> None:
    """Have no answer but an object, which is a stream, be longer than `MAX_ANSWER_BYTES`.

    botocore has no limit of its own, and no hook before it has read an answer.
    """
    session = client._endpoint.http_session
    send = session.send

    def bounded(request: AWSPreparedRequest) -> Any:
        if request.stream_output:
            return send(request)
        request.stream_output = True
        try:
            response = send(request)
            body = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
        except HTTPError as exc:
            raise aws.HTTPClientError(error=exc) from exc
        finally:
            request.stream_output = False  # it may be sent again
        if len(body) > MAX_ANSWER_BYTES:
            response.raw.close()
            raise errors.StorageRefused(f"S3's answer has over {MAX_ANSWER_BYTES:,} bytes")
        response._content = body
        return response

    session.send = bounded


_AWS_HOST = re.compile(r"\.(amazonaws\.com(\.cn)?|api\.aws)(:\d+)?$")


def _pay(request: AWSRequest, **_: Any) -> None:
    """Say that whoever signs pays: in the query, where a presigned URL has it, too."""
    url = request.url or ""
    request.url = f"{url}{'&' if '?' in url else '?'}x-amz-request-payer=requester"


def _config(bucket: str, *, is_aws: bool) -> Config:
    """Return the client's configuration.

    Path style where the bucket's name in the host would break TLS (dots) or DNS (other servers).
    Other servers do not know all of boto3's checksums.
    """
    path_style = "." in bucket or not is_aws
    checksums: Any = "when_supported" if is_aws else "when_required"
    return Config(
        signature_version="s3v4",
        s3={
            "addressing_style": "path" if path_style else "virtual",
            "us_east_1_regional_endpoint": "regional",
        },
        max_pool_connections=CONNECTIONS,
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )


_KEY_ERRORS = (
    *(aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError),
    *(aws.SSOError, aws.TokenRetrievalError, RuntimeError),  # its only RuntimeError: keys ended
)
_KEY_OPERATIONS = ("AssumeRole", "AssumeRoleWithWebIdentity", "GetRoleCredentials", "CreateToken")
_ABSENT = ("404", "NoSuchKey", "NotFound")
_CHANGED = ("412", "PreconditionFailed", "409", "ConditionalRequestConflict")
_RENEW = "renew the AWS keys (`aws sso login`, or paste new ones)"
_REGION = "set AWS_REGION to the bucket's"
_ACCOUNT = "the AWS account is not in order: see its console"
_KMS = "allow these keys kms:GenerateDataKey and kms:Decrypt on the bucket's KMS key"
_RIGHTS = (
    "compare the keys' rights with `edge-client policy` (--with-upload for files; without "
    "s3:ListBucket a missing object answers so, too)"
)
CONCERNS_ALL = {
    "NoSuchBucket": "check COGNITO_S3_BUCKET and AWS_REGION",
    "InvalidBucketName": "check COGNITO_S3_BUCKET",
    "InvalidAccessKeyId": "check AWS_ACCESS_KEY_ID, and that it belongs to this S3",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY: it is another key's",
    "RequestTimeTooSkewed": "set this machine's clock (timedatectl set-ntp true)",
    **dict.fromkeys(("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), _RENEW),
    **dict.fromkeys(("AuthorizationHeaderMalformed", "PermanentRedirect", "301"), _REGION),
    **dict.fromkeys(("AllAccessDisabled", "AccountProblem", "NotSignedUp"), _ACCOUNT),
    "NotImplemented": "this S3 lacks what is asked for: `edge-client doctor` shows what",
}
"""Remedies of what S3 refuses to all sessions alike, by its code."""
CONCERNS_ONE = {
    "InvalidObjectState": "archived: restore it (`aws s3api restore-object`), then repeat",
    **dict.fromkeys(("KMS.DisabledException", "KMS.NotFoundException"), _KMS),
    "NoSuchUpload": "it was ended elsewhere: repeat the command",
    "InvalidRequest": "the bucket asks for what this client does not send",
    **dict.fromkeys(("AccessDenied", "403"), _RIGHTS),
}
"""Remedies of what may be about one object."""


@dataclass(frozen=True)
class ObjectInfo:
    """What HEAD and LIST tell of an object. ``modified_at`` is S3's clock, to the second.

    A LIST says ``is_archived`` of what S3 Glacier has; it may have been restored, though.
    """

    key: str
    etag: str
    size_bytes: int
    modified_at: datetime
    is_archived: bool = False


@dataclass(frozen=True)
class Page:
    """One answer to a LIST: up to 1,000 objects; ``is_truncated``: more are after the last.

    They are in the server's order: S3 sorts keys bytewise, SeaweedFS walks folders.
    """

    objects: tuple[ObjectInfo, ...]
    is_truncated: bool


_PUT_PARAMS = {
    "Content-Type": "ContentType",
    "If-None-Match": "IfNoneMatch",
    "If-Match": "IfMatch",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
}


def put_params(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return a PUT's headers under boto3's names."""
    return {_PUT_PARAMS[name]: value for name, value in headers.items()}


def put_condition(etag: str | None) -> dict[str, str]:
    """Return a PUT's condition: it replaces the object with this ETag alone; None: nothing."""
    return {"If-None-Match": "*"} if etag is None else {"If-Match": etag}


class Bucket:
    """One bucket's objects; ``put_headers`` are sent with what is stored."""

    recordings: RecordingPattern = DEFAULT

    def __init__(self, client: S3Client, name: str, put_headers: Mapping[str, str]) -> None:
        self._client = client
        self.name = name
        self._put_headers = put_headers

    def head(self, key: str) -> ObjectInfo | None:
        """Describe an object; None if there is none."""
        try:
            with translated(f"HEAD {key}"):
                answer = self._client.head_object(Bucket=self.name, Key=key)
        except _Absent:
            return None
        except (errors.ObjectRefused, errors.StorageRefused):
            self.read_head(key, 1)  # a HEAD's refusal has no words
            raise
        return ObjectInfo(key, answer["ETag"], answer["ContentLength"], answer["LastModified"])

    def read(self, key: str, limit_bytes: int = MAX_READ_BYTES) -> tuple[bytes, ObjectInfo] | None:
        """Return an object and its description; raises `ObjectRefused` if it is larger."""
        try:
            with translated(f"GET {key}"):
                answer = self._client.get_object(Bucket=self.name, Key=key)
                with closing(answer["Body"]) as stream:
                    if (size_bytes := answer["ContentLength"]) > limit_bytes:
                        text = f"{key} has {size_bytes:,} bytes, over the limit of {limit_bytes:,}"
                        raise errors.ObjectRefused(f"{text}: find its writer, and move it away")
                    body = stream.read()
        except _Absent:
            return None
        return body, ObjectInfo(key, answer["ETag"], len(body), answer["LastModified"])

    def read_head(self, key: str, first_bytes: int) -> tuple[bytes, ObjectInfo] | None:
        """Return an object's first bytes and its description, with one ranged GET."""
        try:
            with translated(f"GET {key}"):
                answer = self._client.get_object(
                    Bucket=self.name, Key=key, Range=f"bytes=0-{first_bytes - 1}"
                )
                head = answer["Body"].read(first_bytes)
        except _Absent:
            return None
        except _Empty:
            info = self.head(key)
            return None if info is None else (b"", info)
        whole = answer.get("ContentRange", "").rpartition("/")[2]  # bytes 0-65535/142000000
        size_bytes = int(whole) if whole.isdecimal() else len(head)
        return head, ObjectInfo(key, answer["ETag"], size_bytes, answer["LastModified"])

    def replace(self, key: str, body: bytes, etag: str | None) -> str:
        """Store JSON over this ETag, None: over none; raises `PreconditionFailed`."""
        try:
            return self._put(key, body, put_condition(etag))
        except _Absent as exc:
            if etag is None:
                raise
            raise errors.PreconditionFailed(f"{key} is gone") from exc

    def write(self, key: str, body: bytes) -> str:
        """Store JSON, whatever was there; return the ETag."""
        return self._put(key, body, {})

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the prefixes one level below ``prefix``; a LIST call per 1,000."""
        pages = self._client.get_paginator("list_objects_v2")
        with translated(f"LIST {prefix}"):
            for page in pages.paginate(Bucket=self.name, Prefix=prefix, Delimiter="/"):
                yield from (entry["Prefix"] for entry in page.get("CommonPrefixes", ()))

    def list_page(self, prefix: str, after: str = "") -> Page:
        """Return the next up to 1,000 objects below ``prefix``, with one LIST call.

        Only keys that the server sorts behind ``after``, any string: no token that could expire
        between two pages.
        """
        page = self._list(prefix, **({"StartAfter": after} if after else {}))
        objects = (
            ObjectInfo(
                *(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"]),
                is_archived=entry.get("StorageClass") in ("GLACIER", "DEEP_ARCHIVE"),
            )
            for entry in page.get("Contents", ())
        )
        listed = Page(tuple(objects), page["IsTruncated"])
        if listed.is_truncated and not listed.objects:
            text = f"LIST {prefix}: S3 says that there is more, and shows nothing"
            raise errors.StorageRefused(text)
        return listed

    def has_any(self, prefix: str) -> bool:
        """Tell whether any key starts with ``prefix``."""
        return bool(self._list(prefix, MaxKeys=1).get("Contents"))

    def describe(self, prefix: str) -> dict[str, str]:
        """Return the headers of a small LIST (region, date); a HEAD would need more rights."""
        return dict(self._list(prefix, MaxKeys=1)["ResponseMetadata"]["HTTPHeaders"])

    def _list(self, prefix: str, **more: Any) -> ListObjectsV2OutputTypeDef:
        with translated(f"LIST {prefix}"):
            return self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, **more)

    def _put(self, key: str, body: bytes, condition: dict[str, str]) -> str:
        more = put_params({**self._put_headers, **condition})
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        more["ContentMD5"] = b64encode(md5).decode()  # which buckets with Object Lock ask for
        with translated(f"PUT {key}"):
            answer = self._client.put_object(Bucket=self.name, Key=key, Body=body, **more)
        return answer["ETag"]


class _Absent(errors.EdgeError):
    """There is no such key, or no such bucket."""


class _Empty(errors.EdgeError):
    """A range of an object without any bytes was asked for: S3 answers 416."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn botocore's errors into ours; ``what`` names the call, such as ``HEAD users/…``."""
    try:
        yield
    except aws.ClientError as exc:
        raise _refusal(exc, what) from exc
    except _KEY_ERRORS as exc:
        raise _bad_keys(exc) from exc
    except (aws.HTTPClientError, aws.ConnectionError) as exc:
        if "CERTIFICATE_VERIFY_FAILED" in str(exc):
            raise errors.NotConfigured(f"S3: {errors.BAD_CERTIFICATE}") from exc
        raise errors.Unreachable(
            f"S3 does not answer ({type(exc).__name__} on {what}): check the network, "
            "AWS_REGION and AWS_ENDPOINT_URL_S3"
        ) from exc
    except aws.BotoCoreError as exc:
        raise errors.StorageRefused(f"{what}: {one_line(str(exc))}") from exc


def _refusal(exc: aws.ClientError, what: str) -> errors.EdgeError:
    """Return S3's refusal in its own words, with a remedy; STS's and SSO's are the keys'."""
    told: Mapping[str, Any] = exc.response.get("Error", {})
    code = str(told.get("Code", ""))
    status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if exc.operation_name in _KEY_OPERATIONS:
        return _bad_keys(exc)
    if code in _ABSENT:
        return _Absent(f"{what}: not there")
    if status == 416:
        return _Empty(f"{what}: empty")
    if code in _CHANGED:
        return errors.PreconditionFailed(f"{what}: somebody else changed it")
    if code == "SlowDown" or (status >= 500 and code not in CONCERNS_ALL):
        return errors.Unreachable(f"S3 answers {status} {code} on {what}: try again later")
    remedy = CONCERNS_ALL.get(code) or CONCERNS_ONE.get(code, _RIGHTS)
    if code == "RequestTimeTooSkewed":
        remedy = f"it is {told.get('ServerTime', 'another time')} at S3: {remedy}"
    message = one_line(str(told.get("Message", "")).rstrip("."))
    words = f"{status} {code}" + (f" ({message})" if message not in ("", code) else "")
    concerns_all = what.startswith("LIST ") or code in CONCERNS_ALL
    refused = errors.StorageRefused if concerns_all else errors.ObjectRefused
    return refused(f"S3 answers {words} on {what}: {remedy}")
