"""A library in one file, and back: `fc7 backup` and `fc7 restore`.

Neither readers nor the run that writes wait for a backup, nor it for them. It is the library as it
was at one moment, that of its snapshot of the catalogue: all else either never changes, as the
segments and codes that the snapshot names, or only grows until a photo's last trace is removed, as
the thumbnails. Where a run removed what the snapshot names before it could be opened, another
snapshot is taken.

Both work in a folder aside, FILE.partial or LIBRARY.partial, and put the result into its place at
the end. What a killed one left there is removed by the next.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from indexer.archive import Archive, Member, write_archive
from indexer.aside import already_there, aside, put
from indexer.checking import existing
from indexer.database import made_by_newer
from indexer.engines.addresses import read_addresses
from indexer.inside import CATALOG, THUMBNAILS
from indexer.schema import MIGRATIONS
from indexer.syncing import make_folder, sync
from retrieval.errors import BackupError, LibraryError, NewerLibraryError

FORMAT = 1  # of backups
_FOLDERS = ("segments", "coders")
_WITH_SUMS = 3  # the schema since which files have checksums in the catalogue
_NAMES = re.compile(  # of all that a library consists of
    r"catalog\.sqlite|thumbnails\.sqlite|coders/[0-9a-f]{16}\.safetensors"
    r"|segments/[0-9a-f]{32}(\.faiss|\.[0-9a-f]{16}\.codes)"
)
_PATIENCE = 60.0  # seconds to wait for another process's recovery of an SQLite file

Progress = Callable[[int, int], None]  # bytes done, of how many


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What is in a backup."""

    photos: int
    made: str  # ISO 8601, UTC
    bytes: int  # of its files
    files: int


def back_up(library: Path, file: Path, progress: Progress | None = None) -> BackupReport:
    """Save a library as it is now into one file; nobody waits for it, and it waits for nobody.

    progress: called with (bytes saved, bytes).

    Raises LibraryError if there is no library, parts of it are on servers, are missing, or are no
    files of its own; BackupError if the file is there already or can't be written.
    """
    library, file = library.expanduser().absolute(), file.expanduser().absolute()
    existing(library)
    _refuse_servers(library)
    if os.path.lexists(file):
        raise already_there(file)
    with aside(file) as folder, ExitStack() as opened:
        files, about, known = _collect(library, folder, opened)
        total = sum(os.fstat(one.fileno()).st_size for _, one in files)
        whole = folder / "whole"
        with whole.open("xb") as out:
            members = write_archive(out, about, files, _adding(progress, total))
            _compare(members, known, library)
            out.flush()
            os.fsync(out.fileno())
        put(whole, file)
    return _report(about, members)


def restore(file: Path, library: Path, progress: Progress | None = None) -> BackupReport:
    """Make a library anew of a backup: as it was then, and of photos at the paths of then.

    library: a folder that is not there yet, or empty.
    progress: called with (bytes restored, bytes).

    Raises BackupError if the file is damaged, none of ours, or of a newer fc7; LibraryError if the
    library is there already or can't be written.
    """
    library, file = library.expanduser().absolute(), file.expanduser().absolute()
    if library.is_symlink() or (library.exists() and not _is_empty(library)):
        raise LibraryError(
            f"{library} is there already: restore into a new folder with --library, or move that "
            "one away first"
        )
    try:
        if file.exists() and not file.is_file():
            raise BackupError(f"{file} is no file: name what fc7 backup made")
        source = file.open("rb")
    except OSError as error:
        raise BackupError(f"{file} can't be read: {error.strerror}") from error
    make_folder(library.parent)
    with source, aside(library) as folder:
        archive = Archive(file, source)
        _check(archive, file)
        total = sum(member.size for member in archive.members)
        whole = folder / "whole"
        for name in _FOLDERS:
            (whole / name).mkdir(parents=True)
        archive.unpack(lambda name: whole / name, _adding(progress, total))
        for name in (*_FOLDERS, "."):
            sync(whole / name)
        whole.rename(library)  # fails if something has come there that isn't an empty folder
        sync(library.parent)
    return _report(archive.about, archive.members)


