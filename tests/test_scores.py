"""retrieval.scores against slow loops and random orders of ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import metrics, scores
from retrieval.scores import (
    SHORTLISTS,
    Asked,
    rank_by_distance,
    score_codes,
    score_exact,
)

Rows = list[list[float]]


def all_ask(labels: np.ndarray) -> list[Asked]:
    """Each photo asks for the others of its label; those that are alone don't."""
    queries = [
        Asked(row, np.flatnonzero(labels == label), np.array([row]))
        for row, label in enumerate(labels)
    ]
    return [query for query in queries if query.total]


def slow_scores(fc7: Rows, photos: int, asked: list[Asked]) -> list[float]:
    """mAP, mAP@1000, precision@10, recall@10 and N-S by plain loops."""
    sums = [0.0] * 5
    for query in asked:
        own, gone = fc7[query.row], set(query.left_out.tolist())
        wanted = set(query.group.tolist()) - gone
        order = sorted(
            (sum((a - b) ** 2 for a, b in zip(own, fc7[other], strict=True)), other)
            for other in range(photos)
            if other not in gone
        )
        answer = [other in wanted for _, other in order]
        hits = [sum(answer[:rank]) / rank for rank in range(1, len(answer) + 1) if answer[rank - 1]]
        whole = query.row < photos  # else it is a part of a photo that is in the gallery
        for place, figure in enumerate(
            (
                sum(hits) / len(wanted),
                sum(hits) / len(hits),
                sum(answer[:10]) / 10,
                sum(answer[:10]) / len(wanted),
                sum(([True] if whole else []) + answer[: 3 if whole else 4]),
            )
        ):
            sums[place] += figure / len(asked)
    return sums


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(4, 40), st.integers(1, 6))
def test_exact_figures_are_those_of_plain_loops(seed: int, n: int, kinds: int) -> None:
    generator = np.random.default_rng(seed)
    fc7 = generator.integers(0, 3, (n, 5)).astype(np.float32)  # whole numbers: exact, many ties
    labels = generator.integers(0, kinds, n)
    labels[:2] = 0
    asked = all_ask(labels)
    figures, nearest = score_exact(fc7, n, asked)
    expected = slow_scores(fc7.tolist(), n, asked)
    assert [getattr(figures, name) for name in figures.__slots__] == pytest.approx(expected)
    assert [len(ten) for ten in nearest] == [min(10, n - 1)] * len(asked)


def test_parts_of_photos_and_junk_are_those_of_plain_loops() -> None:
    generator = np.random.default_rng(1)
    fc7 = generator.integers(0, 4, (45, 6)).astype(np.float32)
    asked = [
        Asked(row, generator.permutation(40)[:8], generator.permutation(40)[:5])
        for row in range(40, 45)
    ]
    figures, _ = score_exact(fc7, 40, asked)
    expected = slow_scores(fc7.tolist(), 40, asked)
    assert [getattr(figures, name) for name in figures.__slots__] == pytest.approx(expected)


def test_ranking_in_blocks_is_ranking_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fc7 = np.random.default_rng(0).integers(0, 9, (50, 8)).astype(np.float32)
    rows = np.arange(50)
    at_once = [order.tolist() for order in rank_by_distance(fc7, 45, rows)]
    monkeypatch.setattr(scores, "_BLOCK", 7)
    assert [order.tolist() for order in rank_by_distance(fc7, 45, rows)] == at_once
    assert all(sorted(order) == list(range(45)) for order in at_once)


def test_groups_far_apart_score_full_marks() -> None:
    fc7 = np.repeat(np.eye(6, dtype=np.float32), 4, axis=0)
    asked = all_ask(np.repeat(np.arange(6), 4))
    figures, nearest = score_exact(fc7, 24, asked)
    assert figures.mean_average_precision == pytest.approx(1.0)
    assert figures.mean_average_precision_at_1000 == pytest.approx(1.0)
    assert figures.precision_at_10 == pytest.approx(0.3)  # three of ten can be relevant
    assert figures.recall_at_10 == pytest.approx(1.0)
    assert figures.n_s == pytest.approx(4.0)
    codes = np.repeat(np.array([[0], [1], [2], [4], [8], [16]], np.uint8), 4, axis=0)
    coded = score_codes(codes, 24, asked, nearest)
    assert coded.mean_average_precision == pytest.approx(1.0)
    assert coded.recalls[SHORTLISTS.index(25)] == coded.reranked_recall == pytest.approx(1.0)


