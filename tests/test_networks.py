"""retrieval.networks and papers: against the papers' own numbers, torchvision, and slow loops."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from retrieval.errors import WeightsError
from retrieval.networks import (
    NETWORKS,
    PUBLISHED,
    build,
    create,
    fc7_layers,
    fc7_size,
    input_side,
)
from retrieval.papers import ResponseNorm, four_layers

State = dict[str, Tensor]
Layer = nn.Conv2d | nn.Linear


def layers_of(module: nn.Module) -> list[Layer]:
    return [one for one in module.modules() if isinstance(one, Layer)]


def outputs_of(network: str) -> list[tuple[int, ...]]:
    """The shapes that its convolutional and fully connected layers put out for one photo."""
    module, shapes = build(network), []
    for layer in layers_of(module):
        layer.register_forward_hook(lambda *call: shapes.append(tuple(call[2].shape[1:])))
    module(torch.empty(1, 3, input_side(network), input_side(network), device="meta"))
    return shapes


def parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def quick_state(module: nn.Module, seed: int = 0) -> State:
    """Numbers for a network's places that keep a signal alive, made in no time and little memory.

    A matrix of 100 million is a window that slides over one short random vector.
    """
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for key, place in module.state_dict().items():
        if place.ndim == 2:
            vector = torch.randn(sum(place.shape) - 1, generator=generator)
            state[key] = vector.unfold(0, place.shape[1], 1) * math.sqrt(2 / place.shape[1])
        elif place.ndim == 4:
            fan_in = place[0].numel()
            state[key] = torch.randn(place.shape, generator=generator) * math.sqrt(2 / fan_in)
        else:  # biases, and what batch normalisation holds: its variances must not be negative
            state[key] = torch.rand(place.shape, generator=generator).to(place.dtype)
    return state


def photos(side: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(9))


def loaded(network: str, state: State | None = None, classes: int = 3) -> nn.Module:
    module = build(network, classes)
    module.load_state_dict(state or quick_state(module), assign=True)
    return module


# AlexNet of 2012, layer by layer


def test_alexnet_2012_has_the_papers_layers() -> None:
    assert outputs_of("alexnet-2012") == [
        (96, 55, 55),
        (256, 27, 27),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (4096,),
        (4096,),
        (1000,),
    ]
    kernels = [tuple(one.weight.shape) for one in layers_of(build("alexnet-2012"))]
    assert kernels == [
        (96, 3, 11, 11),
        (256, 48, 5, 5),  # "256 kernels of size 5 x 5 x 48", and so on: those on the same GPU
        (384, 256, 3, 3),
        (384, 192, 3, 3),
        (256, 192, 3, 3),
        (4096, 256 * 6 * 6),
        (4096, 4096),
        (1000, 4096),
    ]


def test_alexnet_2012_has_the_papers_neurons_but_for_a_slip_in_the_paper() -> None:
    """Section 3.5: 150,528 inputs, then 253,440-186,624-64,896-64,896-43,264-4096-4096-1000.

    96 kernels of 55 x 55 are 290,400; the printed 253,440 is 96 x 55 x 48. The sum of these counts
    is nearer to the abstract's 650,000 neurons than that of the printed ones.
    """
    neurons = [math.prod(shape) for shape in outputs_of("alexnet-2012")]
    printed = [253_440, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert 3 * input_side("alexnet-2012") ** 2 == 150_528
    assert neurons == [290_400, *printed[1:]]
    assert (sum(neurons), sum(printed)) == (659_272, 622_312)


def test_pooling_overlaps_and_follows_the_normalised_layers_and_the_fifth() -> None:
    features = build("alexnet-2012").get_submodule("features")
    kinds = [type(layer).__name__ for layer in features.children()]
    normalised = ["Conv2d", "ReLU", "ResponseNorm", "MaxPool2d"]
    assert kinds == [*normalised, *normalised, *(["Conv2d", "ReLU"] * 3), "MaxPool2d"]
    pools = [one for one in features.children() if isinstance(one, nn.MaxPool2d)]
    assert {(pool.kernel_size, pool.stride) for pool in pools} == {(3, 2)}


@pytest.mark.parametrize(
    ("network", "classes", "count"),
    [
        # 34,944 + 307,456 + 885,120 + 663,936 + 442,624 + 37,752,832 + 16,781,312 + 4,097,000
        ("alexnet-2012", 1000, 60_965_224),  # "60 million parameters"
        # 17,472 + 153,728 + 221,376 + 331,968 + 221,312 + 9,439,232 + 4,196,352 + 4,098
        ("alexnet-half", 2, 14_585_538),
        # 1,344 + 96 + 55,424 + 256 + 221,376 + 331,968 + 221,312 + 4,196,352 twice + 20,490
        ("alexnet-cifar", 10, 9_244_970),
    ],
)
def test_the_alexnets_have_as_many_parameters_as_their_layers_by_hand(
    network: str, classes: int, count: int
) -> None:
    assert parameters(build(network, classes)) == count


# VGG's table 1 and 2


@pytest.mark.parametrize(
    ("network", "layers", "millions"),
    [
        ("vgg11", 11, 133),
        ("vgg11-lrn", 11, 133),
        ("vgg13", 13, 133),
        ("vgg16-c", 16, 134),
        ("vgg16", 16, 138),
        ("vgg19", 19, 144),
    ],
)
def test_vggs_configurations_have_the_papers_layers_and_parameters(
    network: str, layers: int, millions: int
) -> None:
    module = build(network)
    assert len(layers_of(module)) == layers
    assert round(parameters(module) / 1e6) == millions


@pytest.mark.parametrize("network", ["vgg11-lrn", "vgg16-c"])
def test_vggs_sides_halve_from_block_to_block(network: str) -> None:
    shapes = [shape for shape in outputs_of(network) if len(shape) == 3]
    by_side = {side: {n for n, h, w in shapes if h == w == side} for _, side, _ in shapes}
    assert by_side == {224: {64}, 112: {128}, 56: {256}, 28: {512}, 14: {512}}


@pytest.mark.parametrize("network", PUBLISHED)
def test_torchvisions_networks_give_torchvisions_outputs(network: str) -> None:
    with torch.device("meta"):
        theirs = models.get_model(network, num_classes=3).eval()
    state = quick_state(theirs)
    theirs.load_state_dict(state, assign=True)
    pixels = photos(64)
    with torch.inference_mode():
        assert torch.equal(loaded(network, state)(pixels), theirs(pixels))


def test_vgg_c_is_torchvisions_d_with_kernels_of_one_pixel_within_zeros() -> None:
    ours = build("vgg16-c", 3)
    state = quick_state(ours)
    one_pixel = [key for key, place in state.items() if place.shape[-2:] == (1, 1)]
    assert one_pixel == [f"features.{place}.weight" for place in (14, 21, 28)]
    widened = {key: nn.functional.pad(state[key], (1, 1, 1, 1)) for key in one_pixel}
    with torch.device("meta"):
        theirs = models.vgg16(num_classes=3).eval()
    theirs.load_state_dict(state | widened, assign=True)
    ours.load_state_dict(state, assign=True)
    pixels = photos(64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(pixels), theirs(pixels), rtol=1e-3, atol=1e-3)


def test_vgg_a_lrn_is_torchvisions_a_with_pytorchs_normalisation_put_in() -> None:
    with torch.device("meta"):
        theirs = models.vgg11(num_classes=3).eval()
        ours = build("vgg11-lrn", 3)
    conv1, relu, *rest = theirs.features
    lrn = nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)
    theirs.features = nn.Sequential(conv1, relu, lrn, *rest)
    state = quick_state(ours)
    for module in (ours, theirs):
        module.load_state_dict(state, assign=True)
    pixels = 20 * photos(64)  # bright enough for the normalisation to matter
    with torch.inference_mode():
        torch.testing.assert_close(ours(pixels), theirs(pixels), rtol=1e-3, atol=1e-3)


# Groups


def test_groups_are_an_ungrouped_network_with_block_diagonal_kernels() -> None:
    grouped, dense = loaded("alexnet-2012"), loaded("alexnet-2012")
    features = dense.get_submodule("features")
    replaced = 0
    for at, layer in enumerate(features.children()):
        if not isinstance(layer, nn.Conv2d) or layer.groups == 1:
            continue
        whole = nn.Conv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding
        )  # type: ignore[arg-type]
        first, second = layer.weight.detach().chunk(2)
        zeros = torch.zeros_like(first)
        upper, lower = torch.cat([first, zeros], dim=1), torch.cat([zeros, second], dim=1)
        assert layer.bias is not None
        whole.load_state_dict({"weight": torch.cat([upper, lower]), "bias": layer.bias.detach()})
        features[at] = whole  # type: ignore[index]
        replaced += 1
    assert replaced == 3  # conv2, conv4, conv5: conv3 sees both GPUs
    pixels = photos(224)
    with torch.inference_mode():
        torch.testing.assert_close(dense(pixels), grouped(pixels), rtol=1e-3, atol=1e-3)


# Local response normalisation


def damped_by_hand(a: Tensor) -> Tensor:
    """The formula of AlexNet's section 3.3, place by place and kernel by kernel."""
    k, n, alpha, beta = 2, 5, 1e-4, 0.75
    b = torch.empty_like(a)
    kernels = a.shape[1]
    for photo in range(a.shape[0]):
        for y in range(a.shape[2]):
            for x in range(a.shape[3]):
                for i in range(kernels):
                    total = 0.0
                    for j in range(max(0, i - n // 2), min(kernels - 1, i + n // 2) + 1):
                        total += float(a[photo, j, y, x]) ** 2
                    b[photo, i, y, x] = a[photo, i, y, x] / (k + alpha * total) ** beta
    return b


@pytest.mark.parametrize("kernels", [1, 3, 5, 11])
def test_response_normalisation_is_the_papers_formula(kernels: int) -> None:
    generator = torch.Generator().manual_seed(kernels)
    a = 100 * torch.randn(2, kernels, 2, 3, generator=generator)
    torch.testing.assert_close(ResponseNorm()(a), damped_by_hand(a), rtol=1e-5, atol=1e-5)


def test_pytorch_means_another_alpha() -> None:
    a = 100 * torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    five_times = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)
    torch.testing.assert_close(five_times(a), ResponseNorm()(a), rtol=1e-5, atol=1e-5)
    the_same = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)
    assert (the_same(a) - ResponseNorm()(a)).abs().max() > 1


