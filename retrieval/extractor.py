"""Photos in, descriptors out: the only place that knows of devices, precision and memory layout."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from retrieval.download import Progress
from retrieval.errors import DeviceError, WeightsError
from retrieval.networks import (
    CLASSIFIER,
    build,
    fc7_layers,
    fc7_size,
    input_side,
    normalisation,
)
from retrieval.weights import LoadedWeights, load_weights, stamp

# Photos a pass, by device and family. On a processor the convolutions take a few photos at a time,
# so that what goes from layer to layer stays in the caches; the classifier takes them all at once,
# since it reads its 115 MB (VGG: 240 MB) of weights each time.
_BATCH_SIZES = {"cpu": {"alexnet": 128, "vgg": 128}, "cuda": {"alexnet": 512, "vgg": 64}}
_CONVOLVED = {"cpu": {"alexnet": 32, "vgg": 8}, "cuda": {"alexnet": 512, "vgg": 64}}


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What a network says of n photos, one row a photo."""

    fc7: NDArray[np.float32]  # (n, fc7_size) after its ReLU, unit rows (a row of zeros stays so)
    norms: NDArray[np.float32]  # (n,) each row's Euclidean norm before it became a unit row
    probabilities: NDArray[np.float32]  # (n, classes) soft-max of fc8

    def rows(self) -> Iterator[Descriptors]:
        """Take the photos apart: one Descriptors of n = 1 for each, in order."""
        for i in range(len(self.norms)):
            one = slice(i, i + 1)
            yield Descriptors(self.fc7[one], self.norms[one], self.probabilities[one])


