"""Weights in a fraction of their size: what `data/weights/*.safetensors` hold, and back.

The convolutional layers are kept as float16. The three matrices of the classifier are kept as the
blocks that they are made of: products of small 8-bit factors (one scale a row), diagonals, and
factors that see pool5 only through averages over regions. `unpack` multiplies them out to
torchvision's own names and shapes in float32.

In a file: metadata `format` = "fc7-compact-1", `network`, `framing`, and `matrices`, a JSON of
{name: {shape, blocks: [{row, column, factors: [tensor names], mirrored, regions}]}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retrieval.errors import WeightsError

FORMAT = "fc7-compact-1"


@dataclass(frozen=True, slots=True)
class Regions:
    """Averages over regions of pool5: k x k regions for each k of `levels`.

    A factor with c * (sum of k squared) columns (level by level, channel by channel, region by
    region) becomes one with c * grid * grid columns, as the classifier sees pool5.
    """

    grid: int  # pool5 is (channels, grid, grid)
    levels: tuple[int, ...]

    def average(self, pool5: Tensor) -> Tensor:
        """(n, c, grid, grid) -> (n, c * sum of k squared)."""
        pool = torch.nn.functional.adaptive_avg_pool2d
        return torch.cat([pool(pool5, k).flatten(1) for k in self.levels], dim=1)

    def spread(self, weights: Tensor) -> Tensor:
        """(r, c * sum of k squared) on averages -> (r, c * grid * grid) on pool5 itself."""
        channels = weights.shape[1] // sum(k * k for k in self.levels)
        cells = torch.eye(self.grid**2).reshape(-1, 1, self.grid, self.grid)
        shares = self.average(cells).T  # (sum of k squared, grid * grid)
        levels = torch.split(weights, [channels * k * k for k in self.levels], dim=1)
        parts = [level.reshape(len(weights), channels, -1) for level in levels]
        return (torch.cat(parts, dim=2) @ shares).flatten(1)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A rectangle of a matrix, as the product of its factors.

    factors: multiplied from left to right; a one-dimensional factor is a diagonal.
    mirrored: the block is followed, below, by its negative times this (ReLU keeps both signs
        that way); 0: it is not.
    regions: the last factor sees averages over regions of pool5.
    """

    row: int
    column: int
    factors: tuple[Tensor, ...]
    mirrored: float = 0.0
    regions: Regions | None = None

    def expand(self) -> Tensor:
        """Multiply the factors out, float32."""
        product: Tensor | None = None
        for factor in self.factors:
            if product is None:
                product = factor if factor.dim() == 2 else torch.diag(factor)
            else:
                product = product @ factor if factor.dim() == 2 else product * factor
        assert product is not None
        if self.regions is not None:
            product = self.regions.spread(product)
        return torch.cat([product, -self.mirrored * product]) if self.mirrored else product


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A weight matrix (out, in): its blocks, zero elsewhere."""

    shape: tuple[int, int]
    blocks: tuple[Block, ...]

    def expand(self) -> Tensor:
        """The whole matrix, float32; blocks that overlap add up."""
        whole = torch.zeros(self.shape)
        for block in self.blocks:
            part = block.expand()
            rows, columns = part.shape
            whole[block.row : block.row + rows, block.column : block.column + columns] += part
        return whole


def pack(
    weights: Mapping[str, Tensor | Matrix], *, network: str, framing: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a compact file, from convolutions, biases and classifier matrices.

    weights: under torchvision's names. Four-dimensional tensors are rounded to float16, the
    two-dimensional factors of matrices to 8 bits with one scale a row; all else stays float32.
    """
    tensors: dict[str, Tensor] = {}
    matrices: dict[str, object] = {}
    for name, value in weights.items():
        if isinstance(value, Matrix):
            blocks = [_pack_block(b, f"{name}/{i}", tensors) for i, b in enumerate(value.blocks)]
            matrices[name] = {"shape": value.shape, "blocks": blocks}
        else:
            tensors[name] = value.half() if value.dim() == 4 else value.float()
    about = {"format": FORMAT, "network": network, "framing": framing}
    return tensors, about | {"matrices": json.dumps(matrices)}


def unpack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Tensor]:
    """The state dict (torchvision's names, float32) from the contents of a compact file.

    Raises WeightsError when it is of another format or something is missing.
    """
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "none")
        raise WeightsError(f"compact weights: format {found}, not {FORMAT}; update fc7")
    try:
        matrices = json.loads(metadata["matrices"])
        state = {k: v.float() for k, v in tensors.items() if "/" not in k}
        for name, about in matrices.items():
            blocks = tuple(_unpack_block(b, tensors) for b in about["blocks"])
            state[name] = Matrix(tuple(about["shape"]), blocks).expand()
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"compact weights: damaged ({error}); install fc7 again") from error
    return state


def _pack_block(block: Block, name: str, tensors: dict[str, Tensor]) -> dict[str, object]:
    names = [f"{name}/{i}" for i in range(len(block.factors))]
    for key, factor in zip(names, block.factors, strict=True):
        if factor.dim() == 2:
            tensors[key], tensors[f"{key}/scale"] = _to_bytes(factor)
        else:
            tensors[key] = factor.float()
    about: dict[str, object] = {"row": block.row, "column": block.column, "factors": names}
    regions = block.regions and [block.regions.grid, list(block.regions.levels)]
    return about | {"mirrored": block.mirrored, "regions": regions}


def _unpack_block(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Block:
    factors = []
    for key in about["factors"]:
        scale = tensors.get(f"{key}/scale")
        factors.append(tensors[key].float() if scale is None else tensors[key].float() * scale)
    regions = about["regions"] and Regions(about["regions"][0], tuple(about["regions"][1]))
    return Block(about["row"], about["column"], tuple(factors), about["mirrored"], regions)


def _to_bytes(factor: Tensor) -> tuple[Tensor, Tensor]:
    """(r, c) float -> int8 (r, c) and the scales (r, 1): the largest of a row becomes 127."""
    scale = factor.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127
    return (factor / scale).round().to(torch.int8), scale
