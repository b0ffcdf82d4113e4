"""The networks: their names, how to build them, and where each is cut to give FC7.

Most are torchvision's own, the others are in `retrieval.papers`. All have torchvision's children
`features`, `avgpool` and `classifier`, so that a state dict in torchvision's names fits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torchvision import models

from retrieval import papers
from retrieval.errors import WeightsError

# What all of them expect of their input: RGB in 0..1, less MEAN, divided by STD, per channel. On
# CIFAR-10 and other photos they are near enough to the photos' own.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

CLASSIFIER = 3  # where it begins in what `fc7_layers` gives: after features, pool and flattening
FC8 = "classifier.6"  # the last layer's name in every one of them


class _Network(NamedTuple):
    """How to make a network, and what goes in and out of it."""

    make: Callable[[int], nn.Module]  # from the number of classes
    side: int = 224  # of its input, in pixels
    fc7: int = 4096
    framing: str = "crop"


def _torchvisions(network: str, classes: int) -> nn.Module:
    module: nn.Module = models.get_model(network, num_classes=classes)
    return module


PUBLISHED = (  # those of torchvision, with weights trained on ImageNet
    "alexnet",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
)
_TABLE = {name: _Network(partial(_torchvisions, name)) for name in PUBLISHED} | {
    "alexnet-2012": _Network(papers.alexnet_2012),
    "alexnet-half": _Network(papers.alexnet_half, fc7=2048),
    "alexnet-cifar": _Network(papers.alexnet_cifar, side=32, fc7=2048, framing="squash"),
    "vgg11-lrn": _Network(papers.vgg11_lrn),
    "vgg16-c": _Network(papers.vgg16_c),
}
NETWORKS = tuple(_TABLE)


def check_network(network: str) -> None:
    """Raise WeightsError, naming the known networks, unless this is one of them."""
    if network not in NETWORKS:
        raise WeightsError(f"unknown network {network!r}: choose one of {', '.join(NETWORKS)}")


def input_side(network: str) -> int:
    """The side of the square photos that it takes, in pixels. Raises WeightsError if unknown."""
    check_network(network)
    return _TABLE[network].side


def fc7_size(network: str) -> int:
    """How many numbers its FC7 has. Raises WeightsError for an unknown network."""
    check_network(network)
    return _TABLE[network].fc7


def usual_framing(network: str) -> str:
    """How photos are framed for it, unless its weights say otherwise; raises WeightsError.

    Photos of 32 x 32 are the thing itself, filling the picture: none of it is cut off.
    """
    check_network(network)
    return _TABLE[network].framing


def normalisation(
    network: str,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(mean, standard deviation) per channel, of RGB in 0..1; raises WeightsError if unknown."""
    check_network(network)
    return MEAN, STD


def build(network: str, classes: int = 1000) -> nn.Module:
    """Build a network that has no numbers yet, in evaluation mode.

    Its parameters lie on torch's `meta` device: random ones for 60 to 140 million places would take
    seconds, only to be replaced by `load_state_dict(..., assign=True)`.

    classes: how many fc8 tells apart.
    Raises WeightsError for an unknown network.
    """
    check_network(network)
    with torch.device("meta"):
        module = _TABLE[network].make(classes)
    return module.eval()


def create(
    network: str, classes: int = 1000, generator: torch.Generator | None = None
) -> nn.Module:
    """Create a network to be trained: random numbers as its paper or torchvision has them.

    In training mode, float32, on the processor.

    classes: how many fc8 tells apart.
    generator: decides the numbers; None takes torch's own. The same one gives the same numbers.
    Raises WeightsError for an unknown network.
    """
    check_network(network)
    if generator is None:
        return _TABLE[network].make(classes).train()
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):  # the modules draw from torch's own generator
        torch.default_generator.manual_seed(seed)
        return _TABLE[network].make(classes).train()


def fc7_layers(module: nn.Module) -> tuple[nn.Sequential, nn.Module]:
    """Cut a network before its last layer: (pixels -> FC7 after its ReLU, FC7 -> logits of fc8).

    One after the other they are the network's forward pass in evaluation mode (dropout off), and
    they share its parameters.
    """
    features, pool = module.get_submodule("features"), module.get_submodule("avgpool")
    *hidden, fc8 = module.get_submodule("classifier").children()
    return nn.Sequential(features, pool, nn.Flatten(1), *hidden), fc8