class Extractor:
    """A network with its weights on a device, ready to describe photos.

    Public: network, weights (what to give to another Extractor to get the same), device ("cpu" or
    "cuda"), shares_cores (whether it computes where photos are decoded), framing and side (how
    photos must be framed for it, and to how many pixels), fc7_size, stamp, classes, batch_size (how
    many photos it takes in one pass: giving it multiples of that is fastest).
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
        device: "auto" takes a CUDA card if one really works.
        progress: told of a download, in bytes.

        Raises WeightsError or DeviceError.
        """
        chosen, self._reason = choose_device(device)
        loaded = load_weights(network, weights, progress)
        self.network = loaded.info.network
        self.weights = loaded.info.name
        self.device = chosen.type
        self.shares_cores = chosen.type == "cpu"
        self.framing = loaded.info.framing
        self.side = input_side(self.network)
        self.fc7_size = fc7_size(self.network)
        self._shape = (self.side, self.side, 3)
        self.stamp = stamp(loaded.info)
        self.classes = loaded.classes
        family = "alexnet" if self.network.startswith("alexnet") else "vgg"
        self.batch_size = _BATCH_SIZES[chosen.type][family]
        self._convolved = _CONVOLVED[chosen.type][family]
        self._dtype = _precision(chosen)
        to_fc7, self._fc8 = _prepare(loaded, chosen, self._dtype)
        self._convolutions, self._hidden = to_fc7[:CLASSIFIER], to_fc7[CLASSIFIER:]
        mean, std = normalisation(self.network)
        self._mean = torch.tensor(mean, device=chosen).mul_(255)
        self._variance = torch.tensor(std, device=chosen).mul_(255).square_()

    def describe(self, pixels: NDArray[np.uint8]) -> Descriptors:
        """Describe n framed photos; a photo's row doesn't depend on the others, but for rounding.

        pixels: (n, side, side, 3) RGB, n at least 1. They are taken batch_size at a time.

        Raises WeightsError if the network's numbers run over.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self._shape:
            wanted = ", ".join(map(str, self._shape))
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, not uint8 (n, {wanted})")
        count, pinned = len(pixels), self.device == "cuda"
        fc7 = torch.empty((count, self.fc7_size), pin_memory=pinned)
        norms = torch.empty((count,), pin_memory=pinned)
        probabilities = torch.empty((count, len(self.classes)), pin_memory=pinned)
        for start in range(0, count, self.batch_size):
            rows = slice(start, min(start + self.batch_size, count))
            results = self._pass(pixels[rows])
            for result, whole in zip(results, (fc7, norms, probabilities), strict=True):
                whole[rows].copy_(result, non_blocking=True)
        if pinned:
            torch.cuda.synchronize()  # the copies above only began
        self._check(norms, probabilities)
        return Descriptors(fc7.numpy(), norms.numpy(), probabilities.numpy())

    def explain(self) -> str:
        """Say in one line what computes, where and how, for people."""
        precision = str(self._dtype).removeprefix("torch.")
        where = torch.cuda.get_device_name() if self.device == "cuda" else "cpu"
        threads = f", {torch.get_num_threads()} threads" if self.device == "cpu" else ""
        return (
            f"{self.network} with {self.weights} weights on {where} ({self._reason}): {precision}, "
            f"{self.batch_size} photos a pass{threads}"
        )

    @torch.inference_mode()
    def _pass(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
        """Run the network once: unit FC7, its norms and fc8's probabilities, on the device."""
        parts = [
            self._convolve(pixels[start : start + self._convolved])
            for start in range(0, len(pixels), self._convolved)
        ]
        fc7 = self._hidden(torch.cat(parts))
        probabilities = self._fc8(fc7).float().softmax(dim=1)
        fc7 = fc7.float()
        norms = torch.linalg.vector_norm(fc7, dim=1)
        # A row of zeros has no direction: divided by 1 it stays what it is.
        unit = fc7 / torch.where(norms > 0, norms, 1.0).unsqueeze(1)
        return unit, norms, probabilities

    def _convolve(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Pixels -> pool5, flat, on the device."""
        batch = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        if self.device == "cuda":
            batch = batch.pin_memory()
        # (n, h, w, 3) seen as (n, 3, h, w) is torch's channels_last: nothing is moved.
        images = batch.to(self._mean.device, non_blocking=True).permute(0, 3, 1, 2)
        # 0 to 255 are exact in half precision; the sums are in float32 inside.
        images = functional.batch_norm(images.to(self._dtype), self._mean, self._variance, eps=0.0)
        pool5: Tensor = self._convolutions(images)
        return pool5

    def _check(self, norms: Tensor, probabilities: Tensor) -> None:
        """Refuse infinities: they would poison every search to come."""
        bad = int((~(norms.isfinite() & probabilities.isfinite().all(dim=1))).sum())
        if bad:
            precision = str(self._dtype).removeprefix("torch.")
            raise WeightsError(
                f"{self.network} with {self.weights} weights gives numbers that are not finite for "
                f"{bad} photos in {precision}: try --device cpu, or other weights"
            )


def _prepare(
    loaded: LoadedWeights, device: torch.device, dtype: torch.dtype
) -> tuple[nn.Sequential, nn.Module]:
    """Build the network around its weights: (pixels -> FC7, FC7 -> logits) on the device."""
    module = build(loaded.info.network, len(loaded.classes))
    module.load_state_dict(loaded.state_dict, assign=True)
    module.requires_grad_(False)
    placed = module.to(device, dtype).to(memory_format=torch.channels_last)
    return fc7_layers(placed)


def choose_device(device: str) -> tuple[torch.device, str]:
    """Choose where to compute, and say why in a few words. Raises DeviceError."""
    if device == "cpu":
        return torch.device("cpu"), "as asked"
    if device not in ("auto", "cuda"):
        raise DeviceError(f"unknown device {device!r}: choose auto, cpu or cuda")
    trouble = _cuda_trouble()
    if trouble is None:
        return torch.device("cuda"), "as asked" if device == "cuda" else "found and working"
    if device == "cuda":
        raise DeviceError(f"no CUDA card can be used: {trouble}. Use --device cpu or auto")
    return torch.device("cpu"), trouble


def _cuda_trouble() -> str | None:
    """Say why CUDA can't be used, or None if a small computation really ran on a card."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of old drivers; the answer here says it
        if not torch.cuda.is_available():
            return "torch sees no CUDA card"
        try:
            answer = torch.ones(8, device="cuda").mul_(2).sum().item()
        except RuntimeError as error:
            return f"the card fails: {str(error).splitlines()[0]}"
    return None if answer == 16 else "the card computes wrongly"


def _precision(device: torch.device) -> torch.dtype:
    """Half precision where the hardware has it; emulated, it would be slower than float32."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively, as far as this torch can tell."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))
