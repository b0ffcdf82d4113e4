"""retrieval.metrics against definitions written out slowly, and against published examples."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import metrics
from retrieval.metrics import average_precision, n_s_score, precision_at

ANSWERS = st.lists(st.booleans(), min_size=1, max_size=60)


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


def test_the_examples_in_the_docstrings_are_true() -> None:
    outcome = doctest.testmod(metrics)
    assert outcome.attempted >= 3
    assert outcome.failed == 0
