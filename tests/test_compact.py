"""Compact weights: what rounding may cost, and what it may not."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision import models

from retrieval.compact import Block, Matrix, Regions, pack, unpack
from retrieval.errors import WeightsError


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _through_file(name: str, value: Tensor | Matrix) -> Tensor:
    tensors, metadata = pack({name: value}, network="alexnet", framing="crop")
    return unpack(tensors, metadata)[name]


@given(st.integers(1, 40), st.integers(1, 40), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_a_factor_is_rounded_by_at_most_half_a_step_of_its_row(
    rows: int, columns: int, size: float, seed: int
) -> None:
    factor = _random(rows, columns, seed=seed) * size
    back = _through_file("w", Matrix((rows, columns), (Block(0, 0, (factor,)),)))
    step = factor.abs().amax(dim=1, keepdim=True) / 127
    assert ((back - factor).abs() <= step * 0.501).all()


def test_whole_numbers_up_to_127_survive_exactly_and_so_does_their_product() -> None:
    left = torch.randint(-127, 128, (6, 3)).float()
    right = torch.randint(-127, 128, (3, 5)).float()
    left[:, 0], right[:, 0] = 127, 127  # the largest of each row: the step is one
    back = _through_file("w", Matrix((6, 5), (Block(0, 0, (left, right)),)))
    torch.testing.assert_close(back, left @ right)


def test_a_mirrored_block_is_followed_by_its_weighted_negative_and_the_rest_is_zero() -> None:
    block = Block(1, 2, (torch.full((2, 3), 127.0),), mirrored=0.5)
    back = _through_file("w", Matrix((6, 6), (block,)))
    expected = torch.zeros(6, 6)
    expected[1:3, 2:5], expected[3:5, 2:5] = 127, -63.5
    torch.testing.assert_close(back, expected)


def test_a_diagonal_is_not_rounded() -> None:
    diagonal = _random(7)
    back = _through_file("w", Matrix((7, 7), (Block(0, 0, (diagonal,)),)))
    assert torch.equal(back, torch.diag(diagonal))


@pytest.mark.parametrize("grid", [6, 7])
def test_weights_on_averages_answer_as_weights_on_pool5_do(grid: int) -> None:
    regions = Regions(grid, (1, 2, 3))
    pool5, weights = _random(5, 4, grid, grid), _random(3, 4 * 14, seed=1)
    spread = regions.spread(weights)
    assert spread.shape == (3, 4 * grid * grid)
    torch.testing.assert_close(pool5.flatten(1) @ spread.T, regions.average(pool5) @ weights.T)


def test_convolutions_are_kept_to_half_precision_and_biases_exactly() -> None:
    kernel, bias = _random(4, 3, 2, 2), _random(4)
    tensors, metadata = pack({"c.weight": kernel, "c.bias": bias}, network="vgg16", framing="crop")
    back = unpack(tensors, metadata)
    assert torch.equal(back["c.weight"], kernel.half().float())
    assert torch.equal(back["c.bias"], bias)


def test_what_is_unpacked_loads_into_torchvisions_own_network() -> None:
    with torch.device("meta"):
        alexnet = models.alexnet()
    weights: dict[str, Tensor | Matrix] = {
        k: torch.zeros(v.shape) for k, v in alexnet.state_dict().items()
    }
    factors = (_random(8, 4), _random(4, 256 * 14))
    weights["classifier.1.weight"] = Matrix(
        (4096, 9216), (Block(0, 0, factors, mirrored=1.0, regions=Regions(6, (1, 2, 3))),)
    )
    tensors, metadata = pack(weights, network="alexnet", framing="crop")
    alexnet.load_state_dict(unpack(tensors, metadata), strict=True, assign=True)
    assert alexnet.state_dict()["classifier.1.weight"][:16].abs().sum(dim=1).min() > 0


def test_another_format_and_damage_are_told_apart() -> None:
    tensors, metadata = pack(
        {"w": Matrix((2, 2), (Block(0, 0, (_random(2, 2),)),))}, network="alexnet", framing="crop"
    )
    with pytest.raises(WeightsError, match="format fc7-compact-9"):
        unpack(tensors, metadata | {"format": "fc7-compact-9"})
    with pytest.raises(WeightsError, match="damaged"):
        unpack({k: v for k, v in tensors.items() if k != "w/0/0"}, metadata)
    with pytest.raises(WeightsError, match="damaged"):
        unpack(tensors, metadata | {"matrices": json.dumps({"w": {"shape": [2, 2]}})})
