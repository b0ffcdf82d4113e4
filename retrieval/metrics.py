"""Figures for ranked answers and for classes, each as its authors published it.

relevant: (k,) bool, the ranked answer, best first: is this photo relevant to the query? The query
itself is never among them.

Codes leave many photos at the same distance, and their order there means nothing. The tied_
figures are the means over all those orders, after McSherry and Najork, *Computing Information
Retrieval Performance Measures Efficiently in the Presence of Tied Scores* (2008). They take groups
of equal distance, nearest first, empty ones allowed: sizes (g,) int, how many photos a group has,
and relevant (g,) int, how many of them are relevant.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.integer]


def average_precision(relevant: NDArray[np.bool_], total: int) -> float:
    """Average the precision at each relevant rank, over all relevant photos of the gallery.

    total: how many relevant photos the gallery holds, found or not; at least 1.

    A relevant photo that was not found counts as precision 0.

    >>> average_precision(np.array([True, False, True, False]), total=4)  # (1/1 + 2/3) / 4
    0.41666666666666663
    """
    ranks = np.flatnonzero(relevant) + 1
    return float((np.arange(1, ranks.size + 1) / ranks).sum() / total)


def average_precision_within(k: int, relevant: NDArray[np.bool_]) -> float:
    """Average precision of the first k alone, as papers on hashing publish it ("mAP@1000").

    The divisor is the number of relevant photos found among these k, not of those there are: a
    single one at rank 1 gives 1. If none is found, it is 0.

    >>> average_precision_within(3, np.array([True, False, True, True]))  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    found = int(relevant[:k].sum())
    return average_precision(relevant[:k], found) if found else 0.0


def precision_at(k: int, relevant: NDArray[np.bool_]) -> float:
    """Share of relevant photos among the first k. The divisor is k, even if the answer is shorter.

    >>> precision_at(4, np.array([True, False, True]))
    0.5
    """
    return float(relevant[:k].sum() / k)


def recall_at(k: int, relevant: NDArray[np.bool_], total: int) -> float:
    """Share of the relevant photos that is among the first k.

    total: the divisor, all relevant photos of the gallery, even if they are more than k; at least 1

    >>> recall_at(2, np.array([True, False, True]), total=4)
    0.25
    """
    return float(relevant[:k].sum() / total)


def n_s_score(relevant: NDArray[np.bool_]) -> float:
    """Nistér's and Stewénius's score: how many of the first four are of the query's group.

    In their benchmark (groups of four) the query is in the gallery and counts: it is the first of
    the four, the others are the first three of the answer. So it goes from 1 to 4.

    >>> n_s_score(np.array([True, False, True, True]))
    3.0
    """
    return float(1 + relevant[:3].sum())


# Classes


def ranks_of_targets(
    probabilities: NDArray[np.floating], targets: NDArray[np.integer]
) -> NDArray[np.intp]:
    """(n,): how many classes the network finds likelier than the true one; 0 is right.

    probabilities: (n, c). targets: (n,) of each photo its class. Of equally likely classes the
    first comes first.

    >>> ranks_of_targets(np.array([[0.2, 0.5, 0.3], [0.5, 0.5, 0.0]]), np.array([2, 1]))
    array([1, 1])
    """
    own = np.take_along_axis(probabilities, targets[:, np.newaxis], axis=1)
    earlier = np.arange(probabilities.shape[1]) < targets[:, np.newaxis]
    return np.asarray(((probabilities > own) | ((probabilities == own) & earlier)).sum(axis=1))


def top_k_error(k: int, ranks: NDArray[np.integer]) -> float:
    """Share of the photos whose class is not among the k likeliest (AlexNet, section 2).

    ranks: (n,) as `ranks_of_targets` gives them, n at least 1.

    >>> top_k_error(5, np.array([0, 4, 5, 999]))
    0.5
    """
    return float((ranks >= k).mean())


