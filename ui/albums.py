"""`fc7 albums` groups, lists and exports; `fc7 album` is a person's word on one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.errors import LibraryError
from ui.arguments import add_json, add_library, command, count
from ui.terminal import Progress, shown

if TYPE_CHECKING:
    from indexer import Album, GroupReport, Library

_NAMED_CHANGES = 20  # lines


def add_album_commands(commands: Any) -> None:
    """`fc7 albums` and `fc7 album WHAT`."""
    one = command(commands, "albums", albums, "group the photos into albums, list and export them")
    add_library(one)
    how = one.add_argument_group("how to group (without these: as the last time)")
    how.add_argument("--number", type=count, metavar="K",
                     help="so many albums, each photo in one; else there are as many as the photos "
                     "make, and what belongs nowhere stays out")  # fmt: skip
    how.add_argument("--granularity", type=float, metavar="G",
                     help="from 0, few big albums, to 1, many small ones (0.5 at first)"
                     )  # fmt: skip
    how.add_argument("--with", action="append", choices=("time", "place"), dest="beside",
                     help="photos of one occasion (one place) belong together, as well as those "
                     "that look alike; may be given twice")  # fmt: skip
    how.add_argument("--preview", action="store_true",
                     help="say what would change, and change nothing")  # fmt: skip
    one.add_argument("--hidden", action="store_true", help="list and export hidden albums too")
    one.add_argument("--export", type=Path, metavar="DIR",
                     help="write a folder for each album, with a manifest and a contact sheet; "
                     "originals are not touched")  # fmt: skip
    one.add_argument("--as", choices=("copy", "hardlink", "symlink"), dest="how",
                     help="what the exported files are (default: copy)")  # fmt: skip
    add_json(one, "albums and changes as one JSON object")
    one.set_defaults(refuse=one.error)

    album = commands.add_parser("album", help="one album: show, rename, merge, move, hide ...")
    kinds = album.add_subparsers(required=True, metavar="WHAT")

    one = _on_album(kinds, "show", show, "its photos")
    one.add_argument("--by", choices=("time", "closeness"), default="time",
                     help="the order: when they were taken, or how near the cover they are"
                     )  # fmt: skip
    add_json(one, "one JSON object a photo")
    one = _on_album(kinds, "rename", rename, "call it otherwise; '' brings its title back")
    one.add_argument("name", metavar="NAME")
    one = _on_album(kinds, "merge", merge, "put the photos of other albums into it")
    one.add_argument("others", nargs="+", metavar="OTHER")
    one = _on_album(kinds, "move", move, "put photos into it, out of their other albums")
    one.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    one = _on_album(kinds, "remove", remove, "take photos out of it, for good")
    one.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    _on_album(kinds, "hide", hide, "leave it out of lists")
    _on_album(kinds, "unhide", unhide, "list it again")
    one = command(kinds, "new", new, "an album of these photos")
    one.add_argument("name", metavar="NAME")
    one.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    add_library(one)


def _on_album(kinds: Any, name: str, run: Any, what: str) -> argparse.ArgumentParser:
    one = command(kinds, name, run, what)
    one.add_argument("album", metavar="ALBUM", help="its number or its name")
    add_library(one)
    return one


# --- all of them


def albums(options: argparse.Namespace) -> int:
    from indexer import open_library

    if options.how and options.export is None:
        options.refuse("--as says how to --export DIR")
    if options.preview and options.export is not None:
        options.refuse("--preview changes nothing, so it exports nothing")
    with open_library(options.library, create=False) as library:
        report = _group(library, options)
        found = library.albums.all(hidden=options.hidden)
        covers = {a.id: library.photo(a.cover).path for a in found if a.cover is not None}
        if options.json:
            _print_json(found, covers, report)
        else:
            _print_albums(found, report, preview=options.preview)
        if options.export is not None:
            _export(library, found, options)
    return 0


def _group(library: Library, options: argparse.Namespace) -> GroupReport | None:
    """Group if something is asked for, or if photos came or went; None: nothing was to be done."""
    from dataclasses import replace

    how = library.albums.grouping()
    if options.number is not None:
        how = replace(how, number=options.number, time=False, place=False)
    if options.granularity is not None or options.beside:
        beside = options.beside or ()
        if options.number is not None:
            options.refuse("--number groups by k-means, which has no granularity, time or place")
        how = replace(
            how,
            number=None,
            granularity=how.granularity if options.granularity is None else options.granularity,
            time="time" in beside,
            place="place" in beside,
        )
    if how == library.albums.grouping() and not options.preview and library.albums.is_current():
        return None
    with Progress("photos") as progress:
        return library.albums.group(how, preview=options.preview, progress=progress)


def _print_albums(found: Sequence[Album], report: GroupReport | None, *, preview: bool) -> None:
    if report is not None:
        _print_changes(report, preview=preview)
    if preview:
        return
    print(f"{'number':>6} {'photos':>7} {'cohesion':>8}  name")
    for album in found:
        marks = [word for word in ("hidden", "kept") if getattr(album, word)]
        name = shown(album.name) + (f"  ({', '.join(marks)})" if marks else "")
        cohesion = "-" if album.cohesion is None else f"{album.cohesion:.2f}"
        print(f"{album.id:6} {album.photos:7,} {cohesion:>8}  {name}")


def _print_changes(report: GroupReport, *, preview: bool) -> None:
    if not report.changes:
        print("nothing changes" if preview else "nothing changed")
    for change in report.changes[:_NAMED_CHANGES]:
        parts = [f"+{change.came:,}"] * bool(change.came) + [f"-{change.went:,}"] * bool(
            change.went
        )
        if change.before == 0:
            what = f"new, {change.after:,} photos"
        elif change.after == 0:
            what = f"gone, it had {change.before:,} photos"
        else:
            what = f"{change.before:,} -> {change.after:,} photos ({', '.join(parts)})"
        print(f"{shown(change.album)}: {what}")
    if len(report.changes) > _NAMED_CHANGES:
        print(f"... and {len(report.changes) - _NAMED_CHANGES:,} albums more")
    print(f"{report.left_out:,} of {report.photos:,} photos belong to no album")


def _print_json(
    found: Sequence[Album], covers: dict[int, Path], report: GroupReport | None
) -> None:
    listed = [
        asdict(album) | {"cover": str(covers[album.id]) if album.id in covers else None}
        for album in found
    ]
    print(json.dumps({"albums": listed, "grouping": report and asdict(report)}))


def _export(library: Library, found: Sequence[Album], options: argparse.Namespace) -> None:
    from indexer.export import export_albums
    from ui.contact_sheet import PAGE, write_contact_sheet

    with Progress("photos") as progress:
        report = export_albums(library, found, options.export, options.how or "copy", progress)
    try:
        write_contact_sheet(options.export, report, library)
    except OSError as error:
        raise LibraryError(f"{options.export} can't be written: {error.strerror}") from error
    for path, reason in report.failed:
        print(f"fc7: {shown(path)} was not exported: {reason}", file=sys.stderr)
    written = sum(len(photos) for _, photos in report.albums)
    print(
        f"{written:,} photos of {len(report.albums):,} albums: {shown(options.export / PAGE)}",
        file=sys.stderr if options.json else sys.stdout,
    )


# --- one of them


def show(options: argparse.Namespace) -> int:
    from indexer import open_library

    with open_library(options.library, create=False) as library:
        album = library.albums.get(options.album)
        photos = library.albums.photos(album.id, by=options.by)
    for photo in photos:
        if options.json:
            known = {name: value for name, value in asdict(photo).items() if value is not None}
            print(json.dumps(known, default=str))
        else:
            print(shown(photo.path))
    return 0


def rename(options: argparse.Namespace) -> int:
    return _edit(options, lambda library, album: library.albums.rename(album, options.name))


def merge(options: argparse.Namespace) -> int:
    return _edit(
        options,
        lambda library, album: library.albums.merge(
            album, [library.albums.get(other).id for other in options.others]
        ),
    )


def move(options: argparse.Namespace) -> int:
    return _edit(
        options, lambda library, album: library.albums.move(_ids(library, options.photos), album)
    )


def remove(options: argparse.Namespace) -> int:
    return _edit(
        options, lambda library, album: library.albums.remove(_ids(library, options.photos), album)
    )


def hide(options: argparse.Namespace) -> int:
    return _edit(options, lambda library, album: library.albums.hide(album))


def unhide(options: argparse.Namespace) -> int:
    return _edit(options, lambda library, album: library.albums.hide(album, hidden=False))


def new(options: argparse.Namespace) -> int:
    from indexer import open_library

    with open_library(options.library, create=False) as library:
        _print_one(library.albums.create(options.name, _ids(library, options.photos)))
    return 0


def _edit(options: argparse.Namespace, change: Any) -> int:
    from indexer import open_library

    with open_library(options.library, create=False) as library:
        _print_one(change(library, library.albums.get(options.album).id))
    return 0


def _print_one(album: Album) -> None:
    hidden = ", hidden" if album.hidden else ""
    print(f"album {album.id}: {shown(album.name)}, {album.photos:,} photos{hidden}")


def _ids(library: Library, photos: Sequence[Path]) -> list[int]:
    return [library.photo_at(photo).id for photo in photos]
