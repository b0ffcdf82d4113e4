"""`fc7 duplicates` lists what a library holds more than once, and moves it away when told to.

`fc7 evaluate copies` measures how well that works.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.arguments import add_json, add_library, add_model, command, count
from ui.terminal import Progress, Stages, shown

if TYPE_CHECKING:
    from indexer import Copy, Group, Library, Photo
    from indexer.duplicates import Kind
    from indexer.moving import MoveReport
    from retrieval.copies_evaluation import CopyFigures

KINDS: tuple[Kind, ...] = ("file", "picture", "shot")
TITLES = {"file": "the same file", "picture": "the same picture", "shot": "similar shots"}
REASONS = {
    "pixels": "it has most pixels",
    "raw": "it is the RAW file",
    "date": "it knows when it was taken",
    "lossless": "its format loses nothing",
    "folder": "it is in the folder you prefer",
    "bytes": "its file is the largest",
    "older": "its file is the oldest",
    "path": "its path comes first",
}
_SHOWN = 1000  # lines of what would be moved


def add_duplicate_commands(commands: Any) -> None:
    """`fc7 duplicates`."""
    one = command(
        commands,
        "duplicates",
        duplicates,
        "photos that are there more than once, and which to keep",
    )
    add_library(one)
    one.add_argument("--kind", action="append", choices=KINDS, dest="kinds",
                     help="file: equal byte for byte; picture: coded anew, resized, cropped, "
                     "edited a little; shot: of a burst, from another angle; may be given several "
                     "times (default: all)")  # fmt: skip
    one.add_argument("--prefer", type=Path, metavar="DIR",
                     help="keep what lies in this folder, if it is no worse than the others"
                     )  # fmt: skip
    one.add_argument("--html", type=Path, metavar="FILE", help="write one page, side by side, too")
    add_json(one, "one JSON object a group")
    move = one.add_argument_group("to move all but the ones to keep (files and pictures only)")
    move.add_argument("--move-to", type=Path, metavar="DIR",
                      help="say what would be moved to this folder, and move nothing")  # fmt: skip
    move.add_argument("--yes", action="store_true", help="with --move-to: do it")
    move.add_argument("--undo", type=Path, metavar="LOG",
                      help="move everything back that this log names")  # fmt: skip
    one.set_defaults(refuse=one.error)


def add_copy_measures(kinds: Any) -> None:
    """`fc7 evaluate copies`."""
    one = command(kinds, "copies", evaluate, "how well copies of photos are found")
    one.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    one.add_argument("--most", type=count, default=200, metavar="N",
                     help="photos, evenly chosen (default: 200)")  # fmt: skip
    one.add_argument("--same", type=Path, metavar="FILE.csv",
                     help="a line for photos of FOLDER that are one picture already: their paths"
                     )  # fmt: skip
    add_model(one)
    add_json(one, "as one JSON object")


def duplicates(options: argparse.Namespace) -> int:
    from indexer import open_library

    _check(options)
    if options.undo is not None:
        return undo(options)
    kinds: Sequence[Kind] = options.kinds or (KINDS[:2] if options.move_to else KINDS)
    with open_library(options.library, create=False) as library:
        with Stages() as tell:
            groups = library.duplicates.find(kinds, prefer=options.prefer, progress=tell)
        if options.html is not None:
            from ui.side_by_side import write_side_by_side

            write_side_by_side(options.html, groups, library)
        if options.move_to is not None:
            return _move(library, groups, options)
    if options.json:
        for group in groups:
            print(json.dumps(_as_json(group), default=str))
    else:
        print_groups(groups)
    return 0


def _check(options: argparse.Namespace) -> None:
    if options.yes and options.move_to is None:
        options.refuse("--yes goes with --move-to DIR")
    if options.move_to is not None and "shot" in (options.kinds or ()):
        options.refuse("similar shots are different photos: they are never moved")
    others = (options.kinds, options.prefer, options.html, options.move_to, options.json)
    if options.undo is not None and any(others):
        options.refuse("--undo LOG goes alone")


def print_groups(groups: Sequence[Group]) -> None:
    """A block a group: the photo to keep, why, and the others."""
    for group in groups:
        print(f"{TITLES[group.kind]}: keep this one, {REASONS[group.reason]}")
        print(f"  keep  {_facts(group.keep)}  {shown(group.keep.path)}")
        for other in group.others:
            note = note_on(other)
            print(
                f"        {_facts(other.photo)}  {shown(other.photo.path)}{note and f'  ({note})'}"
            )
    if not groups:
        print("no duplicates")
    for kind in KINDS:
        own = [group for group in groups if group.kind == kind]
        more = sum(len(group.others) for group in own)
        size = sum(other.photo.size for group in own for other in group.others)
        if own:
            print(f"{TITLES[kind]}: {len(own):,} groups, {more:,} photos besides those to keep, "
                  f"{size / 1e6:,.1f} MB")  # fmt: skip


def note_on(other: Copy) -> str:
    """How a copy differs, beyond its figures."""
    notes = [other.turn] * bool(other.turn)
    if other.more:
        notes.append("shows more than the one to keep")
    elif other.covered < 0.95:
        notes.append(f"shows {other.covered:.0%} of it")
    return ", ".join(notes)


def _facts(photo: Photo) -> str:
    pixels = f"{photo.width:,} x {photo.height:,}"
    date = photo.taken_at[:10] if photo.taken_at else ""
    return f"{pixels:>15} {photo.format:5} {photo.size / 1e6:8,.2f} MB {date:10}"


def _as_json(group: Group) -> dict[str, object]:
    return {
        "kind": group.kind,
        "keep": asdict(group.keep),
        "reason": group.reason,
        "why": REASONS[group.reason],
        "others": [asdict(other) | {"note": note_on(other)} for other in group.others],
    }


# --- moving


def _move(library: Library, groups: Sequence[Group], options: argparse.Namespace) -> int:
    from indexer.moving import move_photos, plan_moves

    moves, stay = plan_moves(groups, options.move_to, library.status().folders)
    if not options.yes:
        if options.json:
            for move in moves:
                paths = {"from": move.photo.path, "to": move.target, "kept": move.kept.path}
                print(json.dumps(paths, default=str))
            return 0
        for move in moves[:_SHOWN]:
            print(shown(move.photo.path))
            print(f"  -> {shown(move.target)}")
            print(f"  kept: {shown(move.kept.path)}")
        if len(moves) > _SHOWN:
            print(f"... and {len(moves) - _SHOWN:,} more: --json lists them all")
        for path, why in stay:
            print(f"{shown(path)} stays: {why}")
        size = sum(move.photo.size for move in moves) / 1e6
        print(f"{len(moves):,} photos would be moved, {size:,.1f} MB; nothing was: the same with "
              "--yes does it")  # fmt: skip
        return 0
    with Progress("photos") as progress:
        report = move_photos(moves, options.move_to, progress)
    return _print_report(report, "moved", options)


def undo(options: argparse.Namespace) -> int:
    from indexer.moving import undo as move_back

    with Progress("photos") as progress:
        report = move_back(options.undo, progress)
    return _print_report(report, "moved back", options)


def _print_report(report: MoveReport, what: str, options: argparse.Namespace) -> int:
    for path, why in report.left:
        print(f"fc7: {shown(path)} stays as it is: {shown(why)}", file=sys.stderr)
    if options.json:
        counts = {"moved": report.moved, "left": len(report.left), "log": report.log}
        print(json.dumps(counts, default=str))
        return 1 if report.left else 0
    print(f"{report.moved:,} photos {what}")
    if options.undo is None and report.log is not None:
        print(f"to move them back: fc7 duplicates --undo {shown(report.log)}")
    if report.moved:
        print("the library follows with: fc7 index")
    return 1 if report.left else 0


# --- how well copies are found


def evaluate(options: argparse.Namespace) -> int:
    from retrieval.copies_evaluation import evaluate_copies
    from retrieval.extractor import Extractor

    with Progress("bytes") as progress:
        extractor = Extractor(options.network, options.weights, options.device, progress=progress)
    with Stages() as tell:
        figures = evaluate_copies(
            options.data, extractor, tell, most=options.most, same=options.same
        )
    if options.json:
        print(json.dumps(figures.summary()))
    else:
        _print_figures(figures, options.data)
    return 0


def _print_figures(figures: CopyFigures, folder: Path) -> None:
    ways, f = list(figures.scores), figures
    print(f"{f.photos:,} photos of {shown(folder)}, each with a copy of each kind; {f.network}, "
          f"{f.weights} weights; {len(f.skipped):,} skipped")  # fmt: skip
    print("precision / recall; hashes where 10 of 64 bits may differ, and where so many may that "
          "their precision is .99")  # fmt: skip
    heads = [way.replace("precise", str(f.precise.get(way.split()[0]))) for way in ways]
    print(f"{'':24}" + "".join(f"{head:>15}" for head in heads))
    rows = {attack: [f.scores[way][attack] for way in ways] for attack in f.scores["fc7"]}
    for name, scores in (rows | {"all": [figures.total(way) for way in ways]}).items():
        print(f"{name:24}" + "".join(f"  {s.precision:6.3f} /{s.recall:5.3f}" for s in scores))
    for one, other in figures.lookalikes:
        print(f"taken for one picture: {shown(one)}, {shown(other)}")
