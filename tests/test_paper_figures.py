"""retrieval.paper_figures: what is drawn is what the numbers and the photos say."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from drawn import Pixels

from indexer import Library
from retrieval.errors import EvaluationError
from retrieval.images import read_photo, thumbnail
from retrieval.labels import Prediction
from retrieval.paper_figures import (
    LabelledPhoto,
    draw_curves,
    draw_kernels,
    draw_neighbours,
    draw_top_five,
)
from retrieval.training_log import EpochFigures, PartFigures, read_log
from ui.cli import main

SVG = "{http://www.w3.org/2000/svg}"
HEAD = "epoch,seconds,lr,train_loss,train_top1,train_top5,val_loss,val_top1,val_top5\n"


def pictures(drawing: str) -> list[tuple[float, float, bytes]]:
    """(x, y, file) of each image."""
    return [
        (
            float(image.get("x", "")),
            float(image.get("y", "")),
            base64.b64decode(image.get("href", "").partition(",")[2]),
        )
        for image in ElementTree.fromstring(drawing).iter(f"{SVG}image")
    ]


def words(drawing: str) -> list[str]:
    return [text.text or "" for text in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def page_of(drawing: str) -> Pixels:
    [(_, _, file)] = pictures(drawing)
    return read_photo(file, min_side=1 << 20)[0]


def test_every_kernel_stands_in_the_grid_with_grey_for_nothing() -> None:
    kernels = np.random.default_rng(0).normal(size=(20, 3, 11, 11)).astype(np.float32)
    kernels[7] = 0
    page = page_of(draw_kernels(kernels, "twenty"))
    side, step = 5 * 11, 5 * 11 + 6  # each number is 5 x 5 pixels, six white ones between
    assert page.shape == (2 * step - 6, 16 * step - 6, 3)
    for place, kernel in enumerate(kernels):
        y, x = place // 16 * step, place % 16 * step
        tile = page[y : y + side, x : x + side]
        most = np.abs(kernel).max() or 1
        for row in range(11):
            for column in range(11):
                expected = 127.5 + 127.5 * kernel[:, row, column] / most
                cell = tile[5 * row : 5 * row + 5, 5 * column : 5 * column + 5].astype(int)
                assert np.abs(cell - expected).max() <= 1
    assert (page[:, side : side + 6] == 255).all()
    assert (page[step:, 4 * step :] == 255).all()  # the last row has four


def test_bars_are_as_long_as_classes_are_likely_and_the_true_one_is_red() -> None:
    likely = (Prediction("a & b", 0.5), Prediction("c", 0.25), Prediction("d", 0.1))
    jpeg = thumbnail(np.zeros((30, 40, 3), np.uint8))
    photos = [
        LabelledPhoto(jpeg, "c", likely, "c"),
        LabelledPhoto(jpeg, "<b>.jpg", likely, None),
        LabelledPhoto(jpeg, "elsewhere", likely, "elsewhere"),
    ]
    drawing = draw_top_five(photos)
    bars = [
        (float(rect.get("width", "")), rect.get("fill"))
        for rect in list(ElementTree.fromstring(drawing).iter(f"{SVG}rect"))[1:]  # after the page
    ]
    lengths, colours = zip(*bars[1::2], strict=True)  # every other one is what a bar lies on
    assert lengths == pytest.approx([200, 100, 40] * 3)
    assert [colour == "#e8a0b4" for colour in colours] == [False, True, False] + [False] * 6
    assert words(drawing)[:3] == ["c", "a & b", "50.0%"]
    assert "<b>.jpg" in words(drawing)
    assert len(pictures(drawing)) == 3


def test_neighbours_follow_their_query_nearest_first() -> None:
    files = [[bytes([row, place]) for place in range(7)] for row in range(2)]
    drawn = pictures(draw_neighbours([(files[0][0], files[0][1:]), (files[1][0], files[1][1:])]))
    rows = sorted({y for _, y, _ in drawn})
    assert len(rows) == 2
    for row, y in enumerate(rows):
        assert [file for _, _, file in sorted(one for one in drawn if one[1] == y)] == files[row]


def test_curves_show_validation_and_dashed_training() -> None:
    epochs = [
        EpochFigures(1, PartFigures(2.0, 0.8, 0.4), PartFigures(1.5, 0.6, 0.2)),
        EpochFigures(2, PartFigures(1.0, 0.4, 0.1), PartFigures(1.2, 0.5, 0.2)),
    ]
    root = ElementTree.fromstring(draw_curves({"first": epochs, "second": epochs[:1]}))
    panels = root.findall(f"{SVG}g[@transform]")
    lines = [
        [one for one in panel.findall(f"{SVG}polyline") if one.get("stroke-width") == "2"]
        for panel in panels
    ]
    titles = [
        panel.findall(f"{SVG}text")[0].text
        for panel in panels
        if panel.find(f"{SVG}text") is not None
    ]
    assert titles == ["loss", "top-1 error", "top-5 error"]
    for panel_lines in lines[:3]:
        assert [bool(one.get("stroke-dasharray")) for one in panel_lines] == [False, True] * 2
        assert len({one.get("stroke") for one in panel_lines}) == 2
    heights = [
        [float(point.split(",")[1]) for point in (one.get("points") or "").split()]
        for one in lines[0][:2]
    ]
    # From 1 to 2 nats training falls by 1, validation by 0.3: pixels tell the same.
    falls = [end - start for start, end in heights]
    assert falls[0] / falls[1] == pytest.approx(0.3, abs=0.02)
    assert [text.text for text in root.findall(f"{SVG}text")] == ["first", "second"]


def test_top_five_is_left_out_where_nothing_can_fail_it() -> None:
    part = PartFigures(0.5, 0.1, 0.0)
    drawing = draw_curves({"cats and dogs": [EpochFigures(1, part, part)]})
    assert "top-1 error" in words(drawing)
    assert "top-5 error" not in words(drawing)


def test_many_epochs_have_few_marks_on_the_axis() -> None:
    part = PartFigures(0.5, 0.1, 0.1)
    drawing = draw_curves({"long": [EpochFigures(n, part, part) for n in range(1, 91)]})
    panel = ElementTree.fromstring(drawing).findall(f"{SVG}g")[0]
    numbers = [t.text for t in panel.findall(f"{SVG}text") if re.fullmatch(r"\d+", t.text or "")]
    assert numbers == ["20", "40", "60", "80"]


def test_the_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEAD + "1,12.5,0.01,2.25,0.25,0.5,2.0,0.375,0.75\n")
    expected = EpochFigures(1, PartFigures(2.25, 0.75, 0.5), PartFigures(2.0, 0.625, 0.25))
    assert read_log(tmp_path) == [expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no log.csv"),
        (HEAD, "has no epoch yet"),
        ("epoch,loss\n1,2\n", "is not a log of fc7 train"),
        (HEAD + "one,12.5,0.01,2.25,0.25,0.5,2.0,0.375,0.75\n", "is not a log of fc7 train"),
    ],
)
def test_what_is_no_log_is_told_in_a_line(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "log.csv").write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_log(tmp_path)


# The commands


def test_the_kernels_of_the_bundled_alexnet_are_64_of_11_by_11(tmp_path: Path) -> None:
    out = tmp_path / "kernels.svg"
    assert main(["figures", "kernels", "--out", str(out)]) == 0
    assert words(out.read_text()) == ["conv1 of alexnet: 64 kernels of 11 × 11 × 3"]
    assert page_of(out.read_text()).shape == (4 * 61 - 6, 16 * 61 - 6, 3)


def test_photos_are_drawn_with_what_fc7_labels_says(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daisy = tmp_path / "daisy"  # ImageNet's class
    (photos / "sunflowers").rename(daisy)
    flowers = sorted(map(str, daisy.iterdir()))
    out = tmp_path / "top5.svg"
    assert main(["figures", "top5", *flowers, "--out", str(out), "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["labels", flowers[0], "--device", "cpu"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()
    first = words(out.read_text())[: 1 + 2 * 5]
    assert first[0] == "daisy"
    said = [line.split("  ")[-1] for line in lines]
    assert [one.rstrip("…") in name for one, name in zip(first[1::2], said, strict=True)] == [
        True
    ] * 5
    assert "#e8a0b4" in out.read_text()


def test_neighbours_are_those_of_the_library(
    photos: Path, library: Library, tmp_path: Path, gallery: Path
) -> None:
    library.index([photos])
    query = gallery / "sunflowers" / "sunflower-05.jpg"
    hits = library.search(query, 6)
    out = tmp_path / "neighbours.svg"
    where = str(library.path)
    library.close()
    assert main(["figures", "neighbours", str(query), "--library", where, "--out", str(out)]) == 0
    expected = [
        thumbnail(read_photo(path)[0], 264) for path in (query, *(h.photo.path for h in hits))
    ]
    assert [file for _, _, file in sorted(pictures(out.read_text()))] == expected


def test_the_curves_of_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [tmp_path / name / "cats" for name in ("one", "two")]
    for run in runs:
        run.mkdir(parents=True)
        (run / "log.csv").write_text(HEAD + "1,12.5,0.01,2.25,0.25,0.5,2.0,0.375,0.75\n")
    out = tmp_path / "curves.svg"
    assert main(["figures", "curves", *map(str, runs), "--out", str(out)]) == 0
    assert words(out.read_text())[-2:] == [str(run) for run in runs]


def test_a_photo_that_cannot_be_drawn_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "notes.txt"
    photo.write_text("no photo")
    out = str(tmp_path / "top5.svg")
    assert main(["figures", "top5", str(photo), "--out", out, "--device", "cpu"]) == 1
    assert capsys.readouterr().err == f"fc7: {photo} can't be used: not an image\n"
