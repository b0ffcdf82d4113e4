"""Figures for ranked answers, each as its authors published it.

relevant: (k,) bool, the ranked answer, best first: is this photo relevant to the query? The query
itself is never among them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(relevant: NDArray[np.bool_], total: int) -> float:
    """Average the precision at each relevant rank, over all relevant photos of the gallery.

    total: how many relevant photos the gallery holds, found or not; at least 1.

    A relevant photo that was not found counts as precision 0.

    >>> average_precision(np.array([True, False, True, False]), total=4)  # (1/1 + 2/3) / 4
    0.41666666666666663
    """
    ranks = np.flatnonzero(relevant) + 1
    return float((np.arange(1, ranks.size + 1) / ranks).sum() / total)


def precision_at(k: int, relevant: NDArray[np.bool_]) -> float:
    """Share of relevant photos among the first k. The divisor is k, even if the answer is shorter.

    >>> precision_at(4, np.array([True, False, True]))
    0.5
    """
    return float(relevant[:k].sum() / k)


def n_s_score(relevant: NDArray[np.bool_]) -> float:
    """Nistér's and Stewénius's score: how many of the first four are of the query's group.

    In their benchmark (groups of four) the query is in the gallery and counts: it is the first of
    the four, the others are the first three of the answer. So it goes from 1 to 4.

    >>> n_s_score(np.array([True, False, True, True]))
    3.0
    """
    return float(1 + relevant[:3].sum())
