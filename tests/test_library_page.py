"""The library page in a real Chromium: real runs, begun, stopped, killed and gone on with."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from serving import serving

from indexer import Library, open_library
from indexer.engines.catalogs import open_catalog
from indexer.work import Work, read_work, working

HOSTILE = "<img src=x onerror=alert(1)> $x$ *y*.jpg"


@pytest.fixture(scope="module")
def many(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More photos than are stored at once, so that a run has a middle."""
    folder = tmp_path_factory.mktemp("photos") / "many"
    for copy in range(2):
        for photo in gallery.glob("*/*.*"):
            (folder / str(copy)).mkdir(parents=True, exist_ok=True)
            other = folder / str(copy) / photo.name
            other.write_bytes(photo.read_bytes() + bytes([copy]))  # the same picture, other bytes
    return folder


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path / "library") as library:
        yield library


def leave(*pages: Page) -> None:
    """A page whose server stops would complain."""
    for page in pages:
        page.goto("about:blank")


def add(page: Page, folder: Path | str) -> None:
    page.get_by_label("Folder on the computer where fc7 runs").fill(str(folder))
    page.get_by_role("button", name="Add and read its photos").click()


def held(library: Path) -> Work:
    """Wait until a run reads photos, and hold it there."""
    patience = time.monotonic() + 120
    while time.monotonic() < patience:
        work = read_work(library)
        if work is not None and work.end is None and work.done:
            os.kill(work.pid, signal.SIGSTOP)
            work = read_work(library)
            assert work is not None
            return work
        time.sleep(0.01)
    raise AssertionError("no run began")


def ended(library: Path) -> Work:
    patience = time.monotonic() + 120
    while time.monotonic() < patience:
        work = read_work(library)
        if work is not None and work.end is not None:
            return work
        time.sleep(0.05)
    raise AssertionError("the run did not end")


def test_a_run_is_seen_everywhere_stopped_and_gone_on_with_and_outlives_the_server(
    page: Page, browser: BrowserContext, opened: Library, many: Path
) -> None:
    files = sum(1 for _ in many.glob("*/*"))
    other = browser.new_page()
    with serving(opened.path) as address:
        page.goto(f"{address}/library")
        add(page, many)
        work = held(opened.path)
        told = re.compile(rf"{work.done:,} of {files:,} files read|Finishing")
        expect(page.get_by_text(told)).to_be_visible()
        other.goto(f"{address}/library")
        expect(other.get_by_text(told)).to_be_visible()
        page.reload()
        expect(page.get_by_text(told)).to_be_visible()
        expect(page.get_by_role("button", name="Add and read its photos")).to_be_disabled()

        other.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Stopping. What was read is kept.")).to_be_visible()
        os.kill(work.pid, signal.SIGCONT)
        for one in (page, other):
            expect(one.get_by_role("button", name="Go on")).to_be_visible()
        assert ended(opened.path).end == "stopped"
        assert opened.count() < files

        page.get_by_role("button", name="Go on").click()
        expect(other.get_by_role("button", name="Stop")).to_be_visible()
        again = held(opened.path)
        leave(page, other)
    other.close()
    os.kill(again.pid, signal.SIGCONT)  # the server is gone, the run is not
    assert ended(opened.path).end == "done"
    skipped = len(opened.status().skipped)
    assert opened.count() + skipped == files


def test_a_killed_run_and_a_library_of_another_model_cost_a_sentence_and_a_button(
    page: Page, opened: Library, many: Path
) -> None:
    with serving(opened.path) as address:
        page.goto(f"{address}/library")
        add(page, many)
        os.kill(held(opened.path).pid, signal.SIGKILL)
        expect(page.get_by_text("The last run was cut off")).to_be_visible()
        with closing(open_catalog(opened.path)) as catalog, catalog.write() as writer:
            writer.set(stamp="of others", network="alexnet", weights="bundled")
        page.get_by_role("button", name="Go on").click()
        expect(page.get_by_role("alert")).to_contain_text("indexed with other alexnet weights")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        leave(page)


def test_folders_skipped_files_and_health_are_shown_and_a_folder_can_leave(
    page: Page, opened: Library, photos: Path
) -> None:
    (photos / "shoes" / HOSTILE).write_bytes(b"no photo")
    (photos / "shoes" / "empty.jpg").write_bytes(b"")
    opened.index([photos / "shoes", photos / "bananas"])
    with serving(opened.path) as address:
        page.goto(f"{address}/library")
        folders = page.locator(".folder")
        expect(folders).to_have_text(
            [re.compile("bananas.*2 photos"), re.compile("shoes.*2 photos")]
        )
        skipped = page.locator(".skipped li")
        page.get_by_role("radio", name="empty file (1)").click()
        page.wait_for_url("**/library?reason=empty+file")
        expect(skipped).to_have_text([str(photos / "shoes" / "empty.jpg")])
        page.get_by_role("radio", name="not an image (1)").click()
        expect(skipped).to_have_text([str(photos / "shoes" / HOSTILE)])
        expect(page.locator(".health .bad")).to_have_count(0)
        add(page, photos / "bananas")
        expect(page.get_by_text("That folder is in the library already.")).to_be_visible()

        (photos / "bananas").rename(photos / "away")
        page.reload()
        expect(folders.first).to_contain_text("not there now; its 2 photos are kept")
        expect(page.locator(".health .bad")).to_contain_text("1 folder is not there now.")
        (photos / "away").rename(photos / "bananas")

        page.get_by_role("button", name="Remove").last.click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("2 photos leave the library and their albums.")
        dialog.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("2 photos left the library.")).to_be_visible()
        expect(folders).to_have_count(1)
        assert {photo.path.parent.name for photo in opened.photos()} == {"bananas"}
        assert (photos / "shoes" / HOSTILE).exists()
        leave(page)


def test_a_run_of_a_terminal_is_seen_with_its_rate_and_time_left(
    page: Page, opened: Library
) -> None:
    with serving(opened.path) as address, working(opened.path, "index"):
        page.goto(f"{address}/library")
        expect(page.get_by_text("Looking through the folders…")).to_be_visible()
        work = read_work(opened.path)
        assert work is not None
        # 400 of 1000 in ten seconds are 40 a second, and leave 15 seconds.
        told = replace(work, stage="photos", stage_started=work.told - 10, done=400, total=1000)
        (opened.path / "run.json").write_text(json.dumps(asdict(told)))
        expect(
            page.get_by_text("400 of 1,000 files read · 40 a second · 15 s left")
        ).to_be_visible()
        leave(page)
