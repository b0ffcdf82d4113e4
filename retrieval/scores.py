"""Figures of an answer to every query: by exact distance, and by codes. Arrays in, figures out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.codes import SHORTLIST
from retrieval.metrics import (
    average_precision,
    average_precision_within,
    n_s_score,
    precision_at,
    recall_at,
    tied_average_precision,
    tied_average_precision_within,
    tied_precision_at,
    tied_recall_at,
)

SHORTLISTS = (10, 25, 50, 100, 200, 400)  # photos
NEAREST = 10
_BLOCK = 256  # queries at a time: with 50,000 photos, 50 MB of distances


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A query over described photos, all known by their rows."""

    row: int  # of the descriptor that asks
    group: NDArray[np.intp]  # (m,) photos that belong to it; some may be left out
    left_out: NDArray[np.intp]  # (l,) photos that are not in its answer: itself, junk

    @property
    def total(self) -> int:
        """How many relevant photos the gallery holds."""
        return len(self.group) - int(np.isin(self.left_out, self.group).sum())

    def masks(self, photos: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Of each photo (n,): is it in the answer? Is it relevant there?"""
        answered, relevant = np.ones(photos, np.bool_), np.zeros(photos, np.bool_)
        answered[self.left_out] = False
        relevant[self.group] = True
        return answered, relevant & answered


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Means over the queries. A query is left out of its answer, except as n_s counts it."""

    mean_average_precision: float  # uninterpolated, over all relevant photos, 0..1
    mean_average_precision_at_1000: float  # of the first 1000, over the relevant found there, 0..1
    precision_at_10: float  # divided by 10, even where fewer are relevant, 0..1
    recall_at_10: float  # divided by all relevant photos, even where they are more, 0..1
    n_s: float  # of its group among the first four, the query itself being one, up to 4


@dataclass(frozen=True, slots=True)
class CodeScores:
    """Means over the queries, and over all orders of photos at the same Hamming distance.

    The recall is that of search, not of labels: which share of the ten nearest by exact distance is
    there, whatever they show.
    """

    mean_average_precision: float  # by Hamming distance alone; divisors as in RetrievalScores
    mean_average_precision_at_1000: float
    precision_at_10: float
    recalls: tuple[float, ...]  # among the first SHORTLISTS by Hamming distance, 0..1 each
    # Re-ranked by exact distance, those of the ten that a shortlist holds are its first: so this is
    # the recall within SHORTLIST.
    reranked_recall: float


def score_exact(
    fc7: NDArray[np.float32], photos: int, asked: Sequence[Asked]
) -> tuple[RetrievalScores, list[NDArray[np.intp]]]:
    """Compare every query with every photo, and average the figures.

    fc7: (r, d) descriptors, of which the first `photos` are searched. asked: one or more, each with
    a relevant photo. Returns also the nearest ten of each query, fewer where there are no more.
    """
    scores, nearest = [], []
    rows = np.array([query.row for query in asked], np.intp)
    for query, order in zip(asked, rank_by_distance(fc7, photos, rows), strict=True):
        answered, mine = query.masks(photos)
        answer = order[answered[order]]
        relevant, total = mine[answer], query.total
        # A part of a photo finds the whole in the gallery, so nothing need be added for the query.
        n_s = n_s_score(relevant) if query.row < photos else float(relevant[:4].sum())
        scores.append(
            (
                average_precision(relevant, total),
                average_precision_within(1000, relevant),
                precision_at(10, relevant),
                recall_at(10, relevant, total),
                n_s,
            )
        )
        nearest.append(answer[:NEAREST])
    return RetrievalScores(*np.mean(scores, axis=0).tolist()), nearest


def rank_by_distance(
    fc7: NDArray[np.float32], photos: int, rows: NDArray[np.intp]
) -> Iterator[NDArray[np.intp]]:
    """For each of the rows: the first `photos` rows (photos,), nearest first, itself among them.

    Euclidean distance; at equal distance the lower row comes first.
    """
    gallery = fc7[:photos]
    squares = np.einsum("nd,nd->n", gallery, gallery)
    for start in range(0, len(rows), _BLOCK):
        # Squared distances, less the query's own square: the same for its whole row.
        distances = squares - 2 * (fc7[rows[start : start + _BLOCK]] @ gallery.T)
        for row in distances:
            yield np.argsort(row, kind="stable")


def score_codes(
    codes: NDArray[np.uint8],
    photos: int,
    asked: Sequence[Asked],
    nearest: Sequence[NDArray[np.intp]],
) -> CodeScores:
    """Search by Hamming distance alone, and average the figures.

    codes: (r, bits / 8), of which the first `photos` are searched. asked, nearest: as `score_exact`
    takes and returns them.
    """
    scores = []
    groups = 8 * codes.shape[1] + 1  # one for each distance
    rows = np.array([query.row for query in asked], np.intp)
    distances = _hamming_distances(codes, photos, rows)
    for query, ten, row in zip(asked, nearest, distances, strict=True):
        answered, mine = query.masks(photos)
        sizes = np.bincount(row[answered], minlength=groups)
        relevant = np.bincount(row[mine], minlength=groups)
        wanted = np.bincount(row[ten], minlength=groups)
        scores.append(
            [
                tied_average_precision(relevant, sizes, query.total),
                tied_average_precision_within(1000, relevant, sizes),
                tied_precision_at(10, relevant, sizes),
                tied_recall_at(SHORTLIST, wanted, sizes, len(ten)),
                *(tied_recall_at(k, wanted, sizes, len(ten)) for k in SHORTLISTS),
            ]
        )
    whole, within, ten_first, reranked, *recalls = np.mean(scores, axis=0).tolist()
    return CodeScores(whole, within, ten_first, tuple(recalls), reranked)


def _hamming_distances(
    codes: NDArray[np.uint8], photos: int, rows: NDArray[np.intp]
) -> Iterator[NDArray[np.intp]]:
    """For each of the rows: its Hamming distances (photos,) to the first `photos` rows."""
    bits = 8 * codes.shape[1]
    signs = 2 * np.unpackbits(codes, axis=1).astype(np.float32) - 1
    for start in range(0, len(rows), _BLOCK):
        alike = signs[rows[start : start + _BLOCK]] @ signs[:photos].T  # whole numbers: exact
        yield from ((bits - alike) / 2).astype(np.intp)
