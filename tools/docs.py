"""What the pages take from the program, printed by the cog blocks in README.md and docs/.

``python -m tools.docs`` writes the pages' generated parts and ``docs/schemas`` anew, ``--check``
fails where one is not current, ``--examples`` first records into ``docs/examples`` what the
commands print on the development stack with its real worker.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from cogapp import Cog

from bucketscribe_contract import (
    ExecutionPolicy,
    JobFailure,
    JobInput,
    JobSummary,
    Progress,
    Transcript,
    UploadFailed,
    WireModel,
)
from devstack.demo import telephone_wav
from devstack.stack import ROOT, Stack
from edge_client.cli import cli
from edge_client.errors import BAD_CERTIFICATE, EndpointNotFound
from edge_client.services import runpod, s3

PAGES = (
    "README.md",
    "docs/batch.md",
    "docs/cli.md",
    "docs/deploy.md",
    "docs/find.md",
    "docs/operations.md",
)
SCHEMAS = ROOT / "docs" / "schemas"
PUBLISHED: dict[str, type[WireModel]] = {
    "job_input": JobInput,
    "job_summary": JobSummary,
    "upload_failed": UploadFailed,
    "job_failure": JobFailure,
    "transcript": Transcript,
    "progress": Progress,
    "execution_policy": ExecutionPolicy,
}
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
_WIDTH = 100


def example(name: str) -> None:
    """Print what one of `SCENES` printed, below its command."""
    command = " ".join(("$ edge-client", *SCENES[name])) if name in SCENES else ""
    text = (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8").rstrip()
    _print("```", *([command] if command else []), text, "```")


def fields(name: str) -> None:
    """Print the fields of a published model as a table."""
    rows = ["| field | type | meaning |", "|---|---|---|"]
    schema = PUBLISHED[name].model_json_schema(by_alias=True)
    for field, its in schema["properties"].items():
        given = "" if its.get("default") is None else f" Default: `{json.dumps(its['default'])}`."
        meaning = its.get("description", "") + given
        rows.append(f"| `{field}` | {_type_of(its)} | {meaning.strip()} |")
    _print(*rows)


def refusals() -> None:
    """Print what S3 and RunPod say, and what the user reads, as a table."""
    codes: dict[str, list[str]] = {}
    for code, remedy in (s3.CONCERNS_ALL | s3.CONCERNS_ONE).items():
        codes.setdefault(remedy, []).append(f"`{code}`")
    rows = ["| answer | the user reads it, and |", "|---|---|"]
    rows += [f"| S3: {', '.join(named)} | {remedy} |" for remedy, named in codes.items()]
    for status, text in ((401, ""), (404, ""), (429, ""), (502, "<html>")):
        answer = runpod.Answer("GET", status, {}, text)
        told = str(runpod.refusal(answer, EndpointNotFound))
        rows.append(f"| RunPod: {status}{' with a page' if text else ''} | {told} |")
    rows.append(f"| either: a certificate that cannot be verified | {BAD_CERTIFICATE} |")
    _print(*rows)


def cards() -> None:
    """Print what runs at once on each of RunPod's sizes of GPU, as a table."""
    from worker.models.device import WhisperShape, cuda_device
    from worker.settings import WorkerSettings

    models = {"large-v3": (WhisperShape(), 3.6), "large-v3-turbo": (WhisperShape(4), 2.1)}
    rows = ["| GPU | model | Whisper, chunks of 30 s | windows of 10 s | aligned, 30 s each |"]
    rows.append("|---|---|---:|---:|---:|")
    for size_gb in (16, 24, 48, 80):
        for model, (shape, weights_gb) in models.items():
            free = int((0.97 * size_gb - weights_gb) * 10**9)
            its = cuda_device(WorkerSettings(), 1, free, shape)
            batches = its.batch_size, its.windows_batch_size, its.slices_batch_size
            rows.append(f"| {size_gb} GB | {model} | " + " | ".join(map(str, batches)) + " |")
    _print(*rows)


def commands() -> None:
    """Print the help of every command."""
    _chapter(cli, "edge-client", None, "##")


def _chapter(command: click.Command, name: str, parent: click.Context | None, mark: str) -> None:
    context = click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=_WIDTH,
        help_option_names=[] if parent else ["-h", "--help"],  # said once
    )
    text, _, _ = command.get_help(context).partition("\n\nCommands:")  # each has its own chapter
    _print(f"{mark} {name}", "", "```", text, "```", "")
    if isinstance(command, click.Group):
        for inner, its in sorted(command.commands.items()):
            _chapter(its, inner, context, mark if parent is None else mark + "#")


def _type_of(schema: dict[str, Any]) -> str:
    """Return a field's type for people, such as `integer or null`."""
    kinds = [schema, *schema.get("anyOf", ())]
    names = [kind.get("format") or kind.get("type") or "" for kind in kinds]
    if any("$ref" in kind for kind in kinds):
        names.insert(0, "object")
    return " or ".join(name for name in names if name)


def _print(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def schemas() -> dict[str, str]:
    """Return file name to JSON Schema for every published model."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    documents = {
        name: dialect | model.model_json_schema(by_alias=True) for name, model in PUBLISHED.items()
    }
    return {
        f"{name}.schema.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for name, document in documents.items()
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


def main(arguments: list[str]) -> int:
    """Write or check what is generated; return the exit code."""
    check = "--check" in arguments
    if "--examples" in arguments:
        with tempfile.TemporaryDirectory() as logs, Stack(logs=Path(logs)) as stack:
            for name, text in record(stack).items():
                (EXAMPLES / f"{name}.txt").write_text(text.rstrip() + "\n", encoding="utf-8")
    if not check:
        for name, text in schemas().items():
            (SCHEMAS / name).write_text(text, encoding="utf-8")
    there = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*")}
    stale = {name for name, _ in there.items() ^ schemas().items()}
    for name in sorted(stale):
        sys.stderr.write(f"docs/schemas/{name} is not current: run `make docs`\n")
    mode = ["--check"] if check else ["-r"]
    pages = [str(Path(ROOT, page)) for page in PAGES]
    return int(Cog().main(["cog", "-P", "--verbosity=1", *mode, *pages]) or bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
