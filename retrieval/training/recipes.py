"""The recipes: each a handful of numbers, to be read beside its paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from retrieval.errors import TrainingError

_DROPS = 3  # how often the papers divide their learning rate before they stop
_SMALL = 64  # pixels: photos below have no margin to be cropped
_WARM_UP = 0.25  # of one cycle, rising


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained. All lengths are in pixels."""

    epochs: int  # at most; "plateau" may stop before
    batch: int  # photos a step, over all processes
    optimizer: Literal["sgd", "adam"]
    rate: float  # the learning rate at first, or at the height of the cycle
    schedule: Literal["plateau", "cycle", "constant"]
    momentum: float = 0.9  # Adam: its first beta
    nesterov: bool = False
    decay: float = 0.0  # of all weights and biases, added to the gradient
    patience: int = 5  # epochs without a better validation error that are a plateau
    smoothing: float = 0.0  # of labels
    dropout: float = 0.5  # in fc6 and fc7
    view: Literal["frame", "square", "scaled", "area"] = "frame"  # see `View`
    scales: tuple[int, int] = (256, 256)  # "scaled": S, the short side, from and to
    areas: tuple[float, float] = (1.0, 1.0)  # "area": share of the photo, from and to
    margin: int = 0  # mirrored around the photo before a crop of the same size
    mirror: bool = False  # every other photo
    colour: float = 0.0  # sigma of the noise along the principal colours


# Krizhevsky et al. (2012), section 5, and 4.1 for the photos. Nothing says how long the authors
# waited for the error to fall: they watched it.
ALEXNET = Recipe(
    epochs=90,
    batch=128,
    optimizer="sgd",
    rate=0.01,
    momentum=0.9,
    decay=0.0005,
    schedule="plateau",
    dropout=0.5,
    view="square",
    mirror=True,
    colour=0.1,
)

# Simonyan and Zisserman (2015), section 3.1. Deeper ones start from a trained A (`--from`).
VGG = Recipe(
    epochs=74,
    batch=256,
    optimizer="sgd",
    rate=0.01,
    momentum=0.9,
    decay=0.0005,
    schedule="plateau",
    dropout=0.5,
    view="scaled",
    scales=(256, 256),
    mirror=True,
    colour=0.1,
)
VGG_JITTER = replace(VGG, scales=(256, 512))

# Short: one cycle of the learning rate (Smith and Topin, 2018), Nesterov's momentum.
FAST = Recipe(
    epochs=30,
    batch=128,
    optimizer="sgd",
    rate=0.02,
    nesterov=True,
    decay=0.0005,
    schedule="cycle",
    smoothing=0.1,
    dropout=0.5,
    view="area",
    areas=(0.35, 1.0),
    mirror=True,
)

# To go on from trained weights: the same, gentler, and crops of squares that fit into memory.
TUNE = replace(FAST, epochs=5, rate=0.005, view="square", areas=(1.0, 1.0))

# What tutorials do, and the Keras walk-through of AlexNet on CIFAR-10 that docs/results.md names;
# but half of Adam's usual rate, which is too high for batches of 32.
ADAM = Recipe(epochs=5, batch=32, optimizer="adam", rate=0.0005, schedule="constant")

PRESETS = {
    "fast": FAST,
    "tune": TUNE,
    "alexnet": ALEXNET,
    "vgg": VGG,
    "vgg-jitter": VGG_JITTER,
    "adam": ADAM,
}


def recipe_for(
    preset: str, side: int, *, epochs: int | None = None, batch: int | None = None
) -> Recipe:
    """The recipe of a preset, fitted to a network that takes photos of side x side.

    Small photos (CIFAR-10) have nothing to be cropped from, so that 4 pixels are mirrored around
    them first. epochs, batch: instead of the recipe's own.

    Raises TrainingError for an unknown preset.
    """
    if preset not in PRESETS:
        raise TrainingError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    recipe = PRESETS[preset]
    if side < _SMALL and recipe.view != "frame":
        recipe = replace(recipe, view="frame", margin=side // 8)
    return replace(recipe, epochs=epochs or recipe.epochs, batch=batch or recipe.batch)


def learning_rate(recipe: Recipe, errors: Sequence[float], done: float) -> float:
    """The learning rate of a step.

    errors: validation errors of all epochs before this one.
    done: epochs so far with the part of this one, 0 <= done < recipe.epochs.
    """
    if recipe.schedule == "plateau":
        return recipe.rate / 10.0 ** plateaus(errors, recipe.patience)
    if recipe.schedule == "constant":
        return recipe.rate
    share = done / recipe.epochs
    return recipe.rate * min(share / _WARM_UP, (1 - share) / (1 - _WARM_UP))


def is_finished(recipe: Recipe, errors: Sequence[float]) -> bool:
    """Whether training ends after these epochs: there were enough, or a fourth plateau."""
    stopped = recipe.schedule == "plateau" and plateaus(errors, recipe.patience) > _DROPS
    return stopped or len(errors) >= recipe.epochs


def plateaus(errors: Sequence[float], patience: int) -> int:
    """Count how often the error stopped improving: `patience` epochs none of which was the best.

    >>> plateaus([0.9, 0.5, 0.6, 0.5, 0.4, 0.4, 0.4], patience=2)  # after .6, .5 and after .4, .4
    2
    """
    found, waited, best = 0, 0, float("inf")
    for error in errors:
        if error < best:
            best, waited = error, 0
        else:
            waited += 1
        if waited == patience:
            found, waited = found + 1, 0
    return found
