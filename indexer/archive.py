"""Many files in one that can be checked to the last bit: what a backup is kept in.

It is an uncompressed tar, so that `tar` lists and unpacks it too:

manifest.json     what it is, and of each file its name, its size in bytes and its sha256
manifest.sha256   the sha256 of manifest.json, a line as sha256sum writes it
the files         in the manifest's order
the end           two blocks of zeros, and nothing after them

Names and sizes say where each byte is and what it must be, but for the files' content, which the
sha256 is of. So nothing of an archive from elsewhere is interpreted: it is what the manifest says,
or it is damaged.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from retrieval.errors import BackupError

_MANIFEST = "manifest.json"
_DIGEST = "manifest.sha256"
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_PIECE = 1 << 20  # bytes read at once
_LARGEST_MANIFEST = 1 << 26  # bytes; 100 for each file
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive."""

    name: str  # with slashes
    size: int  # bytes
    sha256: str  # hex


Progress = Callable[[int], None]  # how many bytes more are done


def write_archive(
    out: BinaryIO,
    about: Mapping[str, Any],
    files: Sequence[tuple[str, BinaryIO]],
    progress: Progress,
) -> tuple[Member, ...]:
    """Write open files under these names, as they are now, into an empty file; return what is in.

    about: what the manifest says beside the list of files, as JSON knows it.
    Raises BackupError if a file grows or shrinks meanwhile.
    """
    sizes = [os.fstat(file.fileno()).st_size for _, file in files]
    members = [Member(name, size, _NO_DIGEST) for (name, _), size in zip(files, sizes, strict=True)]
    _write_head(out, about, members)  # holds its place: the digests are known when all is written
    for at, (name, file) in enumerate(files):
        size = sizes[at]
        out.write(_header(name, size))
        digest = hashlib.sha256()
        for piece in _pieces(file, size, f"{name} changed while it was saved: try again"):
            out.write(piece)
            digest.update(piece)
            progress(len(piece))
        out.write(_padding(size))
        members[at] = Member(name, size, digest.hexdigest())
    out.write(_END)
    out.seek(0)
    _write_head(out, about, members)
    return tuple(members)


class Archive:
    """An archive that is open for reading; its manifest is whole, its files are not read yet."""

    def __init__(self, file: Path, source: BinaryIO) -> None:
        """Raises BackupError if it is none, cut short, too long, or its manifest is damaged."""
        self._file = file
        self._source = source
        self.about, self.members = self._read_head()
        here = os.fstat(source.fileno()).st_size
        wanted = source.tell() + len(_END) + sum(map(_room, self.members))
        if here < wanted:
            raise BackupError(f"{file} is cut short: {here:,} of its {wanted:,} bytes are there")
        if here > wanted:
            raise self._damaged()

    def unpack(self, name_to_path: Callable[[str], Path], progress: Progress) -> None:
        """Write each file anew where `name_to_path` says, synced to the disk.

        Raises BackupError at the first that is damaged; FileExistsError rather than overwrite.
        """
        for member in self.members:
            self._expect(_header(member.name, member.size))
            digest = hashlib.sha256()
            with name_to_path(member.name).open("xb") as target:
                for piece in _pieces(self._source, member.size, self._line()):
                    target.write(piece)
                    digest.update(piece)
                    progress(len(piece))
                target.flush()
                os.fsync(target.fileno())
            if digest.hexdigest() != member.sha256:
                raise self._damaged(member.name)
            self._expect(_padding(member.size))
        self._expect(_END)

    def _read_head(self) -> tuple[dict[str, Any], tuple[Member, ...]]:
        try:
            info = tarfile.TarInfo.frombuf(self._source.read(_BLOCK), "utf-8", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError, ValueError) as error:
            raise self._foreign() from error
        if info.name != _MANIFEST or not 0 < info.size <= _LARGEST_MANIFEST:
            raise self._foreign()
        self._source.seek(0)
        self._expect(_header(_MANIFEST, info.size))
        manifest = self._source.read(info.size)
        self._expect(_padding(info.size))
        digest = _digest_line(manifest)
        self._expect(_header(_DIGEST, len(digest)) + digest + _padding(len(digest)))
        return self._parse(manifest)

    def _parse(self, manifest: bytes) -> tuple[dict[str, Any], tuple[Member, ...]]:
        odd = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
        try:
            about = json.loads(manifest)
            members = tuple(
                Member(str(one["name"]), int(one["size"]), str(one["sha256"]))
                for one in about.pop("files")
            )
        except odd as error:
            raise self._foreign() from error
        if any(one.size < 0 for one in members):
            raise self._foreign()
        return about, members

    def _expect(self, wanted: bytes) -> None:
        if self._source.read(len(wanted)) != wanted:
            raise self._damaged()

    def _foreign(self) -> BackupError:
        return BackupError(f"{self._file} is no backup by fc7, or damaged at its beginning")

    def _damaged(self, what: str = "") -> BackupError:
        return BackupError(self._line(what))

    def _line(self, what: str = "") -> str:
        where = f" ({what})" if what else ""
        return f"{self._file} is damaged{where}: nothing was restored; take another backup"


def _write_head(out: BinaryIO, about: Mapping[str, Any], members: Sequence[Member]) -> None:
    files = [{"name": one.name, "size": one.size, "sha256": one.sha256} for one in members]
    manifest = (json.dumps({**about, "files": files}, indent=1) + "\n").encode()
    for name, data in ((_MANIFEST, manifest), (_DIGEST, _digest_line(manifest))):
        out.write(_header(name, len(data)) + data + _padding(len(data)))


def _digest_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {_MANIFEST}\n".encode()


def _header(name: str, size: int) -> bytes:
    """The only header that a file of this name and size has."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _room(member: Member) -> int:
    return _BLOCK + member.size + len(_padding(member.size))


def _pieces(source: BinaryIO, size: int, short: str) -> Iterator[bytes]:
    """The next `size` bytes. Raises BackupError with the line `short` if they are not there."""
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise BackupError(short)
        size -= len(piece)
        yield piece
