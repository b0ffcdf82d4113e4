"""The one run that writes a library: what it tells, how it is stopped, how its death is seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from serving import HOUSE

from indexer import Library
from indexer.work import Work, ask_to_stop, is_busy, is_stopping, read_work, working
from retrieval.errors import LibraryError
from ui import runs


def test_what_a_run_tells_can_be_read_while_it_works_and_after(tmp_path: Path) -> None:
    assert read_work(tmp_path) is None
    with working(tmp_path, "index") as journal:
        begun = read_work(tmp_path)
        assert begun is not None
        assert (begun.what, begun.pid, begun.end) == ("index", os.getpid(), None)
        journal.tell("photos", 5, 5)
        told = read_work(tmp_path)
        assert told is not None
        assert (told.stage, told.done, told.total, told.token) == ("photos", 5, 5, begun.token)
        journal.conclude(added=5)
    ended = read_work(tmp_path)
    assert ended is not None
    assert (ended.end, ended.result, ended.error) == ("done", '{"added": 5}', None)
    assert not list(tmp_path.glob("*.partial"))


def test_a_second_run_is_refused_and_the_first_ones_journal_stays(tmp_path: Path) -> None:
    with working(tmp_path, "index"):
        first = read_work(tmp_path)
        with pytest.raises(LibraryError, match="another run"), working(tmp_path, "codes"):
            pass
        assert read_work(tmp_path) == first
        assert is_busy(tmp_path)
    assert not is_busy(tmp_path)


def test_only_the_run_that_is_meant_stops(tmp_path: Path) -> None:
    ask_to_stop(tmp_path, "another one's token")
    with pytest.raises(KeyboardInterrupt), working(tmp_path, "index") as journal:
        journal.tell("photos", 2, 2)
        work = read_work(tmp_path)
        assert work is not None
        ask_to_stop(tmp_path, work.token)
        assert is_stopping(tmp_path, work.token)
        journal.tell("photos", 3, 3)
    ended = read_work(tmp_path)
    assert ended is not None
    assert ended.end == "stopped"
    assert not is_stopping(tmp_path, ended.token)


def test_a_failure_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(LibraryError), working(tmp_path, "index"):
        raise LibraryError("no folder was indexed yet")
    work = read_work(tmp_path)
    assert work is not None
    assert (work.end, work.error) == ("failed", "no folder was indexed yet")


def test_a_killed_run_is_told_from_one_at_work(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from indexer.work import working\n"
        "with working(pathlib.Path(sys.argv[1]), 'index') as journal:\n"
        "    journal.tell('photos', 1, 1)\n"
        "    print('at work', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HOUSE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    work = read_work(tmp_path)
    assert work is not None
    assert (work.end, work.pid) == (None, process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    dead = read_work(tmp_path)
    assert dead is not None
    assert (dead.end, dead.done) == ("died", 1)


def test_looking_never_costs_a_run_its_start(tmp_path: Path) -> None:
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            is_busy(tmp_path)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            with working(tmp_path, "index"):
                assert is_busy(tmp_path)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_rate_and_time_left_are_those_of_the_stage() -> None:
    # 60 of 300 in 20 seconds of the stage, which began 100 seconds after the run.
    work = Work("t", "index", 1, 0.0, told=120.0, stage="photos", stage_started=100.0, done=60,
                total=300)  # fmt: skip
    assert work.rate() == 3.0
    assert work.seconds_left() == 80.0
    assert Work("t", "index", 1, 0.0, told=120.0).rate() is None


@pytest.mark.parametrize("text", ["", "[]", '{"token": 1}', "\0\xff"])
def test_a_journal_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    assert read_work(tmp_path) is None


def test_indexing_leaves_its_counts(library: Library, photos: Path) -> None:
    library.index([photos])
    work = library.work()
    assert work is not None
    assert (work.end, work.stage, work.done, work.total) == ("done", "photos", 8, 8)
    assert '"added": 8' in work.result


def test_a_folder_that_is_forgotten_takes_its_photos_along_and_leaves_the_files(
    library: Library, photos: Path
) -> None:
    shoes, cats = photos / "shoes", photos / "bananas"
    library.index([shoes, cats])
    kept = {photo.path for photo in library.photos() if photo.path.parent == cats}
    assert library.forget(shoes) == 2
    assert {photo.path for photo in library.photos()} == kept
    assert library.status().folders == (cats,)
    assert library.status().folder_photos == (2,)
    assert len(list(shoes.iterdir())) == 2
    library.index()
    assert library.count() == 2
    with pytest.raises(LibraryError, match="no folder of"):
        library.forget(photos / "mountains")


def test_storage_is_counted_by_what_it_is_for(library: Library, photos: Path) -> None:
    library.index([photos])
    status = library.status()
    files = {file for file in library.path.rglob("*") if file.is_file()}
    segments = sum(file.stat().st_size for file in files if file.parent.name == "segments")
    assert status.storage["descriptors"] == segments > 0
    thumbnails = [file for file in files if file.name.startswith("thumbnails.sqlite")]
    assert status.storage["thumbnails"] == sum(file.stat().st_size for file in thumbnails)
    assert status.bytes == sum(file.stat().st_size for file in files)
    assert status.lost_segments == ()
    next((library.path / "segments").glob("*.faiss")).unlink()
    assert len(library.status().lost_segments) == 1


def test_what_a_person_types_is_checked_before_anything_is_started(tmp_path: Path) -> None:
    library, photos, closed = (tmp_path / name for name in ("library", "photos", "closed"))
    for folder in (library, photos / "inside", closed):
        folder.mkdir(parents=True)
    (photos / "a.jpg").write_bytes(b"")

    def trouble(text: str) -> str:
        return runs.check_folder(text, library, [photos])[1].removeprefix("library.add.")

    assert trouble("") == trouble("  ") == trouble("/\0") == "which"
    assert trouble("Pictures") == trouble("~nobody-of-that-name/x") == "whole"
    assert trouble(str(tmp_path / "gone")) == "not there"
    assert trouble(str(photos / "a.jpg")) == "file"
    assert trouble(str(library)) == trouble(f"{photos}/../library") == "itself"
    assert trouble(str(photos)) == trouble(str(photos / "inside")) == "known"
    assert runs.check_folder(f" {tmp_path}/photos/.. ", library, [photos]) == (tmp_path, "")


def test_a_run_that_cannot_begin_says_why(library: Library, photos: Path) -> None:
    with working(library.path, "index"), pytest.raises(LibraryError, match="another run"):
        runs.index(library.path, [photos])
