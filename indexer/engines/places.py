"""Folders at any fsspec address (a local path, s3://bucket/x, zip://::x.zip), and photos in them.

A local folder, also as file://, is a path and goes the way of all local photos. A photo elsewhere
is known by its whole address.
"""

from __future__ import annotations

import io
import os
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from indexer.catalog import FileStat, Skip
from indexer.pipeline import read_file, take
from indexer.storing import Read
from retrieval.errors import EngineError, ImageError

T = TypeVar("T")

_PAUSES = (0.5, 2.0, 8.0)  # seconds before a store is asked again
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")  # where backends put it


def is_remote(address: str) -> bool:
    """Whether this is an address of fsspec's, and not a path or file://."""
    return ("://" in address or "::" in address) and local_path(address) is None


def local_path(address: str) -> Path | None:
    """The local path that an address is; None if it is elsewhere."""
    if "::" in address:
        return None
    scheme, mark, rest = address.partition("://")
    if not mark:
        return Path(address)
    return Path(rest) if scheme in ("file", "local") else None


@contextmanager
def told(address: str) -> Iterator[None]:
    """Turn whatever a backend raises into one line. Holds foreign calls only."""
    try:
        yield
    except (EngineError, FileNotFoundError, FileExistsError):
        raise
    except ImportError as error:
        raise EngineError(f"{address} needs another package: {_line(error)}") from error
    except Exception as error:
        raise EngineError(f"{address} can't be used: {_line(error)}") from error


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class Place:
    """A folder that holds what a run writes. Names in it go with slashes."""

    def __init__(self, address: str) -> None:
        """address: a path, or any of fsspec's. Nothing is asked of it yet."""
        path = local_path(address)
        self.address = address if path is None else str(path.expanduser().absolute())
        self.is_local = path is not None
        with told(address):
            import fsspec

            self._system, self._root = fsspec.core.url_to_fs(self.address)

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError if it isn't there."""
        with told(self.address):
            return bytes(self._system.cat_file(self._at(name)))

    def open(self, name: str) -> Any:
        """The file, open for reading, seekable."""
        with told(self.address):
            return self._system.open(self._at(name), "rb")

    def read_all(self, names: list[str]) -> list[bytes]:
        """Many small files, at once where the backend can."""
        if not names:
            return []
        with told(self.address):
            found = self._system.cat([self._at(name) for name in names], on_error="raise")
        return list(found.values()) if isinstance(found, dict) else [found]

    def exists(self, name: str) -> bool:
        with told(self.address):
            self._system.invalidate_cache()
            return bool(self._system.exists(self._at(name)))

    def names(self, folder: str) -> list[str]:
        """The names in a folder, from A to Z; none if there is no such folder."""
        with told(self.address):
            self._system.invalidate_cache()  # others write here too
            try:
                found = self._system.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def write(self, name: str, data: bytes) -> None:
        """Write a file that nobody else writes. Locally it is on the disk by then."""
        if self.is_local:
            with told(self.address):
                _write_synced(Path(self._at(name)), data)
            return
        with told(self.address):
            self._system.pipe_file(self._at(name), data)

    def write_once(self, name: str, data: bytes) -> bool:
        """Write a file whole, unless it is there: the first of several who try wins.

        Returns whether it was us. A store that has no such act lets the last one win; readers find
        one whole file either way.
        """
        try:
            if self.is_local:
                with told(self.address):
                    _link_once(Path(self._at(name)), data)
            else:
                with told(self.address):
                    self._system.pipe_file(self._at(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> None:
        with told(self.address), suppress(FileNotFoundError):
            self._system.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"


def _write_synced(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link_once(path: Path, data: bytes) -> None:
    """Raises FileExistsError if it is there."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _write_synced(aside, data)
        try:
            path.hardlink_to(aside)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if path.exists():
                raise FileExistsError(path) from None
            aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)


# --- photos at addresses


def walk(folder: str) -> Iterator[FileStat]:
    """The files under a remote folder with their addresses, in a stable order.

    Hidden names are left out, as `scan` does. Raises EngineError if there is nothing, or part of it
    can't be listed.
    """
    with told(folder):
        import fsspec

        system, root = fsspec.core.url_to_fs(folder)
        inner = folder.partition("::")[2]  # of zip://a::s3://b/c.zip, what a lies in
        if not system.exists(root):
            raise EngineError(f"{folder} is not there: name the folder that holds your photos")
        for _, below, files in system.walk(root, detail=True, on_error="raise"):
            hidden = [name for name in below if name.startswith(".")]
            for name in hidden:
                del below[name]  # so that it is not entered
            for name, info in sorted(files.items()):
                if name and not name.startswith("."):  # "": a marker of the folder itself
                    address = _address(system, info["name"], inner)
                    yield FileStat(address, int(info.get("size") or 0), _time_of(info))


def _address(system: Any, path: str, inner: str) -> str:
    if not inner:
        return str(system.unstrip_protocol(path))
    protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
    return f"{protocol}://{path.lstrip('/')}::{inner}"


def read_at(stat: FileStat, framing: str, side: int) -> Read | Skip:
    """Read one photo, wherever it is; a bad one becomes a Skip."""
    if not is_remote(stat.path):
        return read_file(stat, framing, side, lambda _size, _hash: False)
    try:
        with told(stat.path):
            import fsspec

            system, path = fsspec.core.url_to_fs(stat.path)
        size, mtime_ns = _insist(stat.path, lambda: _stat(system, path))
        data = _insist(stat.path, lambda: bytes(system.cat_file(path)))
        if (size, mtime_ns) != _insist(stat.path, lambda: _stat(system, path)) or (
            size and size != len(data)
        ):
            raise ImageError("changed while it was read")
        hash_, picture = take(io.BytesIO(data), framing, side, lambda _hash: False)
    except ImageError as error:
        return Skip(Path(stat.path), error.reason)
    return Read(FileStat(stat.path, size or len(data), mtime_ns), hash_, picture)


def _stat(system: Any, path: str) -> tuple[int, int]:
    """(size, mtime_ns) as the store says now."""
    info = system.info(path)
    return int(info.get("size") or 0), _time_of(info)


def _insist(address: str, ask: Callable[[], T]) -> T:
    """Ask a store about a photo; what it refuses for a moment is asked again.

    Raises ImageError where the photo itself is the trouble. If it is the store, EngineError: a
    store that is away for an hour must end the run, or each photo of that hour would be skipped.
    """
    for pause in (*_PAUSES, None):
        try:
            return ask()
        except (FileNotFoundError, PermissionError) as error:
            raise ImageError(f"can't be read: {error.strerror or type(error).__name__}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ImageError("damaged") from error
        except Exception as error:
            if pause is None:
                raise EngineError(f"{address} can't be read: {_line(error)}") from error
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def _time_of(info: dict[str, Any]) -> int:
    """When the file was changed, in nanoseconds since 1970; 0 where the backend doesn't say."""
    when = next((info[key] for key in _TIMES if info.get(key)), None)
    if isinstance(when, datetime):
        return round(when.timestamp() * 1e6) * 1000
    return round(float(when) * 1e9) if isinstance(when, int | float) else 0
