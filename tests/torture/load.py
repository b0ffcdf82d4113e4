"""Twenty users at once: of the search, of the server's pictures, of its pages.

What a user gets who is alone is asked first; each of the twenty must get the same. Times and memory
stand beside those of the one, measured in the same run on the same machine.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from threading import Barrier
from urllib.request import urlopen

from serving import HOUSE

from indexer import Filters, Grouping, Library, open_library
from indexer.bench.drawn import BLOCK, DressedLibrary, read_seeds
from retrieval.extractor import Extractor
from torture.servers import core_seconds, peak_mb, server_of, told
from torture.table import Row, times
from torture.visitors import Visit, plans_of, visit_together

PART = "load"
USERS = 20
GALLERY = HOUSE / "data" / "gallery"
_PHOTOS = 20_000
_LEAST = 1_000  # photos; so many the drawn library has at least

Question = tuple[str, int]  # the way to ask, and the photo, or a number for another
WAYS = ("exact", "codes", "filtered", "label", "upload")


@dataclass(frozen=True, slots=True)
class Load:
    """What users got: how many answers were wrong, what failed, and the seconds of the others."""

    wrong: int
    errors: tuple[str, ...]
    seconds: tuple[float, ...]

    @property
    def lost(self) -> int:
        return self.wrong + len(self.errors)


def rows(share: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="fc7-load-") as place:
        path = draw_library(Path(place) / "library", max(_LEAST, round(_PHOTOS * share)))
        questions = questions_of(path, times(50, share))
        with open_library(path) as library:
            alone, right = ask_alone(library, questions)
            load = ask_in_threads(library, questions, right)
            yield _row("searches by 20 threads of one process", load, alone)
            stored = [one for one in questions if one[0] != "upload"]  # needs no network
            lone, _ = ask_alone(library, stored)
        load = ask_in_processes(path, stored, right)
        yield _row("searches by 20 processes", load, lone)
        with server_of(path) as (address, server):
            one, load = fetch_by_many(address, path, times(400, share))
            note = f"server {peak_mb(server.process.pid):,.0f} MB"
            yield _row("thumbnails of the server by 20 clients", load, one, note)
        with open_library(path) as library:
            plans = [plans_of(library, times(5, share), user) for user in range(USERS + 1)]
        with server_of(path) as (address, server):
            alone = load_of(visit_together(address, plans[:1]))
            before, spent = peak_mb(server.process.pid), core_seconds(server.process.pid)
            load = load_of(visit_together(address, plans[1:]))
            each = (core_seconds(server.process.pid) - spent) / len(load.seconds)
            note = f"server {before:,.0f} MB alone, {peak_mb(server.process.pid):,.0f} by 20"
            note += f"; {each:.2f} core-seconds of it each"
            faults = tuple(server.stop())
            load = Load(load.wrong, load.errors + faults, load.seconds)
            yield _row("pages in 20 windows: search, page, filter, upload", load, alone, note)


def _row(what: str, load: Load, alone: Load, note: str = "") -> Row:
    for error in dict.fromkeys((*alone.errors, *load.errors)):
        print(error, file=sys.stderr)
    figures = [f"{told(load.seconds)}; alone {told(alone.seconds)}", note]
    tried = len(load.seconds) + len(load.errors)
    return Row(PART, what, tried, load.lost + alone.lost, "; ".join(filter(None, figures)))


def draw_library(path: Path, photos: int) -> Path:
    """A library of so many drawn photos, with albums; see `indexer.bench.drawn`."""
    path.mkdir()
    extractor = Extractor(device="cpu")
    drawn = DressedLibrary(path, extractor, read_seeds(GALLERY, extractor, lambda *_: None))
    while drawn.rows < photos:
        drawn.add(min(BLOCK, photos - drawn.rows))
    drawn.catalog.close()
    with open_library(path) as library:
        library.albums.group(Grouping())
    return path


# --- search


def questions_of(path: Path, each: int) -> list[Question]:
    """Some of each way to ask."""
    rng = random.Random(0)
    with open_library(path) as library:
        count = library.count()
    return [(way, rng.randrange(1, count + 1)) for way in WAYS for _ in range(each)]


def put(library: Library, question: Question) -> object:
    """Ask; what comes back can be compared."""
    way, number = question
    if way == "exact":
        return _told(library.answer(number, 10, mode="exact"))
    if way == "codes":
        return _told(library.answer(number, 10, mode="codes"))
    if way == "filtered":
        return _told(library.answer(number, 10, filters=Filters(since="2016", until="2019-06")))
    if way == "label":
        label = library.labels(number)[0].label
        return [(one.photo.id, one.probability) for one in library.labelled(label, 10)]
    assert way == "upload", way
    files = sorted(GALLERY.glob("*/*.jpg"))
    return _told(library.answer(files[number % len(files)].read_bytes(), 10))


def _told(answer: object) -> object:
    return [(hit.photo.id, round(hit.distance, 3)) for hit in answer.hits]  # type: ignore[attr-defined]


def ask_alone(
    library: Library, questions: Sequence[Question]
) -> tuple[Load, dict[Question, object]]:
    """What one user gets, once all is loaded."""
    for way, number in dict(questions).items():  # all is loaded then
        put(library, (way, number))
    seconds, right = [], {}
    for question in questions:
        begun = time.perf_counter()
        right[question] = put(library, question)
        seconds.append(time.perf_counter() - begun)
    return Load(0, (), tuple(seconds)), right


def ask_in_threads(
    library: Library, questions: Sequence[Question], right: dict[Question, object]
) -> Load:
    """Twenty threads ask the same, each in an order of its own."""
    return in_threads(
        [
            [(partial(put, library, one), right[one]) for one in _shuffled(questions, user)]
            for user in range(USERS)
        ]
    )


def ask_in_processes(
    path: Path, questions: Sequence[Question], right: dict[Question, object]
) -> Load:
    """The same by processes that open the library themselves."""
    with ProcessPoolExecutor(USERS, mp_context=get_context("spawn")) as processes:
        jobs = [
            processes.submit(_ask_in_a_process, path, _shuffled(questions, user), right)
            for user in range(USERS)
        ]
        return together([job.result() for job in jobs])


def _ask_in_a_process(
    path: Path, questions: Sequence[Question], right: dict[Question, object]
) -> Load:
    with open_library(path, create=False) as library:
        return in_turn([(partial(put, library, one), right[one]) for one in questions])


def _shuffled(questions: Sequence[Question], user: int) -> list[Question]:
    return random.Random(user).sample(list(questions), len(questions))


# --- pictures


def fetch_by_many(address: str, path: Path, each: int) -> tuple[Load, Load]:
    """Thumbnails by one client and by twenty, as the library's file holds them."""
    with open_library(path, create=False) as library:
        count = library.count()
        rng = random.Random(0)
        chosen = [rng.randrange(1, count + 1) for _ in range(each)]
        right = {one: library.thumbnail(one) for one in chosen}

    def fetch(photo: int) -> bytes:
        with urlopen(f"{address}/thumb/{photo}.jpg", timeout=600) as answer:
            return bytes(answer.read())

    wanted = [(partial(fetch, one), right[one]) for one in chosen]
    return in_turn(wanted), in_threads([wanted] * USERS)


# --- doing it


Wanted = Sequence[tuple[Callable[[], object], object]]  # what to do, and what must come of it


def in_turn(wanted: Wanted) -> Load:
    """One after the other."""
    wrong, errors, seconds = 0, [], []
    for do, right in wanted:
        begun = time.perf_counter()
        try:
            wrong += do() != right
        except Exception:  # noqa: BLE001 (whatever it is, it is told)
            errors.append(traceback.format_exc())
        else:
            seconds.append(time.perf_counter() - begun)
    return Load(wrong, tuple(errors), tuple(seconds))


def in_threads(users: Sequence[Wanted]) -> Load:
    """Each user in a thread, all from the same moment on."""
    start = Barrier(len(users))

    def use(wanted: Wanted) -> Load:
        start.wait()
        return in_turn(wanted)

    with ThreadPoolExecutor(len(users)) as threads:
        return together(list(threads.map(use, users)))


def together(loads: Sequence[Load]) -> Load:
    """The sum of what users got."""
    return Load(
        sum(one.wrong for one in loads),
        tuple(error for one in loads for error in one.errors),
        tuple(second for one in loads for second in one.seconds),
    )


def load_of(visits: Sequence[Visit]) -> Load:
    """What visitors of the pages got."""
    wrong = [one for one in visits if one.wrong]
    for one in wrong:
        print(f"{one.what}: {one.wrong}", file=sys.stderr)
    return Load(len(wrong), (), tuple(one.seconds for one in visits))
