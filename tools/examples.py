"""Record what the commands print, on the development stack with its real worker.

`record` runs `SCENES` one after another against a stack and returns what each printed; the pages
show these texts (``docs/examples``).
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from devstack.demo import telephone_wav
from devstack.stack import ROOT, Stack

EXAMPLES = ROOT / "docs" / "examples"
PREFIX = "users/ada/audio/sessions/"
TELEPHONE = f"{PREFIX}2026-11-14-0900"
BROKEN = f"{PREFIX}2026-11-16-0900"
SCENES: dict[str, tuple[str, ...]] = {
    "dry-run": ("batch", "--user", "ada", "--dry-run"),
    "submit": ("submit", "2026-11-14-0900", "--wait"),
    "render": ("render", "2026-11-14-0900", "--format", "txt"),
    "doctor": ("doctor",),
    "status": ("status", "2026-11-14-0900"),
    "batch": ("batch", "--user", "ada", "--report", "report.jsonl"),
    "list": ("list", "--user", "ada"),
}


def record(stack: Stack) -> dict[str, str]:
    """Run the scenes; return their names with what they printed, and documents that they made."""
    speech = telephone_wav().read_bytes()
    objects = {
        f"{TELEPHONE}/audio.wav": speech,
        f"{PREFIX}2026-11-15-0900/audio.wav": speech,
        f"{BROKEN}/audio.wav": b"no audio at all" * 100,
        f"{PREFIX}2026-11-17-0900/chunk-001.webm": b"-",
    }
    s3 = stack.s3.client()
    for key, body in objects.items():
        s3.put_object(Bucket=stack.s3.bucket, Key=key, Body=body)
    with tempfile.TemporaryDirectory() as folder:
        printed = {name: _run(stack, Path(folder), scene) for name, scene in SCENES.items()}
        report = Path(folder, "report.jsonl").read_text(encoding="utf-8").splitlines()
    printed["report"] = next(line for line in report if BROKEN in line)
    stored = s3.get_object(Bucket=stack.s3.bucket, Key=f"{TELEPHONE}/transcription.json")
    transcript = json.loads(stored["Body"].read())
    first = transcript["segments"][0] | {"words": transcript["segments"][0]["words"][:1]}
    excerpt = transcript | {"segments": [first]}
    printed["transcript"] = json.dumps(excerpt, indent=1, ensure_ascii=False)
    log = (stack.logs / "worker-1.log").read_text(encoding="utf-8").splitlines()
    printed["worker-log"] = next(
        line for line in reversed(log) if re.search(r"worker\.job .* ok: ", line)
    )
    return printed


def _run(stack: Stack, folder: Path, arguments: tuple[str, ...]) -> str:
    """Return what a command shows without a terminal, notes and results in their order."""
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return stack.edge_client(*arguments, cwd=folder, columns=100, timeout=240, **both).stdout


def main() -> None:
    """Write what the scenes print into `EXAMPLES`."""
    EXAMPLES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as logs, Stack(logs=Path(logs)) as stack:
        for name, text in record(stack).items():
            (EXAMPLES / f"{name}.txt").write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
