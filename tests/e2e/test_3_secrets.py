"""After all of it: nothing that people read holds a signature."""

import re

import pytest

from tests.e2e.conftest import Bench

pytestmark = pytest.mark.e2e

SIGNATURE = re.compile(r"X-Amz-Signature(=|%3D)[0-9a-f]", re.IGNORECASE)


def test_no_log_holds_a_signature(bench: Bench) -> None:
    logs = [path for path in bench.stack.logs.rglob("*") if path.is_file()]
    assert {"queue.jsonl", "s3.log", "worker-1.log"} <= {path.name for path in logs}
    for path in logs:
        assert not SIGNATURE.search(path.read_text(errors="replace")), path.name


def test_no_failure_and_no_line_of_the_edge_client_holds_a_signature(bench: Bench) -> None:
    assert len(bench.printed) > 10
    assert not SIGNATURE.search("\n".join(bench.printed))


def test_no_worker_ever_saw_an_aws_key(bench: Bench) -> None:
    secret = bench.stack.env["AWS_SECRET_ACCESS_KEY"].encode()
    for pid in bench.stack.worker_pids():
        with open(f"/proc/{pid}/environ", "rb") as environ:  # noqa: PTH123  /proc is no path
            variables = environ.read()
        assert secret not in variables
        assert b"AWS_" not in variables
