"""Learning rates by hand, and updates as the papers write them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.errors import TrainingError
from retrieval.training.loop import _optimizer
from retrieval.training.recipes import (
    ADAM,
    ALEXNET,
    FAST,
    PRESETS,
    VGG,
    Recipe,
    is_finished,
    learning_rate,
    plateaus,
    recipe_for,
)


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        ([], 0),
        ([0.9, 0.8, 0.7], 0),
        ([0.9, 0.9], 0),
        ([0.9, 0.9, 0.9], 1),  # two epochs no better than the first
        ([0.5, 0.6, 0.4, 0.5, 0.45], 1),
        ([0.5, 0.6, 0.4, 0.5, 0.39], 0),
        ([0.5, 0.6, 0.6, 0.6, 0.6], 2),
        ([0.5, 0.6, 0.6, 0.4, 0.6, 0.6, 0.5, 0.41], 3),
    ],
)
def test_a_plateau_is_patience_without_a_new_best(errors: list[float], found: int) -> None:
    assert plateaus(errors, patience=2) == found


@pytest.mark.parametrize("recipe", [ALEXNET, VGG])
def test_the_papers_divide_the_rate_by_ten_three_times_and_stop(recipe: Recipe) -> None:
    stuck = [0.5] * 100
    rates = [learning_rate(recipe, stuck[:epoch], epoch) for epoch in range(21)]
    assert rates == pytest.approx([0.01] * 6 + [0.001] * 5 + [0.0001] * 5 + [0.00001] * 5)
    assert [is_finished(recipe, stuck[:n]) for n in (20, 21)] == [False, True]
    improving = [1 / (n + 1) for n in range(100)]
    assert learning_rate(recipe, improving[:50], 50) == 0.01
    assert is_finished(recipe, improving[: recipe.epochs])
    assert not is_finished(recipe, improving[: recipe.epochs - 1])


def test_one_cycle_rises_for_a_quarter_and_falls_to_nothing() -> None:
    recipe = Recipe(epochs=8, batch=1, optimizer="sgd", rate=0.4, schedule="cycle")
    rates = [learning_rate(recipe, [], done) for done in (0, 1, 2, 5, 8)]
    assert rates == pytest.approx([0.0, 0.2, 0.4, 0.2, 0.0])


def test_a_constant_rate_is_one() -> None:
    assert {learning_rate(ADAM, [0.5] * 3, done / 2) for done in range(10)} == {0.0005}


def test_the_presets_are_the_papers_numbers() -> None:
    assert (ALEXNET.batch, ALEXNET.momentum, ALEXNET.decay, ALEXNET.rate) == (128, 0.9, 5e-4, 0.01)
    assert (ALEXNET.epochs, ALEXNET.dropout, ALEXNET.colour, ALEXNET.mirror) == (90, 0.5, 0.1, True)
    assert (VGG.batch, VGG.epochs, VGG.scales) == (256, 74, (256, 256))
    assert PRESETS["vgg-jitter"].scales == (256, 512)


def test_small_photos_are_cropped_from_a_margin() -> None:
    for preset in ("fast", "alexnet", "vgg"):
        small = recipe_for(preset, 32)
        assert (small.view, small.margin) == ("frame", 4)
    assert recipe_for("adam", 32) == ADAM
    assert recipe_for("fast", 224, epochs=3, batch=8).epochs == 3
    with pytest.raises(TrainingError, match="choose one of fast"):
        recipe_for("slow", 224)


def test_steps_are_the_papers_update() -> None:
    """v = 0.9 v - 0.0005 e w - e g; w = w + v, written out in float64."""
    layer = torch.nn.Linear(5, 3)
    optimizer = _optimizer(layer, ALEXNET)
    chance = np.random.default_rng(0)
    slow = {name: (w.detach().double().numpy().copy(), 0.0) for name, w in layer.named_parameters()}
    for _ in range(4):
        for name, weights in layer.named_parameters():
            gradient = chance.standard_normal(tuple(weights.shape))
            weights.grad = torch.from_numpy(gradient).float()
            before, speed = slow[name]
            speed = 0.9 * speed - 0.0005 * 0.01 * before - 0.01 * gradient
            slow[name] = (before + speed, speed)
        optimizer.step()
    for name, weights in layer.named_parameters():
        assert weights.detach().numpy() == pytest.approx(slow[name][0], abs=1e-6)


def test_frozen_weights_are_not_updated() -> None:
    layer = torch.nn.Linear(5, 3)
    layer.bias.requires_grad_(False)
    (group,) = _optimizer(layer, FAST).param_groups
    assert len(group["params"]) == 1
