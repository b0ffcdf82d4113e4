"""What an album is called until a person names it: what its photos show, and when."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date

_SURE = 0.2  # mean probability from which a class names an album, whatever its folder is called
_LIKELY = 0.03  # and from which it does where the folder says nothing
_BESIDE = 0.6  # of that of the first: the second is named too
_DATED = 0.5  # share of the photos that must be dated for a date to stand
_CAMERA = re.compile(r"\d{3}\w{5}|DCIM|Camera", re.IGNORECASE)  # names that cameras give folders
_WORD = 3  # letters
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_NO_PLURAL = (
    "broccoli", "coral reef", "corn", "espresso", "guacamole", "hay", "ice cream", "dough",
    "wool", "mashed potato", "hot pot", "red wine", "eggnog", "carbonara", "water",
)  # fmt: skip


def title_of(photos: int, labels: Mapping[str, float], folder: str, dates: Sequence[str]) -> str:
    """Name an album of so many photos, as "golden retrievers, May 2023".

    labels: the sum of their probabilities over all its photos, by class.
    folder: the name of the folder that these photos fill; empty if there is none.
    dates: ISO 8601, of the photos that have one.
    """
    said = (
        _shown(photos, labels, _SURE)
        or (folder if _says_something(folder) else "")
        or _shown(photos, labels, _LIKELY)
        or "similar photos"
    )
    span = _when(dates) if len(dates) >= _DATED * photos else ""
    return f"{said}, {span}" if span else said


def _shown(photos: int, labels: Mapping[str, float], least: float) -> str:
    """The likeliest class, and a second that is nearly as likely."""
    likeliest = sorted(labels.items(), key=lambda pair: (-pair[1], pair[0]))[:2]
    sure = [label for label, total in likeliest if total >= least * photos]
    if len(sure) == 2 and labels[sure[1]] < _BESIDE * labels[sure[0]]:
        sure = sure[:1]
    return " and ".join(_plural(label) for label in sure)


def _says_something(folder: str) -> bool:
    return sum(map(str.isalpha, folder)) >= _WORD and not _CAMERA.fullmatch(folder)


def _when(dates: Sequence[str]) -> str:
    """The day, month, year, or span of years; nothing where it says little."""
    days = sorted(date.fromisoformat(taken[:10]) for taken in dates)
    first, last = days[0], days[-1]
    if first == last:
        return f"{first.day} {_MONTHS[first.month - 1]} {first.year}"
    if first.year != last.year:
        return f"{first.year} to {last.year}" if last.year - first.year == 1 else ""
    if first.month == last.month:
        return f"{_MONTHS[first.month - 1]} {first.year}"
    if last.month - first.month <= 2:
        return f"{_MONTHS[first.month - 1]} to {_MONTHS[last.month - 1]} {first.year}"
    return str(first.year)


def _plural(label: str) -> str:
    if label.endswith(("s", *_NO_PLURAL)):
        return label
    for one, many in (("wolf", "wolves"), ("mouse", "mice"), ("goose", "geese")):
        if label.endswith(one):
            return label.removesuffix(one) + many
    if label.endswith(("x", "ch", "sh")):
        return f"{label}es" if not label.endswith("fish") else label
    if label.endswith("y") and label[-2:-1] not in "aeiou":
        return f"{label[:-1]}ies"
    return f"{label}s"
