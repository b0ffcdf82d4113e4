"""Broken photos, made by the hundred: the short form of the parts `images` and `fuzzing`."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from torture.fuzzing import fuzzed, judge
from torture.images import MUTANTS, REASONS, Tally, indexed, mutants, originals_row, tally_of
from torture.photo_mutants import mutant, originals

from retrieval.workers import CRASHES

FILES = Path(__file__).parent / "files"


def test_the_originals_are_whole_pictures() -> None:
    row = originals_row()
    assert row.tried >= 3 * len(originals())
    assert row.lost == 0


@pytest.mark.parametrize("format", originals())
def test_a_mutated_file_gives_a_picture_or_a_known_reason_and_fells_no_worker(format: str) -> None:
    tally = tally_of(mutants(format, 60))
    assert tally.tried == 60
    assert (tally.wrong, tally.fell, tally.lost) == ([], [], 0)
    assert tally.reasons.total() > 10  # most changes must be seen
    assert tally.peak_bytes > 0


def test_mutants_are_the_same_each_time_and_differ_from_each_other() -> None:
    for format, files in originals().items():
        made = [hashlib.sha256(mutant(format, number)).digest() for number in range(200)]
        assert made == [hashlib.sha256(mutant(format, number)).digest() for number in range(200)]
        assert len(set(made)) > 150
        assert len(set(made) & {hashlib.sha256(data).digest() for data in files}) < 20
    assert MUTANTS >= 20_000


def test_a_wrong_answer_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torture.images.REASONS", ("damaged",))
    tally: Tally = tally_of([("empty", b""), ("text", b"no photo")])
    assert tally.lost == tally.tried == 2
    assert tally.wrong == ["empty: empty file", "text: not an image"]


def test_fc7_index_takes_all_good_photos_and_lists_all_others(photos: Path, tmp_path: Path) -> None:
    row = indexed(tmp_path / "run", 60, photos)
    assert row.tried == 8 + 60
    assert row.lost == 0, row.note


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_a_fuzzer_finds_nothing_in_a_moment(tmp_path: Path) -> None:
    row = fuzzed(tmp_path, 3)
    assert row.tried > 10
    assert row.lost == 0, row.note
    assert list((tmp_path / "corpus").iterdir())


def test_a_file_that_really_crashes_its_decoder_costs_itself(gallery: Path) -> None:
    """Until pi-heif is mended: then it may be refused for another reason, or read."""
    reason = judge(FILES / "crashes-pi-heif-1.4.0.heic")
    assert reason in ("read", *REASONS)
    if version("pi-heif") == "1.4.0":
        assert reason == CRASHES
    assert judge(next((gallery / "shoes").iterdir())) == "read"


def test_without_a_fuzzer_its_row_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torture.fuzzing.find_spec", lambda name: None)
    row = fuzzed(tmp_path, 3)
    assert (row.tried, row.lost) == (0, 1)
