"""What commands print: answers on stdout, progress on stderr, every name on one line."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.catalog import Skip
    from indexer.finder import Effort, Hit, Labelled
    from indexer.run import IndexReport

_SHOWN_SKIPS = 20  # paths listed by `fc7 index`; `fc7 status` lists them all


def print_report(report: IndexReport, library: Path, *, as_json: bool) -> None:
    counts = {
        name: getattr(report, name)
        for name in ("added", "updated", "moved", "removed", "unchanged")
    } | {"skipped": len(report.skipped)}
    reasons = Counter(kind_of(skip) for skip in report.skipped)
    missing = [str(folder) for folder in report.missing_folders]
    if as_json:
        print(json.dumps(counts | {"skipped_reasons": reasons, "missing_folders": missing}))
        return
    for folder in missing:
        print(
            f"fc7: {shown(folder)} is missing or empty: its photos are kept (--prune forgets them)",
            file=sys.stderr,
        )
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    for reason, count in reasons.most_common():
        print(f"  skipped {count:,}: {reason}")
    print_skips(report.skipped, _SHOWN_SKIPS)
    print(f"library: {shown(library)}")


def print_skips(skipped: Sequence[Skip], most: int) -> None:
    for skip in skipped[:most]:
        print(f"    {shown(skip.path)}: {skip.reason}")
    if len(skipped) > most:
        print(f"    ... and {len(skipped) - most:,} more: fc7 status lists them all")


def print_hits(hits: Sequence[Hit], *, as_json: bool = False) -> None:
    if as_json:
        _print_json(hits)
        return
    print(f"{'rank':>4}  {'distance':>8}  path")
    for hit in hits:
        print(f"{hit.rank:4}  {hit.distance:8.4f}  {shown(hit.photo.path)}")


def print_labelled(found: Sequence[Labelled], *, as_json: bool) -> None:
    if as_json:
        _print_json(found)
        return
    print(f"{'rank':>4}  {'chance':>8}  path")
    for one in found:
        print(f"{one.rank:4}  {one.probability:8.1%}  {shown(one.photo.path)}  ({one.label})")


def print_effort(effort: Effort) -> None:
    """Say on stderr how an answer was found."""
    rows = f"{effort.compared:,} of {effort.total:,}" if effort.filtered else f"{effort.total:,}"
    if effort.mode == "exact":
        how = f"exact search: {rows} descriptors compared"
    else:
        how = (
            f"search by codes: {rows} codes of {effort.bits} bits compared, "
            f"then the descriptors of the nearest {effort.shortlist:,}"
        )
    print(f"fc7: {how}{'; the filters left out the rest' * effort.filtered}", file=sys.stderr)


def _print_json(found: Sequence[Hit | Labelled]) -> None:
    """An object an answer: rank, distance or label, and path, then all else known of the photo."""
    for one in found:
        fields = asdict(one)
        photo = fields.pop("photo")
        fields["path"] = str(photo.pop("path"))
        known = {name: value for name, value in photo.items() if value is not None}
        print(json.dumps(fields | known))


def shown(text: object) -> str:
    """The text on one line: what a terminal would act upon (newlines, escapes) is spelled out."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in str(text)
    )


def kind_of(skip: Skip) -> str:
    return skip.reason.split(" (")[0]


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


class Progress:
    """A bar on stderr with rate and time left; silent when stderr is no terminal."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self.tell

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def tell(self, done: int, total: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            size = self._unit == "bytes"
            self._bar = tqdm(
                total=total,
                unit="B" if size else f" {self._unit}",
                unit_scale=size,
                disable=None,  # off unless stderr is a terminal
                file=sys.stderr,
                dynamic_ncols=True,
            )
        self._bar.update(done - self._bar.n)
