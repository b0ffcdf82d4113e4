"""What `fc7 ui` takes stays with what it needs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent.parent
_EIGHT_THREADS = """
import ctypes
from threading import Barrier, Thread
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
barrier = Barrier(8)
def take():
    barrier.wait()
    for _ in range(1000):
        libc.malloc(1000)
threads = [Thread(target=take) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


def heaps(before: str) -> int:
    """How many glibc says it has, once eight threads have taken memory."""
    done = subprocess.run(
        [sys.executable, "-c", before + _EIGHT_THREADS],
        capture_output=True, text=True, check=True, cwd=HOUSE,
    )  # fmt: skip
    return len(re.findall("<heap nr=", done.stdout))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_threads_of_the_server_share_two_heaps() -> None:
    assert heaps("") > 2
    assert heaps("from ui.memory import bound_arenas; bound_arenas()\n") <= 2
