"""retrieval.evaluation against slow loops, and on real photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import evaluation
from retrieval.errors import EvaluationError
from retrieval.evaluation import Skip, evaluate_retrieval, rank_by_distance, score_exact
from retrieval.extractor import Extractor

Draw = Callable[..., Path]


@pytest.fixture(scope="module")
def alexnet() -> Extractor:
    return Extractor("alexnet", "bundled", "cpu")


@pytest.fixture
def drawn(tmp_path: Path, draw: Draw) -> Path:
    """Three groups: two alike of red, three of blue, one green alone."""
    folder = tmp_path / "photos"
    for label, seeds in {"red": (1, 1), "blue": (2, 2, 2), "green": (3,)}.items():
        for index, seed in enumerate(seeds):
            draw(folder / label / f"{index}.png", seed, (320 + 8 * index, 240))
    return folder


# Arrays


def slow_scores(fc7: list[list[float]], labels: list[int]) -> tuple[float, float, float]:
    """mAP, precision@10 and N-S by plain loops; the query stands first for N-S."""
    precisions, tens, fours = [], [], []
    for query, label in enumerate(labels):
        if labels.count(label) < 2:
            continue
        distances = sorted(
            (sum((a - b) ** 2 for a, b in zip(fc7[query], fc7[other], strict=True)), other)
            for other in range(len(labels))
            if other != query
        )
        answer = [labels[other] == label for _, other in distances]
        hits = [sum(answer[:rank]) / rank for rank in range(1, len(answer) + 1) if answer[rank - 1]]
        precisions.append(sum(hits) / (labels.count(label) - 1))
        tens.append(sum(answer[:10]) / 10)
        fours.append(sum([True, *answer][:4]))
    return tuple(sum(values) / len(values) for values in (precisions, tens, fours))  # type: ignore[return-value]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(4, 40), st.integers(1, 6))
def test_exact_figures_are_those_of_plain_loops(seed: int, n: int, kinds: int) -> None:
    generator = np.random.default_rng(seed)
    fc7 = generator.integers(0, 3, (n, 5)).astype(np.float32)  # whole numbers: exact, many ties
    labels = generator.integers(0, kinds, n)
    labels[:2] = 0
    figures = score_exact(fc7, labels)
    expected = slow_scores(fc7.tolist(), labels.tolist())
    assert (
        figures.mean_average_precision,
        figures.precision_at_10,
        figures.n_s,
    ) == pytest.approx(expected)


def test_ranking_in_blocks_is_ranking_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fc7 = np.random.default_rng(0).integers(0, 9, (50, 8)).astype(np.float32)
    at_once = [order.tolist() for order in rank_by_distance(fc7)]
    monkeypatch.setattr(evaluation, "_BLOCK", 7)
    assert [order.tolist() for order in rank_by_distance(fc7)] == at_once
    assert all(sorted([*order, query]) == list(range(50)) for query, order in enumerate(at_once))


def test_groups_far_apart_score_full_marks() -> None:
    fc7 = np.repeat(np.eye(6, dtype=np.float32), 4, axis=0)
    figures = score_exact(fc7, np.repeat(np.arange(6), 4))
    assert figures.mean_average_precision == pytest.approx(1.0)
    assert figures.precision_at_10 == pytest.approx(0.3)  # three of ten can be relevant
    assert figures.n_s == pytest.approx(4.0)


# Folders and CSV files


def test_folders_are_labels(drawn: Path, alexnet: Extractor) -> None:
    (drawn / "blue" / "notes.txt").write_text("not a photo")
    (drawn / "cover.png").write_bytes((drawn / "red" / "0.png").read_bytes())
    (drawn / "red" / ".hidden.png").write_bytes(b"")
    told: list[tuple[int, int]] = []
    figures = evaluate_retrieval(
        drawn, "folder", alexnet, lambda done, total: told.append((done, total))
    )
    assert (figures.photos, figures.queries, figures.without_relevant, figures.labels) == (
        6,
        5,
        1,
        3,
    )
    assert figures.skipped == (
        Skip("cover.png", "no label (not in a subfolder)"),
        Skip("blue/notes.txt", "not an image"),
    )
    assert told[-1] == (7, 7)
    assert figures.exact.mean_average_precision == pytest.approx(1.0)
    assert figures.exact.precision_at_10 == pytest.approx((2 * 0.1 + 3 * 0.2) / 5)
    assert figures.exact.n_s == pytest.approx((2 * 2 + 3 * 3) / 5)


def test_a_csv_of_the_same_labels_gives_the_same_figures(
    drawn: Path, alexnet: Extractor, tmp_path: Path
) -> None:
    lines = ["path,label"]
    for path in sorted(drawn.rglob("*.png")):
        lines.append(f"{path.relative_to(drawn).as_posix()},{path.parent.name}")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join([*lines, "red/gone.png,red"]), encoding="utf-8-sig")
    by_csv = evaluate_retrieval(drawn, labels, alexnet).summary()
    by_folder = evaluate_retrieval(drawn, "folder", alexnet).summary()
    (skip,) = by_csv.pop("skipped")  # type: ignore[misc]
    assert skip["path"] == "red/gone.png"
    assert by_folder.pop("skipped") == []
    assert by_csv == by_folder
    assert by_csv["exact"].keys() == {"mAP", "precision@10", "n_s"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must begin with a line that names the columns path,label; it has nothing"),
        ("file,class\na.png,x\n", "it has file,class"),
        ("path,label\nred/0.png\n", "line 2: path or label is empty"),
        ("path,label\n../secret.png,x\n", "leaves the folder"),
        ("path,label\nred/../../x.png,x\n", "leaves the folder"),
        ("path,label\n/etc/passwd,x\n", "leaves the folder"),
        ("path,label\nred/0.png,a\nred/./0.png,a\n", r"lists red/0\.png twice"),
        ('path,label\n"red/0.png,a\n', "can't be read as CSV"),
        ("path,label\nred/0.png,a\nred/1.png,b\n", "nothing to measure"),
        ("path,label\n", "nothing to measure"),
    ],
)
def test_ground_truth_that_makes_no_sense_is_refused(
    text: str, complaint: str, drawn: Path, alexnet: Extractor, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    with pytest.raises(EvaluationError, match=complaint):
        evaluate_retrieval(drawn, labels, alexnet)


def test_missing_folders_and_files_are_refused(
    drawn: Path, alexnet: Extractor, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="no folder"):
        evaluate_retrieval(tmp_path / "nowhere", "folder", alexnet)
    with pytest.raises(EvaluationError, match="can't be read as CSV"):
        evaluate_retrieval(drawn, tmp_path / "nowhere.csv", alexnet)


def test_the_sample_photos_find_their_own_kind(gallery: Path, alexnet: Extractor) -> None:
    figures = evaluate_retrieval(gallery, "folder", alexnet)
    assert figures.exact.mean_average_precision > 0.7  # a network of random numbers: 0.3
    assert [skip.path for skip in figures.skipped] == ["SOURCES.md"]
