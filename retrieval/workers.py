"""Processes that decode photos, so that a file that crashes or hangs its decoder costs only itself.

A worker gets an open file by its descriptor, and answers with JSON and plain bytes
(`retrieval.decode_worker` says which). What it says is checked: a file may have taken it over. It
has a limit of memory and of processor time, and ends when its parent does, however that ended.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import DecoderError, ImageError
from retrieval.formats import FORMATS
from retrieval.photo import MAX_PIXELS, PhotoInfo

SECONDS = 300.0  # by the clock; nearly all of it is for files on a drive that doesn't answer
CRASHES = "crashes its decoder"
TOO_LONG = "takes too long to decode"

_LENGTH = struct.Struct(">I")
_START_SECONDS = 120.0
_IDLE_SECONDS = 60.0
_MAX_TEXT = 1 << 16
_MAX_THUMBNAIL = 1 << 20
_MAX_SIDE = (1 << 32) - 1  # of a RAW file's sensor, as its header says
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from retrieval.decode_worker import run; run()"
)
# A thread for each core, or an arena of memory for each thread, would bring nothing here.
_FEW = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a worker made of a file. thumbnail: empty where none was asked for."""

    pixels: NDArray[np.uint8]  # (h, w, 3)
    info: PhotoInfo
    thumbnail: bytes


class _CrashError(Exception):
    """The worker ended, or said what it never says."""


def default_command() -> list[str]:
    """The command of a worker: it finds modules where this process does."""
    return [sys.executable, "-P", "-c", _COMMAND, json.dumps(sys.path)]


class Worker:
    """One process. Not for two threads at once."""

    def __init__(self, command: Sequence[str], seconds: float) -> None:
        """Start it, and wait until it can decode. Raises DecoderError."""
        self._seconds = seconds
        self._deadline = time.monotonic() + _START_SECONDS
        self._has_ended = False
        self.is_spent = False  # whether it had a large picture, whose memory it may keep
        self.idle_since = 0.0
        try:
            self._socket, theirs = socket.socketpair()
        except OSError as error:
            raise DecoderError(_no_start(error.strerror)) from error
        try:
            # In a session of its own no Ctrl-C reaches it, and none is told of by two.
            with theirs:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    env=os.environ | _FEW,
                )
        except OSError as error:
            self._socket.close()
            raise DecoderError(_no_start(error.strerror)) from error
        try:
            self._hear()  # it is ready; else it says why on stderr
        except (_CrashError, TimeoutError) as error:
            self.kill()
            raise DecoderError(_no_start(f"it ended with {self._process.returncode}")) from error
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def decode(self, file: int, request: dict[str, Any], alone: threading.Lock) -> Decoded:
        """Have a file decoded. alone: held while a large one is.

        Raises ImageError; TimeoutError, _CrashError, after which the worker is to be killed.
        """
        self._deadline = time.monotonic() + self._seconds
        text = json.dumps(request).encode()
        try:
            self._socket.settimeout(self._seconds)
            socket.send_fds(self._socket, [_LENGTH.pack(len(text)) + text], [file])
        except TimeoutError:
            raise
        except OSError as error:
            raise _CrashError from error
        answer = self._hear()
        if answer.get("large") is not True:
            return self._take(answer, request)
        with alone:
            self.is_spent = True
            self._deadline = time.monotonic() + self._seconds
            try:
                self._socket.sendall(b"!")
            except OSError as error:
                raise _CrashError from error
            return self._take(self._hear(), request)

    def _take(self, answer: dict[str, Any], request: dict[str, Any]) -> Decoded:
        """Check an answer, and receive what it announces."""
        if isinstance(reason := answer.get("refused"), str):
            raise ImageError(_line(reason))
        if isinstance(bug := answer.get("bug"), str):
            raise RuntimeError(f"a bug in the decoding of a photo\n\n{bug}")
        try:
            info = _info(answer["info"])
            height, width = _whole(answer["height"]), _whole(answer["width"])
            thumbnail = bytearray(_whole(answer["thumbnail"], least=0, most=_MAX_THUMBNAIL))
            if height * width > MAX_PIXELS:
                raise ValueError("more pixels than any photo has")
            if "framing" in request and (height, width) != (request["side"], request["side"]):
                raise ValueError("another side than was asked for")
        except (KeyError, TypeError, ValueError) as error:
            raise _CrashError from error
        pixels = np.empty((height, width, 3), np.uint8)
        self._fill(pixels.data.cast("B"))
        self._fill(memoryview(thumbnail))
        return Decoded(pixels, info, bytes(thumbnail))

    def _hear(self) -> dict[str, Any]:
        """The next answer."""
        head = bytearray(_LENGTH.size)
        self._fill(memoryview(head))
        (length,) = _LENGTH.unpack(head)
        if length > _MAX_TEXT:
            raise _CrashError
        text = bytearray(length)
        self._fill(memoryview(text))
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _CrashError from error
        if not isinstance(answer, dict):
            raise _CrashError
        return answer

    def _fill(self, place: memoryview) -> None:
        """Receive as many bytes as `place` has. Raises TimeoutError once the time is over."""
        while place:
            self._socket.settimeout(max(0.001, self._deadline - time.monotonic()))
            try:
                got = self._socket.recv_into(place)
            except ConnectionError:
                got = 0
            if not got:
                self._has_ended = True
                raise _CrashError
            place = place[got:]

    def end(self) -> None:
        """Let it go: it ends by itself when its socket is closed."""
        self._socket.close()
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def ran_out_of_time(self) -> bool:
        """Whether it was ended for having computed too long."""
        if self._has_ended:  # or is about to: its socket is closed
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        return self._process.returncode == -signal.SIGXCPU

    def forget(self) -> None:
        """In a forked child, whose it is not: no longer answer for it."""
        self._socket.close()
        self._process.returncode = 0


