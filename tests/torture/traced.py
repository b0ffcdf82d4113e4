"""An operation run under strace, and what its trace says was written, renamed and synced."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from torture.operations import do

_SET_PTRACER = 0x59616D61  # see prctl(2)
_CALLS = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,"
    "ftruncate,truncate,fallocate,copy_file_range,sendfile,rename,renameat,renameat2,unlink,"
    "unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,fsync,fdatasync,sync_file_range,"
    "clone,clone3,fork,vfork"
)
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)")
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_ARGUMENT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"|([^,"\[\]{}()]+)')


@dataclass(frozen=True, slots=True)
class Call:
    """Something that happened to a file: its path or paths, by the names they had then.

    kind: "create" (if it is not there), "truncate", "write", "sync", "rename", "unlink", "mkdir",
    "rmdir", "link" or "mark". file: which opening of a file it is that is written or synced.
    """

    kind: str
    path: str = ""
    other: str = ""  # the new name
    file: int = 0
    offset: int = 0  # of what is written; the length of what is truncated
    data: bytes = b""


class CantTraceError(Exception):
    """strace is not here, or may not be used."""


def trace(name: str, library: Path, photos: Path, log: Path, marks: Path) -> str:
    """In a process of its own: do an operation; what it asks of the system is in `log` by its end.

    After each commit of the catalogue, `marks` tells what it holds: so the log shows which commits
    had returned by when. Returns why that can't be had, or "".
    """
    if why := _be_traced(log):
        return why
    handle = os.open(marks, os.O_WRONLY | os.O_CREAT)
    real = DefaultDialect.do_commit

    def do_commit(self: Any, connection: Any) -> None:
        real(self, connection)
        (_, _, file), *_ = connection.execute("PRAGMA database_list").fetchall()
        if file:  # else in memory: a schema to compare with
            os.write(handle, catalogue(connection).encode())

    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]
    do(name, library, photos)
    return ""


def _be_traced(log: Path) -> str:
    ctypes.CDLL(None).prctl(_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)  # also by a child of ours
    tool = shutil.which("strace")
    if tool is None:
        return "strace is not installed: apt-get install strace"
    tracer = subprocess.Popen(
        [tool, "-f", "-qq", "-xx", "-s", str(1 << 26), "-o", str(log), "-e", f"trace={_CALLS}",
         "-e", "signal=none", "-p", str(os.getpid())],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while "TracerPid:\t0\n" in Path("/proc/self/status").read_text():
        if tracer.poll() is not None:
            return "strace may not be used here"
        time.sleep(0.01)
    time.sleep(0.1)  # it has us, and is about to look
    return ""


def catalogue(connection: Any) -> str:
    """What an SQLite catalogue holds, as one hash. connection: as DB-API has it."""
    cursor = connection.cursor()
    names = cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    found = [cursor.execute("PRAGMA user_version").fetchone()]
    for (name,) in names.fetchall():
        found += [name, *sorted(map(repr, cursor.execute(f'SELECT * FROM "{name}"')))]
    cursor.close()
    return hashlib.sha256(repr(found).encode()).hexdigest()


# --- reading a trace


def calls(log: Path, within: Path) -> Iterator[Call]:
    """What a trace says happened in a folder, in order."""
    reader = _Reader(str(within))
    for pid, call, arguments, result in _lines(log):
        if result >= 0:
            yield from reader.read(pid, call, arguments, result)


def _lines(log: Path) -> Iterator[tuple[int, str, str, int]]:
    begun: dict[str, str] = {}
    with log.open(encoding="ascii") as lines:
        for text in lines:
            line = text.rstrip("\n")
            if found := _UNFINISHED.match(line):
                begun[found[1]] = found[2]
                continue
            if found := _RESUMED.match(line):
                line = f"{found[1]} {begun.pop(found[1])}{found[2]}"
            if found := _LINE.match(line):
                yield int(found[1]), found[2], found[3], int(found[4])


@dataclass(slots=True)
class _Opened:
    path: str
    file: int
    offset: int = 0
    append: bool = False


class _Reader:
    """Which file a process means by a number."""

    def __init__(self, within: str) -> None:
        self._within = within
        self._opened: dict[int, dict[int, _Opened]] = {}  # by process
        self._count = 0

    def read(self, pid: int, call: str, text: str, result: int) -> Iterator[Call]:
        table = self._opened.setdefault(pid, {})
        if call in ("clone", "clone3", "fork", "vfork"):
            self._opened[result] = table if "CLONE_FILES" in text else dict(table)
            return
        if call in ("write", "pwrite64") and _number(text) not in table:
            return  # to a terminal, a socket; its data need not be read
        words = [
            bytes.fromhex(quoted.replace("\\x", "")) if f'"{quoted}"' == whole else whole.strip()
            for whole, quoted in ((m[0], m[1] or "") for m in _ARGUMENT.finditer(text))
        ]
        if call in ("open", "openat", "creat"):
            yield from self._open(table, words, call, result)
        elif call in ("close", "dup", "dup2", "dup3", "fcntl", "lseek"):
            _number_files(table, call, words, result)
        elif call in ("write", "pwrite64"):
            yield from _write(table[_number(text)], call, words, result)
        elif call in ("ftruncate", "fsync", "fdatasync", "fallocate", "writev", "pwritev"):
            if (one := table.get(_number(text))) is not None:
                assert call in ("ftruncate", "fsync", "fdatasync"), f"{call} is not known here"
                size = int(words[1]) if call == "ftruncate" else 0
                kind = "truncate" if call == "ftruncate" else "sync"
                yield Call(kind, one.path, file=one.file, offset=size)
        else:
            yield from self._names(call, words)

    def _open(
        self, table: dict[int, _Opened], words: list[Any], call: str, result: int
    ) -> Iterator[Call]:
        path, flags = os.fsdecode(next(w for w in words if isinstance(w, bytes))), str(words)
        if not path.startswith(self._within):
            return
        self._count += 1
        one = table[result] = _Opened(path, self._count, append="O_APPEND" in flags)
        create = "O_CREAT" in flags or call == "creat"
        yield Call("create" if create else "open", path, file=one.file)
        if "O_TRUNC" in flags or call == "creat":
            yield Call("truncate", path, file=one.file)

    def _names(self, call: str, words: list[Any]) -> Iterator[Call]:
        paths = [os.fsdecode(word) for word in words if isinstance(word, bytes)]
        if not any(path.startswith(self._within) for path in paths):
            return
        assert all(path.startswith(self._within) for path in paths), (call, paths)
        kind = call.removesuffix("2").removesuffix("at")
        if kind == "unlink" and "AT_REMOVEDIR" in words:
            kind = "rmdir"
        assert kind in ("rename", "unlink", "rmdir", "mkdir", "link"), f"{call} is not known here"
        yield Call(kind, paths[0], paths[1] if len(paths) > 1 else "")


def _number(text: str) -> int:
    first = text.split(",", 1)[0]
    return int(first) if first.isdigit() else -1


def _number_files(table: dict[int, _Opened], call: str, words: list[Any], result: int) -> None:
    own = int(words[0])
    if call == "close":
        table.pop(own, None)
    elif own in table:
        if call == "lseek":
            table[own].offset = result
        elif call != "fcntl" or "F_DUPFD" in str(words[1]):
            table[result] = table[own]
    elif call in ("dup2", "dup3"):
        table.pop(result, None)


def _write(one: _Opened, call: str, words: list[Any], result: int) -> Iterator[Call]:
    data = next(word for word in words if isinstance(word, bytes))[:result]
    at = int(words[-1]) if call == "pwrite64" else -1 if one.append else one.offset
    if call == "write":
        one.offset += result
    yield Call("write", one.path, file=one.file, offset=at, data=data)
