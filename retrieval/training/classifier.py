"""A network as the papers evaluate it: the classes of crops, and of whole photos of any size."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.download import Progress
from retrieval.errors import WeightsError
from retrieval.extractor import choose_device
from retrieval.networks import build, input_side, normalisation
from retrieval.weights import load_weights

_PASS = {"cpu": 32, "cuda": 256}  # crops at a time


class Classifier:
    """A network with its weights on a device, which tells classes apart.

    Public: name (network and weights), network, classes, framing, and side of its crops.

    Everything is computed in float32, unlike descriptors are: figures are to be compared with
    published ones.
    """

    def __init__(
        self,
        network: str | None = None,
        weights: str = "bundled",
        device: str = "auto",
        *,
        progress: Progress | None = None,
    ) -> None:
        """Load the weights and put them on the device.

        network: None takes the one that the weights are for.
        weights: "bundled", "imagenet", or the path of a file or of a training run's folder.
        progress: told of a download, in bytes.

        Raises WeightsError or DeviceError.
        """
        chosen, _ = choose_device(device)
        loaded = load_weights(network, weights, progress)
        self.network = loaded.info.network
        self.name = f"{self.network}:{loaded.info.name}"
        self.classes = loaded.classes
        self.framing = loaded.info.framing
        self.side = input_side(self.network)
        module = build(self.network, len(loaded.classes))
        module.load_state_dict(loaded.state_dict, assign=True)
        module.requires_grad_(False)
        self._device = chosen
        placed = module.to(chosen).to(memory_format=torch.channels_last)
        self._module = placed
        self._features = placed.get_submodule("features")
        self._classifier = placed.get_submodule("classifier")
        mean, std = normalisation(self.network)
        self._mean = torch.tensor(mean, device=chosen).mul_(255).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=chosen).mul_(255).view(1, 3, 1, 1)

    @torch.inference_mode()
    def probabilities(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The soft-max of each crop.

        crops: (n, side, side, 3) RGB, n at least 1. Returns (n, classes).
        Raises WeightsError if the network's numbers run over.
        """
        size = _PASS[self._device.type]
        parts = [
            self._module(self._normalised(crops[i : i + size])).softmax(dim=1).cpu()
            for i in range(0, len(crops), size)
        ]
        return self._checked(torch.cat(parts))

    @torch.inference_mode()
    def dense(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The soft-max of a whole photo of any shape, and of it mirrored, averaged.

        VGG, section 3.2: the fully connected layers become convolutions, the first with a kernel of
        the size that its input has at training (7 x 7; AlexNet 6 x 6), so that there is a map of
        class scores; that is averaged over its places, and then the soft-max is taken.

        pixels: (h, w, 3) RGB, no side below `side`. Returns (classes,).
        Raises WeightsError if the network's numbers run over.
        """
        views = np.stack([pixels, pixels[:, ::-1]])
        scores = self._score_map(self._features(self._normalised(views)))
        mean: Tensor = scores.mean(dim=1).softmax(dim=1).mean(dim=0, keepdim=True)
        return self._checked(mean.cpu()).reshape(-1)

    def _score_map(self, maps: Tensor) -> Tensor:
        """(n, c, h, w) feature maps -> (n, places, classes) scores.

        A convolution by fc6 is fc6 applied to each window of its kernel's size.
        """
        fc6 = next(m for m in self._classifier.children() if isinstance(m, nn.Linear))
        grid = math.isqrt(fc6.in_features // maps.shape[1])
        windows = nn.functional.unfold(maps, grid).transpose(1, 2)
        scores: Tensor = self._classifier(windows)
        return scores

    def _normalised(self, pixels: NDArray[np.uint8]) -> Tensor:
        batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self._device)
        # (n, h, w, 3) seen as (n, 3, h, w) is torch's channels_last: nothing is moved.
        return batch.permute(0, 3, 1, 2).float().sub_(self._mean).div_(self._std)

    def _checked(self, probabilities: Tensor) -> NDArray[np.float32]:
        if not probabilities.isfinite().all():
            raise WeightsError(f"{self.name} gives numbers that are not finite: try other weights")
        return np.asarray(probabilities.numpy(), np.float32)


def first_kernels(network: str | None, weights: str = "bundled") -> NDArray[np.float32]:
    """The kernels (n, 3, k, k) of a network's first layer. Raises WeightsError."""
    kernels = load_weights(network, weights).state_dict["features.0.weight"]
    return np.asarray(kernels.numpy(), np.float32)
