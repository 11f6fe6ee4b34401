"""What the worker reads from its environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_ROOT = Path(__file__).resolve().parent.parent


class WorkerSettings(BaseSettings):
    """One field per variable, upper case in the environment."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    models_dir: Path = Field(_ROOT / "models", description="The folder that builder/ made.")
    models_volume: Path = Field(
        Path("/runpod-volume"),
        description="RunPod's mount: a models folder in models/, and the hub's model cache.",
    )
    whisper_model: str | None = Field(None, description="A name in the profile; its default.")
    fidelity: Literal["improved", "stock"] = Field(
        "improved", description="stock: WhisperX's result to the bit, its inventions included."
    )
    device: Literal["auto", "cuda", "cpu"] = "auto"
    compute_type: str | None = Field(None, description="CTranslate2's; float16 on CUDA, int8.")
    batch_size: int | None = Field(
        None, ge=1, description="Chunks of 30 s; auto: what the GPU has room for, 8 on a CPU."
    )
    windows_batch_size: int | None = Field(
        None, ge=1, description="Detection and diarization windows; 32 on a CPU."
    )
    cpu_threads: int | None = Field(None, ge=1, description="Cores to use; the container's quota.")
    max_audio_bytes: int = Field(
        16_000_000_000, ge=1, description="A day of 44.1 kHz stereo WAV has 15.2 GB."
    )
    max_audio_seconds: float = Field(24 * 3600.0, gt=0)
    max_inline_seconds: float = Field(
        4 * 3600.0, gt=0, description="Longest recording whose transcript may come back inline."
    )
    recycle_growth: float = Field(
        0.5, gt=0, description="Memory growth over jobs after which a fresh worker is asked for."
    )
    min_scratch_bytes: int = Field(
        500_000_000, ge=0, description="Room that the temporary folder must have at the start."
    )
    progress_interval_seconds: float = Field(3.0, ge=0)
    allow_loopback_urls: bool = Field(
        False, description="For the development stack: takes http and loopback addresses."
    )
    allowed_url_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Host names, and suffixes that begin with a dot; empty: any public host."
    )
    allowed_url_ports: Annotated[tuple[int, ...], NoDecode] = (443,)
    allowed_url_ca: str | None = Field(
        None, description="PEM, or a file of it, trusted besides the public authorities."
    )

    @field_validator("batch_size", "windows_batch_size", mode="before")
    @classmethod
    def _auto(cls, value: object) -> object:
        return None if isinstance(value, str) and value.lower() == "auto" else value

    @field_validator("allowed_url_hosts", "allowed_url_ports", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip().lower() for part in value.split(",") if part.strip())
        return value