# --- what is saved


def _collect(
    library: Path, folder: Path, opened: ExitStack
) -> tuple[list[tuple[str, BinaryIO]], dict[str, object], dict[str, str]]:
    """All files of the library at one moment, open; what the manifest says; what `_named` knows.

    folder: where snapshots are put; they have no names any more when this returns.
    """
    lost: set[str] = set()
    while True:
        with ExitStack() as kept:
            catalog, thumbnails = folder / CATALOG, folder / THUMBNAILS
            _snapshot(library / CATALOG, catalog)
            made = datetime.now(UTC).isoformat(timespec="seconds")
            schema, photos, known = _named(catalog, library)
            files, missing = [], set()
            for name in known:
                try:
                    files.append((name, kept.enter_context(_own_file(library / name))))
                except FileNotFoundError:
                    missing.add(name)
            snapshots = [catalog]
            if (library / THUMBNAILS).exists():
                _snapshot(library / THUMBNAILS, thumbnails)
                missing |= _without_thumbnail(catalog, thumbnails)
                snapshots.append(thumbnails)
            if missing - lost:  # a run may have removed them since the snapshot: look again
                lost = missing
                continue
            _refuse_lost(missing, library)
            for snapshot in reversed(snapshots):
                files.insert(0, (snapshot.name, kept.enter_context(snapshot.open("rb"))))
                snapshot.unlink()
            opened.push(kept.pop_all())
            about = {
                "format": FORMAT,
                "fc7": version("fc7"),
                "schema": schema,
                "made": made,
                "photos": photos,
            }
            return files, about, known


def _snapshot(source: Path, target: Path) -> None:
    """Copy an SQLite file as it is after its last transaction. Writers go on meanwhile."""
    target.unlink(missing_ok=True)
    try:
        with (
            closing(_own_database(source)) as here,
            closing(sqlite3.connect(target)) as there,
        ):
            # It is synced with all else later. All pages at once: else a write begins it anew.
            there.execute("PRAGMA synchronous = OFF")
            here.backup(there, pages=-1)
    except sqlite3.DatabaseError as error:
        raise LibraryError(f"{source} can't be saved: {error}") from error


