"""A disk that keeps what was synced, and of the rest what it likes.

A file's data is sure once fsync or fdatasync of the file returned; that a name is (or is not) in a
folder, once fsync of the folder did. So much POSIX promises, and no more.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from torture.traced import Call

Loss = Literal["all", "none", "data", "some"]  # of what was not synced
LOSSES: tuple[Loss, ...] = ("all", "none", "data", "some")
_SECTOR = 512


@dataclass(slots=True)
class _File:
    sure: bytes = b""
    later: list[tuple[int, bytes | None]] = field(default_factory=list)  # (offset, None): truncated

    def after(self, loss: Loss, rng: random.Random) -> bytes:
        found = bytearray(self.sure)
        for offset, data in self.later:
            if loss in ("all", "data") or (loss == "some" and rng.random() < 0.5):
                continue
            if data is None:
                del found[offset:]
                found.extend(bytes(offset - len(found)))
                continue
            kept = data
            if loss == "some" and rng.random() < 0.3:  # torn
                kept = data[: rng.randrange(len(data) + 1) // _SECTOR * _SECTOR]
            at = len(found) if offset < 0 else offset
            found.extend(bytes(max(0, at - len(found))))
            found[at : at + len(kept)] = kept
        return bytes(found)

    def sync(self) -> None:
        self.sure, self.later = self.after("none", random.Random()), []


@dataclass(slots=True)
class _Folder:
    sure: dict[str, _File | _Folder] = field(default_factory=dict)
    later: list[dict[str, _File | _Folder | None]] = field(default_factory=list)  # None: not there

    def after(self, loss: Loss, rng: random.Random) -> dict[str, _File | _Folder]:
        found: dict[str, _File | _Folder | None] = dict(self.sure)
        for change in self.later:
            if loss in ("none", "data") or (loss == "some" and rng.random() < 0.5):
                found |= change
        return {name: one for name, one in found.items() if one is not None}

    def sync(self) -> None:
        self.sure, self.later = self.after("none", random.Random()), []


class Disk:
    """What is in a folder, and what of it is sure. The folder itself is, at the beginning."""

    def __init__(self, folder: Path) -> None:
        self._place = PurePosixPath(folder)
        self._root = _read(folder)
        self._opened: dict[int, _File | _Folder] = {}

    def apply(self, call: Call) -> None:
        if call.kind in ("open", "create"):
            self._open(call)
        elif call.kind in ("write", "truncate"):
            one = self._opened[call.file]
            assert isinstance(one, _File)
            one.later.append((call.offset, call.data if call.kind == "write" else None))
        elif call.kind == "sync":
            self._opened[call.file].sync()
        else:
            self._name(call)

    def after(self, loss: Loss, rng: random.Random) -> dict[str, bytes | None]:
        """What is found when the power is back: data by path, None for a folder."""
        found: dict[str, bytes | None] = {}

        def walk(folder: _Folder, place: str) -> None:
            for name, one in folder.after(loss, rng).items():
                if isinstance(one, _File):
                    found[place + name] = one.after(loss, rng)
                else:
                    found[place + name] = None
                    walk(one, f"{place}{name}/")

        walk(self._root, "")
        return found

    def _open(self, call: Call) -> None:
        folder, name = self._find(call.path)
        now = folder.after("none", random.Random())
        if not name:
            self._opened[call.file] = folder
        elif name in now:
            self._opened[call.file] = now[name]
        else:
            assert call.kind == "create", call.path
            made = _File()
            folder.later.append({name: made})
            self._opened[call.file] = made

    def _name(self, call: Call) -> None:
        folder, name = self._find(call.path)
        now = folder.after("none", random.Random())
        if call.kind == "mkdir":
            folder.later.append({name: _Folder()})
        elif call.kind in ("unlink", "rmdir"):
            folder.later.append({name: None})
        else:
            other, new = self._find(call.other)
            gone = {} if call.kind == "link" else {name: None}
            if other is folder:
                folder.later.append({**gone, new: now[name]})
            else:
                other.later.append({new: now[name]})
                folder.later.append(dict(gone))

    def _find(self, path: str) -> tuple[_Folder, str]:
        """The folder that holds a path, and its name there; "" for the root."""
        parts = PurePosixPath(path).relative_to(self._place).parts
        folder = self._root
        for part in parts[:-1]:
            below = folder.after("none", random.Random())[part]
            assert isinstance(below, _Folder), path
            folder = below
        return folder, parts[-1] if parts else ""


def _read(folder: Path) -> _Folder:
    return _Folder(
        {
            one.name: _read(one) if one.is_dir() else _File(one.read_bytes())
            for one in folder.iterdir()
        }
    )


def write(found: dict[str, bytes | None], folder: Path) -> None:
    """Make a folder of what `Disk.after` says."""
    folder.mkdir()
    for path, data in found.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)
