"""Witnesses: rows that every answer must hold, so an answer that lacks a part is known to.

When a query node dies, Milvus gives, for some seconds, answers without error from which whole
segments are missing. Nothing in the answer says so, and asking twice or counting proves nothing:
with two replicas, each request may go to another node. But all query vectors of one request are
searched in the same segments. So each segment holds witnesses: rows with an id below zero and one
vector that no photo comes near. A search sends that vector along, after those of the photos, and
must find all witnesses: a segment that was left out is missed by its witnesses.

How each segment gets one: Milvus cuts the rows of a write by shard (a hash of the id), and the
rows of a shard, in their order, into at most two segments, or more if a write fills one; merging
keeps what was there. So each write begins and ends with a witness for each shard. Their ids follow
from the number of the write, so all that is to be kept is how many writes there were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

EXPRESSION = "id < 0"  # to be joined by `or` to the filter of a search
T = TypeVar("T")
_DRAWN = 64  # ids a shard that a write may use; two are used
_PER_VECTOR = 4_096  # witnesses found by one query vector; Milvus answers 16,384 rows at most
_FAR = 10.0  # from unit rows: at least 81 in squared distance


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The witnesses of a collection.

    writes: how many writes were finished; shards: of the collection, as it was created.
    """

    writes: int
    shards: int

    def of_write(self, number: int) -> tuple[list[int], list[int]]:
        """The ids that write `number` (from 0 on) begins with, and those it ends with."""
        drawn = _DRAWN * self.shards
        ids = -1 - np.arange(number * drawn, (number + 1) * drawn)
        shard = shards_of(ids, self.shards)
        pairs = [ids[shard == one][:2].tolist() for one in range(self.shards)]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def classes(self) -> list[list[int]]:
        """The ids, by the vector that finds them: as many classes as a search sends vectors."""
        ids = [id_ for n in range(self.writes) for part in self.of_write(n) for id_ in part]
        return [ids[at : at + _PER_VECTOR] for at in range(0, len(ids), _PER_VECTOR)]

    def class_of(self, number: int) -> int:
        """The class of the witnesses of write `number`."""
        return number * 2 * self.shards // _PER_VECTOR

    def missing(self, answers: Sequence[Iterable[int]]) -> int:
        """How many witnesses the answers (the ids found, one answer a class) do not hold.

        0: the request was answered from all segments.
        """
        return sum(
            len(set(expected).difference(found))
            for expected, found in zip(self.classes(), answers, strict=True)
        )


def far_vector(number: int, width: int) -> NDArray[np.float32]:
    """(width,) float32: where the witnesses of class `number` are, far from all unit vectors."""
    vector = np.zeros(width, np.float32)
    vector[number % width] = _FAR
    return vector


def rare_code(number: int, bits: int) -> bytes:
    """bits/8 bytes: the code of the witnesses of class `number`.

    A photo may have it too; it stays right, being told apart by its id, as long as fewer have it
    than a search has room for.
    """
    return np.random.default_rng([1212, number]).bytes(bits // 8)


def shards_of(ids: NDArray[np.int64], shards: int) -> NDArray[np.int64]:
    """(n,) the shard that Milvus puts each id on: murmur3 of its 8 bytes, without the sign bit.

    `HashPK2Channels` in Milvus; the cluster test compares it with what Milvus did.
    """
    as_bits = ids.astype(np.int64).view(np.uint64)
    halves = (
        (as_bits & np.uint64(0xFFFFFFFF)).astype(np.uint32),
        (as_bits >> np.uint64(32)).astype(np.uint32),
    )
    hashed = np.zeros(ids.shape, np.uint32)
    for half in halves:
        mixed = _rotate(half * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        hashed = _rotate(hashed ^ mixed, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    hashed ^= np.uint32(8)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashed = (hashed ^ (hashed >> np.uint32(shift))) * np.uint32(factor)
    hashed ^= hashed >> np.uint32(16)
    return (hashed & np.uint32(0x7FFFFFFF)).astype(np.int64) % shards


def _rotate(words: NDArray[np.uint32], by: int) -> NDArray[np.uint32]:
    return (words << np.uint32(by)) | (words >> np.uint32(32 - by))


def until_whole(
    ask: Callable[[], T],
    whole: Callable[[T], bool],
    passing: tuple[type[Exception], ...],
    patience: float,
    pause: float = 0.2,
) -> T | None:
    """Ask until the answer is whole; None if after `patience` seconds none was.

    passing: errors that mean "not now"; one that ends the last try is raised.
    """
    end = time.monotonic() + patience
    while True:
        error: Exception | None = None
        try:
            answer = ask()
            if whole(answer):
                return answer
        except passing as caught:
            error = caught
        if time.monotonic() > end:
            if error:
                raise error
            return None
        time.sleep(pause)
