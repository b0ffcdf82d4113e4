"""Rates that a plan stands on: measured by `fc7 bench`, shipped with fc7 or given as files.

Everything is per photo and per core, so that it can be multiplied.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from retrieval.errors import PlanError
from retrieval.shipped import shipped

SHIPPED = "rates.json"
CODE_BYTES = 32  # of the codes that `fc7 bench search` compares: those that come with fc7
FC7_NUMBERS = 4096  # of the descriptors that were compared and stored
_FLOOR = 8  # bytes; shorter codes take as long (docs/scaling.md)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a photo costs until it is a descriptor: of `fc7 bench index`. Seconds of one core."""

    source: str
    network: str
    megapixels: float  # mean, of the originals
    megabytes: float
    decoding: float  # reading, decoding, framing
    beside: float  # hash, thumbnail, codes, storing
    computing: float | None  # the network on cores; None if it ran on a card
    card: float | None  # photos/s of the network on one GPU; None if it ran on cores


@dataclass(frozen=True, slots=True)
class Comparing:
    """What a row costs to be compared with a query: of `fc7 bench search`. Seconds of one core."""

    source: str
    fc7: float  # a row of 4096 numbers, fp16
    code_byte: float  # a byte of a code
    photos: int  # in the largest library measured
    shortlist: int  # how many it re-ranked
    recall: float  # at 10, of codes and that shortlist

    def code(self, bits: int) -> float:
        """Seconds of one core for a code of so many bits."""
        return self.code_byte * max(bits // 8, _FLOOR)


@dataclass(frozen=True, slots=True)
class Storing:
    """What a photo takes and how quickly rows go in, measured once, where `source` says."""

    source: str
    thumbnail: float  # bytes a photo
    metadata: float  # bytes a photo in PostgreSQL, indexes included
    fc7_rows: float  # rows/s into Milvus, float32 of 4096 numbers
    code_rows: float  # rows/s into Milvus, 256 bits


@dataclass(frozen=True, slots=True)
class Rates:
    """All that is measured."""

    reading: Reading
    comparing: Comparing
    storing: Storing


def read_rates(network: str, files: Iterable[Path] = ()) -> Rates:
    """The rates that come with fc7, with those of `files` in their place.

    files: what `fc7 bench index --json` or `fc7 bench search --json` printed.

    Raises PlanError if a file is none of these or of another network, or none are known of this
    network.
    """
    place = shipped(SHIPPED)
    if place is None:
        raise PlanError(f"{SHIPPED} is missing from this installation: install fc7 anew")
    known = json.loads(place.read_text(encoding="utf-8"))
    where, index = known["where"], known["index"]
    # A photo is read alike for every network, and AlexNet's run tells best what that costs.
    own = _reading(index["alexnet"], where)
    computing = _reading(index[network], where).computing if network in index else None
    own = replace(own, network=network, computing=computing)
    rates = Rates(own, _comparing(known["search"], where), Storing(where, **known["storing"]))
    for file in files:
        rates = _replaced(rates, file)
    return rates


def _replaced(rates: Rates, file: Path) -> Rates:
    """The same, with what a file says instead."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{file} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise PlanError(f"{file} is not JSON: give what fc7 bench index --json printed") from error
    try:
        if "decoding" in told:
            reading = _reading(told, str(file))
            if reading.network != rates.reading.network:
                raise PlanError(
                    f"{file} was measured with {reading.network}, the plan is for "
                    f"{rates.reading.network}: say --network {reading.network}, or measure anew"
                )
            return replace(rates, reading=reading)
        if "rows" in told:
            return replace(rates, comparing=_comparing(told, str(file)))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise PlanError(f"{file} lacks figures that fc7 bench --json prints: {error}") from error
    raise PlanError(
        f"{file} holds neither the figures of fc7 bench index --json nor of fc7 bench search --json"
    )


def _reading(told: Mapping[str, Any], source: str) -> Reading:
    """From the rates of `fc7 bench index`, photos/s of all cores together.

    On cores decoding and network take turns, so what is neither is the rest of fc7's own time. On
    a card they run at once, and the rest can't be told.
    """
    decoding, computing, whole = (
        _positive(told, name) for name in ("decoding", "computing", "fc7")
    )
    cores = _positive(told, "cores")
    on_card = told["device"] == "cuda"
    rest = 0.0 if on_card else max(0.0, 1 / whole - 1 / computing - 1 / decoding)
    return Reading(
        source=source,
        network=str(told["network"]),
        megapixels=_positive(told, "mean_megapixels"),
        megabytes=_positive(told, "mean_megabytes"),
        decoding=cores / decoding,
        beside=cores * rest,
        computing=None if on_card else cores / computing,
        card=computing if on_card else None,
    )


def _comparing(told: Mapping[str, Any], source: str) -> Comparing:
    """From how the time of a query grows between the two largest libraries.

    One query is one thread's work in libraries of these sizes, so its time is a core's.
    """
    rows = sorted(told["rows"], key=lambda row: _positive(row, "photos"))
    if len(rows) < 2:
        raise PlanError(
            f"{source} holds one size of library: measure more, fc7 bench search --photos 100000"
        )
    less, most = rows[-2:]
    more = most["photos"] - less["photos"]
    exact, codes = (
        (_positive(most, name) - _positive(less, name)) / 1e3 / more
        for name in ("exact_ms", "codes_ms")
    )
    if min(exact, codes) <= 0:
        raise PlanError(f"{source}: a larger library was no slower: measure on a quieter machine")
    return Comparing(
        source=source,
        fc7=exact,
        code_byte=codes / CODE_BYTES,
        photos=int(most["photos"]),
        shortlist=int(most["shortlist"]),
        recall=float(most["recall@10"]),
    )


def _positive(told: Mapping[str, Any], name: str) -> float:
    value = float(told[name])
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is {value:g}")
    return value
