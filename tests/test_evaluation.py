"""retrieval.evaluation on drawn and on real photos, in every layout of ground truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.errors import EvaluationError
from retrieval.evaluation import evaluate_retrieval
from retrieval.extractor import Extractor
from retrieval.ground_truth import Skip
from retrieval.reading import describe_files, describe_part

Draw = Callable[..., Path]


@pytest.fixture(scope="module")
def alexnet() -> Extractor:
    return Extractor("alexnet", "bundled", "cpu")


@pytest.fixture
def drawn(tmp_path: Path, draw: Draw) -> Path:
    """Three groups: two alike of red, three of blue, one green alone."""
    folder = tmp_path / "photos"
    for label, seeds in {"red": (1, 1), "blue": (2, 2, 2), "green": (3,)}.items():
        for index, seed in enumerate(seeds):
            draw(folder / label / f"{index}.png", seed, (320 + 8 * index, 240))
    return folder


# Folders and CSV files


def test_folders_are_labels(drawn: Path, alexnet: Extractor) -> None:
    (drawn / "blue" / "notes.txt").write_text("not a photo")
    (drawn / "cover.png").write_bytes((drawn / "red" / "0.png").read_bytes())
    (drawn / "red" / ".hidden.png").write_bytes(b"")
    told: list[tuple[str, int, int]] = []
    figures = evaluate_retrieval(drawn, "folder", alexnet, lambda *stage: told.append(stage))
    assert (figures.photos, figures.queries, figures.without_relevant, figures.labels) == (
        6,
        5,
        1,
        3,
    )
    assert figures.skipped == (
        Skip("cover.png", "no label (not in a subfolder)"),
        Skip("blue/notes.txt", "not an image"),
    )
    assert told[-1] == ("photos", 7, 7)
    assert figures.exact.mean_average_precision == pytest.approx(1.0)
    assert figures.exact.precision_at_10 == pytest.approx((2 * 0.1 + 3 * 0.2) / 5)
    assert figures.exact.n_s == pytest.approx((2 * 2 + 3 * 3) / 5)


def test_a_csv_of_the_same_labels_gives_the_same_figures(
    drawn: Path, alexnet: Extractor, tmp_path: Path
) -> None:
    lines = ["path,label"]
    for path in sorted(drawn.rglob("*.png")):
        lines.append(f"{path.relative_to(drawn).as_posix()},{path.parent.name}")
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join([*lines, "red/gone.png,red"]), encoding="utf-8-sig")
    by_csv = evaluate_retrieval(drawn, labels, alexnet).summary()
    by_folder = evaluate_retrieval(drawn, "folder", alexnet).summary()
    (skip,) = by_csv.pop("skipped")  # type: ignore[misc]
    assert skip["path"] == "red/gone.png"
    assert by_folder.pop("skipped") == []
    assert by_csv == by_folder
    exact = {"mAP", "mAP@1000", "precision@10", "recall@10", "n_s"}
    assert by_csv["exact"].keys() == exact  # type: ignore[union-attr]
    assert by_csv["codes"] == []
    assert by_csv["codes_learned_on"] is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must begin with a line that names the columns path,label; it has nothing"),
        ("file,class\na.png,x\n", "it has file,class"),
        ("path,label\nred/0.png\n", "line 2: path or label is empty"),
        ("path,label\n../secret.png,x\n", "leaves the folder"),
        ("path,label\nred/../../x.png,x\n", "leaves the folder"),
        ("path,label\n/etc/passwd,x\n", "leaves the folder"),
        ("path,label\nred/0.png,a\nred/./0.png,a\n", r"lists red/0\.png twice"),
        ('path,label\n"red/0.png,a\n', "can't be read as CSV"),
        ("path,label\nred/0.png,a\nred/1.png,b\n", "nothing to measure"),
        ("path,label\n", "nothing to measure"),
    ],
)
def test_ground_truth_that_makes_no_sense_is_refused(
    text: str, complaint: str, drawn: Path, alexnet: Extractor, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(text)
    with pytest.raises(EvaluationError, match=complaint):
        evaluate_retrieval(drawn, labels, alexnet)


def test_missing_folders_and_files_are_refused(
    drawn: Path, alexnet: Extractor, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="no folder"):
        evaluate_retrieval(tmp_path / "nowhere", "folder", alexnet)
    with pytest.raises(EvaluationError, match=r"nowhere\.csv is not there: labels are"):
        evaluate_retrieval(drawn, tmp_path / "nowhere.csv", alexnet)


def test_the_sample_photos_find_their_own_kind(gallery: Path, alexnet: Extractor) -> None:
    figures = evaluate_retrieval(gallery, "folder", alexnet)
    assert figures.exact.mean_average_precision > 0.7  # a network of random numbers: 0.3
    assert [skip.path for skip in figures.skipped] == ["SOURCES.md"]


# Published layouts


def test_ukbench_of_drawn_photos_scores_four(
    draw: Draw, alexnet: Extractor, tmp_path: Path
) -> None:
    for number in range(8):
        draw(tmp_path / f"ukbench{number:05}.jpg", number // 4, (320 + 8 * number, 240))
    figures = evaluate_retrieval(tmp_path, "ukbench", alexnet)
    assert (figures.photos, figures.queries, figures.labels) == (8, 8, 2)
    assert figures.exact.n_s == pytest.approx(4.0)


def test_in_holidays_a_query_that_is_damaged_or_alone_is_not_counted(
    draw: Draw, alexnet: Extractor, tmp_path: Path
) -> None:
    for name in ("100000", "100001", "100101", "100200", "100301"):
        draw(tmp_path / f"{name}.jpg", int(name) // 100, (320 + int(name) % 100, 240))
    (tmp_path / "100100.jpg").write_text("damaged")
    figures = evaluate_retrieval(tmp_path, "holidays", alexnet)
    assert (figures.photos, figures.queries, figures.without_relevant) == (5, 1, 1)
    assert figures.skipped == (Skip("100100.jpg", "not an image"),)
    assert figures.exact.mean_average_precision == pytest.approx(1.0)


def test_corel_of_drawn_photos(draw: Draw, alexnet: Extractor, tmp_path: Path) -> None:
    for number in (0, 1, 100, 101):
        draw(tmp_path / f"{number}.jpg", number // 100, (320 + 8 * (number % 2), 240))
    figures = evaluate_retrieval(tmp_path, "corel", alexnet)
    assert (figures.queries, figures.labels) == (4, 2)
    assert figures.exact.mean_average_precision == pytest.approx(1.0)


@pytest.fixture
def oxford(draw: Draw, tmp_path: Path) -> tuple[Path, Path]:
    """A photo of two halves, left and right; one photo like each half, one junk, one distractor."""
    photos, truth = tmp_path / "jpg", tmp_path / "gt"
    truth.mkdir()
    for name, seed in {"left": 1, "right": 2, "junk": 2, "other": 3}.items():
        draw(photos / f"{name}.png", seed, (320, 240))
    both = Image.new("RGB", (640, 240))
    both.paste(Image.open(photos / "left.png"), (0, 0))
    both.paste(Image.open(photos / "right.png"), (320, 0))
    both.save(photos / "both.png")
    lists = {
        "query": "oxc1_both 320 0 640 240\n",
        "good": "right\n",
        "ok": "both\n",
        "junk": "junk\n",
    }
    for kind, text in lists.items():
        (truth / f"hall_1_{kind}.txt").write_text(text)
    return photos, truth


def test_oxford_asks_with_the_box_and_leaves_junk_out(
    oxford: tuple[Path, Path], alexnet: Extractor
) -> None:
    photos, truth = oxford
    figures = evaluate_retrieval(photos, truth, alexnet)
    assert (figures.photos, figures.queries, figures.parts) == (5, 1, 1)
    # "right" is the same picture; "both" is in the answer too, with two that may precede it.
    precision = figures.exact.mean_average_precision
    assert any(precision == pytest.approx((1 + 2 / rank) / 2) for rank in (2, 3, 4))
    for kind in ("good", "ok"):
        (truth / f"hall_1_{kind}.txt").write_text("")
    with pytest.raises(EvaluationError, match="nothing to measure"):
        evaluate_retrieval(photos, truth, alexnet)


def test_a_part_is_described_as_the_same_picture_in_a_file_of_its_own(
    oxford: tuple[Path, Path], alexnet: Extractor
) -> None:
    photos, _ = oxford
    part = describe_part(photos / "both.png", (320, 0, 640.2, 9999), alexnet).fc7
    ((_, whole),) = describe_files([photos / "right.png"], alexnet)
    np.testing.assert_allclose(part, whole.fc7, atol=1e-5)  # type: ignore[union-attr]


def test_a_box_outside_its_photo_costs_only_that_query(
    oxford: tuple[Path, Path], alexnet: Extractor
) -> None:
    photos, truth = oxford
    for kind, text in {"query": "left 900 0 999 9", "good": "both", "ok": "", "junk": ""}.items():
        (truth / f"hall_2_{kind}.txt").write_text(text)
    figures = evaluate_retrieval(photos, truth, alexnet)
    assert figures.queries == 1
    assert figures.skipped == (Skip("left.png", "the box lies outside the photo"),)


# Codes


@pytest.fixture(scope="module")
def some(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six groups of the sample photos, at most six of each."""
    folder = tmp_path_factory.mktemp("some")
    for group in ("bananas", "cats", "lemons", "shoes", "sunsets", "tulips"):
        (folder / group).mkdir()
        for photo in sorted((gallery / group).iterdir())[:6]:
            (folder / group / photo.name).symlink_to(photo)
    return folder


