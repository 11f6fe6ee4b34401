"""A worker on a machine with a fault: ``python -m tests.fakes.unfit_worker FAULT``.

What its GPU would do is put in torch's place; the rest is the real handler under the real SDK.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

from worker.host import health

PTX = "CUDA failed with error the provided PTX was compiled with an unsupported toolchain."


def fail(message: str) -> Any:
    """Return what raises as torch and CTranslate2 do."""

    def raises(*_: Any, **__: Any) -> Any:
        raise RuntimeError(message)

    return raises


def old_driver() -> None:
    """Torch is content, CTranslate2's code cannot be compiled."""
    mock.patch.object(health, "_run_kernel").start()
    mock.patch("torch.cuda.is_available", return_value=True).start()
    models = SimpleNamespace(
        rehearse=fail(PTX), device=SimpleNamespace(name="cpu"), get_ready_for_more=lambda: None
    )
    mock.patch("worker.models.load.load_models", return_value=models).start()


def full_gpu() -> None:
    """Somebody else has the memory."""
    mock.patch.object(health, "_run_kernel").start()
    mock.patch("torch.cuda.is_available", return_value=True).start()
    mock.patch("torch.cuda.mem_get_info", return_value=(10**8, 24 * 10**9)).start()


def missing_kernel() -> None:
    """Torch has no code for the GPU."""
    mock.patch("torch.cuda.is_available", return_value=True).start()
    said = "CUDA error: no kernel image is available for execution on the device"
    mock.patch.object(health, "_run_kernel", fail(said)).start()


def no_internet() -> None:
    """Where the SDK looks whether there is an internet, somebody answers."""
    connect = asyncio.open_connection

    async def open_connection(host: str, port: int, **named: Any) -> Any:
        if (host, port) != ("8.8.8.8", 53):
            return await connect(host, port, **named)
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        return await connect(*server.sockets[0].getsockname())

    mock.patch("asyncio.open_connection", open_connection).start()


if __name__ == "__main__":
    fault = sys.argv.pop(1)
    globals().get(fault, lambda: None)()
    runpy.run_path("handler.py", run_name="__main__")
