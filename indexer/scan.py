"""Folders -> files, and what changed since last time. Nothing here opens a file."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.catalog import FileStat


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds: its files, and the folders in it that can't be listed."""

    files: tuple[FileStat, ...]
    unreadable: tuple[tuple[str, str], ...]  # (folder, why)
    folders: tuple[str, ...] = ()  # those that were listed, the folder itself first


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What an indexing run has to do. A plan applied leaves nothing to plan."""

    read: tuple[FileStat, ...]  # new, or another size or mtime than last time
    gone: tuple[str, ...]  # known photos whose file is not there any more
    gone_skips: tuple[str, ...]  # the same, of files that were skipped
    unchanged: int  # known photos that need nothing
    still_skipped: tuple[str, ...]  # files that were skipped and have not changed
    unreadable: tuple[tuple[str, str], ...]  # (folder, why): what lies there is kept as it is
    later: int  # files that are left for a later run


def scan(folder: Path, exclude: Path | None = None) -> Found:
    """List the regular files under a folder, in a stable order.

    Hidden names (`.DS_Store`, `._x.jpg`, `.git`) and symbolic links are left out: a link can loop,
    break, or lead out of the folder. exclude: a folder that is not entered (the library itself).
    """
    files: list[FileStat] = []
    unreadable: list[tuple[str, str]] = []
    folders: list[str] = []
    waiting = [str(folder)]
    while waiting:
        current = waiting.pop()
        try:
            with os.scandir(current) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            unreadable.append((current, error.strerror or type(error).__name__))
            continue
        except ValueError as error:  # a NUL, in a library from elsewhere
            unreadable.append((current, str(error)))
            continue
        folders.append(current)
        below = []
        for entry in entries:
            if entry.name.startswith(".") or (exclude is not None and entry.path == str(exclude)):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    files.append(FileStat(entry.path, stat.st_size, stat.st_mtime_ns))
            except FileNotFoundError:
                continue  # it went away while we looked: the next run sees it gone
        waiting.extend(reversed(below))
    return Found(tuple(files), tuple(unreadable), tuple(folders))


def plan(
    found: Found,
    photos: Mapping[str, FileStat],
    skipped: Mapping[str, FileStat],
    unsettled: Collection[FileStat] = frozenset(),
) -> SyncPlan:
    """Compare what a folder holds with what is known of it.

    photos, skipped: what the catalogue knows under that folder, by path. What lies in a folder that
    can't be listed now is kept as it is.
    unsettled: files, of this folder or of others, that may still be written to: not read now. A
    photo of the size of one is not gone yet, for it may have been moved there.
    """
    here = {stat.path for stat in found.files}
    closed = tuple(folder.rstrip(os.sep) + os.sep for folder, _ in found.unreadable)
    read = []
    unchanged = later = 0
    still_skipped = []
    for stat in found.files:
        if photos.get(stat.path) == stat:
            unchanged += 1
        elif skipped.get(stat.path) == stat:
            still_skipped.append(stat.path)
        elif stat in unsettled:
            later += 1
        else:
            read.append(stat)
    sizes = {stat.size for stat in unsettled}
    return SyncPlan(
        read=tuple(read),
        gone=tuple(
            path
            for path, stat in photos.items()
            if path not in here and not path.startswith(closed) and stat.size not in sizes
        ),
        gone_skips=tuple(p for p in skipped if p not in here and not p.startswith(closed)),
        unchanged=unchanged,
        still_skipped=tuple(still_skipped),
        unreadable=found.unreadable,
        later=later,
    )
