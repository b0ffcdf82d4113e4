"""retrieval.extractor, networks and labels with the bundled AlexNet, against torchvision itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from retrieval import extractor as extractor_module
from retrieval.errors import DeviceError, ImageError, WeightsError
from retrieval.extractor import Extractor
from retrieval.images import frame, read_photo
from retrieval.labels import Prediction, top_labels
from retrieval.networks import NETWORKS, build, fc7_layers, fc7_size, input_side
from retrieval.reading import describe_files
from retrieval.weights import load_weights

Draw = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def float32() -> Iterator[None]:
    """Full precision whatever this processor has; bfloat16 has tests of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor_module, "has_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="module")
def alexnet(float32: None) -> Extractor:
    return Extractor("alexnet", "bundled", "cpu")


def noise(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """(n, 224, 224, 3) framed photos of coarse colour noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 14, 14, 3), dtype=np.uint8)
    return coarse.repeat(16, axis=1).repeat(16, axis=2)


def saved(module: nn.Module, path: Path) -> str:
    torch.save(module.state_dict(), path)
    return str(path)


# Against torchvision


def test_fc7_and_probabilities_are_those_of_torchvisions_own_network(
    alexnet: Extractor, draw: Draw, tmp_path: Path
) -> None:
    photo = draw(tmp_path / "photo.png", 1, (500, 375))
    with torch.device("meta"):
        theirs = models.alexnet()
    theirs.load_state_dict(load_weights("alexnet").state_dict, assign=True)
    caught: list[Tensor] = []
    theirs.eval().classifier[5].register_forward_hook(lambda *call: caught.append(call[2].clone()))
    picture = models.AlexNet_Weights.IMAGENET1K_V1.transforms()(Image.open(photo))
    with torch.inference_mode():
        probabilities = theirs(picture[None]).softmax(dim=1)[0].numpy()
    fc7 = caught[0][0].numpy()

    ours = alexnet.describe(frame(read_photo(photo)[0], "crop")[None])

    raw = ours.fc7[0] * ours.norms[0]
    assert np.linalg.norm(raw - fc7) < 1e-3 * np.linalg.norm(fc7)
    assert np.abs(ours.probabilities[0] - probabilities).max() < 1e-3 * probabilities.max()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_two_halves_of_a_network_are_its_forward_pass(network: str) -> None:
    to_fc7, fc8 = fc7_layers(build(network, 7))
    side = input_side(network)
    fc7 = to_fc7(torch.empty(2, 3, side, side, device="meta"))
    assert fc7.shape == (2, fc7_size(network))
    assert fc8(fc7).shape == (2, 7)
    assert isinstance(list(to_fc7.children())[-1], nn.ReLU | nn.Dropout)
    whole = build(network, 7)
    assert [p.shape for p in whole.parameters()] == [
        p.shape for half in (to_fc7, fc8) for p in half.parameters()
    ]


# Properties


def test_a_descriptor_does_not_depend_on_its_batch(
    alexnet: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alexnet, "batch_size", 64)
    pixels = noise(70)  # a whole pass and a short one
    together = alexnet.describe(pixels)
    for index in (0, 5, 63, 64, 69):
        alone = alexnet.describe(pixels[index : index + 1])
        assert np.abs(together.fc7[index] - alone.fc7[0]).max() < 1e-5
        assert together.norms[index] == pytest.approx(alone.norms[0], rel=1e-5)
        assert np.abs(together.probabilities[index] - alone.probabilities[0]).max() < 1e-5


def test_rows_are_unit_and_probabilities_add_up_to_one(alexnet: Extractor) -> None:
    described = alexnet.describe(noise(3))
    assert described.fc7.shape == (3, 4096)
    assert described.probabilities.shape == (3, len(alexnet.classes))
    assert {described.fc7.dtype, described.norms.dtype, described.probabilities.dtype} == {
        np.dtype(np.float32)
    }
    assert (described.fc7 >= 0).all()  # after the ReLU
    assert np.linalg.norm(described.fc7, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert described.probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_pixels_are_read_only_and_stay_as_they_are(alexnet: Extractor) -> None:
    pixels = noise(1)
    before = pixels.copy()
    pixels.setflags(write=False)
    alexnet.describe(pixels)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((1, 3, 224, 224), np.uint8),
        np.zeros((1, 224, 224, 3), np.float32),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(
    alexnet: Extractor, pixels: NDArray[np.uint8]
) -> None:
    with pytest.raises(ValueError, match="not uint8"):
        alexnet.describe(pixels)


def test_the_stamp_is_the_same_each_time_and_changes_with_the_weights(
    alexnet: Extractor, tmp_path: Path
) -> None:
    assert Extractor("alexnet", "bundled", "cpu").stamp == alexnet.stamp
    other = Extractor("alexnet", saved(zeros(), tmp_path / "zeros.pth"), "cpu")
    assert other.stamp != alexnet.stamp
    assert Path(other.weights) == tmp_path / "zeros.pth"


def zeros() -> nn.Module:
    """An AlexNet that says nothing: every number is 0, kept in a few bytes."""
    module = build("alexnet")
    state = {k: torch.tensor(0.0).expand(v.shape) for k, v in module.state_dict().items()}
    module.load_state_dict(state, assign=True)
    return module


def test_a_silent_fc7_stays_zero(tmp_path: Path) -> None:
    described = Extractor("alexnet", saved(zeros(), tmp_path / "zeros.pth"), "cpu").describe(
        noise(2)
    )
    assert (described.fc7 == 0).all()
    assert (described.norms == 0).all()
    assert described.probabilities == pytest.approx(1 / 1000)


def test_numbers_that_run_over_are_refused(tmp_path: Path) -> None:
    module = zeros()
    module.get_submodule("classifier")[6].bias = nn.Parameter(torch.full((1000,), torch.inf))
    loud = Extractor("alexnet", saved(module, tmp_path / "loud.pth"), "cpu")
    with pytest.raises(WeightsError, match="not finite for 2 photos in float32"):
        loud.describe(noise(2))


def test_half_precision_changes_a_descriptor_little(
    alexnet: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extractor_module, "has_bfloat16", lambda: True)
    half = Extractor("alexnet", "bundled", "cpu")
    assert "bfloat16" in half.explain()
    pixels = noise(4)
    rough = half.describe(pixels).fc7
    distances = np.linalg.norm(rough - alexnet.describe(pixels).fc7, axis=1)
    assert 0 < distances.max() < 0.05
    assert np.linalg.norm(rough[3] - half.describe(pixels[3:]).fc7[0]) < 0.02  # another batch


def test_vgg_describes_a_photo_too(tmp_path: Path) -> None:
    shapes = {key: value.shape for key, value in build("vgg11").state_dict().items()}
    state = {key: torch.tensor(1e-3).expand(shape) for key, shape in shapes.items()}
    torch.save(state, tmp_path / "vgg11.pth")
    vgg = Extractor("vgg11", str(tmp_path / "vgg11.pth"), "cpu")
    described = vgg.describe(np.full((1, 224, 224, 3), 255, np.uint8))
    assert described.fc7[0] == pytest.approx(1 / 64, rel=1e-5)  # all alike, and a unit row


# Devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card here")
def test_cuda_without_a_card_is_refused_and_auto_takes_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no CUDA card can be used.*--device cpu"):
        Extractor("alexnet", "bundled", "cuda")
    weights = saved(zeros(), tmp_path / "zeros.pth")
    auto = Extractor("alexnet", weights, "auto")
    assert auto.device == "cpu"
    assert "torch sees no CUDA card" in auto.explain()
    assert auto.stamp == Extractor("alexnet", weights, "cpu").stamp


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(DeviceError, match="choose auto, cpu or cuda"):
        Extractor("alexnet", "bundled", "tpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_card_gives_the_cpus_descriptors(alexnet: Extractor) -> None:
    card = Extractor("alexnet", "bundled", "cuda")
    pixels = noise(card.batch_size + 3)
    theirs, ours = card.describe(pixels), alexnet.describe(pixels)
    assert np.linalg.norm(theirs.fc7 - ours.fc7, axis=1).max() < 0.02
    assert np.abs(theirs.probabilities - ours.probabilities).max() < 0.02
    assert card.stamp == alexnet.stamp


# Files


def test_files_come_back_in_order_and_bad_ones_cost_only_themselves(
    alexnet: Extractor, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alexnet, "batch_size", 3)
    paths = [draw(tmp_path / f"{seed}.png", seed) for seed in range(7)]
    paths[2].write_bytes(b"")
    paths[6].unlink()
    told: list[tuple[int, int]] = []
    described = dict(
        describe_files(paths, alexnet, workers=2, progress=lambda *now: told.append(now))
    )
    assert list(described) == list(range(7))
    assert told == [(3, 7), (6, 7), (7, 7)]
    for index, result in described.items():
        if index in (2, 6):
            assert isinstance(result, ImageError)
        else:
            assert not isinstance(result, ImageError)
            alone = alexnet.describe(frame(read_photo(paths[index])[0])[None])
            assert np.abs(result.fc7 - alone.fc7).max() < 1e-5


def test_only_bad_files_and_no_files_at_all_are_fine(alexnet: Extractor, tmp_path: Path) -> None:
    assert list(describe_files([], alexnet)) == []
    ((index, result),) = describe_files([tmp_path / "nowhere.jpg"], alexnet)
    assert index == 0
    assert isinstance(result, ImageError)


def test_decoding_stays_a_bounded_number_of_photos_ahead(
    alexnet: Extractor, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alexnet, "batch_size", 2)
    taken: list[int] = []
    photo = draw(tmp_path / "photo.png", 1)

    class Counted(list[Path]):
        """Counts how far it has been read."""

        def __iter__(self):  # type: ignore[no-untyped-def]
            for index, path in enumerate(super().__iter__()):
                taken.append(index)
                yield path

    next(describe_files(Counted([photo] * 50), alexnet))
    assert 2 <= len(taken) <= 8


# Labels


def test_top_labels_are_the_likeliest_classes_in_order() -> None:
    probabilities = np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]], np.float32)
    first, second = top_labels(probabilities, ("ant", "bee", "cat"), k=2)
    assert [prediction.label for prediction in first] == ["bee", "cat"]
    assert first[0].probability == pytest.approx(0.6)
    assert second == [
        Prediction("ant", pytest.approx(0.4)),
        Prediction("cat", pytest.approx(0.4)),
    ]


def test_daisies_are_mostly_called_daisies(alexnet: Extractor, gallery: Path) -> None:
    found = []
    for _, described in describe_files(sorted((gallery / "daisies").iterdir()), alexnet):
        assert not isinstance(described, ImageError)
        (predictions,) = top_labels(described.probabilities, alexnet.classes)
        assert len(predictions) == 5
        found.append("daisy" in {prediction.label for prediction in predictions})
    assert sum(found) > len(found) / 2
