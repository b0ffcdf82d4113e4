"""The small runs behind docs/results.md: what they count, on drawn photos, easy or hopeless."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from retrieval.training import claims
from retrieval.training.claims import PLAIN, Squares, Variant, error_after, steps_to_goal
from ui.cli import main


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BATCH", 16)
    monkeypatch.setattr(claims, "_WINDOW", 5)
    monkeypatch.setattr(claims, "_LONGEST", 10)


def plain_colours(count: int, classes: int = 10) -> Squares:
    """Each class is a colour: learned in a few steps."""
    labels = np.arange(count) % classes
    colours = np.random.default_rng(0).integers(0, 256, (classes, 3), np.uint8)
    return Squares(np.tile(colours[labels][:, None, None], (1, 32, 32, 1)), labels)


def test_easy_photos_are_learned_and_told_in_steps() -> None:
    train = plain_colours(64, classes=2)
    plain = Variant("ReLU", start="even")
    steps = steps_to_goal(plain, train, 0.02, seed=0)
    assert 5 <= steps <= 40
    assert steps == steps_to_goal(plain, train, 0.02, seed=0)
    normalised = Variant("response normalisation", normalised=True, start="even")
    assert error_after(normalised, train, plain_colours(20, classes=2), epochs=8, seed=0) < 0.3


def test_what_is_never_learned_takes_for_ever() -> None:
    train = plain_colours(64)
    by_chance = np.random.default_rng(1).permutation(train.labels)
    assert math.isinf(steps_to_goal(PLAIN, Squares(train.pixels, by_chance), 0.001, seed=0))
    assert math.isinf(steps_to_goal(PLAIN, train, 1e9, seed=0))  # the loss runs over


def test_the_command_tells_every_variant(
    draw: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "_LONGEST", 1)
    monkeypatch.setattr(claims, "RATES", (0.01,))
    for i in range(80):
        split = "train" if i % 2 else "test"
        draw(tmp_path / split / f"{i // 2 % 10}" / f"{i}.png", i // 2 % 10, (32, 32))
    command = ["bench", "claims", "--data", str(tmp_path), "--epochs", "1", "--seeds", "2"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["speeds"]] == [
        "ReLU",
        "tanh",
        "ReLU, even start",
        "tanh, even start",
    ]
    assert [len(one["top1"]) for one in told["errors"]] == [2, 2, 2]
    assert told["photos"] == 40
    assert main(command) == 0
    assert "pooling 2/2" in capsys.readouterr().out
