"""Run SeaweedFS as S3 on loopback, with one bucket and random keys.

It enforces SigV4, expiry, signed headers and conditional writes. Raises `StartFailed`, which names
the log.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sysconfig
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from devstack.process import ChildProcess, Guard, clean_environment, remove

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
READY_TIMEOUT_S = 60.0
START_ATTEMPTS = 3
SSE_KEY = "00" * 32
"""Of the server, for what is to be encrypted (AES256)."""
SOCKETS = Path("/tmp")  # noqa: S108 -- SeaweedFS puts them there
LISTENERS = ("master", "volume", "filer", "s3")


class StartFailed(RuntimeError):
    """A part of the stack did not start; the message says where to look."""


class S3Server:
    """One SeaweedFS server with one bucket and one pair of random keys.

    Args:
        bucket: Created at the start, at least 3 characters.
        state: An existing folder for credentials and data.
        log: Where SeaweedFS's output goes.
        guard: Ends the server if this process dies.
    """

    def __init__(self, bucket: str, state: Path, log: Path, guard: Guard) -> None:
        self.bucket = bucket
        self.access_key_id = secrets.token_hex(10).upper()
        self.secret_access_key = secrets.token_hex(20)
        self._state, self._log, self._guard = state, log, guard
        self._data = state / "s3"
        self._ports: dict[str, int] = {}
        self._process: ChildProcess | None = None

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._ports['s3']}"

    def __enter__(self) -> Self:
        self._data.mkdir()
        config = self._write_credentials()
        with ExitStack() as undo:
            undo.callback(self._stop)
            for _ in range(START_ATTEMPTS):
                self._ports = _free_ports()
                self._process = self._spawn(config)
                if self._wait_until_ready(self._process):
                    undo.pop_all()
                    return self
                if not self._process.has_exited:
                    break  # it runs but does not answer: other ports would not help
        raise StartFailed(f"SeaweedFS did not start: see {self._log}")

    def __exit__(self, *_: object) -> None:
        self._stop()

    def client(self) -> S3Client:
        """Return a boto3 client with this server's keys."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=REGION,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                connect_timeout=2,
                read_timeout=30,
            ),
        )

    def _write_credentials(self) -> Path:
        identity = {
            "name": "devstack",
            "credentials": [{"accessKey": self.access_key_id, "secretKey": self.secret_access_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        path = self._state / "s3.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
        return path

    def _spawn(self, config: Path) -> ChildProcess:
        for path in self._sockets():
            self._guard.watch_path(path)
        command = [_find_weed(), "-logtostderr", "server", *self._options(config)]
        env = clean_environment(self._state) | {"WEED_S3_SSE_KEY": SSE_KEY}
        return ChildProcess(command, env, self._state, self._log, self._guard)

    def _options(self, config: Path) -> list[str]:
        """Return options that keep every listener on loopback and send no telemetry."""
        ports = self._ports
        return [
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self._data}",
            *(f"-{name}.port={ports[name]}" for name in LISTENERS),
            *(f"-{name}.port.grpc={ports[name + '.grpc']}" for name in LISTENERS),
            f"-filer.localSocket={self._state / 'filer.sock'}",
            f"-s3.localSocket={self._state / 's3.sock'}",
            "-s3",
            f"-s3.config={config}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=100",
            "-volume.preStopSeconds=0",
        ]

    def _wait_until_ready(self, process: ChildProcess) -> bool:
        """Create the bucket and write once: the first write waits for a volume to grow."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline_s and not process.has_exited:
            time.sleep(0.1)
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):  # by an earlier try
                    client.create_bucket(Bucket=self.bucket)
                client.put_object(Bucket=self.bucket, Key=".ready", Body=b"ready")
                client.delete_object(Bucket=self.bucket, Key=".ready")
            except (BotoCoreError, ClientError):
                continue
            return True
        return False

    def _stop(self) -> None:
        if self._process is not None:
            # A graceful stop takes 15 s; the kernel has all acknowledged writes already.
            self._process.stop(grace_s=0)
        for path in self._sockets():
            remove(path)

    def _sockets(self) -> list[Path]:
        """Return the sockets that SeaweedFS makes and, killed, leaves behind."""
        ports = {name: self._ports.get(f"{name}.grpc") for name in LISTENERS}
        return [SOCKETS / f"seaweedfs-{name}-grpc-{port}.sock" for name, port in ports.items()]


def _find_weed() -> str:
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise StartFailed("SeaweedFS is not installed: run `make setup`")
    return found


def _free_ports() -> dict[str, int]:
    """Return a free port for each listener; none is taken twice."""
    names = [*LISTENERS, *(f"{name}.grpc" for name in LISTENERS)]
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        ports = [int(listener.getsockname()[1]) for listener in sockets]
    return dict(zip(names, ports, strict=True))
