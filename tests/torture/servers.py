"""The real `fc7 ui` and other long processes, with what they print and what they take."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Thread

from serving import free_port, start_ui

_ENDING = 60.0  # seconds


class Running:
    """A process whose lines are read as they come, so that it never waits for that."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._readers = [
            Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (process.stdout, process.stderr)
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Iterator[str]) -> None:
        self.lines.extend(stream)

    def stop(self) -> list[str]:
        """Ctrl-C; what was wrong with it: faults in what it printed, or how it ended."""
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return ["it did not end after Ctrl-C", *self.faults()]
        for reader in self._readers:
            reader.join()
        return [f"it ended with {code}"] * (code != 0) + self.faults()

    def faults(self) -> list[str]:
        """Tracebacks and stacks that it printed."""
        text = "".join(self.lines)
        marks = ("Traceback", "Stack (most recent call last)")
        return [text] * any(mark in text for mark in marks)


@contextmanager
def server_of(library: Path) -> Iterator[tuple[str, Running]]:
    """`fc7 ui` with a library: its address, and itself. Who uses it stops it, to see its faults."""
    port = free_port()
    running = Running(start_ui(library, port))
    try:
        while not any(str(port) in line for line in running.lines):
            assert running.process.poll() is None, running.lines
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@dataclass(frozen=True, slots=True)
class Sample:
    """What a process takes at a moment. Memory in MB."""

    rss: float
    pss: float  # pages that others have too count in part: it moves with them
    anonymous: float  # its own, of no file
    handles: int
    threads: int
    children: int

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in fields(cls)]


def sample(pid: int) -> Sample:
    """By what Linux tells of it."""
    place = Path(f"/proc/{pid}")
    rollup = _numbers(place / "smaps_rollup")
    children = 0
    for task in (place / "task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            children += len((task / "children").read_text().split())
    return Sample(
        rss=rollup["Rss"] / 1024,
        pss=rollup["Pss"] / 1024,
        anonymous=rollup["Anonymous"] / 1024,
        handles=len(list((place / "fd").iterdir())),
        threads=_numbers(place / "status")["Threads"],
        children=children,
    )


def peak_mb(pid: int) -> float:
    """The most memory that a process has had."""
    return _numbers(Path(f"/proc/{pid}/status"))["VmHWM"] / 1024


def core_seconds(pid: int) -> float:
    """The time of processors that a process has had."""
    rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")


def _numbers(file: Path) -> dict[str, int]:
    """`Name:  123 kB` lines as numbers; others are left out."""
    found = {}
    for line in file.read_text().splitlines():
        name, _, rest = line.partition(":")
        if (words := rest.split()) and words[0].isdecimal():
            found[name] = int(words[0])
    return found


def told(seconds: Sequence[float]) -> str:
    """Times in a few words."""
    ordered = sorted(seconds)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"median {statistics.median(ordered):.3f} s, 95 % {late:.3f}, most {ordered[-1]:.3f}"