# Codes


def of_codes(bits: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Descriptors, labels, and codes so short that most distances tie."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 5, n)
    fc7 = (generator.normal(size=(n, 12)) + 2 * np.eye(5, 12)[labels]).astype(np.float32)
    return fc7, labels, np.packbits(fc7[:, :bits] > 0.5, axis=1)


def test_figures_of_codes_do_not_move_when_the_gallery_is_shuffled() -> None:
    fc7, labels, codes = of_codes(8, 120, 0)
    asked = all_ask(labels)
    first = score_codes(codes, 120, asked, score_exact(fc7, 120, asked)[1])
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(120)
        asked = all_ask(labels[order])
        again = score_codes(codes[order], 120, asked, score_exact(fc7[order], 120, asked)[1])
        assert again.mean_average_precision == pytest.approx(first.mean_average_precision)
        assert again.mean_average_precision_at_1000 == pytest.approx(
            first.mean_average_precision_at_1000
        )
        assert again.precision_at_10 == pytest.approx(first.precision_at_10)
        assert again.recalls == pytest.approx(first.recalls)
        assert again.reranked_recall == pytest.approx(first.reranked_recall)


def test_figures_of_codes_are_the_mean_of_many_random_orders() -> None:
    fc7, labels, codes = of_codes(8, 60, 1)
    asked = all_ask(labels)
    _, nearest = score_exact(fc7, 60, asked)
    figures = score_codes(codes, 60, asked, nearest)
    bits = np.unpackbits(codes, axis=1)
    generator = np.random.default_rng(2)
    draws = np.zeros((200, 3))
    for draw in draws:
        for query, ten in zip(asked, nearest, strict=True):
            answered, mine = query.masks(60)
            distances = (bits != bits[query.row]).sum(axis=1)
            order = np.lexsort((generator.random(60), distances))
            answer = order[answered[order]]
            draw += [
                metrics.average_precision(mine[answer], query.total) / len(asked),
                metrics.precision_at(10, mine[answer]) / len(asked),
                np.isin(answer[:25], ten).sum() / 10 / len(asked),
            ]
    wanted = (
        figures.mean_average_precision,
        figures.precision_at_10,
        figures.recalls[SHORTLISTS.index(25)],
    )
    error = 4 * draws.std(axis=0) / len(draws) ** 0.5
    assert (np.abs(draws.mean(axis=0) - wanted) < error).all()


def test_re_ranking_a_shortlist_answers_what_the_shortlist_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By search itself: the shortlist by code, ordered by descriptor, its first ten."""
    monkeypatch.setattr(scores, "SHORTLIST", 30)
    generator = np.random.default_rng(3)
    fc7 = generator.normal(size=(90, 16)).astype(np.float32)
    codes = np.packbits(fc7 > 0, axis=1)
    asked = all_ask(np.zeros(90, int))
    _, nearest = score_exact(fc7, 90, asked)
    figures = score_codes(codes, 90, asked, nearest)
    bits = np.unpackbits(codes, axis=1)
    share = 0.0
    draws = 40
    for _ in range(draws):
        for query, ten in zip(asked, nearest, strict=True):
            distances = (bits != bits[query.row]).sum(axis=1)
            order = np.lexsort((generator.random(90), distances))
            shortlist = order[order != query.row][:30]
            exact = ((fc7[shortlist] - fc7[query.row]) ** 2).sum(axis=1)
            answer = shortlist[np.argsort(exact)][:10]
            share += np.isin(answer, ten).mean() / len(asked) / draws
    assert figures.reranked_recall == pytest.approx(share, abs=0.01)
