"""Files that come with fc7: inside an installed package, or in a checkout's data folder."""

from __future__ import annotations

from pathlib import Path

_HOUSE = Path(__file__).parent
_DATA = _HOUSE.parent / "data"
_FOLDERS = (_HOUSE / "bundled", _DATA / "weights", _DATA)


def shipped(name: str) -> Path | None:
    """Find a file or folder that comes with fc7; None if there is none of that name."""
    return next((path for folder in _FOLDERS if (path := folder / name).exists()), None)
