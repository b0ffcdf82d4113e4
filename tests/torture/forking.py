"""Trials in processes of their own: forked from one that has loaded all, and computed nothing.

So a trial costs what it does, not the seconds that torch takes to load; and it may be killed.
Run as a program this file is that process: it takes calls from stdin, one after another.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

_LONGEST = 120.0  # seconds that a trial may take
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # others don't outlive a fork
_ROOT = Path(__file__).parents[2]
_MARK = "FC7_TRIAL"  # in the environment of what a trial starts
_PATIENCE = 10.0  # seconds that workers of a killed process may take to see that it is gone


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a trial ended. status: 0, an exit code, or minus the number of the signal."""

    status: int
    value: Any  # what the function returned
    error: str  # a traceback, or ""
    seconds: float  # from `begin` to the end
    orphans: int  # processes that it left running

    @property
    def was_killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Trials:
    """The process that forks, from its parent's side."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "torture.forking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'tests'}"},
        )

    def __call__(
        self, function: Callable[..., Any], *args: Any, kill_after: float | None = None
    ) -> Outcome:
        """Call a function of a module in a process of its own.

        kill_after: so many seconds after it called `begin` it is killed, unless it has ended.
        """
        call = (function.__module__, function.__qualname__, args)
        assert self._server.stdin is not None
        pickle.dump(call, self._server.stdin)
        self._server.stdin.flush()
        pid = int(self._read())  # it waits until we are ready to kill it
        handle = os.pidfd_open(pid)
        self._server.stdin.write(b"\n")
        self._server.stdin.flush()
        alarm = threading.Timer(_LONGEST, _kill, [handle])
        alarm.start()
        line, begun = self._read(), time.monotonic()
        if line == "begun":
            if kill_after is not None:
                time.sleep(kill_after)
                _kill(handle)
            line = self._read()
        seconds = time.monotonic() - begun
        alarm.cancel()
        os.close(handle)
        status, file = line.split(" ", 1)
        value, error = None, ""
        with suppress(EOFError, pickle.UnpicklingError):
            value, error = pickle.loads(Path(file).read_bytes())  # noqa: S301 - our own child's
        Path(file).unlink()
        return Outcome(int(status), value, error, seconds, _orphans(pid))

    def value(self, function: Callable[..., Any], *args: Any) -> Any:
        """What a call that must not fail returns."""
        outcome = self(function, *args)
        if outcome.error or outcome.status:
            raise RuntimeError(f"{function.__name__} ended with {outcome.status}\n{outcome.error}")
        return outcome.value

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.communicate()

    def _read(self) -> str:
        assert self._server.stdout is not None
        line = self._server.stdout.readline().decode()
        assert line, "the process that forks is gone"
        return line.rstrip("\n")


@contextmanager
def trials() -> Iterator[Trials]:
    made = Trials()
    try:
        yield made
    finally:
        made.close()


def begin() -> None:
    """Called by a trial: what comes now is what is tried."""
    if _told is not None:
        os.write(_told, b"begun\n")


@lru_cache
def extractor() -> Extractor:
    """AlexNet with the bundled weights, loaded before the first fork."""
    from retrieval.extractor import Extractor

    return Extractor(device="cpu")


def _kill(handle: int) -> None:
    """By its handle, for the number of a process that has ended may be another's."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)


def _orphans(trial: int) -> int:
    """How many processes a trial left running, after they had time to see that it is gone."""
    deadline = time.monotonic() + _PATIENCE
    while left := _of_trial(trial):
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return len(left)
        time.sleep(0.02)
    return 0


def _of_trial(trial: int) -> list[int]:
    """What it started: in its session, or, as workers are, in their own with its mark."""
    found, mark = [], f"{_MARK}={trial}".encode()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _parent, _group, session = stat.read_text().rpartition(")")[2].split()[:4]
            marked = mark in stat.with_name("environ").read_bytes().split(b"\0")
            if (int(session) == trial or marked) and state != "Z":
                found.append(int(stat.parent.name))
    return found


# --- the process that forks

_told: int | None = None  # where a trial tells its parent's parent that it has begun


def _serve() -> None:
    global _told
    calls, _told = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for module in ("faiss", "sqlalchemy.dialects.sqlite", "indexer.library", "indexer.checking"):
        with suppress(ImportError):
            importlib.import_module(module)
    extractor()
    assert threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
    while True:
        try:
            call = pickle.load(calls)  # noqa: S301 - our own parent's
        except EOFError:
            return
        handle, file = tempfile.mkstemp(prefix="trial")
        os.close(handle)
        pid = os.fork()
        if not pid:
            os.write(_told, f"{os.getpid()}\n".encode())
            os.read(calls.fileno(), 1)  # not before its parent is ready to kill it
            _try(call, Path(file))
        _, status = os.waitpid(pid, 0)
        os.write(_told, f"{os.waitstatus_to_exitcode(status)} {file}\n".encode())


def _try(call: tuple[str, str, tuple[Any, ...]], file: Path) -> None:
    os.setsid()
    os.environ[_MARK] = str(os.getpid())
    value, error, code = None, "", 0
    try:
        module, name, args = call
        value = getattr(importlib.import_module(module), name)(*args)
    except BaseException:  # noqa: BLE001 - told to the parent
        error, code = traceback.format_exc(), 1
    file.write_bytes(pickle.dumps((value, error)))
    os._exit(code)


if __name__ == "__main__":
    # The functions of a trial know this file by its name, not as the program.
    importlib.import_module("torture.forking")._serve()
