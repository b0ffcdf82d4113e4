"""What is told of a library: its size, its model, its codes, and what would make search better."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.album_rows import count_under
from indexer.catalog import Catalog, Skip
from indexer.coding import SAMPLE
from indexer.engines.addresses import read_addresses
from indexer.finder import ENOUGH, EXACT_ROWS
from indexer.vectors import Vectors
from retrieval.codes import BITS, SHORTLIST

_WORTH_TRAINING = EXACT_ROWS  # photos: with fewer, searches don't use codes


@dataclass(frozen=True, slots=True)
class CodesStatus:
    """What a library's codes are, and how a search by them goes."""

    bits: int
    learned_from: int  # photos
    own: bool  # learned from this library; else it came with fc7
    shortlist: int  # photos that a search by codes compares exactly
    recall: float | None  # the share of the ten nearest that it so finds; None: not measured yet
    measured_on: int  # photos


@dataclass(frozen=True, slots=True)
class Status:
    """What `fc7 status` shows."""

    path: Path
    catalog: str | None  # the address of its catalogue; None: in the library's folder
    store: str | None  # of its vectors; None: there too
    photos: int
    folders: tuple[Path, ...]
    folder_photos: tuple[int, ...]  # in each of the folders
    bytes: int  # on disk, thumbnails included
    storage: dict[str, int]  # what these bytes are; see `storage_of`
    lost_segments: tuple[str, ...]  # files with descriptors that should be there and are not
    network: str | None  # None: nothing was indexed yet
    weights: str | None
    stamp: str | None
    codes: CodesStatus | None  # None: there are none
    exact_up_to: int  # photos: beyond, a search goes by codes unless it is told otherwise
    advice: tuple[str, ...]  # what would make search better here
    last_run: str | None  # ISO 8601, UTC
    skipped: tuple[Skip, ...]


def read_status(library: Path, catalog: Catalog, vectors: Vectors) -> Status:
    """What there is to tell of a library now. library: its folder."""
    elsewhere = read_addresses(library)
    with catalog.snapshot() as view:
        settings = view.settings()
        codes = codes_status(settings)
        photos = view.count()
        folders = view.folders()
        lost = vectors.lost(view)
        storage = storage_of(library)
        named = {segment.name for segment in catalog.segments()} if lost else set[str]()
        return Status(
            path=library,
            catalog=elsewhere.catalog,
            store=elsewhere.store,
            photos=photos,
            folders=tuple(folders),
            folder_photos=tuple(count_under(view, folder) for folder in folders),
            bytes=sum(storage.values()),
            storage=storage,
            lost_segments=tuple(one for one in lost if one in named),  # else a run replaced it
            network=settings.get("network"),
            weights=settings.get("weights"),
            stamp=settings.get("stamp"),
            codes=codes,
            exact_up_to=EXACT_ROWS,
            advice=advice_for(photos, codes),
            last_run=settings.get("last_run"),
            skipped=tuple(view.skipped()),
        )


def codes_status(settings: Mapping[str, str]) -> CodesStatus | None:
    """What a library's settings say of its codes; None: there are none."""
    if "coder" not in settings:
        return None
    recall = settings.get("shortlist_recall")
    return CodesStatus(
        bits=int(settings["coder_bits"]),
        learned_from=int(settings["coder_learned_from"]),
        own=settings["coder_source"] == "library",
        shortlist=int(settings.get("shortlist", SHORTLIST)),
        recall=None if recall is None else float(recall),
        measured_on=int(settings.get("shortlist_rows", 0)),
    )


def advice_for(photos: int, codes: CodesStatus | None) -> tuple[str, ...]:
    """Commands worth their time; see docs/codes.md for what they bring."""
    advice: list[str] = []
    if codes is None:
        return ()
    if photos >= _WORTH_TRAINING and not codes.own:
        advice.append("fc7 codes train: codes learned from these photos keep more of the nearest")
    if codes.own and codes.learned_from < min(photos // 4, SAMPLE):
        advice.append(
            "fc7 codes train: there are many more photos than the codes were learned from"
        )
    if codes.recall is not None and codes.recall < ENOUGH and codes.bits < max(BITS):
        advice.append(f"fc7 codes train --bits {2 * codes.bits}: longer codes keep more")
    return tuple(advice)


def storage_of(library: Path) -> dict[str, int]:
    """Bytes on disk: descriptors (with their codes), thumbnails, catalog, other."""
    found = dict.fromkeys(("descriptors", "thumbnails", "catalog", "other"), 0)
    for folder, _, names in os.walk(library):
        for name in names:
            kind = "other"
            if Path(folder) == library / "segments":
                kind = "descriptors"
            elif Path(folder) == library:
                kind = next((one for one in found if name.startswith(f"{one}.")), "other")
            try:
                found[kind] += (Path(folder) / name).stat().st_size
            except FileNotFoundError:  # a run replaced it meanwhile
                continue
    return found
