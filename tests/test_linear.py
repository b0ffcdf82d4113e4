"""retrieval.training.linear: drawn data whose answer is known, and an optimum checked by numpy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.errors import EvaluationError
from retrieval.extractor import Extractor
from retrieval.training import linear
from retrieval.training.linear import draw_split, evaluate_linear, learn_linear, try_split
from ui.cli import main

Draw = Callable[..., Path]


def drawn(
    classes: int, each: int, spread: float, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Points around `classes` places on the unit sphere of 20 dimensions, in mixed order."""
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(classes, 20))
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    labels = rng.permutation(np.repeat(np.arange(classes), each))
    points = middles[labels] + spread * rng.normal(size=(len(labels), 20))
    return points.astype(np.float32), labels


def test_separable_classes_are_told_apart_without_an_error() -> None:
    rows, labels = drawn(classes=6, each=40, spread=0.05)
    assert try_split(rows, labels, train=10, seed=0).accuracy == 1.0


def test_labels_that_mean_nothing_are_not_learned() -> None:
    rows, _ = drawn(classes=1, each=400, spread=1.0)
    labels = np.arange(400) % 4
    assert 0.1 < try_split(rows, labels, train=50, seed=0).accuracy < 0.4


def test_a_split_draws_so_many_of_each_class_and_tests_at_most_fifty_others() -> None:
    labels = np.repeat(np.arange(3), [31, 60, 200])
    learn, test = draw_split(labels, 30, seed=1)
    assert np.bincount(labels[learn]).tolist() == [30, 30, 30]
    assert np.bincount(labels[test]).tolist() == [1, 30, 50]
    assert not {*learn.tolist()} & {*test.tolist()}
    assert len({*learn.tolist(), *test.tolist()}) == len(learn) + len(test)
    again, other = draw_split(labels, 30, seed=1), draw_split(labels, 30, seed=2)
    assert (again[0] == learn).all()
    assert (other[0] != learn).any()


def test_what_is_tested_has_no_part_in_learning() -> None:
    rows, labels = drawn(classes=4, each=30, spread=0.4)
    learn, test = draw_split(labels, 10, seed=0)
    spoiled = rows.copy()
    spoiled[test] = 1e3
    one, two = (learn_linear(x[learn], labels[learn]) for x in (rows, spoiled))
    assert (one.weights == two.weights).all()
    assert one.strength == two.strength


def test_the_solution_is_the_minimum_of_the_penalised_cross_entropy() -> None:
    rows, labels = drawn(classes=3, each=20, spread=0.6)
    found = learn_linear(rows, labels)
    centred = rows - rows.mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=1).mean())  # the penalty is on weights of scaled rows
    weights, rows = found.weights * scale, centred / scale

    def value(weights: NDArray[np.float64], bias: NDArray[np.float64]) -> float:
        scores = rows @ weights + bias
        top = scores.max(axis=1, keepdims=True)
        logs = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        own = logs[np.arange(len(labels)), labels]
        return float(-own.mean() + found.strength / 2 * (weights**2).sum())

    least = value(weights.astype(float), found.bias.astype(float))
    rng = np.random.default_rng(0)
    for _ in range(50):
        aside = rng.normal(size=weights.shape), rng.normal(size=found.bias.shape)
        for size in (0.03, 0.3):
            moved = value(weights + size * aside[0], found.bias + size * aside[1])
            assert moved > least - 1e-6


def test_the_penalty_is_chosen_by_what_is_held_out() -> None:
    """Far more dimensions than photos and much noise ask for a strong one; clean rows don't."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    noise = rng.normal(size=(60, 300)).astype(np.float32)
    noise[:, 0] += 3 * labels
    assert learn_linear(noise, labels).strength == max(linear.STRENGTHS)


# Photos


@pytest.fixture
def folders(tmp_path: Path, draw: Draw) -> Path:
    """Three classes of six photos, each class one drawing at several sizes, and clutter."""
    for place, name in enumerate(("ant", "bee", "cow", "BACKGROUND_Google")):
        for index in range(6):
            draw(tmp_path / "photos" / name / f"{index}.png", 7 * place, (300 + 9 * index, 240))
    return tmp_path / "photos"


def test_folders_are_learned_and_clutter_is_left_out(folders: Path, extractor: Extractor) -> None:
    (folders / "ant" / "notes.txt").write_text("no photo")
    told: list[tuple[str, int, int]] = []
    figures = evaluate_linear(
        folders, extractor, train=3, splits=2, progress=lambda *at: told.append(at)
    )
    assert (figures.photos, figures.classes) == (18, 3)
    assert [skip.path for skip in figures.skipped] == ["ant/notes.txt"]
    assert (figures.mean, figures.deviation) == (1.0, 0.0)
    assert told[-1] == ("splits", 2, 2)


def test_the_command_prints_every_split(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", "linear", "--data", str(folders), "--train", "3", "--splits", "2"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"alexnet, bundled weights, {folders}: 18 photos, 3 classes"
    assert [line.split()[:2] for line in lines[3:]] == [
        ["0", "1.0000"], ["1", "1.0000"], ["mean", "1.0000"]
    ]  # fmt: skip
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["mean_class_accuracy"], answer["deviation"]) == (1.0, 0.0)
    assert [split["accuracy"] for split in answer["splits"]] == [1.0, 1.0]


def test_too_few_photos_are_told_in_a_line(folders: Path, extractor: Extractor) -> None:
    for photo in list((folders / "bee").iterdir())[:2]:
        photo.unlink()
    with pytest.raises(EvaluationError, match="bee has 4 photos, none to test after 4"):
        evaluate_linear(folders, extractor, train=4)
    with pytest.raises(EvaluationError, match="2 training photos a class are too few"):
        evaluate_linear(folders, extractor, train=2)
    with pytest.raises(EvaluationError, match="no two class folders"):
        evaluate_linear(folders / "ant", extractor)
    with pytest.raises(EvaluationError, match="no folder"):
        evaluate_linear(folders / "gone", extractor)
