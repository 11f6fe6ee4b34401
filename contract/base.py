"""The base of every model on the wire, and the limits of the wire itself."""

from pydantic import BaseModel, ConfigDict

MAX_SUMMARY_BYTES = 1024
"""What a worker answers with when the transcript went to S3, in encoded bytes."""


class WireModel(BaseModel):
    """A frozen value that crosses the wire.

    Unknown fields are refused by name, numbers are finite, and validation errors never
    repeat the input: it may hold a presigned URL.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )
