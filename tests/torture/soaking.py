"""Who uses a library for an hour: what each of them does until it is over."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import Event
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
from PIL import Image
from playwright.sync_api import Page
from serving import HOUSE

from indexer import open_library
from retrieval.errors import LibraryError
from retrieval.extractor import Extractor
from torture.changing import ask
from torture.pages import new_context, until_settled
from torture.states import Asked, Truth
from ui.chromium import chromium

_KINDS = ("exact", "exact", "shortlist", "photos", "label", "files")
_DRAWN = 350  # pictures; each file has one of them and bytes of its own
_STAY = 40  # photos that are never touched
_PAUSE = 1.0  # seconds between changes
# Seconds from one visitor to the next, however quick the machine is: what a server holds goes with
# how many there were in the last two minutes.
_VISITS = 12.0
_BETWEEN = 60.0  # seconds between commands of a terminal
_GONE = ("there is no album", "no photo ", "it was removed")


class Contents:
    """A folder of photos that come and go, and the right descriptor of each file there ever was."""

    def __init__(self, folder: Path, photos: int, extractor: Extractor) -> None:
        self.folder = folder
        self._rng = random.Random(0)
        self._count = 0
        drawn = folder.with_name("drawn")
        drawn.mkdir(parents=True)
        for seed in range(_DRAWN):
            noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            picture = Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC)
            picture.save(drawn / f"{seed}.jpg")
        self._pictures = sorted(drawn.iterdir())
        self.truth = Truth(self._pictures, extractor)
        for place in ("stay", "going"):
            (folder / place).mkdir(parents=True)
        for at in range(photos):
            self.write(folder / ("stay" if at < _STAY else "going") / f"{at}.jpg")

    def write(self, file: Path) -> None:
        """Put a picture there, under a name that nobody reads before it is whole."""
        picture = self._rng.choice(self._pictures)
        self._count += 1
        content = picture.read_bytes() + self._count.to_bytes(4, "big")
        self.truth.add_alike(content, picture)
        aside = file.with_name(f".{file.name}")
        aside.write_bytes(content)
        aside.rename(file)

    def change(self) -> None:
        """Add, remove, move, or change one; about as many stay."""
        going = sorted((self.folder / "going").iterdir())
        chosen = self._rng.choice(going)
        new = chosen.with_name(f"{self._count}-{self._rng.getrandbits(24):x}.jpg")
        what = self._rng.choice(("add", "remove", "move", "change"))
        if what == "add":
            self.write(new)
        elif what == "remove":
            chosen.unlink()
        elif what == "move":
            chosen.rename(new)
        else:
            self.write(chosen)

    def any(self) -> Path:
        return self._rng.choice(self._pictures)


def change_on(contents: Contents, over: Event) -> tuple[int, list[str]]:
    """Change the folder."""
    return _on(over, contents.change, pause=_PAUSE)


def ask_on(path: Path, contents: Contents, over: Event) -> tuple[list[Asked], list[str]]:
    """Ask a library that stays open all the time."""
    rng = random.Random(1)
    asked: list[Asked] = []
    with open_library(path, create=False) as library:
        stay = [p.id for p in library.photos(limit=100_000) if p.path.parent.name == "stay"]
        _, errors = _on(over, lambda: asked.append(ask(library, rng, stay, _KINDS)), pause=0.2)
    return asked, errors


def fetch_on(address: str, path: Path, over: Event) -> tuple[int, list[str]]:
    """Fetch thumbnails and originals."""
    rng = random.Random(2)

    def fetch() -> None:
        photo = rng.choice(library.photos(offset=rng.randrange(900), limit=5))
        kind = rng.choice((f"thumb/{photo.id}.jpg", f"original/{photo.id}"))
        try:
            with urlopen(f"{address}/{kind}", timeout=600) as answer:
                assert answer.read(2) == b"\xff\xd8", f"{kind} is no JPEG"
        except HTTPError as error:
            if error.code != 404:  # it may have gone this moment
                raise

    with open_library(path, create=False) as library:
        return _on(over, fetch, pause=0.1)


def run_on(path: Path, over: Event) -> tuple[int, list[str]]:
    """Commands of a terminal, one a minute: what runs seldom in a library."""
    commands = [
        ("albums",),
        ("codes", "train", "--bits", "64"),
        ("map",),
        ("duplicates", "--json"),
        ("status",),
    ]
    turn = 0

    def run() -> None:
        nonlocal turn
        command = [sys.executable, "-m", "ui.cli", *commands[turn % len(commands)]]
        turn += 1
        done = subprocess.run(
            [*command, "--library", str(path)],
            cwd=HOUSE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        busy = done.stderr.count("\n") == 1 and "another run is at work in" in done.stderr
        assert done.returncode == 0 or busy, (command, done.stderr)

    return _on(over, run, pause=_BETWEEN)


def browse_on(address: str, path: Path, contents: Contents, over: Event) -> tuple[int, list[str]]:
    """A person after the other, each with a browser of its own."""
    rng = random.Random(3)
    visits = 0

    def visit() -> None:
        nonlocal visits
        begun = time.monotonic()
        troubles: list[str] = []
        with new_context(browser) as context:
            page = context.new_page()
            page.on("pageerror", lambda error: troubles.append(str(error)))
            for _ in range(rng.randrange(1, 6)):
                photo = rng.choice(library.photos(offset=rng.randrange(900), limit=5))
                _look(page, address, photo.id, contents.any(), rng)
                visits += 1
        assert not troubles, troubles
        over.wait(max(0.0, _VISITS - (time.monotonic() - begun)))

    with chromium() as browser, open_library(path, create=False) as library:
        _, errors = _on(over, visit, pause=0.0)
    return visits, errors


def _look(page: Page, address: str, photo: int, upload: Path, rng: random.Random) -> None:
    """One thing that a person does."""
    what = rng.choice(("start", "photo", "filter", "upload", "labels", "albums", "save", "others"))
    if what == "filter":
        page.goto(f"{address}/?photo={photo}&until=2030&label=a")
    elif what == "photo":
        page.goto(f"{address}/?photo={photo}&k=50")
    elif what == "others":
        page.goto(f"{address}/{rng.choice(('map', 'library', 'duplicates', 'network'))}")
    elif what in ("labels", "albums"):
        page.goto(f"{address}/{what}")
    else:
        page.goto(f"{address}/")
    until_settled(page)
    if what == "upload":
        page.locator("input[type=file]").set_input_files(upload)
        page.wait_for_url("**/?upload=*")
        until_settled(page)
    elif what == "save":
        page.locator(".stMain ol li").first.hover()
        page.locator(".stMain ol li input[type=checkbox]").first.check()
        page.get_by_role("button", name="Save as an album").first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("textbox").fill(f"of {photo}")
        dialog.get_by_role("button", name="Save as an album").click()
        page.get_by_test_id("stToast").wait_for()


def _on(over: Event, do: Callable[[], object], *, pause: float) -> tuple[int, list[str]]:
    """Do it again and again: how often, and what went wrong."""
    done, errors = 0, []
    while not over.wait(pause):
        try:
            do()
        except LibraryError as error:  # what was just there may have gone
            errors += [str(error)] * (not any(gone in str(error) for gone in _GONE))
        except Exception:  # noqa: BLE001 (whatever it is, it is told)
            errors.append(traceback.format_exc())
        done += 1
    return done, errors