def test_codes_are_learned_on_other_photos_and_measured_beside_exact_search(
    some: Path, gallery: Path, alexnet: Extractor
) -> None:
    told: list[tuple[str, int, int]] = []
    figures = evaluate_retrieval(
        some,
        "folder",
        alexnet,
        lambda *stage: told.append(stage),
        bits=(32,),
        learn_from=gallery,
    )
    assert figures.learned_on is not None
    assert figures.learned_on.photos == 123 - figures.photos  # but for those evaluated
    assert figures.learned_on.skipped == 1  # SOURCES.md
    rows = figures.summary()["codes"]
    assert [row["method"] for row in rows] == [  # type: ignore[attr-defined]
        "autoencoder",
        "ITQ",
        "PCA signs",
        "random hyperplanes",
    ]
    for row in rows:  # type: ignore[attr-defined]
        assert (row["bits"], row["bytes_per_photo"]) == (32, 4)
        assert 0.3 < row["mAP"] < figures.exact.mean_average_precision + 0.05
        assert row["recall@10"].keys() >= {"100", "400"}
        assert row["recall@10"]["100"] == pytest.approx(1.0)  # a shortlist of all
        assert row["rerank_recall@10"] == pytest.approx(1.0)
        assert row["seconds_to_learn"] > 0
    assert told[-1] == ("coders", 4, 4)
    assert {stage for stage, _, _ in told} == {"photos", "photos to learn from", "coders"}


def test_codes_that_can_not_be_learned_are_refused(
    drawn: Path, alexnet: Extractor, draw: Draw, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    for copy in range(33):
        draw(one / f"{copy}.png", 1)
    for options, complaint in (
        ({"bits": (48,)}, "codes have 32, 64, 128, 256, 512 bits, not 48"),
        ({"learn_from": tmp_path}, "add --bits"),
        ({"bits": (32,), "learn_from": tmp_path / "nowhere"}, "no folder"),
        ({"bits": (32,), "learn_from": one}, "all the same picture"),
        ({"bits": (32,)}, "6 photos are too few to learn 32 bits"),
        ({"bits": (32,), "learn_from": drawn}, "0 photos are too few to learn 32 bits"),
    ):
        with pytest.raises(EvaluationError, match=complaint):
            evaluate_retrieval(drawn, "folder", alexnet, **options)  # type: ignore[arg-type]
