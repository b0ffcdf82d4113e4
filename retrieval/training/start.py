"""What a network begins with: chance, trained weights, or a shallower network's layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retrieval.download import Progress
from retrieval.errors import TrainingError
from retrieval.networks import FC8, build, create
from retrieval.weights import load_weights, network_of

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
    other = network_of(start, otherwise=network)
    loaded = load_weights(other, start, progress)
    known = {
        name: tensor
        for name, tensor in loaded.state_dict.items()
        if loaded.classes == classes or not name.startswith(f"{FC8}.")
    }
    if other == network:
        module.load_state_dict(known, strict=False)  # BatchNorm's counters may be missing
    elif other.startswith("vgg") and network.startswith("vgg"):
        take_shallow(module, build(other, len(loaded.classes)), known)
    else:
        raise TrainingError(
            f"{start} is for {other}, and only a VGG network can begin with another's layers: use "
            f"--network {other}, or weights for {network}"
        )
    return module


def take_shallow(deep: nn.Module, shallow: nn.Module, known: dict[str, Tensor]) -> None:
    """VGG, section 3.1: begin with the first four convolutional layers and the fully connected ones
    of a shallower network, such as A.

    Each goes where it was: A's first four are conv1-1, 2-1, 3-1 and 3-2, the first of a block or
    the second, and only there their shapes fit a deeper network.

    shallow: only its shape counts. known: its numbers; what is missing stays as it is in `deep`.
    """
    ours, theirs = _conv_places(deep), _conv_places(shallow)
    taken = {name: tensor for name, tensor in known.items() if name.startswith("classifier.")}
    for place in list(theirs)[:_SHALLOW_CONV]:
        for mine, learned in zip(ours[place], theirs[place], strict=False):
            for name, tensor in known.items():
                if name.startswith(f"{learned}."):
                    taken[f"{mine}.{name.removeprefix(f'{learned}.')}"] = tensor
    deep.load_state_dict(taken, strict=False)


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


def _conv_places(module: nn.Module) -> dict[tuple[int, int], list[str]]:
    """(block, place in it) -> a convolution's name, and its normalisation's if it has one."""
    block, place = 1, 0
    places: dict[tuple[int, int], list[str]] = {}
    for name, layer in module.get_submodule("features").named_children():
        if isinstance(layer, nn.MaxPool2d):
            block, place = block + 1, 0
        elif isinstance(layer, nn.Conv2d):
            place += 1
            places[block, place] = [f"features.{name}"]
        elif isinstance(layer, nn.BatchNorm2d):
            places[block, place].append(f"features.{name}")
    return places
