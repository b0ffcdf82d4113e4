"""Libraries of networks trained at home: the folder of a run is all that fc7 must be given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import transforms

from indexer import open_library
from retrieval import extractor as extractor_module
from retrieval.errors import LibraryError, WeightsError
from retrieval.extractor import Extractor
from retrieval.networks import MEAN, STD, create
from retrieval.weights import load_weights, network_of

Draw = Callable[..., Path]

HOUSE = Path(__file__).parent.parent
CLASSES = ("ant", "bee", "cow")
# What a plain script does with a photo, network by network.
AS_USUAL = {
    "alexnet-half": [transforms.Resize(256), transforms.CenterCrop(224)],
    "alexnet-cifar": [transforms.Resize((32, 32))],
}


@pytest.fixture(scope="module", autouse=True)
def float32() -> Iterator[None]:
    """Full precision whatever this processor has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extractor_module, "has_bfloat16", lambda: False)
        yield


def trained(folder: Path, network: str, seed: int = 0) -> Path:
    """What a training run leaves, as far as indexing needs it; its numbers are random."""
    folder.mkdir(parents=True, exist_ok=True)
    module = create(network, len(CLASSES), torch.Generator().manual_seed(seed))
    state = {key: place.contiguous() for key, place in module.state_dict().items()}
    words = {"network": network, "classes": json.dumps(CLASSES), "source": "a test"}
    save_file(state, folder / "best.safetensors", metadata=words)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {network: trained(folder / network, network) for network in AS_USUAL}


