"""indexer.bench: its works do the same with the same photos. How fast is not asserted here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexer.bench import indexing
from indexer.bench.indexing import Job, copy_usable, measure_indexing
from retrieval.errors import BenchError
from ui.cli import main


@pytest.fixture
def job(photos: Path, tmp_path: Path) -> Job:
    copy_usable(sorted(photos.rglob("*.*")), tmp_path / "job", 8, lambda done: None)
    return Job(tmp_path / "job", "alexnet", "bundled", "cpu", batch=3, workers=0)


@pytest.mark.parametrize("work", indexing.WORKS, ids=lambda work: work.__name__)
def test_each_work_does_every_photo(job: Job, work: indexing.Work) -> None:
    done = work(job)
    assert done.photos == 8
    assert done.seconds > 0


def test_the_plain_loop_and_fc7_give_the_same_descriptors(job: Job) -> None:
    plain = indexing.plain_descriptors(job, 8)
    ours = indexing.fc7_descriptors(job, 8)
    assert plain.shape == ours.shape == (8, 4096)
    assert np.linalg.norm(plain, axis=1) == pytest.approx(1, abs=1e-4)
    assert np.linalg.norm(plain - ours, axis=1).max() < 0.1


def test_reduced_decoding_differs_little_from_whole_and_only_for_large_photos(
    draw: Callable[..., Path], job: Job
) -> None:
    small = indexing.whole_descriptors(job, 8), indexing.fc7_descriptors(job, 8)
    apart = np.linalg.norm(small[0] - small[1], axis=1)
    for photo in job.photos():
        photo.unlink()
    draw(job.folder / "0.jpg", 1, (3000, 2000))
    whole, reduced = indexing.whole_descriptors(job, 8), indexing.fc7_descriptors(job, 8)
    assert apart.min() == 0  # some of the 8 are too small to be reduced
    assert 0 < np.linalg.norm(whole - reduced) < 0.1


def test_files_that_one_road_cannot_read_and_copies_are_left_out(
    photos: Path, tmp_path: Path
) -> None:
    shutil.copy(photos / "shoes" / "shoe-01.jpg", photos / "copy.jpg")
    whole = (photos / "shoes" / "shoe-02.jpg").read_bytes()
    (photos / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "notes.txt").write_text("no photo")
    told: list[int] = []
    files = sorted(photos.rglob("*.*"))
    megapixels, left_out = copy_usable(files, tmp_path / "job", 99, told.append)
    assert (len(megapixels), left_out) == (8, 3)
    assert told == list(range(1, 12))
    assert len(list((tmp_path / "job").iterdir())) == 8


def test_the_whole_bench_tells_rates_and_draws_them(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "figure.svg"
    arguments = ["--photos", str(photos), "--rounds", "1", "--device", "cpu", "--json"]
    assert main(["bench", "index", *arguments, "--plot", str(figure)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] == 8
    rates = ("plain", "fc7", "decoding", "computing", "limit", "ratio", "efficiency")
    assert all(told[name] > 0 for name in rates)
    assert told["binds"] in ("decoding", "the network")
    assert told["limit"] == pytest.approx(1 / (1 / told["decoding"] + 1 / told["computing"]))
    assert told["distance"] < 0.1
    assert told["reduced"] < 0.1
    assert figure.read_text().count("<rect") == 1 + 5  # the paper, and a bar a rate


def test_a_folder_without_photos_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(BenchError, match="holds no photos"):
        measure_indexing(
            tmp_path, network="alexnet", weights="bundled", device="cpu", most=9, rounds=1, batch=2
        )


def test_a_network_that_torchvision_lacks_has_no_plain_loop(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="torchvision's, which has no alexnet-half"):
        measure_indexing(
            tmp_path,
            network="alexnet-half",
            weights="bundled",
            device="cpu",
            most=9,
            rounds=1,
            batch=2,
        )


def test_a_fresh_process_helps_and_answers(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = str(tmp_path / "library")
    assert main(["index", str(job.folder), "--library", library, "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["bench", "start", "--library", library, "--rounds", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["photos"] == 8
    assert 0 < told["help"] < told["new"]
