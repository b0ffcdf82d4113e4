"""What the parts ask of a library to compare it with another."""

from __future__ import annotations

from pathlib import Path

from indexer import Library
from indexer.finder import Mode

Answers = dict[Path, list[tuple[Path, float]]]  # of each photo the nearest, with their distances


def answers(library: Library, root: Path, mode: Mode = "auto", k: int = 5) -> Answers:
    """Ask with each photo of the library; paths are relative to `root`."""
    return {
        photo.path.relative_to(root): [
            (hit.photo.path.relative_to(root), round(hit.distance, 4))
            for hit in library.answer(photo.id, k, mode=mode).hits
        ]
        for photo in library.photos(limit=100_000)
    }