@pytest.fixture(scope="module")
def drawn(draw: Draw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven photos of several shapes."""
    folder = tmp_path_factory.mktemp("drawn")
    shapes = [(320, 240), (240, 320), (256, 256), (300, 400), (500, 260), (90, 60), (32, 32)]
    for seed, size in enumerate(shapes):
        draw(folder / f"{seed}.png", seed, size)
    return folder


def plainly(run: Path, network: str, photos: list[Path]) -> tuple[NDArray[np.float32], Tensor]:
    """Unit FC7 and probabilities as a script of a few lines has them, photo by photo."""
    module = create(network, len(CLASSES)).eval()
    module.load_state_dict(load_file(run / "best.safetensors"))
    caught: list[Tensor] = []
    module.get_submodule("classifier")[5].register_forward_hook(  # type: ignore[index]
        lambda *call: caught.append(call[2][0])
    )
    usual = [*AS_USUAL[network], transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    chances = []
    with torch.inference_mode():
        for photo in photos:
            with Image.open(photo) as image:
                pixels = transforms.Compose(usual)(image.convert("RGB"))
            chances.append(module(pixels[None]).softmax(dim=1)[0])
    return nn.functional.normalize(torch.stack(caught)).numpy(), torch.stack(chances)


def fc7(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ui.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=HOUSE,
        env=os.environ,
    )


# Libraries


@pytest.mark.parametrize("network", AS_USUAL)
def test_a_library_of_a_run_answers_as_a_plain_loop_does(
    network: str, runs: dict[str, Path], drawn: Path, tmp_path: Path
) -> None:
    photos = sorted(drawn.iterdir())
    with open_library(tmp_path / "library") as library:
        report = library.index([drawn], weights=str(runs[network]), device="cpu")
        assert report.added == len(photos)
        answers = {photo: library.search(photo, 50) for photo in photos}
        labels = {one.path: library.labels(one.id) for one in library.photos()}
        status = library.status()
    assert (status.network, status.weights) == (network, str(runs[network]))
    rows, chances = plainly(runs[network], network, photos)
    for at, photo in enumerate(photos):
        distances = np.sqrt(((rows[at] - rows) ** 2).sum(axis=1))
        order = [photos[other] for other in np.argsort(distances) if other != at]
        assert [hit.photo.path for hit in answers[photo]] == order
        for hit in answers[photo]:
            expected = distances[photos.index(hit.photo.path)]
            assert hit.distance == pytest.approx(expected, abs=5e-3)  # stored in half precision
        likeliest = chances[at].argsort(descending=True)
        assert [one.label for one in labels[photo]] == [CLASSES[place] for place in likeliest]
        assert [one.probability for one in labels[photo]] == pytest.approx(
            chances[at][likeliest].tolist(), abs=5e-3
        )


def test_a_library_asks_with_the_network_it_was_made_with(
    runs: dict[str, Path], drawn: Path, tmp_path: Path
) -> None:
    run = runs["alexnet-cifar"]
    with open_library(tmp_path / "library") as library:
        library.index([drawn], weights=str(run), device="cpu")
    with open_library(tmp_path / "library") as library:  # a new process: nothing is loaded yet
        assert library.index(weights=str(run)).unchanged == 7
        assert library.index(network="alexnet-cifar").unchanged == 7
        content = (drawn / "3.png").read_bytes()
        assert library.search(content)[0].distance == pytest.approx(0, abs=5e-3)
        with pytest.raises(LibraryError, match=rf"is of alexnet-cifar \({run}\), not of vgg16 \("):
            library.index(network="vgg16")
        other = runs["alexnet-half"]
        with pytest.raises(LibraryError, match=rf"is of alexnet-cifar \({run}\), not of {other}:"):
            library.index(weights=str(other))


def test_a_library_notices_that_its_network_was_trained_on(
    drawn: Path, draw: Draw, tmp_path: Path
) -> None:
    run = trained(tmp_path / "run", "alexnet-cifar", seed=1)
    with open_library(tmp_path / "library") as library:
        library.index([drawn], weights=str(run), device="cpu")
    trained(run, "alexnet-cifar", seed=2)
    with (
        open_library(tmp_path / "library") as library,
        pytest.raises(LibraryError, match=rf"other alexnet-cifar weights than {run} holds now"),
    ):
        library.search(draw(tmp_path / "new.png", 99))


# Weights that name their network


def test_a_run_and_its_file_are_the_same_weights(runs: dict[str, Path]) -> None:
    run = runs["alexnet-cifar"]
    of_folder, of_file = (
        Extractor(None, str(run), "cpu"),
        Extractor("alexnet-cifar", str(run / "best.safetensors"), "cpu"),
    )
    assert of_folder.stamp == of_file.stamp
    assert of_folder.weights == str(run)
    assert of_folder.classes == CLASSES
    assert (of_folder.network, of_folder.side, of_folder.fc7_size) == ("alexnet-cifar", 32, 2048)
    assert (of_folder.framing, Extractor(None, str(runs["alexnet-half"]), "cpu").framing) == (
        "squash",
        "crop",
    )
    described = of_folder.describe(np.zeros((3, 32, 32, 3), np.uint8))
    assert described.fc7.shape == (3, 2048)
    with pytest.raises(ValueError, match=r"not uint8 \(n, 32, 32, 3\)"):
        of_folder.describe(np.zeros((1, 224, 224, 3), np.uint8))


def test_weights_that_name_no_network_are_alexnets(tmp_path: Path) -> None:
    assert network_of("bundled") == network_of("imagenet") == "alexnet"
    (tmp_path / "own.pth").touch()
    assert network_of(str(tmp_path / "own.pth")) == "alexnet"
    with pytest.raises(WeightsError, match=r"no weights file .*nowhere\.pth"):
        network_of(str(tmp_path / "nowhere.pth"))


def test_a_network_that_contradicts_the_weights_is_told(runs: dict[str, Path]) -> None:
    line = r"alexnet-cifar/best\.safetensors is for alexnet-cifar, not vgg16: leave --network out"
    with pytest.raises(WeightsError, match=line):
        load_weights("vgg16", str(runs["alexnet-cifar"]))


def test_weights_for_a_network_of_tomorrow_are_told(tmp_path: Path) -> None:
    words = {"network": "resnet18"}
    save_file({"x": torch.zeros(1)}, tmp_path / "own.safetensors", metadata=words)
    with pytest.raises(WeightsError, match=r"own\.safetensors is for resnet18.*doesn't know"):
        load_weights(None, str(tmp_path / "own.safetensors"))


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no best\.safetensors: give the folder of a run"):
        load_weights(None, str(tmp_path))


@pytest.mark.parametrize("weights", ["bundled", "imagenet"])
def test_a_network_without_weights_of_its_own_must_be_trained(weights: str) -> None:
    with pytest.raises(WeightsError, match=r"alexnet-2012.*train it with fc7 train"):
        load_weights("alexnet-2012", weights)


def test_a_folder_called_bundled_does_not_hide_the_bundled_weights(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundled").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_library(tmp_path / "library") as library:
        assert library.index([drawn], weights="bundled", device="cpu").added == 7


# The command line


def test_a_run_is_indexed_searched_and_asked_for_labels_from_the_command_line(
    runs: dict[str, Path], drawn: Path, tmp_path: Path
) -> None:
    run, library, photo = runs["alexnet-cifar"], tmp_path / "library", drawn / "1.png"
    made = fc7("index", drawn, "--library", library, "--weights", run)
    assert (made.returncode, made.stderr) == (0, "")
    found = fc7("search", photo, "--library", library, "--json")
    assert [json.loads(line)["rank"] for line in found.stdout.splitlines()] == list(range(1, 7))
    told = fc7("labels", photo, drawn / "2.png", "--weights", run, "--json")
    assert (told.returncode, told.stderr) == (0, "")
    _, chances = plainly(run, "alexnet-cifar", [photo, drawn / "2.png"])
    for line, row in zip(told.stdout.splitlines(), chances, strict=True):
        labels = {one["label"]: one["probability"] for one in json.loads(line)["labels"]}
        assert [labels[name] for name in CLASSES] == pytest.approx(row.tolist(), abs=0.02)


def test_a_contradiction_is_one_line_on_the_command_line(
    runs: dict[str, Path], drawn: Path
) -> None:
    run = runs["alexnet-cifar"]
    failed = fc7("labels", drawn / "1.png", "--weights", run, "--network", "vgg16")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == (
        "fc7: alexnet-cifar/best.safetensors is for alexnet-cifar, not vgg16: leave --network out, "
        "or give other weights\n"
    )


def test_networks_that_must_be_trained_are_listed() -> None:
    last = fc7("networks").stdout.splitlines()[-1]
    assert last.startswith("without weights of their own, to be trained: alexnet-2012, ")
