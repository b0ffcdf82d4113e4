"""What Milvus can be asked of a content, and how filters ask for it."""

from __future__ import annotations

import hashlib
from typing import Any

from indexer.catalog import Catalog, NewContent
from indexer.conditions import cameras_holding, labels_holding
from indexer.filters import Filters

LABELS = 5
NOWHERE = 999.0  # degrees; what says nothing of its place passes no filter on it
FACTS = ("day", "camera", "latitude", "longitude", *(f"label{n}" for n in range(LABELS)))
NO_FACTS: dict[str, Any] = dict.fromkeys(FACTS, 0) | {"latitude": NOWHERE, "longitude": NOWHERE}


def facts_of(content: NewContent) -> dict[str, Any]:
    """What filters can ask of a content, as numbers."""
    columns = content.columns
    place = (columns.get("latitude"), columns.get("longitude"))
    latitude, longitude = place if None not in place else (NOWHERE, NOWHERE)
    labels = [number_of(label) for label, _ in content.labels[:LABELS]]
    labels += [0] * (LABELS - len(labels))
    return {
        "day": day_of(columns.get("taken_at") or ""),
        "camera": number_of(columns.get("camera")),
        "latitude": latitude,
        "longitude": longitude,
        **{f"label{n}": label for n, label in enumerate(labels)},
    }


def day_of(date: str, missing: int = 0) -> int:
    """2023-05-17, or the beginning of one, as 20230517; `missing`, twice, for month and day."""
    parts = [int(part) for part in date[:10].split("-") if part]
    if not parts:
        return 0
    year, month, day = (*parts, missing, missing)[:3]
    return 10_000 * year + 100 * month + day


def number_of(name: str | None) -> int:
    """A name as a number from 1 to 2**62; 0 for none. Two names share one as good as never."""
    if not name:
        return 0
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % 2**62 + 1


def expression_of(filters: Filters, catalog: Catalog) -> str:
    """What filters on facts are to Milvus; "" for none."""
    wanted = []
    if filters.since is not None:
        wanted.append(f"day >= {day_of(filters.since)}")
    if filters.until is not None:
        wanted.append(f"day > 0 and day <= {day_of(filters.until, 99)}")
    if filters.camera is not None:
        numbers = [number_of(name) for name in cameras_holding(catalog, filters.camera)]
        wanted.append(f"camera in {numbers}" if numbers else "id < 0")
    if filters.label is not None:
        numbers = [number_of(name) for name in labels_holding(catalog, filters.label)]
        any_of = " or ".join(f"label{n} in {numbers}" for n in range(LABELS))
        wanted.append(f"({any_of})" if numbers else "id < 0")
    if filters.box is not None:
        south, west, north, east = filters.box
        sides = "and" if west <= east else "or"  # it may cross the 180th meridian
        wanted.append(f"latitude >= {south!r} and latitude <= {north!r}")
        wanted.append(f"(longitude >= {west!r} {sides} longitude <= {east!r}) and longitude < 900")
    return " and ".join(f"({one})" for one in wanted)


def both_of(one: str, other: str) -> str:
    return f"({one}) and ({other})" if one and other else one or other
