"""Write the JSON Schemas of the wire into a folder: ``python -m tools.schemas docs/schemas``."""

import json
import sys
from pathlib import Path

from bucketscribe_contract.failures import JobFailure, WireModel
from bucketscribe_contract.job_input import JobInput
from bucketscribe_contract.runpod import ExecutionPolicy, Progress
from bucketscribe_contract.summary import JobSummary, UploadFailed
from bucketscribe_contract.transcript import Transcript

PUBLISHED: dict[str, type[WireModel]] = {
    "job_input": JobInput,
    "job_summary": JobSummary,
    "upload_failed": UploadFailed,
    "job_failure": JobFailure,
    "transcript": Transcript,
    "progress": Progress,
    "execution_policy": ExecutionPolicy,
}


def render() -> dict[str, str]:
    """Return file name to schema text for every published model."""
    return {
        f"{name}.schema.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema"}
            | model.model_json_schema(by_alias=True),
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
        for name, model in PUBLISHED.items()
    }


def main(folder: Path) -> None:
    """Write every schema into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
