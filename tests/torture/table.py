"""A row of the table that `make torture` prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What was tried, how often, and in how many of these something was lost.

    Lost means anything that must not be: data gone, a wrong answer, damage that nobody told of, a
    traceback, a run that stopped or never ended.
    """

    part: str
    what: str
    tried: int
    lost: int
    note: str = ""  # figures, in a few words

    def line(self) -> str:
        return (
            f"{self.part:9} {self.what:64} {self.tried:>8,} {self.lost:>6,}  {self.note}".rstrip()
        )


HEAD = f"{'part':9} {'what was tried':64} {'times':>8} {'lost':>6}"


def times(most: int, share: float) -> int:
    """How often something is tried: `most` in a whole run (a share of 1), but once at least."""
    return max(1, round(most * share))
