"""The Network page in a real Chromium: kernels, bars, weights, and a run really trained."""

from __future__ import annotations

import base64
import csv
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from serving import serving

from indexer import Library, open_library
from retrieval.errors import EvaluationError
from retrieval.extractor import Extractor
from retrieval.images import frame, read_photo
from retrieval.labels import top_labels
from retrieval.training_log import read_log
from retrieval.training_runs import find_runs, read_about
from retrieval.weights import describe_file, load_weights
from ui.cli import main

HEAD = "epoch,rate,train_loss,train_top1,train_top5,val_loss,val_top1,val_top5,seconds\n"
HOSTILE = "<img src=x onerror=alert(1)> [b](javascript:alert(2))"


@pytest.fixture(scope="module")
def started(draw: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `fc7 ui` is started: a run of two epochs on tiny photos, and folders that look like."""
    place = tmp_path_factory.mktemp("started")
    for seed in range(16):
        draw(place / "photos" / ("even", "odd")[seed % 2] / f"{seed}.png", seed, (32, 32))
    command = ["train", str(place / "photos"), "--network", "alexnet-cifar", "--epochs", "2"]
    assert main([*command, "--device", "cpu", "--out", str(place / "runs" / "tiny")]) == 0
    for name, log in {"half": HEAD, HOSTILE: HEAD + "1,.1,nan,0,0,nan,0,0,1\n"}.items():
        (place / "runs" / name).mkdir()
        (place / "runs" / name / "log.csv").write_text(log)
    (place / "runs" / "no run").mkdir()
    (place / "log.csv").write_text(HEAD)  # so that the folder itself would pass for a run
    return place


@pytest.fixture(scope="module")
def library(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("tulips/tulip-01.jpg", "shoes/shoe-01.jpg", "cats/cat-01.png"):
        shutil.copy2(gallery / name, folder)
    with open_library(tmp_path_factory.mktemp("library")) as opened:
        opened.index([folder])
        yield opened


@pytest.fixture(scope="module")
def server(library: Library, started: Path) -> Iterator[str]:
    with serving(library.path, started=started) as address:
        yield address


def bars(page: Page) -> list[tuple[str, str]]:
    rows = page.locator(".seen li")
    expect(rows).to_have_count(5)
    words, shares = rows.locator("b").all_text_contents(), rows.locator("em").all_text_contents()
    return list(zip(words, shares, strict=True))


def upload(page: Page, file: Path) -> None:
    chooser = page.locator("input[type=file]")
    expect(chooser).to_have_count(1)  # while the page changes there may be an old one too
    chooser.set_input_files(file)


def test_an_upload_has_the_bars_that_the_extractor_gives(
    page: Page, server: str, gallery: Path, extractor: Extractor, tmp_path: Path
) -> None:
    foreign = gallery / "bananas" / "banana-02.jpg"
    framed = frame(read_photo(foreign)[0], extractor.framing, extractor.side)
    said = extractor.describe(framed[np.newaxis]).probabilities
    expected = top_labels(said, extractor.classes)[0]

    page.goto(f"{server}/network")
    upload(page, foreign)
    expect(page.locator(".seen p")).to_have_text("banana-02.jpg")
    assert bars(page) == [(one.label, f"{one.probability:.1%}") for one in expected]
    widths = page.locator(".seen li span").evaluate_all(
        "all => all.map(one => one.offsetWidth / one.parentElement.offsetWidth)"
    )
    assert widths == pytest.approx([one.probability for one in expected], abs=0.01)

    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    upload(page, broken)
    expect(page.get_by_text("broken.jpg can't be used")).to_be_visible()
    assert "upload=" in page.url  # the photo before it stays


def test_a_photo_of_the_library_has_its_stored_labels_and_kernels_and_weights_are_there(
    page: Page, server: str, library: Library, extractor: Extractor
) -> None:
    photo = next(one for one in library.photos() if one.path.name == "shoe-01.jpg")
    page.goto(f"{server}/network?photo={photo.id}")
    expect(page.locator(".seen p")).to_have_text("shoe-01.jpg")
    assert bars(page) == [(one.label, f"{one.probability:.1%}") for one in library.labels(photo.id)]

    kernels = page.get_by_role("img", name="The 64 patterns of the first layer of alexnet")
    expect(kernels).to_be_visible()
    drawing = ElementTree.fromstring(
        base64.b64decode((kernels.get_attribute("src") or "").partition(",")[2])
    )
    [image] = drawing.iter("{http://www.w3.org/2000/svg}image")
    grid = read_photo(base64.b64decode(image.get("href", "").partition(",")[2]), min_side=1 << 20)[
        0
    ]
    kernel = load_weights("alexnet").state_dict["features.0.weight"][9].numpy()  # row 1, column 1
    cell = grid[61 : 61 + 55 : 5, 61 : 61 + 55 : 5].astype(float)
    expected = 127.5 + 127.5 * kernel.transpose(1, 2, 0) / np.abs(kernel).max()
    assert np.abs(cell - expected).max() <= 1

    mine = page.locator(".weights details", has=page.locator("mark"))
    expect(mine.locator("summary")).to_contain_text(re.compile("alexnet.*bundled"))
    mine.locator("summary").click()
    expect(mine).to_contain_text(load_weights("alexnet").info.sha256)


def test_a_real_run_shows_its_curves_and_a_broken_one_a_sentence(
    page: Page, server: str, started: Path
) -> None:
    with (started / "runs" / "tiny" / "log.csv").open() as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["val_top1"]))
    page.goto(f"{server}/network?run=tiny")
    expect(page.get_by_role("img", name="Learning curves of tiny")).to_be_visible()
    right = f"{100 * float(best['val_top1']):.1f} % of the photos"
    expect(page.get_by_text(right)).to_contain_text(f"2 epochs so far. Best: {right}")
    expect(page.get_by_text("fc7 labels PHOTO --weights runs/tiny")).to_be_visible()

    expect(page.get_by_role("heading", name="Train one on classes of your own")).to_be_visible()
    field = page.get_by_role("combobox", name="Run")
    field.click()
    field.fill("img src")
    page.get_by_role("option").filter(has_text=HOSTILE).click()
    expect(page.get_by_text("epoch 1 went astray")).to_be_visible()
    expect(page.locator("img[src=x]")).to_have_count(0)

    page.goto(f"{server}/network?run=half")
    expect(page.get_by_text("has no epoch yet")).to_be_visible()


@pytest.mark.parametrize("name", ["..", ".", "no%20run", "tiny%2F..%2Ftiny", HOSTILE + "%00"])
def test_a_name_that_is_no_run_of_the_list_costs_a_sentence(
    page: Page, server: str, name: str
) -> None:
    page.goto(f"{server}/network?run={name}")
    expect(page.get_by_text("There is no run")).to_be_visible()
    expect(page.get_by_role("heading", name="Train one on classes of your own")).to_be_visible()


def test_without_photos_the_bundled_network_looks_and_weights_that_are_gone_cost_a_sentence(
    page: Page, gallery: Path, tmp_path: Path, started: Path, extractor: Extractor
) -> None:
    with serving(tmp_path / "empty", started=started) as address:
        page.goto(f"{address}/network")
        expect(page.get_by_text("Choose a photo to see its guesses.")).to_be_visible()
        upload(page, gallery / "bananas" / "banana-02.jpg")
        framed = frame(
            read_photo(gallery / "bananas" / "banana-02.jpg")[0],
            extractor.framing,
            extractor.side,
        )
        said = extractor.describe(framed[np.newaxis]).probabilities[0]
        assert bars(page)[0] == (extractor.classes[int(said.argmax())], f"{said.max():.1%}")
        page.goto("about:blank")  # before the server is gone

    run = shutil.copytree(started / "runs" / "tiny", tmp_path / "mine")
    with open_library(tmp_path / "own") as own:
        own.index([started / "photos"], weights=str(run))
    (run / "best.safetensors").unlink()
    with serving(tmp_path / "own", started=started) as address:
        page.goto(f"{address}/network")
        expect(page.get_by_text("holds no best.safetensors").first).to_be_visible()
        expect(page.get_by_role("img", name="Learning curves of mine")).to_be_visible()
        expect(page.locator(".weights summary").first).to_be_visible()
        page.goto("about:blank")


def test_runs_are_found_and_told_apart_from_other_folders(started: Path) -> None:
    assert [one.name for one in find_runs(started / "runs")] == sorted([HOSTILE, "half", "tiny"])
    assert find_runs(started / "nowhere") == []
    about = read_about(started / "runs" / "tiny")
    assert (about.network, about.preset, about.classes, about.epochs, about.start) == (
        *("alexnet-cifar", "fast", 2, 2),
        None,
    )
    with pytest.raises(EvaluationError, match=r"settings\.json"):
        read_about(started / "runs" / "half")
    info = describe_file("alexnet-cifar", str(started / "runs" / "tiny"))
    assert info == load_weights(None, str(started / "runs" / "tiny")).info


@pytest.mark.parametrize("row", ["1,.1,1,.5,.5,inf,.5,.5,1", "1,.1,1,.5,.5,1,1.5,.5,1",
                                 "9999999,.1,1,.5,.5,1,.5,.5,1", "1,.1,1"])  # fmt: skip
def test_a_log_that_makes_no_sense_is_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "log.csv").write_text(f"{HEAD}{row}\n")
    with pytest.raises(EvaluationError, match="not a log of fc7 train"):
        read_log(tmp_path)
