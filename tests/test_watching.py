"""`fc7 watch` in a process of its own, and folders that change under it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import filelock
import pytest

from indexer import Library, open_library
from indexer.mounts import Mount, mount_of, mounts, mounts_around, parse_mounts
from indexer.watching import Lookout

HOUSE = Path(__file__).parent.parent
PATIENCE = 120.0  # seconds; how long a busy machine may take to see what happened
Draw = Callable[..., Path]


class Watch:
    """`fc7 watch --json` at work, and what it has told so far."""

    def __init__(self, library: Path, *arguments: object) -> None:
        command = [sys.executable, "-m", "ui.cli", "watch", "--json", "--library", str(library)]
        self.library = library
        self.rounds: list[dict[str, Any]] = []
        self.notices: list[str] = []
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=HOUSE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            Thread(target=self._read, args=(self.process.stdout, self.rounds, json.loads)),
            Thread(target=self._read, args=(self.process.stderr, self.notices, str.rstrip)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, told: list[Any], parse: Callable[[str], Any]) -> None:
        with stream:
            told.extend(map(parse, stream))

    def until(self, seen: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not seen():
            assert self.process.poll() is None, self.notices
            assert time.monotonic() < end, (self.rounds, self.notices)
            time.sleep(0.2)

    def until_photos(self, expected: set[Path]) -> None:
        self.until(lambda: ids(self.library).keys() == expected)

    def total(self, what: str) -> int:
        return sum(one[what] for one in self.rounds)

    def stop(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join()
        return code


def ids(library: Path) -> dict[Path, int]:
    """The photos of a library, as another process sees them meanwhile."""
    if not (library / "catalog.sqlite").exists():
        return {}
    with open_library(library, create=False) as opened:
        return {photo.path: photo.id for photo in opened.photos(limit=1000)}


def files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Watch]]:
    """Starts a watch over `tmp_path / "library"`; one that a test leaves is killed."""
    begun: list[Watch] = []

    def begin(*arguments: object) -> Watch:
        begun.append(Watch(tmp_path / "library", *arguments))
        return begun[-1]

    yield begin
    for one in begun:
        one.stop(signal.SIGKILL)


@pytest.mark.parametrize("how", [(), ("--poll", 0.2)], ids=["told by the system", "polling"])
def test_a_library_follows_its_folder(
    start: Callable[..., Watch], photos: Path, gallery: Path, how: tuple[object, ...]
) -> None:
    watch = start(photos, "--settle", 0.2, *how)
    watch.until_photos(files(photos))
    before = ids(watch.library)

    new = photos / "new" / "deep"
    new.mkdir(parents=True)
    shutil.copy(gallery / "cats" / "cat-01.png", new)
    watch.until_photos(files(photos))
    shutil.copy(gallery / "cats" / "cat-02.jpg", new)  # where the folder itself was new
    watch.until_photos(files(photos))

    (photos / "shoes").rename(photos / "boots")
    watch.until_photos(files(photos))
    after = ids(watch.library)
    for name in ("shoe-01.jpg", "shoe-02.jpg"):
        assert after[photos / "boots" / name] == before[photos / "shoes" / name]

    (photos / "boots" / "shoe-01.jpg").unlink()
    watch.until_photos(files(photos))

    away = photos.with_name("away")  # as an unplugged disk
    photos.rename(away)
    watch.until(lambda: any("its photos are kept" in line for line in watch.notices))
    kept = ids(watch.library)
    shutil.copy(gallery / "cats" / "cat-03.jpg", away)
    away.rename(photos)
    watch.until_photos(files(photos))
    assert ids(watch.library).items() > kept.items()
    shutil.copy(gallery / "tulips" / "tulip-05.jpg", photos)
    watch.until_photos(files(photos))
    watch.until(lambda: watch.total("added") == 12)

    assert watch.stop(signal.SIGINT) == 0
    assert [line for line in watch.notices if "is back" in line] == [f"fc7: {photos} is back"]
    assert watch.notices[-1] == "fc7: stopped; the same command goes on from here"
    told = {what: watch.total(what) for what in ("added", "updated", "moved", "removed")}
    assert told == {"added": 12, "updated": 0, "moved": 2, "removed": 1}


def test_files_are_read_once_whole_and_a_burst_is_one_round(
    start: Callable[..., Watch], draw: Draw, tmp_path: Path
) -> None:
    drawn, folder = tmp_path / "drawn", tmp_path / "photos"
    for seed in range(40):
        draw(drawn / f"{seed:02}.png", seed, (64, 64))
    draw(folder / "first.png", 99, (64, 64))
    watch = start(folder, "--settle", 1)
    watch.until(lambda: watch.total("added") == 1)
    told = len(watch.rounds)
    for file in sorted(drawn.iterdir()):
        whole = file.read_bytes()
        with (folder / file.name).open("wb", buffering=0) as copy:
            copy.write(whole[: len(whole) // 2])
            time.sleep(0.02)
            copy.write(whole[len(whole) // 2 :])
    watch.until(lambda: watch.total("added") == 41)
    assert watch.stop(signal.SIGTERM) == 0
    assert len(watch.rounds) - told <= 3  # one, unless this machine stood still in between
    assert all(one["new_skips"] == [] for one in watch.rounds)
    assert watch.total("updated") == 0
    assert ids(watch.library).keys() == files(folder)


def test_a_copy_that_stalls_is_told_and_read_when_it_goes_on(
    start: Callable[..., Watch], photos: Path, gallery: Path
) -> None:
    whole = (gallery / "cats" / "cat-01.png").read_bytes()
    half, before = photos / "half.png", files(photos)
    half.write_bytes(whole[: len(whole) // 2])
    os.utime(half, (1, 1))
    watch = start(photos, "--settle", 0.2)
    watch.until_photos(before)
    watch.until(lambda: any(one["new_skips"] for one in watch.rounds))
    with half.open("ab") as copy:
        copy.write(whole[len(whole) // 2 :])
    watch.until_photos({*before, half})
    assert [one["new_skips"] for one in watch.rounds if one["new_skips"]] == [
        [{"path": str(half), "reason": "truncated"}]
    ]


def test_killed_it_goes_on_where_it_was_and_waits_for_another_run(
    start: Callable[..., Watch], draw: Draw, tmp_path: Path
) -> None:
    folder, library = tmp_path / "photos", tmp_path / "library"
    for seed in range(150):
        draw(folder / f"{seed:03}.png", seed, (64, 64))
        os.utime(folder / f"{seed:03}.png", (1, 1))
    watch = start(folder)
    watch.until(lambda: bool(ids(library)))
    watch.stop(signal.SIGKILL)
    kept = ids(library)
    with filelock.FileLock(library / "index.lock"):
        watch = start(folder, "--settle", 0.2)
        watch.until(lambda: len(watch.notices) == 1)
        assert watch.notices[0].endswith("wait for it, or stop it first; waiting for it")
        assert ids(library) == kept
    watch.until_photos(files(folder))
    assert ids(library).items() >= kept.items()
    watch.until(lambda: bool(watch.rounds))
    assert watch.rounds[0]["unchanged"] + watch.rounds[0]["added"] == 150
    with filelock.FileLock(library / "index.lock"):
        draw(folder / "new.png", 150, (64, 64))
        watch.until(lambda: len(watch.notices) == 2)
    watch.until_photos(files(folder))


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the system has no prlimit")
def test_a_disk_that_is_full_is_told_and_the_round_tried_again(
    start: Callable[..., Watch], photos: Path, gallery: Path
) -> None:
    watch = start(photos, "--settle", 0.2)
    watch.until_photos(files(photos))
    watch.until(lambda: bool(watch.rounds))  # what goes wrong in the first round ends it
    before = resource.prlimit(watch.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(watch.process.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    kept = ids(watch.library)
    shutil.copy(gallery / "cats" / "cat-01.png", photos)
    watch.until(lambda: bool(watch.notices))
    assert watch.notices[0].endswith("trying again")
    assert ids(watch.library) == kept
    resource.prlimit(watch.process.pid, resource.RLIMIT_FSIZE, before)
    watch.until_photos(files(photos))
    assert watch.stop(signal.SIGINT) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_where_the_system_cannot_watch_it_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.watching.POLL", 0.3)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(handle.name) for handle in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, limits[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        os.close(taken.pop())  # one is enough to list a folder, not to watch it
        lookout = Lookout([tmp_path], tmp_path / "library", settle=0.1, poll=None)
    finally:
        for handle in taken:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    (notice,) = lookout.notices
    assert notice.startswith("the system can't watch the folders (")
    assert notice.endswith("looking every 0.3 s")
    (tmp_path / "new.jpg").touch()
    with closing(lookout):
        lookout.wait(unsettled=False)  # returns: it has seen the file
    assert not lookout.is_stale


def test_names_that_the_watcher_cannot_take_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff")).mkdir()
    lookout = Lookout([tmp_path], tmp_path / "library", settle=0.1, poll=None)
    assert lookout.notices == [f"names in {tmp_path} are not UTF-8: looking every 10 s"]
    lookout.close()


def test_links_are_not_followed_and_the_library_in_a_folder_is_not_watched(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    library = folder / "library"
    library.mkdir(parents=True)
    (folder / "link").symlink_to(outside, target_is_directory=True)
    with closing(Lookout([folder], library, settle=0.5, poll=None)) as lookout:
        seen = Thread(target=lookout.wait, kwargs={"unsettled": False})
        seen.start()
        for place in (outside / "a.jpg", library / "catalog.sqlite", folder / ".hidden"):
            place.touch()
        seen.join(2)
        assert seen.is_alive()
        (folder / "a.jpg").touch()
        seen.join(PATIENCE)
        assert not seen.is_alive()


def test_what_is_wrong_from_the_start_ends_it(tmp_path: Path) -> None:
    for arguments, line in (
        ([], "fc7: no folder was indexed yet: name one, as in fc7 index ~/Pictures"),
        ([tmp_path / "nowhere"], f"fc7: {tmp_path / 'nowhere'} is not there: name the folder that"),
    ):
        watch = Watch(tmp_path / "library", *arguments)
        assert watch.process.wait(PATIENCE) == 1
        watch.stop(signal.SIGKILL)
        assert len(watch.notices) == 1
        assert watch.notices[0].startswith(line)


# --- files that may still be written to


def test_a_young_file_is_left_for_later_and_its_photo_as_it_is(
    library: Library, photos: Path, gallery: Path
) -> None:
    library.index([photos])
    before = library.photo_at(photos / "shoes" / "shoe-01.jpg")
    whole = (gallery / "cats" / "cat-01.png").read_bytes()
    before.path.write_bytes(whole[: len(whole) // 2])  # an editor saving over it
    report = library.index([photos], settle=60)
    assert (report.later, report.unchanged, report.removed, report.skipped) == (1, 7, 0, ())
    assert library.photo(before.id) == before
    before.path.write_bytes(whole)
    os.utime(before.path, (1, 1))
    report = library.index([photos], settle=60)
    assert (report.later, report.updated) == (0, 1)
    assert library.photo_at(before.path).id == before.id


def test_a_photo_moved_to_a_young_file_keeps_its_id(library: Library, photos: Path) -> None:
    library.index([photos])
    old, new = photos / "shoes" / "shoe-01.jpg", photos / "tulips" / "other.jpg"
    before = library.photo_at(old).id
    new.parent.mkdir()
    shutil.copyfile(old, new)
    old.unlink()
    (photos / "bananas" / "banana-01.jpg").unlink()  # of another size: it is gone
    report = library.index([photos], settle=60)
    assert (report.later, report.moved, report.removed) == (1, 0, 1)
    os.utime(new, (1, 1))
    report = library.index([photos], settle=60)
    assert (report.later, report.moved, report.removed) == (0, 1, 0)
    assert library.photo_at(new).id == before


def test_a_file_of_the_far_future_is_not_left_for_ever(library: Library, photos: Path) -> None:
    for file in files(photos):
        os.utime(file, (time.time() + 86_400, time.time() + 86_400))
    assert library.index([photos], settle=60).added == 8


def test_a_run_that_changes_nothing_leaves_open_searches_as_they_are(
    library: Library, photos: Path
) -> None:
    library.index([photos])
    before = library.generation()
    library.index([photos])
    assert library.generation() == before
    (photos / "shoes" / "shoe-01.jpg").unlink()
    library.index([photos])
    assert library.generation() != before


# --- where a folder lies

TABLE = rb"""/dev/sda1 / ext4 rw 0 0
proc /proc proc rw 0 0
nas:/photos /mnt/nas nfs4 rw,vers=4.2 0 0
/dev/sdb1 /mnt/nas/local xfs rw 0 0
//box/my\040photos /mnt/my\040photos cifs rw 0 0
me@host: /home/me/far fuse.sshfs rw 0 0
/dev/sdc1 /media/usb fuseblk rw 0 0
tmpfs /mnt/twice tmpfs rw 0 0
nas:/b /mnt/twice nfs rw 0 0
nas:/c /mnt/once nfs rw 0 0
tmpfs /mnt/once tmpfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("folder", "kind", "remote"),
    [
        ("/home/me/photos", "ext4", False),
        ("/mnt/nas", "nfs4", True),
        ("/mnt/nas/2024/may", "nfs4", True),
        ("/mnt/nasty", "ext4", False),
        ("/mnt/nas/local/x", "xfs", False),
        ("/mnt/my photos/x", "cifs", True),
        ("/home/me/far/x", "fuse.sshfs", True),
        ("/media/usb/x", "fuseblk", False),  # NTFS on a stick
        ("/mnt/twice/x", "nfs", True),  # what was mounted last hides what was before
        ("/mnt/once/x", "tmpfs", False),
    ],
)
def test_a_network_drive_is_known_by_its_mount(folder: str, kind: str, remote: bool) -> None:
    mount = mount_of(Path(folder), parse_mounts(TABLE))
    assert mount is not None
    assert (mount.kind, mount.is_remote) == (kind, remote)


def test_mounts_matter_that_a_folder_lies_on_or_holds() -> None:
    found = mounts_around(Path("/mnt/nas"), parse_mounts(TABLE))
    assert found == (
        Mount(Path("/"), "ext4"),
        Mount(Path("/mnt/nas"), "nfs4"),
        Mount(Path("/mnt/nas/local"), "xfs"),
    )


def test_the_system_s_own_table_is_read(tmp_path: Path) -> None:
    if not Path("/proc/self/mounts").exists():
        pytest.skip("the system has no /proc/self/mounts")
    kind = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if kind.returncode:
        pytest.skip("findmnt is not installed")
    mount = mount_of(tmp_path.resolve(), mounts())
    assert mount is not None
    assert mount.kind == kind.stdout.strip()
