"""What a network begins with: chance, trained weights, or a shallower network's layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from retrieval.download import Progress
from retrieval.errors import TrainingError
from retrieval.networks import FC8, create
from retrieval.training.runs import BEST
from retrieval.weights import LoadedWeights, load_weights, network_of

_SHALLOW_CONV = 4  # layers of net A that a deeper one begins with


def begin(
    network: str,
    classes: tuple[str, ...],
    *,
    seed: int,
    start: str | None,
    progress: Progress | None = None,
) -> nn.Module:
    """Create a network in training mode, float32, on the processor.

    start: "bundled", "imagenet", a file of weights or a run's folder; None: all by chance, which
    the seed decides. fc8 is taken over only where it knows the very same classes.

    Raises WeightsError if there are no such weights, TrainingError if they can't start this one.
    """
    module = create(network, len(classes), torch.Generator().manual_seed(seed))
    if start is None:
        return module
    other = network_of(start) or network
    loaded = load_weights(other, start, progress)
    if other == network:
        _take(module, loaded, classes)
    elif other.startswith("vgg") and network.startswith("vgg"):
        _take_shallow(module, loaded, classes)
    else:
        raise TrainingError(
            f"{start} is for {other}, and only a VGG network can begin with another's layers: use "
            f"--network {other}, or weights for {network}"
        )
    return module


def freeze_conv(module: nn.Module) -> None:
    """Leave the convolutional layers as they are, the statistics of their normalisations too.

    To be called again after each `train()`.
    """
    module.get_submodule("features").requires_grad_(False).eval()


def set_dropout(module: nn.Module, share: float) -> None:
    """Set how much of fc6 and fc7 is dropped."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = share


def _take(module: nn.Module, loaded: LoadedWeights, classes: tuple[str, ...]) -> None:
    taken = {
        name: tensor
        for name, tensor in loaded.state_dict.items()
        if loaded.classes == classes or not name.startswith(f"{FC8}.")
    }
    module.load_state_dict(taken, strict=False)


def _take_shallow(module: nn.Module, loaded: LoadedWeights, classes: tuple[str, ...]) -> None:
    """VGG, section 3.1: the first four convolutional layers and the fully connected ones of net A.

    Each goes where it was: its first four are conv1-1, 2-1, 3-1 and 3-2, the first of a block or
    the second, and only there their shapes fit a deeper network.
    """
    shallow = create(loaded.info.network, len(loaded.classes))
    shallow.load_state_dict(loaded.state_dict, strict=False)
    ours, theirs = _conv_places(module), _conv_places(shallow)
    for place in list(theirs)[:_SHALLOW_CONV]:
        for mine, learned in zip(ours[place], theirs[place], strict=False):
            mine.load_state_dict(learned.state_dict())
    fully_connected = {k: v for k, v in loaded.state_dict.items() if k.startswith("classifier.")}
    if loaded.classes != classes:
        fully_connected = {k: v for k, v in fully_connected.items() if not k.startswith(FC8)}
    module.load_state_dict(fully_connected, strict=False)


def _conv_places(module: nn.Module) -> dict[tuple[int, int], list[nn.Module]]:
    """(block, place in it) -> a convolution, and its normalisation if it has one."""
    block, place = 1, 0
    places: dict[tuple[int, int], list[nn.Module]] = {}
    for layer in module.get_submodule("features").children():
        if isinstance(layer, nn.MaxPool2d):
            block, place = block + 1, 0
        elif isinstance(layer, nn.Conv2d):
            place += 1
            places[block, place] = [layer]
        elif isinstance(layer, nn.BatchNorm2d):
            places[block, place].append(layer)
    return places
