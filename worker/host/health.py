"""Health checks that the SDK runs once, at the worker's start (runpod 1.12.0, ``rp_fitness``).

Takes the settings; gives checks that return, or raise `Unhealthy` with the remedy. The SDK logs
what a check raises, reports it to RunPod (``status=unhealthy``) and exits with 1, so that no job
fails on a worker that cannot run any.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from worker.errors import WorkerError
from worker.http import trust
from worker.models.folder import ModelsFolder
from worker.settings import WorkerSettings

logger = logging.getLogger(__name__)
Check = Callable[[], None]
_BLOCK = bytes(1 << 20)
_SAMPLES_BYTES_PER_S = 32_000
_GPUS = "nvidia[0-9]*"


class Unhealthy(Exception):
    """The worker can do no job; one line that names the remedy."""


def checks(settings: WorkerSettings, find: Callable[[], ModelsFolder]) -> tuple[Check, ...]:
    """Return the checks, the cheapest first; the SDK tells of each by its ``__name__``.

    Args:
        settings: Of the worker.
        find: Returns the models folder (`worker.models.folder.find_models`).
    """
    named = {
        "scratch_has_room": partial(check_scratch, settings),
        "authority_is_one": partial(check_authority, settings),
        "models_are_complete": partial(check_models, find),
        "gpu_runs_a_kernel": partial(check_gpu, settings),
    }
    for name, check in named.items():
        check.__name__ = name  # type: ignore[attr-defined]
    return tuple(named.values())


def check_scratch(settings: WorkerSettings) -> None:
    """See that a job's temporary directory can be written, and holds a recording."""
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.TemporaryFile() as file:
            file.write(_BLOCK)
    except OSError as exc:
        raise Unhealthy(
            f"{folder} cannot be written ({exc.strerror}): mount a writable folder there, or set "
            "TMPDIR to one"
        ) from exc
    free = psutil.disk_usage(str(folder)).free
    if free < settings.min_scratch_bytes:
        raise Unhealthy(
            f"{folder} has {free:,} bytes free, MIN_SCRATCH_BYTES asks for "
            f"{settings.min_scratch_bytes:,}: give the endpoint a larger container disk"
        )
    needed = settings.max_audio_bytes + round(settings.max_audio_seconds * _SAMPLES_BYTES_PER_S)
    if free < needed:
        logger.warning(
            "%s has %s bytes free: larger recordings fail, though MAX_AUDIO_BYTES and the waveform "
            "of MAX_AUDIO_SECONDS may need %s",
            folder,
            f"{free:,}",
            f"{needed:,}",
        )


def check_authority(settings: WorkerSettings) -> None:
    """See that certificates can be verified with ``ALLOWED_URL_CA``."""
    try:
        trust(settings.allowed_url_ca)
    except (OSError, ValueError) as exc:
        said = f"ALLOWED_URL_CA is neither PEM nor a file of it ({exc.args[-1]})"
        raise Unhealthy(f"{said}: give it the authority's certificate") from exc


def check_models(find: Callable[[], ModelsFolder]) -> None:
    """See that all files of the models are there, in their sizes."""
    try:
        find()
    except WorkerError as exc:
        raise Unhealthy(str(exc)) from exc


def check_gpu(settings: WorkerSettings, devices: Path = Path("/dev")) -> None:
    """Run a small kernel where a GPU is demanded: by ``DEVICE=cuda``, or by its being there.

    A GPU that does not work must not make a worker that is paid for as one run on its CPU.

    Args:
        settings: Of the worker.
        devices: Where the driver shows the GPUs.
    """
    is_there = any(devices.glob(_GPUS))
    if settings.device == "cpu" or (settings.device == "auto" and not is_there):
        return
    import torch  # here, and in the loading thread at the same time

    if not torch.cuda.is_available():
        from worker.models.device import NO_CUDA

        asked = "DEVICE=cuda" if settings.device == "cuda" else "the machine has a GPU"
        raise Unhealthy(f"{asked}, but {NO_CUDA}")
    try:
        _run_kernel()
    except RuntimeError as exc:
        said = (str(exc).splitlines() or [""])[0]
        raise Unhealthy(
            f"the GPU does not run a kernel ({said}): choose another GPU type for the endpoint, "
            f"with a driver for CUDA {torch.version.cuda}"
        ) from exc


def _run_kernel() -> None:
    """Multiply two matrices; RuntimeError where the product is wrong, or CUDA's own."""
    import torch

    ones = torch.ones((64, 64), dtype=torch.float16, device="cuda")
    if not bool(((ones @ ones) == 64).all()):
        raise RuntimeError("1 x 1, 64 times, is not 64")