def _named(catalog: Path, library: Path) -> tuple[int, int, dict[str, str]]:
    """Of a snapshot: its schema, its photos, and the files that belong to it.

    The files by name, with the beginning of their sha256: "" where an older fc7 knew none.
    """
    try:
        with closing(_read_only(catalog)) as connection:
            (schema,) = connection.execute("PRAGMA user_version").fetchone()
            if schema > len(MIGRATIONS):
                raise NewerLibraryError(made_by_newer(library, "schema", schema, len(MIGRATIONS)))
            _refuse_views(connection, "main", library / CATALOG)
            (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if told != "ok":
                raise LibraryError(f"{library / CATALOG} is damaged: {told}")
            (photos,) = connection.execute("SELECT count(*) FROM photos").fetchone()
            coders = connection.execute("SELECT value FROM settings WHERE key = 'coder'").fetchall()
            sums = "sha256, codes_sha256" if schema >= _WITH_SUMS else "NULL, NULL"
            segments = connection.execute(f"SELECT name, {sums} FROM segments").fetchall()
    except sqlite3.DatabaseError as error:
        raise LibraryError(f"{library / CATALOG} is damaged: {error}") from error
    names = {f"coders/{coder}.safetensors": str(coder) for (coder,) in coders}
    for segment, rows, codes in segments:
        names[f"segments/{segment}"] = str(rows or "")
        stem = str(segment).removesuffix(".faiss")
        names |= {f"segments/{stem}.{coder}.codes": str(codes or "") for (coder,) in coders}
    for name in names:
        if not _NAMES.fullmatch(name):
            raise LibraryError(f"{library} names a file {name!r}, which no fc7 has written")
    return schema, photos, names


def _compare(members: Sequence[Member], known: dict[str, str], library: Path) -> None:
    """Raises LibraryError if a file isn't as it was written: a backup shall be of use."""
    for member in members:
        if not member.sha256.startswith(known.get(member.name, "")):
            raise LibraryError(
                f"{library / member.name} changed by itself: fc7 check --repair mends it; nothing "
                "was saved"
            )


def _without_thumbnail(catalog: Path, thumbnails: Path) -> set[str]:
    """The contents (by hash) that have none: what a run removed since the catalogue's snapshot."""
    try:
        with closing(_read_only(catalog)) as connection:
            connection.execute("ATTACH ? AS other", (str(thumbnails),))
            _refuse_views(connection, "other", Path(thumbnails.name))
            table = "SELECT 1 FROM other.sqlite_schema WHERE name = 'thumbnails'"
            if connection.execute(table).fetchone() is None:  # killed before it was made
                return {hash_ for (hash_,) in connection.execute("SELECT hash FROM contents")}
            rows = connection.execute(
                "SELECT hash FROM contents WHERE hash NOT IN (SELECT hash FROM other.thumbnails)"
            )
            return {hash_ for (hash_,) in rows}
    except sqlite3.DatabaseError as error:
        raise LibraryError(f"{thumbnails.name} is damaged: {error}") from error


def _refuse_views(connection: sqlite3.Connection, schema: str, file: Path) -> None:
    """In the place of a table a view could go on for ever."""
    odd = f"SELECT 1 FROM {schema}.sqlite_schema WHERE type = 'view' OR sql LIKE '%VIRTUAL TABLE%'"
    if connection.execute(odd).fetchone() is not None:
        raise LibraryError(f"{file} was changed by another program: nothing was saved")


def _refuse_lost(missing: set[str], library: Path) -> None:
    """Files can't be saved that are not there; thumbnails that are lost can be made again."""
    lost = sorted(name for name in missing if "/" in name)
    if lost:
        raise LibraryError(
            f"{library} has lost {lost[0]}: fc7 check says what can be done; nothing was saved"
        )


def _refuse_servers(library: Path) -> None:
    elsewhere = read_addresses(library)
    ways = []
    if elsewhere.catalog is not None:
        ways.append("its catalogue with pg_dump")
    if elsewhere.store is not None:
        ways.append("its vectors with milvus-backup")
    if ways:
        raise LibraryError(
            f"{library} has parts on servers: save {' and '.join(ways)}, then copy its folder, all "
            "while no run is at work"
        )


def _own_database(file: Path) -> sqlite3.Connection:
    """One that is no link. It isn't opened to see that: closing it would take SQLite's locks."""
    if not stat.S_ISREG(file.lstat().st_mode):
        raise _no_file(file)
    return sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=_PATIENCE)


def _own_file(file: Path) -> BinaryIO:
    """A file of the library, open for reading; a link may lead to any other, and is none."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_file(file) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _no_file(file)
    return os.fdopen(handle, "rb")


def _no_file(file: Path) -> LibraryError:
    return LibraryError(f"{file} is a link or no file: a library has its files in its own folder")


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)


# --- what is restored


def _check(archive: Archive, file: Path) -> None:
    """Raises BackupError for a newer one, and where it isn't what a backup holds."""
    for name, most in {"format": FORMAT, "schema": len(MIGRATIONS), "photos": None}.items():
        found = archive.about.get(name)
        if not isinstance(found, int) or found < 0:
            raise BackupError(f"{file} is no backup by fc7")
        if most is not None and found > most:
            raise BackupError(made_by_newer(file, name, found, most))
    names = [member.name for member in archive.members]
    if (
        CATALOG not in names
        or len(set(names)) != len(names)
        or not all(map(_NAMES.fullmatch, names))
    ):
        raise BackupError(f"{file} holds files that no library has: it is no backup by fc7")


def _report(about: dict[str, object], members: Sequence[Member]) -> BackupReport:
    size = sum(member.size for member in members)
    return BackupReport(int(str(about["photos"])), str(about.get("made")), size, len(members))


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _adding(progress: Progress | None, total: int) -> Callable[[int], None]:
    done = 0

    def add(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return add
