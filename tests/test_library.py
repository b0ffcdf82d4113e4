"""The library follows its folders, and answers from what they hold now."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import indexer.coding
import indexer.pipeline
import indexer.status
from indexer import IndexReport, Library, open_library
from indexer.catalog import SegmentRow
from indexer.segments import to_merge
from retrieval.errors import ImageError, LibraryError, WeightsError
from retrieval.extractor import Extractor
from retrieval.images import frame, read_photo

Draw = Callable[..., Path]


def counts(report: IndexReport) -> dict[str, int]:
    names = ("added", "updated", "moved", "removed", "unchanged")
    found = {name: getattr(report, name) for name in names if getattr(report, name)}
    return found | ({"skipped": len(report.skipped)} if report.skipped else {})


def stored_thumbnails(library: Library) -> set[str]:
    with closing(sqlite3.connect(library.path / "thumbnails.sqlite")) as connection:
        return {hash_ for (hash_,) in connection.execute("SELECT hash FROM thumbnails")}


def paths(library: Library) -> set[Path]:
    return {photo.path for photo in library.photos()}


def test_indexing_twice_is_indexing_once(library: Library, photos: Path) -> None:
    assert counts(library.index([photos])) == {"added": 8}
    first = library.photos()
    assert counts(library.index([photos])) == {"unchanged": 8}
    assert library.photos() == first


def test_an_unchanged_file_is_not_read_again(library: Library, photos: Path) -> None:
    library.index([photos])
    for photo in photos.rglob("*.jpg"):
        photo.chmod(0o600)  # changes ctime, not mtime or size
        stat = photo.stat()
        photo.write_bytes(b"\0" * stat.st_size)
        os.utime(photo, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert counts(library.index([photos])) == {"unchanged": 8}


def test_the_metadata_of_a_photo_is_kept(library: Library, gallery: Path, tmp_path: Path) -> None:
    shutil.copy2(gallery / "sunsets" / "sunset-03.jpg", tmp_path / "sunset.jpg")
    library.index([tmp_path])
    (photo,) = library.photos()
    assert photo.path == tmp_path / "sunset.jpg"
    assert photo.size == photo.path.stat().st_size
    assert photo.format == "JPEG"
    with Image.open(photo.path) as picture:
        assert {photo.width, photo.height} == set(picture.size)
        exif = picture.getexif().get_ifd(0x8769)
    assert photo.taken_at is not None
    assert photo.taken_at[:19].replace("T", " ") == exif[0x9003].replace(":", "-", 2)
    assert photo.latitude == pytest.approx(53 + 22 / 60, abs=0.02)
    assert photo.longitude == pytest.approx(-(6 + 15 / 60), abs=0.02)
    assert photo.norm > 0
    assert [len(library.labels(photo.id)), library.labels(photo.id)[0].probability > 0] == [5, True]


def test_a_renamed_photo_keeps_its_id_and_its_descriptor(library: Library, photos: Path) -> None:
    library.index([photos])
    old = photos / "shoes" / "shoe-01.jpg"
    before = next(photo for photo in library.photos() if photo.path == old)
    answers = [(hit.photo.id, hit.distance) for hit in library.search(before.id)]
    (photos / "elsewhere").mkdir()
    old.rename(photos / "elsewhere" / "new name.jpg")
    assert counts(library.index([photos])) == {"moved": 1, "unchanged": 7}
    after = library.photo(before.id)
    assert after.path == photos / "elsewhere" / "new name.jpg"
    assert after.indexed_at == before.indexed_at
    assert [(hit.photo.id, hit.distance) for hit in library.search(after.id)] == answers


def test_a_renamed_folder_moves_its_photos(library: Library, photos: Path) -> None:
    library.index([photos])
    new = photos.rename(photos.parent / "renamed")
    assert counts(library.index([new])) == {"moved": 8}
    assert library.status().folders == (new,)


def test_an_edited_photo_gets_the_descriptor_of_what_it_shows_now(
    library: Library, photos: Path, draw: Draw
) -> None:
    library.index([photos])
    target = photos / "shoes" / "shoe-01.jpg"
    shutil.copy(photos / "bananas" / "banana-01.jpg", target)
    assert counts(library.index([photos])) == {"updated": 1, "unchanged": 7}
    nearest = library.search(photos / "bananas" / "banana-01.jpg", 1)[0]
    assert (nearest.photo.path, nearest.distance) == (target, 0.0)


def test_a_touched_photo_is_unchanged(library: Library, photos: Path) -> None:
    library.index([photos])
    (photos / "shoes" / "shoe-01.jpg").touch()
    assert counts(library.index([photos])) == {"unchanged": 8}
    assert counts(library.index([photos])) == {"unchanged": 8}


def test_a_removed_photo_leaves_the_answers(library: Library, photos: Path) -> None:
    library.index([photos])
    gone = photos / "shoes" / "shoe-01.jpg"
    gone.unlink()
    assert counts(library.index([photos])) == {"removed": 1, "unchanged": 7}
    assert gone not in {hit.photo.path for hit in library.search(photos / "shoes" / "shoe-02.jpg")}
    assert gone not in paths(library)


def test_a_folder_that_vanished_keeps_its_photos_unless_pruned(
    library: Library, photos: Path
) -> None:
    library.index([photos])
    unplugged = photos.rename(photos.parent / "unplugged")
    for _ in range(2):
        report = library.index([photos])
        assert (counts(report), report.missing_folders) == ({}, (photos,))
    photos.mkdir()  # the mount point of an unplugged disk: there, but empty
    assert library.index([photos]).missing_folders == (photos,)
    assert library.count() == 8
    photos.rmdir()
    unplugged.rename(photos)
    assert counts(library.index()) == {"unchanged": 8}
    photos.rename(unplugged)
    assert counts(library.index([photos], prune=True)) == {"removed": 8}
    assert (library.count(), library.status().folders) == (0, ())


def test_a_bad_file_costs_itself_and_is_tried_again_when_it_changes(
    library: Library, photos: Path
) -> None:
    good = (photos / "shoes" / "shoe-01.jpg").read_bytes()
    (photos / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (photos / "empty.jpg").touch()
    (photos / "notes.txt").write_text("no picture")
    report = library.index([photos])
    assert counts(report) == {"added": 8, "skipped": 3}
    reasons = {skip.path.name: skip.reason for skip in report.skipped}
    assert reasons == {
        "empty.jpg": "empty file",
        "notes.txt": "not an image",
        "truncated.jpg": "truncated",
    }
    assert counts(library.index([photos])) == {"unchanged": 8, "skipped": 3}
    (photos / "truncated.jpg").write_bytes(good + b"\0" * 9)  # another file than shoe-01
    (photos / "notes.txt").unlink()
    assert counts(library.index([photos])) == {"added": 1, "unchanged": 8, "skipped": 1}


def test_a_photo_that_becomes_bad_leaves_the_answers(library: Library, photos: Path) -> None:
    library.index([photos])
    (photos / "shoes" / "shoe-01.jpg").write_bytes(b"")
    assert counts(library.index([photos])) == {"unchanged": 7, "skipped": 1}
    assert library.count() == 7


def test_a_photo_is_not_its_own_answer_but_its_copy_is(library: Library, photos: Path) -> None:
    original = photos / "shoes" / "shoe-01.jpg"
    shutil.copy(original, photos / "copy.jpg")
    library.index([photos])
    hits = library.search(original, 50)
    assert hits[0].photo.path == photos / "copy.jpg"
    assert hits[0].distance == 0.0
    assert original not in {hit.photo.path for hit in hits}
    assert [hit.rank for hit in hits] == list(range(1, 9))


def test_a_query_from_outside_finds_all_photos_nearest_first(
    library: Library, photos: Path, gallery: Path
) -> None:
    library.index([photos])
    outside = gallery / "shoes" / "shoe-03.jpg"
    hits = library.search(outside, 50)
    assert {hit.photo.path for hit in hits} == paths(library)
    assert [hit.distance for hit in hits] == sorted(hit.distance for hit in hits)
    same = library.search(outside.read_bytes(), 50)
    assert [(hit.rank, hit.photo.id) for hit in same] == [(hit.rank, hit.photo.id) for hit in hits]
    assert library.count() == 8  # asking adds nothing


def test_distances_equal_a_plain_loop_over_the_extractor(
    library: Library, photos: Path, extractor: Extractor
) -> None:
    library.index([photos])
    rows = {}
    for path in paths(library):
        pixels, _ = read_photo(path)
        rows[path] = extractor.describe(frame(pixels, extractor.framing)[np.newaxis]).fc7[0]
    query = photos / "shoes" / "shoe-01.jpg"
    for hit in library.search(query, 50):
        expected = float(np.sqrt(((rows[query] - rows[hit.photo.path]) ** 2).sum()))
        assert hit.distance == pytest.approx(expected, abs=2e-3)  # rows are stored in fp16


def test_bad_queries_are_told_in_one_line(library: Library, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="holds no photos yet"):
        library.search(photos / "shoes" / "shoe-01.jpg")
    library.index([photos])
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty\.jpg"):
        library.search(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        library.search(tmp_path / "nowhere.jpg")
    with pytest.raises(LibraryError, match="no photo 999"):
        library.search(999)
    with pytest.raises(LibraryError, match="ask for 1 or more"):
        library.search(photos / "shoes" / "shoe-01.jpg", 0)


def test_a_folder_inside_another_is_indexed_once(library: Library, photos: Path) -> None:
    library.index([photos / "shoes"])
    assert counts(library.index([photos / "shoes", photos])) == {"added": 6, "unchanged": 2}
    assert counts(library.index([photos / "bananas"])) == {"unchanged": 2}
    assert library.status().folders == (photos,)


def test_a_folder_that_never_was_is_refused(library: Library, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="is not there"):
        library.index([tmp_path / "nowhere"])
    with pytest.raises(LibraryError, match="name one"):
        library.index()


def test_another_model_is_refused(library: Library, photos: Path) -> None:
    library.index([photos])
    with pytest.raises(LibraryError, match="--library"):
        library.index([photos], network="vgg16")
    with open_library(library.path.parent / "other") as other, pytest.raises(WeightsError):
        other.index([photos], network="nonsense")


def test_a_library_inside_its_folder_does_not_index_itself(
    photos: Path, extractor: Extractor
) -> None:
    with open_library(photos / "library", extractor=extractor) as library:
        assert counts(library.index([photos])) == {"added": 8}
        assert counts(library.index([photos])) == {"unchanged": 8}


def test_a_folder_with_other_files_is_not_made_a_library(photos: Path) -> None:
    with pytest.raises(LibraryError, match="holds other files"):
        open_library(photos)
    with pytest.raises(LibraryError, match="fc7 index FOLDER makes one"):
        open_library(photos.parent / "absent", create=False)
    assert not (photos.parent / "absent").exists()


def test_the_second_run_at_once_says_so_and_stops(library: Library, photos: Path) -> None:
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import filelock, sys\n"
            f"with filelock.FileLock({str(library.path / 'index.lock')!r}):\n"
            "    print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert held.stdout is not None
    assert held.stdout.readline() == "held\n"
    with pytest.raises(LibraryError, match="another run is at work"):
        library.index([photos])
    held.kill()  # a killed run leaves no lock behind
    held.communicate()
    assert counts(library.index([photos])) == {"added": 8}


def test_a_reader_sees_what_another_process_indexed(library: Library, photos: Path) -> None:
    library.index([photos / "shoes"])
    query = photos / "shoes" / "shoe-01.jpg"
    assert len(library.search(query)) == 1
    code = (
        "import sys; from pathlib import Path; from indexer import open_library\n"
        "with open_library(Path(sys.argv[1])) as library: library.index([Path(sys.argv[2])])"
    )
    subprocess.run([sys.executable, "-c", code, library.path, photos], check=True)
    assert len(library.search(query)) == 7


def test_thumbnails_are_upright_and_small(library: Library, gallery: Path) -> None:
    library.index([gallery / "rotated"])
    sizes = set()
    for photo in library.photos():
        with Image.open(io.BytesIO(library.thumbnail(photo.id) or b"")) as picture:
            assert picture.format == "JPEG"
            sizes.add(picture.size)
    assert len(sizes) == 1
    assert max(sizes.pop()) == 320


def test_eight_orientations_of_one_scene_are_near_one_another(
    library: Library, gallery: Path
) -> None:
    library.index([gallery / "rotated", gallery / "mountains"])
    for photo in library.photos():
        if photo.path.parent.name == "rotated":
            hits = library.search(photo.id, 8)
            assert {hit.photo.path.parent.name for hit in hits[:7]} == {"rotated"}
            assert hits[6].distance < hits[7].distance / 2


def test_small_segments_are_merged_and_answers_stay(
    library: Library,
    draw: Draw,
    tmp_path: Path,
    extractor: Extractor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(indexer.pipeline, "BATCH", 2)
    folder = tmp_path / "drawn"
    for seed in range(20):
        draw(folder / f"{seed:02}.png", seed, (64, 64))
    library.index([folder])
    segments = list((library.path / "segments").glob("*.faiss"))
    assert len(segments) < 8
    with open_library(tmp_path / "at once", extractor=extractor) as other:
        monkeypatch.setattr(indexer.pipeline, "BATCH", 128)
        other.index([folder])
        for photo in library.photos():
            ours = {h.photo.path: h.distance for h in library.search(photo.path, 5)}
            theirs = {h.photo.path: h.distance for h in other.search(photo.path, 5)}
            assert ours == pytest.approx(theirs, abs=1e-3)


def test_rows_of_removed_photos_are_dropped_in_time(
    library: Library, draw: Draw, tmp_path: Path
) -> None:
    folder = tmp_path / "drawn"
    for seed in range(6):
        draw(folder / f"{seed}.png", seed, (64, 64))
    library.index([folder])
    (before,) = (library.path / "segments").glob("*.faiss")
    size = before.stat().st_size
    for seed in range(4):
        (folder / f"{seed}.png").unlink()
    library.index([folder])
    (after,) = (library.path / "segments").glob("*.faiss")
    assert after.stat().st_size < size / 2
    assert len(stored_thumbnails(library)) == 2
    assert [hit.photo.path.name for hit in library.search(folder / "4.png")] == ["5.png"]


def test_merging_copies_each_row_a_few_times_only() -> None:
    copied, segments = 0, []
    for batch in range(1000):
        segments.append(SegmentRow(f"{batch}", 128))
        while names := to_merge(segments):
            merged = sum(one.rows for one in segments if one.name in names)
            copied += merged
            segments = [one for one in segments if one.name not in names]
            segments.append(SegmentRow(f"{batch} merged {merged}", merged))
    assert copied <= 4 * 1000 * 128
    assert len(segments) < 32


def test_status_tells_what_the_library_holds(library: Library, photos: Path) -> None:
    assert library.status().network is None
    library.index([photos])
    status = library.status()
    assert (status.photos, status.folders) == (8, (photos,))
    assert (status.network, status.weights) == ("alexnet", "bundled")
    on_disk = sum(file.stat().st_size for file in library.path.rglob("*") if file.is_file())
    assert status.bytes == on_disk
    assert status.last_run is not None
    assert time.strptime(status.last_run[:19], "%Y-%m-%dT%H:%M:%S")
    assert status.codes is not None
    assert (status.codes.bits, status.codes.own, status.codes.recall) == (256, False, None)
    assert status.advice == ()


def test_status_says_when_other_codes_would_be_better(
    library: Library, photos: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.coding, "LEAST", 40)
    monkeypatch.setattr(indexer.status, "_WORTH_TRAINING", 40)
    for seed in range(32):
        draw(photos / f"{seed}.png", seed, (64, 64))
    library.index([photos])
    (line,) = library.status().advice
    assert line.startswith("fc7 codes train: codes learned from these photos")
    library.train_codes(32)
    status = library.status()
    assert status.codes is not None
    assert (status.codes.bits, status.codes.own, status.codes.learned_from) == (32, True, 40)
    assert (status.codes.recall, status.codes.measured_on) == (1, 40)
    assert status.advice == ()
    for seed in range(32, 160):
        draw(photos / f"{seed}.png", seed, (64, 64))
    library.index([photos])
    (line,) = library.status().advice
    assert "many more photos than the codes were learned from" in line


def test_a_damaged_or_missing_segment_is_told(library: Library, photos: Path) -> None:
    library.index([photos])
    (segment,) = (library.path / "segments").glob("*.faiss")
    library.close()
    whole = segment.read_bytes()
    for rest in (whole[:40], b""):
        segment.write_bytes(rest)
        with (
            open_library(library.path) as again,
            pytest.raises(LibraryError, match="index again"),
        ):
            again.search(1)


def test_a_library_that_may_not_be_written_is_told(library: Library, photos: Path) -> None:
    library.index([photos])
    library.close()
    with sqlite3.connect(library.path / "catalog.sqlite") as plain:
        plain.execute("CREATE TRIGGER full BEFORE UPDATE ON settings BEGIN SELECT no_such(); END")
    plain.close()
    with pytest.raises(LibraryError, match="can't be used"):
        library.index([photos])


def test_names_that_no_terminal_likes_are_indexed(library: Library, draw: Draw) -> None:
    folder = library.path.parent / "odd"
    names = ["two\nlines.png", "quote'\".png", "🙂.png", "-k.png", "a" * 251 + ".png", " .png"]
    for seed, name in enumerate(names):
        draw(folder / "plain.png", seed, (64, 64)).rename(folder / name)
    bad = folder / "b\udcff.png"  # a byte that is not UTF-8
    draw(folder / "plain.png", 99, (64, 64)).rename(bad)
    library.index([folder])
    assert {path.name for path in paths(library)} == {*names, bad.name}
    assert json.dumps([str(hit.photo.path) for hit in library.search(bad)])


def test_a_copy_that_is_read_before_its_original_is_stored_shares_its_row(
    library: Library, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexer.pipeline, "BATCH", 2)
    first = draw(tmp_path / "photos" / "0.png", 0)
    for number in range(1, 7):
        (tmp_path / "photos" / f"{number}.png").write_bytes(first.read_bytes())
    report = library.index([tmp_path / "photos"])
    assert (report.added, library.count()) == (7, 7)
    assert len({photo.content_hash for photo in library.photos()}) == 1


def test_a_run_tells_what_its_time_went_to(library: Library, photos: Path) -> None:
    pace = library.index([photos]).pace
    assert pace is not None
    assert pace.files == 8
    assert "alexnet" in pace.how
    assert min(pace.reading, pace.describing, pace.storing) > 0
    assert library.index([photos]).pace is None
