"""RunPod's client for JavaScript, from npm, on the development stack."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.queue_client import API_KEY, ENDPOINT_ID
from tests.fakes.sdk_worker import at_work

SDK = "runpod-sdk@1.1.2"
SCRIPT = """
import runpodSdk from "runpod-sdk"
const [baseUrl, key, id] = process.argv.slice(2)
const endpoint = runpodSdk(key, { baseUrl }).endpoint(id)
const seen = { sync: await endpoint.runSync({ input: { parts: ["now"] } }, 60000) }
const { id: job } = await endpoint.run({ input: { parts: ["a", "b"] }, policy: { ttl: 3600000 } })
seen.status = await endpoint.statusSync(job, 60000)
const { id: waiting } = await endpoint.run({ input: { wait: true } })
seen.held = await endpoint.statusSync(waiting, 1000)
seen.health = await endpoint.health()
seen.cancelled = await endpoint.cancel(waiting)
seen.gone = await endpoint.status("none").catch((error) => error.response.status)
console.log(JSON.stringify(seen))
"""


@pytest.mark.skipif(not shutil.which("npm"), reason="node and npm are not installed")
def test_runpods_client_of_npm_finds_what_it_knows(tmp_path: Path) -> None:
    (tmp_path / "client.mjs").write_text(SCRIPT)
    (tmp_path / "package.json").write_text("{}")
    subprocess.run(
        ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", SDK],
        cwd=tmp_path,
        check=True,
        timeout=240,
    )
    with at_work(tmp_path) as server:
        command = ["node", "client.mjs", server.base_url, API_KEY, ENDPOINT_ID]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert (seen["sync"]["output"], seen["sync"]["succeeded"]) == (["now"], True)
    assert (seen["status"]["status"], seen["status"]["output"]) == ("COMPLETED", ["a", "b"])
    assert (seen["held"]["status"], seen["held"]["completed"]) == ("IN_PROGRESS", False)
    assert seen["health"]["workers"]["running"] == 1
    assert seen["cancelled"]["status"] == "CANCELLED"
    assert seen["gone"] == 404