def test_response_normalisation_keeps_half_precision_from_running_over() -> None:
    a = torch.full((1, 5, 1, 1), 1000.0)
    halves = ResponseNorm()(a.half())
    assert halves.dtype == torch.half  # 1000 squared has no place in it
    torch.testing.assert_close(halves.float(), damped_by_hand(a), rtol=1e-3, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(ResponseNorm()(a), damped_by_hand(a), rtol=1e-5, atol=0)


# The random start


def test_alexnet_2012_starts_as_published() -> None:
    layers = layers_of(create("alexnet-2012", 10).requires_grad_(False))
    for at, layer in enumerate(layers, start=1):
        assert abs(float(layer.weight.mean())) < 2e-4
        assert float(layer.weight.std()) == pytest.approx(0.01, rel=0.03)
        assert layer.bias is not None
        # conv2, conv4, conv5, and the hidden fully connected ones; fc8 is none of them.
        assert bool((layer.bias == (1 if at in (2, 4, 5, 6, 7) else 0)).all())


@pytest.mark.parametrize("network", ["alexnet-half", "alexnet-cifar"])
def test_in_the_small_networks_a_signal_neither_fades_nor_grows_at_first(network: str) -> None:
    module = create(network, 10, torch.Generator().manual_seed(1)).eval()
    to_fc7, fc8 = fc7_layers(module)
    with torch.inference_mode():
        fc7 = to_fc7(photos(input_side(network), 8))
        chances = fc8(fc7).softmax(dim=1)
    assert 0.2 < float(fc7.std()) < 5
    assert float(chances.max()) < 0.25  # of ten classes none is preferred much


def test_torchvisions_networks_start_as_torchvision_says() -> None:
    torch.manual_seed(5)
    ours = create("alexnet", 3).state_dict()
    torch.manual_seed(5)
    theirs = models.alexnet(num_classes=3).state_dict()
    assert all(torch.equal(ours[key], place) for key, place in theirs.items())


def test_a_generator_decides_the_start_and_leaves_torchs_own_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (
        create("alexnet-cifar", 10, torch.Generator().manual_seed(seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], place) for key, place in again.items())
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


def test_a_created_network_is_ready_for_training_and_fits_a_built_one() -> None:
    created = create("alexnet-half", 3)
    assert created.training
    assert all(one.requires_grad and one.device.type == "cpu" for one in created.parameters())
    build("alexnet-half", 3).load_state_dict(created.state_dict(), assign=True)


# All of them


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_is_its_two_halves(network: str) -> None:
    module = loaded(network)
    to_fc7, fc8 = fc7_layers(module)
    # VGG's sides halve five times, so that 64 will do; the others are asked at their own.
    pixels = photos(64 if network.startswith("vgg") else input_side(network))
    with torch.inference_mode():
        fc7, logits = to_fc7(pixels), module(pixels)
        assert torch.equal(fc8(fc7), logits)
    assert fc7.shape == (2, fc7_size(network))
    assert logits.shape == (2, 3)
    assert bool((fc7 >= 0).all())
    assert float((fc7 > 0).float().mean()) > 0.05
    assert not torch.equal(fc7[0], fc7[1])


def test_an_unknown_network_is_answered_with_the_known_ones() -> None:
    for ask in (build, create, input_side, fc7_size):
        with pytest.raises(WeightsError, match=r"unknown network 'alexnet_2012'.*alexnet-2012"):
            ask("alexnet_2012")  # type: ignore[operator]


# What section 3 of AlexNet compares


def variants() -> Iterator[nn.Module]:
    yield four_layers()
    yield four_layers(activation="tanh", start="even")
    yield four_layers(normalised=True)
    yield four_layers(overlapping=False, start="even")


def test_the_variants_differ_in_what_they_are_asked_to() -> None:
    kinds = (nn.ReLU, nn.Tanh, ResponseNorm)
    counts = [
        [sum(isinstance(one, kind) for one in variant.modules()) for kind in kinds]
        for variant in variants()
    ]
    assert counts == [[3, 0, 0], [0, 3, 0], [3, 0, 2], [3, 0, 0]]
    small, even, _, _ = (
        [float(one.weight.detach().std()) for one in layers_of(v)] for v in variants()
    )
    assert small == pytest.approx([0.01] * 4, rel=0.1)
    inputs = [3 * 25, 32 * 25, 32 * 25]
    assert even[:3] == pytest.approx([n**-0.5 for n in inputs], rel=0.1)
    biases = [one.bias.tolist() for one in layers_of(next(variants())) if one.bias is not None]
    assert biases == [[0.0] * 32, [1.0] * 32, [1.0] * 64, [0.0] * 10]


def test_pooling_with_and_without_overlap_gives_the_same_shapes() -> None:
    """As in section 3.4: "produces output of equivalent dimensions"."""
    for variant in variants():
        pixels, sides = photos(32), []
        for layer in variant.children():
            pixels = layer(pixels)
            if isinstance(layer, nn.MaxPool2d):
                sides.append(pixels.shape[2])
        assert sides == [16, 8, 4]


@pytest.mark.parametrize("variant", range(4))
def test_every_variant_learns(variant: int) -> None:
    torch.manual_seed(variant)
    module = list(variants())[variant]
    classes = torch.arange(12) % 4
    coarse = photos(4, 4).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    pixels = coarse[classes] + 0.3 * photos(32, 12)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.005, momentum=0.9)
    losses = []
    for _ in range(10):
        loss = nn.functional.cross_entropy(module(pixels), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < 0.8 * losses[0], losses