class Pool:
    """Workers, one for each thread that decodes at the same time. Safe to use from many threads."""

    def __init__(self, command: Sequence[str] | None = None, seconds: float = SECONDS) -> None:
        """
        command: of a worker, but for its last argument; retrieval's own unless said otherwise.
        seconds: by the clock, that a file may take; waiting for its turn is not counted.
        """
        self._command = command
        self._seconds = seconds
        self._idle: list[Worker] = []  # the last one back goes first, so that some can retire
        self._guard = threading.Lock()
        self._alone = threading.Lock()  # held while a large picture is decoded
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.close)

    def decode(self, file: int, request: dict[str, Any]) -> Decoded:
        """Have an open file decoded.

        file: its descriptor; where it stands in the file is another place afterwards.

        Raises ImageError, also if the file crashes a worker twice or takes too long, DecoderError
        if no worker can be started.
        """
        try:
            return self._try(file, request)
        except _CrashError:
            # Not its fault, perhaps: an earlier file's, or the machine ran out of memory.
            try:
                return self._try(file, request, fresh=True)
            except _CrashError:
                raise ImageError(CRASHES) from None

    def _try(self, file: int, request: dict[str, Any], *, fresh: bool = False) -> Decoded:
        worker = None if fresh else self._idle_one()
        if worker is None:
            worker = Worker(self._command or default_command(), self._seconds)
        try:
            decoded = worker.decode(file, request, self._alone)
        except ImageError:
            self._keep(worker)
            raise
        except TimeoutError:
            worker.kill()
            raise ImageError(TOO_LONG) from None
        except _CrashError:
            too_long = worker.ran_out_of_time()
            worker.kill()
            if too_long:
                raise ImageError(TOO_LONG) from None
            raise
        except BaseException:  # it is in the middle of something
            worker.kill()
            raise
        self._keep(worker)
        return decoded

    def _idle_one(self) -> Worker | None:
        while True:
            with self._guard:
                if not self._idle:
                    return None
                worker = self._idle.pop()
            if worker.is_alive():
                return worker
            worker.kill()

    def _keep(self, worker: Worker) -> None:
        """Take back a worker, and let those go that nobody has needed for a while."""
        if worker.is_spent:
            worker.end()
            return
        worker.idle_since = now = time.monotonic()
        with self._guard:
            tired = [one for one in self._idle if now - one.idle_since > _IDLE_SECONDS]
            self._idle = [one for one in self._idle if now - one.idle_since <= _IDLE_SECONDS]
            self._idle.append(worker)
        for one in tired:
            one.end()

    def close(self) -> None:
        """End all idle workers. The pool can be used again."""
        with self._guard:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def _forget(self) -> None:
        self._guard, self._alone = threading.Lock(), threading.Lock()
        for worker in self._idle:
            worker.forget()
        self._idle = []


# --- checks of what a worker says


_TEXTS = ("taken_at", "camera", "lens")


def _info(told: dict[str, Any]) -> PhotoInfo:
    """Raises KeyError, TypeError, ValueError unless it is what `PhotoInfo` says."""
    if told.keys() != {field.name for field in fields(PhotoInfo)}:
        raise ValueError("other fields")
    for name in _TEXTS:
        if told[name] is not None:
            _text(told[name])
    for name, most in (("latitude", 90.0), ("longitude", 180.0)):
        degrees = told[name]
        if degrees is not None and not (isinstance(degrees, float) and -most <= degrees <= most):
            raise ValueError(name)
    if told["format"] not in FORMATS:
        raise ValueError("format")
    for name, top in (("width", _MAX_SIDE), ("height", _MAX_SIDE), ("orientation", 8)):
        _whole(told[name], most=top)
    return PhotoInfo(**told)


def _whole(number: object, least: int = 1, most: int = MAX_PIXELS) -> int:
    if type(number) is not int or not least <= number <= most:
        raise ValueError(f"not a number from {least} to {most}")
    return number


def _text(text: object) -> str:
    if not isinstance(text, str) or len(text) > 500 or not text.isprintable():
        raise ValueError("not a line of text")
    return text


def _line(reason: str) -> str:
    """A reason, fit to be shown whoever gave it."""
    return "".join(c if c.isprintable() else "?" for c in reason)[:200]


def _no_start(why: str | None) -> str:
    return (
        f"no process that decodes photos can be started here ({why}): free some memory, or allow "
        "more processes and open files (ulimit), and try again"
    )
