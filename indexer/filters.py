"""Which photos may be answered: where they lie, when, where and by what they were taken."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from retrieval.errors import LibraryError

_DATE = re.compile("[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?")
Box = tuple[float, float, float, float]  # south, west, north, east, in degrees


@dataclass(frozen=True, slots=True)
class Filters:
    """What a photo must fulfil to be answered; None asks for nothing.

    A photo that says nothing of its date, camera or place passes no filter on it. Raises
    LibraryError for what is no date or no place.
    """

    folder: Path | None = None  # it lies under this one
    since: str | None = None  # taken then or later: 2023, 2023-05 or 2023-05-17, by its own clock
    until: str | None = None  # taken then or earlier, that year, month or day included
    camera: str | None = None  # a part of the camera's name, in any case
    label: str | None = None  # a part of one of its five likeliest classes, in any case
    album: int | None = None  # the number of one that it is in
    box: Box | None = None  # it may cross the 180th meridian: west is then greater than east

    def __post_init__(self) -> None:
        if self.folder is not None:  # as indexing names it
            object.__setattr__(self, "folder", Path(os.path.realpath(self.folder.expanduser())))
        for text in (self.since, self.until):
            if text is not None and not _is_date(text):
                raise LibraryError(f"{text!r} is no date: give 2023, 2023-05 or 2023-05-17")
        if self.box is not None:
            south, west, north, east = self.box
            if not (-90 <= south <= north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
                raise LibraryError(
                    f"{','.join(f'{side:g}' for side in self.box)} is no part of the earth: give "
                    "south, west, north and east in degrees"
                )


NO_FILTERS = Filters()


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text + "0000-01-01"[len(text) :])
    except ValueError:
        return False
    return True
