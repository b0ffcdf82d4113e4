"""The memory of this process and of those that work for it, and of files."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path


def peak_bytes() -> int:
    """The most memory that this process has had, pages of mapped files included.

    On Linux the most that each of its processes at work has had is added, such as those that decode
    photos: more than all had at once, as they share some.
    """
    own = _peak_of(Path("/proc/self"))
    if own is None:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return own + sum(_peak_of(entry, parent=os.getpid()) or 0 for entry in entries)


def _peak_of(process: Path, parent: int | None = None) -> int | None:
    """Of a folder of /proc; None where there is none, or it is of another parent."""
    try:  # getrusage counts the parent's memory too, up to the exec
        lines = (process / "status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    if "VmHWM" not in told or (parent is not None and int(told["PPid"]) != parent):
        return None
    return int(told["VmHWM"].split()[0]) * 1024


def forget_pages(folder: Path) -> None:
    """Ask the system to drop a folder's files from its memory, where it can be asked."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