def confusion_matrix(
    targets: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """(c, c): how many photos of each class (row) were taken for each class (column).

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    cells = np.bincount(targets * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes)


def mean_class_accuracy(confusion: NDArray[np.integer]) -> float:
    """The mean over classes of the share that was recognised; classes without a photo don't count.

    >>> mean_class_accuracy(np.array([[3, 1], [0, 2]]))  # (3/4 + 2/2) / 2
    0.875
    """
    photos = confusion.sum(axis=1)
    there = photos > 0
    return float((np.diagonal(confusion)[there] / photos[there]).mean())


# Ranked answers under ties


def mutual_information(labels: NDArray[np.integer], groups: NDArray[np.integer]) -> float:
    """Normalized mutual information of two partitions (n,), over the mean of their entropies.

    Strehl and Ghosh (2002), with the arithmetic mean. 1 if both are the same single group.
    """
    joint = _contingency(labels, groups) / len(labels)
    one, other = joint.sum(axis=1), joint.sum(axis=0)
    entropies = -(one * np.log(one)).sum() - (other * np.log(other)).sum()
    if entropies == 0:
        return 1.0
    filled = joint > 0
    information = (joint[filled] * np.log(joint[filled] / np.outer(one, other)[filled])).sum()
    return float(np.clip(2 * information / entropies, 0, 1))


def adjusted_rand_index(labels: NDArray[np.integer], groups: NDArray[np.integer]) -> float:
    """Share of pairs on which two partitions (n,) agree, corrected for chance.

    Hubert and Arabie (1985). 0 is chance, 1 the same partition.
    """
    joint = _contingency(labels, groups)

    def pairs(counts: NDArray[np.integer]) -> float:
        return float((counts * (counts - 1) // 2).sum())

    both, one, other = pairs(joint), pairs(joint.sum(axis=1)), pairs(joint.sum(axis=0))
    expected = one * other / max(1.0, pairs(np.array([len(labels)])))
    highest = (one + other) / 2
    return 1.0 if highest == expected else float((both - expected) / (highest - expected))


def purity(labels: NDArray[np.integer], groups: NDArray[np.integer]) -> float:
    """Share of rows (n,) whose label is the commonest of their group; 0 if there are none."""
    return (
        float(_contingency(labels, groups).max(axis=0).sum() / len(labels)) if len(labels) else 0.0
    )


def _contingency(labels: NDArray[np.integer], groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many rows have a label and are in a group, (labels, groups)."""
    one = np.unique(labels, return_inverse=True)[1]
    other = np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((one.max(initial=-1) + 1, other.max(initial=-1) + 1), np.int64)
    np.add.at(counts, (one, other), 1)
    return counts


def tied_average_precision(relevant: Counts, sizes: Counts, total: int) -> float:
    """`average_precision`, the mean over all orders within groups.

    >>> tied_average_precision(np.array([1]), np.array([2]), total=1)  # first or second
    0.75
    """
    relevant, sizes = relevant[sizes > 0], sizes[sizes > 0]
    return float(_precisions(relevant, sizes).sum() / total)


def tied_average_precision_within(k: int, relevant: Counts, sizes: Counts) -> float:
    """`average_precision_within`, the mean over all orders within groups.

    Where k cuts a group in two, the divisor is a matter of chance as well: the mean is over how
    many of its relevant photos come before the cut, which is a hypergeometric distribution.

    >>> tied_average_precision_within(1, np.array([1]), np.array([2]))  # 1 or 0
    0.5
    """
    relevant, sizes = relevant[sizes > 0], sizes[sizes > 0]
    ends = np.cumsum(sizes)
    whole = int(np.searchsorted(ends, k, side="right"))  # groups before the cut
    before = int(relevant[:whole].sum())
    summed = float(_precisions(relevant[:whole], sizes[:whole]).sum())
    room = k - int(ends[whole - 1]) if whole else k
    if whole == len(sizes) or not room:
        return summed / before if before else 0.0
    found, chance = _drawn(int(sizes[whole]), int(relevant[whole]), room)
    cut = _precisions_in(found, np.full_like(found, room), k - room, before)
    return float((chance * (summed + cut) / np.maximum(before + found, 1)).sum())


def tied_precision_at(k: int, relevant: Counts, sizes: Counts) -> float:
    """`precision_at`, the mean over all orders within groups.

    >>> tied_precision_at(2, np.array([1, 1]), np.array([1, 4]))  # 1 and a quarter of 1
    0.625
    """
    return _found_within(k, relevant, sizes) / k


def tied_recall_at(k: int, relevant: Counts, sizes: Counts, total: int) -> float:
    """`recall_at`, the mean over all orders within groups.

    >>> tied_recall_at(2, np.array([1, 1]), np.array([1, 4]), total=5)
    0.25
    """
    return _found_within(k, relevant, sizes) / total


def _found_within(k: int, relevant: Counts, sizes: Counts) -> float:
    """How many relevant photos are among the first k, on average."""
    starts = np.cumsum(sizes) - sizes
    share = np.clip(k - starts, 0, sizes) / np.maximum(sizes, 1)
    return float((share * relevant).sum())


def _precisions(relevant: Counts, sizes: Counts) -> NDArray[np.float64]:
    """(g,): the sum of the precisions at the relevant ranks of each group, on average."""
    starts = np.cumsum(sizes) - sizes
    return _precisions_in(relevant, sizes, starts, np.cumsum(relevant) - relevant)


def _precisions_in(
    relevant: Counts, sizes: Counts, start: Counts | int, before: Counts | int
) -> NDArray[np.float64]:
    """The same of groups that begin after rank `start`, with `before` relevant photos until there.

    Each of the ranks j of a group holds a relevant photo with the chance relevant / size; if it
    does, the ranks before it in the group hold another one with the chance `other` each. So the sum
    is chance times the sum over j of (before + 1 + other (j - start - 1)) / j.
    """
    other = (relevant - 1) / np.maximum(sizes - 1, 1)
    reciprocals = _reciprocals(_power_of_two(int(np.max(start + sizes, initial=0))))
    between = reciprocals[start + sizes] - reciprocals[start]
    summed = (before + 1 - other * (start + 1)) * between + other * sizes
    return np.asarray(relevant / sizes * summed, np.float64)


def _drawn(size: int, relevant: int, room: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many of a group's relevant photos are among `room` of it taken blindly, and the chances.

    Both (m,): the hypergeometric distribution, where it is not 0.
    """
    logarithms = _log_factorials(_power_of_two(size))

    def choose(n: int, k: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(logarithms[n] - logarithms[k] - logarithms[n - k], np.float64)

    found = np.arange(max(0, room - (size - relevant)), min(relevant, room) + 1)
    chance = choose(relevant, found) + choose(size - relevant, room - found)
    chance = np.exp(chance - chance.max())
    return found, chance / chance.sum()


def _power_of_two(n: int) -> int:
    """One that is larger than n: so that the tables below are few."""
    return 1 << n.bit_length()


@lru_cache
def _reciprocals(n: int) -> NDArray[np.float64]:
    """(n + 1,): the sums 1/1 + ... + 1/i."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])


@lru_cache
def _log_factorials(n: int) -> NDArray[np.float64]:
    """(n + 1,): the logarithms of i!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
