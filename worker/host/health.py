"""Health checks that the SDK runs once, at the worker's start (runpod 1.12.0, ``rp_fitness``).

Takes the settings; gives checks that return, or raise `Unhealthy` with the remedy. The SDK logs
what a check raises, reports it to RunPod (``status=unhealthy``) and exits with 1, so that no job
fails on a worker that cannot run any.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from worker.errors import WorkerError
from worker.http import trust
from worker.memory import is_cuda_error, is_out_of_memory
from worker.models.folder import ModelsFolder
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.models.load import Models

logger = logging.getLogger(__name__)
Check = Callable[[], None]
_BLOCK = bytes(1 << 20)
_SAMPLES_BYTES_PER_S = 32_000
_GPUS = "nvidia[0-9]*"
_OTHER_GPU = "choose another GPU type for the endpoint"
_REMEDIES = (  # by what torch 2.8 and CTranslate2 4.8.5 say, in lower case
    (
        (
            *("driver version is insufficient", "system is too old", "unsupported toolchain"),
            *("unsupportedptx", "forward compatibility", "newer driver", "ptx jit compiler"),
        ),
        "the driver is too old: allow CUDA 12.8 and later only in the endpoint's settings, which "
        "means driver 570 or newer",
    ),
    (
        ("no kernel image", "nokernelimage", "invalid device function", "arch_mismatch", "ptx"),
        "its libraries have no code for this GPU: choose Ampere, Ada, Hopper or Blackwell",
    ),
    (("out of memory",), "choose a GPU type with more memory, or a smaller WHISPER_MODEL"),
    (
        ("no nvidia driver", "no cuda gpus", "no cuda-capable", "sees no cuda", "not compiled"),
        "there is no GPU: choose GPU types for the endpoint, or set DEVICE=cpu",
    ),
)


class Unhealthy(Exception):
    """The worker can do no job; one line that names the remedy."""


def checks(
    settings: WorkerSettings, find: Callable[[], ModelsFolder], load: Callable[[], Models]
) -> tuple[Check, ...]:
    """Return the checks, the cheapest first; the SDK tells of each by its ``__name__``.

    Args:
        settings: Of the worker.
        find: Returns the models folder (`worker.models.folder.find_models`).
        load: Returns the models, or waits for them.
    """
    named = {
        "scratch_has_room": partial(check_scratch, settings),
        "authority_is_one": partial(check_authority, settings),
        "models_are_complete": partial(check_models, find),
        "gpu_runs_a_kernel": partial(check_gpu, settings),
        "gpu_runs_the_models": partial(check_models_run, settings, load),
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
    if not demands_gpu(settings, devices):
        return
    import torch  # here, and in the loading thread at the same time

    with _told():
        if not torch.cuda.is_available():
            torch.cuda.init()  # type: ignore[no-untyped-call]  # says why not
            raise RuntimeError("torch sees no CUDA device")
        _run_kernel()


def check_models_run(
    settings: WorkerSettings, load: Callable[[], Models], devices: Path = Path("/dev")
) -> None:
    """Load the models and run each on a second of sound, where a GPU is demanded.

    CTranslate2 and torch are built for different GPUs: what the one runs, the other may not. What
    is compiled for this GPU is compiled here, and not while a job waits.

    Args:
        settings: Of the worker.
        load: Returns the models, or waits for them.
        devices: As in `check_gpu`.
    """
    if not demands_gpu(settings, devices):
        return
    with _told():
        load().rehearse()


def demands_gpu(settings: WorkerSettings, devices: Path) -> bool:
    """Whether the models have to run on a GPU; arguments as in `check_gpu`."""
    is_there = any(devices.glob(_GPUS))
    return settings.device == "cuda" or (settings.device == "auto" and is_there)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what a GPU, or loading onto it, fails with into one line that names the remedy."""
    try:
        yield
    except (WorkerError, RuntimeError, MemoryError) as exc:
        cause = exc.__cause__ if isinstance(exc, WorkerError) else exc
        if cause is None or (cause is not exc and not is_cuda_error(cause)):
            raise Unhealthy(str(exc)) from exc
        said = (str(cause).splitlines() or [""])[0]
        text = "out of memory" if is_out_of_memory(cause) else said.lower()
        found = (remedy for signs, remedy in _REMEDIES if any(sign in text for sign in signs))
        raise Unhealthy(f"the GPU runs no models ({said}): {next(found, _OTHER_GPU)}") from exc


def _run_kernel() -> None:
    """Multiply two matrices; RuntimeError where the product is wrong, or CUDA's own."""
    import torch

    ones = torch.ones((64, 64), dtype=torch.float16, device="cuda")
    if not bool(((ones @ ones) == 64).all()):
        raise RuntimeError("1 x 1, 64 times, is not 64")
