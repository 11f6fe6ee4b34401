"""The heap: what is free goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker import memory as heap

PROGRAM = """
import resource
from worker.memory import trim_heap, use_few_arenas

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

use_few_arenas()
blocks = [bytearray(60_000) for _ in range(2000)]
kept = blocks[-1]
before = resident()
del blocks
held = resident()
trim_heap()
print(before - held, before - resident())
"""


def test_what_is_free_goes_back_to_the_system() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    without, with_it = map(int, said.stdout.split())
    assert without < 20_000_000
    assert with_it > 100_000_000


def test_a_trimmer_rests_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    now, given_back = [100.0], []
    monkeypatch.setattr(heap.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heap, "trim_heap", lambda: given_back.append(now[0]))
    trim = heap.Trimmer()
    for now[0] in (100.1, 101.9, 102.1, 102.2, 104.0, 104.2):
        trim()
    assert given_back == [102.1, 104.2]


def test_threads_share_arenas() -> None:
    program = """
import ctypes, re, tempfile, threading
from worker.memory import use_few_arenas
use_few_arenas()
gate = threading.Barrier(6)
def allocate():
    block = ctypes.CDLL(None).malloc(5000)
    gate.wait()
threads = [threading.Thread(target=allocate) for _ in range(6)]
[t.start() for t in threads]; [t.join() for t in threads]
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(len(re.findall(rb"<heap nr", file.read())))
"""
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(said.stdout) <= 2
