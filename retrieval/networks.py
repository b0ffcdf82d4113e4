"""The networks: their names, how to build them, and where each is cut to give FC7.

All are torchvision's own modules, so that any state dict in torchvision's names fits.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision import models

from retrieval.errors import WeightsError

NETWORKS = (
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
)

# What all of them expect of their input: RGB in 0..1, less MEAN, divided by STD, per channel.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

FC7_SIZE = 4096
CLASSIFIER = 3  # where it begins in what `fc7_layers` gives: after features, pool and flattening
FC8 = "classifier.6"  # the last layer's name in every one of them


def check_network(network: str) -> None:
    """Raise WeightsError, naming the known networks, unless this is one of them."""
    if network not in NETWORKS:
        raise WeightsError(f"unknown network {network!r}: choose one of {', '.join(NETWORKS)}")


def build(network: str, classes: int = 1000) -> nn.Module:
    """Build a network that has no numbers yet, in evaluation mode.

    Its parameters lie on torch's `meta` device: random ones for 60 to 140 million places would take
    seconds, only to be replaced by `load_state_dict(..., assign=True)`.

    classes: how many fc8 tells apart.
    Raises WeightsError for an unknown network.
    """
    check_network(network)
    with torch.device("meta"):
        module: nn.Module = models.get_model(network, num_classes=classes)
    return module.eval()


def fc7_layers(module: nn.Module) -> tuple[nn.Sequential, nn.Module]:
    """Cut a network before its last layer: (pixels -> FC7 after its ReLU, FC7 -> logits of fc8).

    One after the other they are the network's forward pass in evaluation mode (dropout off), and
    they share its parameters.
    """
    features, pool = module.get_submodule("features"), module.get_submodule("avgpool")
    *hidden, fc8 = module.get_submodule("classifier").children()
    return nn.Sequential(features, pool, nn.Flatten(1), *hidden), fc8
