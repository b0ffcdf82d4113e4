"""retrieval.metrics against definitions written out slowly, and against published examples."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import metrics
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

ANSWERS = st.lists(st.booleans(), min_size=1, max_size=60)
GROUPS = st.lists(st.lists(st.booleans(), max_size=4), min_size=1, max_size=3)


def slow_average_precision(relevant: list[bool], total: int) -> float:
    found, precisions = 0, []
    for rank, hit in enumerate(relevant, 1):
        if hit:
            found += 1
            precisions.append(found / rank)
    return sum(precisions) / total


@given(ANSWERS, st.integers(1, 20))
def test_average_precision_is_its_definition(relevant: list[bool], missing: int) -> None:
    total = sum(relevant) + missing
    expected = slow_average_precision(relevant, total)
    assert average_precision(np.array(relevant), total) == pytest.approx(expected)


@given(st.integers(1, 30), st.integers(0, 30))
def test_a_perfect_answer_has_average_precision_one(relevant: int, others: int) -> None:
    answer = np.array([True] * relevant + [False] * others)
    assert average_precision(answer, relevant) == pytest.approx(1.0)


def test_an_answer_without_relevant_photos_has_average_precision_zero() -> None:
    assert average_precision(np.zeros(5, bool), 3) == 0.0


@given(ANSWERS, st.integers(1, 80))
def test_precision_at_k_divides_by_k(relevant: list[bool], k: int) -> None:
    assert precision_at(k, np.array(relevant)) == pytest.approx(sum(relevant[:k]) / k)


@given(ANSWERS, st.integers(0, 20), st.integers(1, 80))
def test_recall_at_k_divides_by_all_relevant(relevant: list[bool], missing: int, k: int) -> None:
    total = sum(relevant) + missing or 1
    assert recall_at(k, np.array(relevant), total) == pytest.approx(sum(relevant[:k]) / total)


@given(ANSWERS, st.integers(1, 80))
def test_average_precision_within_k_divides_by_what_it_found(relevant: list[bool], k: int) -> None:
    found = sum(relevant[:k])
    expected = slow_average_precision(relevant[:k], found) if found else 0.0
    assert average_precision_within(k, np.array(relevant)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("relevant", "score"),
    [
        ([True, True, True, False], 4.0),
        ([False, False, False, True], 1.0),
        ([False, True, True, True], 3.0),
        ([True], 2.0),
    ],
)
def test_n_s_counts_the_query_among_the_first_four(relevant: list[bool], score: float) -> None:
    assert n_s_score(np.array(relevant)) == score


# Under ties


def mean_over_orders(groups: list[list[bool]], figure: Callable[[np.ndarray], float]) -> float:
    """The definition: every order within every group, each as likely as the others."""
    orders = product(*(list(permutations(group)) for group in groups))
    answers = [np.array([hit for group in order for hit in group], bool) for order in orders]
    return sum(figure(answer) for answer in answers) / len(answers)


def counted(groups: list[list[bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([sum(group) for group in groups]), np.array([len(group) for group in groups])


@settings(max_examples=150)
@given(GROUPS, st.integers(0, 3), st.integers(1, 13))
def test_figures_under_ties_are_means_over_all_orders(
    groups: list[list[bool]], missing: int, k: int
) -> None:
    relevant, sizes = counted(groups)
    total = int(relevant.sum()) + missing or 1
    for tied, expected in (
        (
            tied_average_precision(relevant, sizes, total),
            mean_over_orders(groups, lambda answer: average_precision(answer, total)),
        ),
        (
            tied_average_precision_within(k, relevant, sizes),
            mean_over_orders(groups, lambda answer: average_precision_within(k, answer)),
        ),
        (
            tied_precision_at(k, relevant, sizes),
            mean_over_orders(groups, lambda answer: precision_at(k, answer)),
        ),
        (
            tied_recall_at(k, relevant, sizes, total),
            mean_over_orders(groups, lambda answer: recall_at(k, answer, total)),
        ),
    ):
        assert tied == pytest.approx(expected)


@given(ANSWERS, st.integers(1, 80))
def test_without_ties_they_are_the_plain_figures(relevant: list[bool], k: int) -> None:
    answer, sizes = np.array(relevant), np.ones(len(relevant), int)
    counts, total = answer.astype(int), sum(relevant) or 1
    assert tied_average_precision(counts, sizes, total) == pytest.approx(
        average_precision(answer, total)
    )
    assert tied_average_precision_within(k, counts, sizes) == pytest.approx(
        average_precision_within(k, answer)
    )
    assert tied_precision_at(k, counts, sizes) == pytest.approx(precision_at(k, answer))
    assert tied_recall_at(k, counts, sizes, total) == pytest.approx(recall_at(k, answer, total))


def test_large_groups_agree_with_many_random_orders() -> None:
    generator = np.random.default_rng(0)
    sizes, relevant = np.array([40, 0, 3000, 5000]), np.array([9, 0, 600, 100])
    within, whole = [], []
    for _ in range(400):
        answer = np.concatenate(
            [generator.permutation(np.arange(n) < m) for n, m in zip(sizes, relevant, strict=True)]
        )
        within.append(average_precision_within(1000, answer))
        whole.append(average_precision(answer, 709))
    for tied, orders in (
        (tied_average_precision_within(1000, relevant, sizes), within),
        (tied_average_precision(relevant, sizes, 709), whole),
    ):
        assert tied == pytest.approx(np.mean(orders), abs=4 * np.std(orders) / 400**0.5)


def test_the_examples_in_the_docstrings_are_true() -> None:
    outcome = doctest.testmod(metrics)
    assert outcome.attempted >= 9
    assert outcome.failed == 0
