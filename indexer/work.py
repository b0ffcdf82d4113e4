"""The one run that may write a library, and what it tells of itself to whoever looks.

LIBRARY/index.lock   held while a run is at work: the truth of whether one is
LIBRARY/run.json     what the run does and how far it is; how the last one ended
LIBRARY/run.stop     the token of a run that somebody wishes to stop

So a page sees a run that a terminal started, and goes on seeing it after either was closed. A run
that was killed leaves a run.json without an end, and a lock that is free. To stop a run nobody has
to know its process: it looks at run.stop itself, so that no number of a process that is used again
can be hit.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

import filelock

from retrieval.errors import Fc7Error, LibraryBusyError, LibraryError

What = Literal["index", "load", "codes", "forget", "check"]
End = Literal["done", "stopped", "failed", "died"]

LOCK = "index.lock"
_FILE = "run.json"
_STOP = "run.stop"
_LATEST = 32_503_680_000.0  # the year 3000, in seconds since 1970
_EVERY = 0.4  # seconds between two writings
# Whoever looks whether the lock is free holds it for a moment: that must not cost a run its start.
_PATIENCE = 0.5


@dataclass(frozen=True, slots=True)
class Work:
    """A run as it is now, or as it ended. Times are seconds since 1970."""

    token: str  # another one each run
    what: What
    pid: int
    started: float
    told: float  # when this was written
    stage: str = ""  # "photos" or "epochs"; "" while it prepares
    stage_started: float = 0.0
    done: int = 0  # of the stage
    total: int = 0
    ended: float | None = None
    end: End | None = None  # None: it is at work
    error: str | None = None  # one line, if it failed
    result: str = ""  # what it did, as JSON; see `Journal.conclude`

    def rate(self) -> float | None:
        """How much is done a second; None while there is nothing to tell it by."""
        spent = self.told - self.stage_started
        return self.done / spent if self.stage and self.done and spent >= 1 else None

    def seconds_left(self) -> float | None:
        """Of this stage; None while it can't be told."""
        rate = self.rate()
        return None if rate is None else (self.total - self.done) / rate


class Journal:
    """What a run writes as it goes."""

    def __init__(self, library: Path, what: What) -> None:
        now = time.time()
        self._library = library
        self._folder = _identity(library)
        self._work = Work(uuid.uuid4().hex, what, os.getpid(), now, now)
        self._written = 0.0

    def tell(self, stage: str, done: int, total: int) -> None:
        """Write how far a stage is, a few times a second. Raises KeyboardInterrupt if told to stop.

        So a stop from outside goes the way of Ctrl-C, which a run survives at any moment.
        """
        now = time.time()
        begun = self._work.stage_started if stage == self._work.stage else now
        self._work = replace(
            self._work, stage=stage, stage_started=begun, done=done, total=total, told=now
        )
        if done == total or now - self._written >= _EVERY:
            self.write()
            if _read_text(self._library / _STOP) == self._work.token:
                raise KeyboardInterrupt

    def teller(
        self, stage: str, progress: Callable[[int, int], None] | None
    ) -> Callable[[int, int], None]:
        """What to call with (done, total): it tells of a stage here, and to whoever asked."""

        def tell(done: int, total: int) -> None:
            self.tell(stage, done, total)
            if progress is not None:
                progress(done, total)

        return tell

    def conclude(self, **counts: int) -> None:
        """Say what came of it."""
        self._work = replace(self._work, result=json.dumps(counts))

    def finish(self, end: End, error: str | None = None) -> None:
        now = time.time()
        self._work = replace(self._work, told=now, ended=now, end=end, error=error)
        self.write()
        with suppress(OSError):
            (self._library / _STOP).unlink(missing_ok=True)

    def write(self) -> None:
        """Replace the file as a whole. A full disk must stop the run itself, not what it tells."""
        self._written = time.time()
        if _identity(self._library) != self._folder:  # unplugged: another folder has its place now
            return
        file = self._library / _FILE
        # One run at a time writes it: what a killed one left is written over.
        _write_text(file, json.dumps(asdict(self._work)), aside=file.with_suffix(".json.partial"))


@contextmanager
def working(library: Path, what: What) -> Iterator[Journal]:
    """Be the only run in a library, and keep its journal.

    Raises LibraryBusyError if another is at work, LibraryError if the library can't be written.
    """
    lock = filelock.FileLock(library / LOCK)
    try:
        lock.acquire(timeout=_PATIENCE, poll_interval=0.05)
    except filelock.Timeout as error:
        raise LibraryBusyError(
            f"another run is at work in {library}: wait for it, or stop it first"
        ) from error
    except OSError as error:
        raise LibraryError(f"{lock.lock_file} can't be locked: {error.strerror}") from error
    journal = Journal(library, what)
    try:
        journal.write()
        yield journal
    except KeyboardInterrupt:
        journal.finish("stopped")
        raise
    except Fc7Error as error:
        journal.finish("failed", str(error))
        raise
    except OSError as error:
        line = f"{library} can't be written: {error.strerror}"
        journal.finish("failed", line)
        raise LibraryError(line) from error
    except BaseException as error:
        journal.finish("failed", f"fc7 has a fault here: {type(error).__name__}")
        raise
    else:
        journal.finish("done")
    finally:
        lock.release()


def read_work(library: Path) -> Work | None:
    """The run that is at work in a library, or the last one; None if none is known."""
    work = _read(library)
    if work is None or work.end is not None or is_busy(library):
        return work
    work = _read(library)  # it may have ended since it was read
    return work if work is None or work.end is not None else replace(work, end="died")


def is_busy(library: Path) -> bool:
    """Whether a run holds the library now."""
    lock = filelock.FileLock(library / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # nobody can write here
        return False
    lock.release()
    return False


def ask_to_stop(library: Path, token: str) -> None:
    """Ask the run of this token to stop; one that has ended already is not hurt.

    Raises LibraryError if that can't be written.
    """
    if not _write_text(library / _STOP, token):
        raise LibraryError(f"{library} can't be written to: stop the run in its terminal")


def is_stopping(library: Path, token: str) -> bool:
    """Whether the run was asked to stop."""
    return _read_text(library / _STOP) == token


def _read(library: Path) -> Work | None:
    """What run.json says; None if it isn't there or isn't ours."""
    try:
        found = json.loads(_read_text(library / _FILE))
        work = Work(**{field.name: found[field.name] for field in fields(Work)})
        return work if _is_sound(work) else None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder is at a path; None if none is."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_sound(work: Work) -> bool:
    """Whether each value is one that a run writes: the library may come from elsewhere."""
    times = (work.started, work.told, work.stage_started, work.ended or 0.0)
    return (
        all(
            isinstance(text, str)
            for text in (work.token, work.stage, work.result, work.error or "")
        )
        and all(isinstance(number, int) and number >= 0 for number in (work.done, work.total))
        and all(isinstance(time, float | int) and 0 <= time < _LATEST for time in times)
        and isinstance(work.pid, int)
        and work.what in get_args(What)
        and (work.end is None or work.end in get_args(End))
        and (work.end is None) == (work.ended is None)
    )


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _write_text(file: Path, text: str, aside: Path | None = None) -> bool:
    """Replace a file, so that who reads it finds the old text or the new one."""
    aside = aside or file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(file)
    except OSError:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        return False
    return True
