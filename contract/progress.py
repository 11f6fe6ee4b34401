"""How far a job is: RunPod's progress and the file behind ``progress_url`` have this shape."""

from datetime import datetime

from pydantic import Field

from contract.base import WireModel
from contract.failures import Stage


class Progress(WireModel):
    """Where a running job is."""

    stage: Stage
    percent: float = Field(ge=0, le=100, description="Of the whole job, never falling.")
    updated_at: datetime = Field(description="UTC.")
