"""fc7 bench search: real libraries of drawn descriptors, asked by processes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from indexer.bench.memory import peak_bytes
from indexer.bench.search import bench_search, sizes
from retrieval.errors import BenchError
from retrieval.extractor import Extractor
from retrieval.images import frame, read_photo
from retrieval.synthetic import VIEWS, describe_views, mix


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, gallery: Path) -> Path:
    """12 photos of the gallery, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for photo in sorted(gallery.glob("*/*.jpg"))[::9][:12]:
        shutil.copy(photo, folder)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_libraries_grow_in_even_steps_of_a_logarithmic_axis() -> None:
    assert sizes(1_000_000) == [10_000, 30_000, 100_000, 300_000, 1_000_000]
    assert sizes(50_000) == [10_000, 30_000, 50_000]
    assert sizes(1_000) == [1_000]


def test_ten_views_of_a_photo_are_five_and_these_mirrored(
    photos: Path, extractor: Extractor
) -> None:
    photo = sorted(photos.glob("*.jpg"))[0]
    rows = describe_views([photo, photos / "notes.txt"], extractor)
    assert rows.shape == (VIEWS, 4096)
    pixels, _ = read_photo(photo)
    height, width = (round(0.6 * side) for side in pixels.shape[:2])
    expected = [
        pixels,
        pixels[:, ::-1],
        pixels[-height:, -width:],
        pixels[:height, :width][:, ::-1],
    ]
    for at, part in zip((0, 5, 4, 6), expected, strict=True):
        own = extractor.describe(frame(np.ascontiguousarray(part))[np.newaxis]).fc7[0]
        assert np.linalg.norm(rows[at] - own) < 0.05


def test_drawn_descriptors_are_unit_rows_of_what_the_seeds_activate() -> None:
    rng = np.random.default_rng(0)
    seeds = np.abs(rng.standard_normal((30, 50))).astype(np.float32)
    seeds[:, 40:] = 0
    seeds[:, :5] *= rng.random((30, 5)) < 0.2
    seeds /= np.linalg.norm(seeds, axis=1, keepdims=True)
    rows = mix(seeds, 400, np.random.default_rng(1))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert (rows >= 0).all()
    assert not rows[:, 40:].any()
    assert 0.2 < (rows[:, :5] > 0).mean() < 0.7  # three seeds: each may bring it
    assert len(np.unique(rows, axis=0)) == 400
    assert np.array_equal(rows, mix(seeds, 400, np.random.default_rng(1)))


def test_the_bench_asks_a_library_and_leaves_nothing_behind(
    photos: Path, extractor: Extractor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told: list[tuple[str, int, int]] = []
    (row,) = bench_search(1_200, photos, extractor, lambda *what: told.append(what))
    assert row.photos == 1_200
    assert min(row.exact_ms, row.codes_ms, row.codes_cold_ms, row.opening_ms) > 0
    assert 0.9 < row.recall_at_10 <= 1
    assert row.shortlist == 400  # so few are not measured
    assert 30e6 < row.codes_bytes < 1e9
    assert row.summary().keys() >= {"photos", "exact_ms", "codes_ms", "recall@10", "rss_mb"}
    assert told[-1] == ("descriptors", 1_200, 1_200)
    assert ("photos", 13, 13) in told
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_one_object_and_draws_a_figure(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "ui.cli", "bench", "search", "--photos", "1000"]
    command += ["--data", str(photos), "--json", "--plot", str(tmp_path / "figure.svg")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row["photos"] == 1000
    assert row["times_faster"] == pytest.approx(row["exact_ms"] / row["codes_ms"])
    assert "recall@10" in (tmp_path / "figure.svg").read_text()


@pytest.mark.parametrize(
    ("count", "line"),
    [
        (10, "10 photos are too few to measure: 1,000 or more"),
        (10**12, "GB left, 1,000,000,000,000 photos need 9000000.0: ask for fewer, or .* TMPDIR"),
    ],
)
def test_what_can_not_be_measured_is_told_in_a_line(
    photos: Path, extractor: Extractor, count: int, line: str
) -> None:
    with pytest.raises(BenchError, match=line):
        list(bench_search(count, photos, extractor))


def test_a_folder_of_too_few_photos_is_told(tmp_path: Path, extractor: Extractor) -> None:
    with pytest.raises(BenchError, match="holds 0 photos: too few to draw others from"):
        list(bench_search(1_000, tmp_path, extractor))
    with pytest.raises(BenchError, match="no folder"):
        list(bench_search(1_000, tmp_path / "none", extractor))


def test_peak_memory_sees_what_was_taken_and_given_back() -> None:
    before = peak_bytes()
    taken = np.ones(300_000_000 // 8)
    size = taken.nbytes
    del taken
    assert peak_bytes() >= before
    assert peak_bytes() > size
