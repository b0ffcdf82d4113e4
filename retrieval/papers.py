"""The two papers' own networks that torchvision lacks.

Krizhevsky, Sutskever and Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*
(2012), "AlexNet" below, and Simonyan and Zisserman, *Very Deep Convolutional Networks for
Large-Scale Image Recognition* (2015), "VGG". Each is a module with torchvision's children
`features`, `avgpool` and `classifier`, and starts from random numbers as its paper says.

torchvision's `alexnet` is not AlexNet of 2012 but the one column of Krizhevsky's *One weird trick*
(2014): 64-192-384-256-256 kernels, no groups, no response normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision import models

Layer = nn.Conv2d | nn.Linear
_COLUMN = (48, 128, 192, 192, 128)  # kernels of conv1 to conv5 on each of the paper's two GPUs

# VGG's Table 1. A number is that many 3 x 3 kernels and a ReLU, 256x1 so many of 1 x 1.
_VGG_A_LRN = "64 lrn pool 128 pool 256 256 pool 512 512 pool 512 512 pool"
_VGG_C = "64 64 pool 128 128 pool 256 256 256x1 pool 512 512 512x1 pool 512 512 512x1 pool"


class ResponseNorm(nn.Module):
    """AlexNet's section 3.3: an activation is damped by those of neighbouring kernels there.

        b_i = a_i / (k + alpha * sum of a_j squared, j from i - n/2 to i + n/2) ** beta

    k = 2, n = 5, alpha = 1e-4, beta = 0.75; the first and the last kernels have fewer neighbours.
    VGG's A-LRN takes the same numbers. This alpha is the paper's: PyTorch's LocalResponseNorm (like
    Caffe) divides the one it is given by n, and would need 5e-4.
    """

    def forward(self, a: Tensor) -> Tensor:
        """(n, kernels, h, w) -> the same shape and type."""
        kernels = torch.arange(a.shape[1], device=a.device)
        near = ((kernels[:, None] - kernels).abs() <= 5 // 2).float()
        # As a 1 x 1 convolution the sum takes half the time that LocalResponseNorm does. Always in
        # full precision: in half, the square of anything beyond 255 is infinite.
        with torch.autocast("cuda" if a.is_cuda else "cpu", enabled=False):
            sums = nn.functional.conv2d(a.float().square(), near[:, :, None, None])
            return (a * (2 + 1e-4 * sums).pow(-0.75)).to(a.dtype)


class AlexNet(nn.Module):
    """Five convolutional layers and three fully connected ones, under torchvision's names."""

    def __init__(self, features: nn.Sequential, grid: int, classifier: nn.Sequential) -> None:
        """grid: the side of pool5, at the side of input that the network is made for."""
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d((grid, grid))  # changes nothing at that side
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, side, side) -> logits (n, classes)."""
        logits: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(pixels)), 1))
        return logits


def alexnet_2012(classes: int = 1000) -> nn.Module:
    """AlexNet as published: its section 3, and its section 5 for the random start.

    The paper's 224 x 224 photos don't give its 55 x 55 outputs of conv1: (224 - 11) / 4 + 1 is
    54.25. Copies of it take 227 without padding. Here it is 224 with two zeros around, as
    torchvision has it: 55, and every network of 224 is trained and asked with the same photos.

    The two GPUs are the two groups of conv2, 4 and 5. The paper's response normalisation runs over
    "the total number of kernels in the layer", so over both GPUs' here.
    """
    features = nn.Sequential(
        nn.Conv2d(3, 96, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        ResponseNorm(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(inplace=True),
        ResponseNorm(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
    )
    network = AlexNet(features, 6, _classifier(256 * 6 * 6, 4096, classes))
    _start_as_published(network)
    return network


def alexnet_half(classes: int = 1000) -> nn.Module:
    """One GPU's column of AlexNet, alone and without response normalisation, for small sets."""
    one, two, three, four, five = _COLUMN
    features = nn.Sequential(
        nn.Conv2d(3, one, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(one, two, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(two, three, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(three, four, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(four, five, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
    )
    network = AlexNet(features, 6, _classifier(five * 6 * 6, 2048, classes))
    _start_evenly(network)
    return network


def alexnet_cifar(classes: int = 10) -> nn.Module:
    """One column of AlexNet for photos of 32 x 32: 3 x 3 kernels, normalised after conv1 and 2.

    Pooling gives 16, 8 and 4 pixels a side.
    """
    one, two, three, four, five = _COLUMN
    features = nn.Sequential(
        nn.Conv2d(3, one, 3, padding=1),
        nn.BatchNorm2d(one),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(one, two, 3, padding=1),
        nn.BatchNorm2d(two),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
        nn.Conv2d(two, three, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(three, four, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(four, five, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1),
    )
    network = AlexNet(features, 4, _classifier(five * 4 * 4, 2048, classes))
    _start_evenly(network)
    return network


def four_layers(
    classes: int = 10,
    *,
    activation: Literal["relu", "tanh"] = "relu",
    normalised: bool = False,
    overlapping: bool = True,
    start: Literal["published", "even"] = "published",
) -> nn.Sequential:
    """The "four-layer convolutional network" on CIFAR-10 of AlexNet's Figure 1 and section 3.3.

    The paper says no more of it. It is taken here to be the one that its first author's
    cuda-convnet came with: 32, 32 and 64 kernels of 5 x 5, each layer pooled, and fc10; but with
    the greatest everywhere, where that one took means in the second and third pooling.

    normalised: response normalisation after conv1 and 2. overlapping: 3 x 3 every 2 pixels, else
    2 x 2 (section 3.4); both give 16, 8 and 4 pixels a side. start: N(0, 0.01), and for ReLU biases
    of 1 in conv2 and conv3, as section 5 has it, or even as `alexnet_half`.
    """
    layers: list[nn.Module] = []
    channels = 3
    for kernels in (32, 32, 64):
        layers.append(nn.Conv2d(channels, kernels, 5, padding=2))
        layers.append(nn.ReLU() if activation == "relu" else nn.Tanh())
        if normalised and kernels == 32:
            layers.append(ResponseNorm())
        layers.append(nn.MaxPool2d(3, 2, padding=1) if overlapping else nn.MaxPool2d(2, 2))
        channels = kernels
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, classes))
    if start == "even":
        _start_evenly(network)
        return network
    conv1, *hidden, fc10 = _layers(network)
    _start_small([conv1, *hidden, fc10], ones=hidden if activation == "relu" else [])
    return network


def vgg11_lrn(classes: int = 1000) -> nn.Module:
    """VGG's configuration A-LRN: A with response normalisation after its first layer."""
    network: nn.Module = models.VGG(_vgg_features(_VGG_A_LRN), num_classes=classes)
    return network


def vgg16_c(classes: int = 1000) -> nn.Module:
    """VGG's configuration C: like D (VGG-16), but every third layer of a block is 1 x 1."""
    network: nn.Module = models.VGG(_vgg_features(_VGG_C), num_classes=classes)
    return network


def _vgg_features(plan: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for word in plan.split():
        if word == "pool":
            layers.append(nn.MaxPool2d(2, 2))
        elif word == "lrn":
            layers.append(ResponseNorm())
        else:
            kernels, _, side = word.partition("x")
            size = int(side or 3)
            layers.append(nn.Conv2d(channels, int(kernels), size, padding=size // 2))
            layers.append(nn.ReLU(inplace=True))
            channels = int(kernels)
    return nn.Sequential(*layers)


def _classifier(inputs: int, width: int, classes: int) -> nn.Sequential:
    """fc6, fc7 and fc8. Dropout is of what fc6 and fc7 put out, as in the paper.

    (torchvision's AlexNet drops what they take in.)
    """
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(width, classes),
    )


def _layers(network: nn.Module) -> list[Layer]:
    """The convolutional and fully connected layers, from the first to the last."""
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def _start_as_published(network: nn.Module) -> None:
    """AlexNet's section 5: N(0, 0.01); biases 1 where ReLUs shall learn at once, elsewhere 0."""
    layers = _layers(network)
    _, conv2, _, conv4, conv5, fc6, fc7, _ = layers  # of the fully connected only the hidden ones
    _start_small(layers, ones=[conv2, conv4, conv5, fc6, fc7])


def _start_small(layers: Sequence[Layer], ones: Sequence[Layer]) -> None:
    """Weights from N(0, 0.01), biases 0, but 1 in the layers `ones`."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.01)
        assert layer.bias is not None
        nn.init.constant_(layer.bias, float(any(layer is one for one in ones)))


def _start_evenly(network: nn.Module) -> None:
    """LeCun et al. (1998): weights of variance 1 / inputs, so that no layer drowns the others.

    N(0, 0.01) would let the signal fade in a column, whose neurons have fewer inputs. He et al.'s
    variance (2015) is twice this one, for the half that ReLU takes away; but three poolings, each
    taking the greatest of nine, give it back.
    """
    *hidden, last = _layers(network)
    for layer in hidden:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    nn.init.normal_(last.weight, std=0.01)  # all classes alike at first
    assert last.bias is not None
    nn.init.zeros_(last.bias)
