"""The memory of this process, and of files."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """The most memory that this process has had, pages of mapped files included."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts the parent's memory too, up to the exec
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_pages(folder: Path) -> None:
    """Ask the system to drop a folder's files from its memory, where it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
