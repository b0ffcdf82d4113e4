"""Answering: examples or a word -> the photos of a library that are like them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, Photo
from indexer.coding import CoderStore
from indexer.conditions import known_labels
from indexer.filters import Filters
from indexer.label_rows import labelled, labels_of
from indexer.moments import at_one_moment
from indexer.vectors import Ranking, Vectors
from retrieval.codes import SHORTLIST, Coder
from retrieval.errors import CodesError, ImageError, LibraryError, SearchError
from retrieval.images import Region, frame, read_photo, read_region
from retrieval.labels import Prediction, top_labels
from retrieval.search import blend

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

Rows = Callable[[Sequence[int]], NDArray[np.float32]]  # of contents, (n, d)
Query = Path | bytes | int  # a file, the bytes of one, or the id of a photo of the library
Mode = Literal["auto", "exact", "codes"]

# 200 MB: two cores compare it in 0.03 s when in memory (measured), an SSD reads it in 0.1 s. Up to
# here an answer feels immediate, and codes would cost accuracy for nothing that a person notices.
EXACT_ROWS = 25_000
# What it tries where codes are used: the default, on photos as good as lossless, and longer ones
# until they find enough of the ten nearest by exact distance.
SHORTLISTS = (SHORTLIST, 500, 600, 800, 1000, 1200, 1600, 2400, 3200)
ENOUGH = 0.96
_NEAREST = 10
_QUERIES = 100


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: its rank from 1, its Euclidean distance (0 to sqrt 2), the photo."""

    rank: int
    distance: float
    photo: Photo


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer to a word: its rank from 1, the photo's label and its probability, the photo."""

    rank: int
    label: str
    probability: float  # 0..1
    photo: Photo


@dataclass(frozen=True, slots=True)
class Effort:
    """What an answer took. Rows count contents: copies of a photo share one."""

    mode: Literal["exact", "codes"]
    compared: int  # rows: descriptors (exact), or codes
    total: int  # rows of the library
    shortlist: int  # rows of which the descriptors were compared after the codes; 0 if exact
    bits: int  # of a code; 0 if exact
    filtered: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """The photos most alike, the likeliest classes of the photo asked with, and what it took."""

    hits: tuple[Hit, ...]
    labels: tuple[Prediction, ...]  # five; none if several examples were given
    effort: Effort


@dataclass(frozen=True, slots=True)
class Measured:
    """A shortlist's length, and how many of the ten nearest it finds among so many rows."""

    shortlist: int
    recall: float  # 0..1
    rows: int


@dataclass(frozen=True, slots=True)
class _Example:
    """A photo asked with: its id and its content if the library knows them; where to read it."""

    photo: int | None
    content: int | None
    source: Query


@dataclass(frozen=True, slots=True)
class _Opened:
    """The vectors as they are in one generation of the catalogue, with their codes if needed."""

    generation: str
    search: Ranking
    coder_name: str | None  # None: the library has no codes
    shortlist: int
    coder: Coder | None = None  # None: the codes were not needed yet


class Finder:
    """Answers from a library; owns its open segments. May be used by several threads."""

    def __init__(
        self,
        library: Path,
        catalog: Catalog,
        vectors: Vectors,
        load_extractor: Callable[[], Extractor],
    ) -> None:
        """library: its folder. load_extractor: called when a photo must be described."""
        self._library = library
        self._catalog = catalog
        self._vectors = vectors
        self._load_extractor = load_extractor
        self._guard = threading.Lock()
        self._opened: _Opened | None = None

    def close(self) -> None:
        self._opened = None

    # --- by examples

    def answer(
        self,
        photo: Query,
        k: int,
        *,
        like: Sequence[Query],
        unlike: Sequence[Query],
        region: Region | None,
        mode: Mode,
        filters: Filters,
    ) -> Answer:
        """Do what `Library.answer` says."""
        _check(k)
        if mode not in ("auto", "exact", "codes"):
            raise LibraryError(f"{mode!r} is no way to search: auto, exact or codes")
        if region is not None and like:
            raise LibraryError("a region is of one photo: ask with that one alone")

        def answer_at(view: Catalog) -> Answer:
            positive = [self._find(view, one) for one in (photo, *like)]
            negative = [self._find(view, one) for one in unlike]
            return self._answer(view, positive, negative, k, region, mode, filters)

        return at_one_moment(self._catalog, answer_at)

    def _answer(
        self,
        view: Catalog,
        positive: Sequence[_Example],
        negative: Sequence[_Example],
        k: int,
        region: Region | None,
        mode: Mode,
        filters: Filters,
    ) -> Answer:
        examples = {one.photo for one in (*positive, *negative) if one.photo is not None}
        now = self._open(view)
        if now.search.count() == 0:
            raise _empty(self._library)
        described = [self._describe(view, one, now.search, region) for one in positive]
        away = [self._describe(view, one, now.search)[0] for one in negative]
        query = blend(
            np.concatenate([row for row, _ in described]), np.concatenate(away) if away else None
        )
        k_all = k + len(examples)
        distances, contents, effort = self._search(view, now, query, k_all, mode, filters)
        hits = _hits(view, distances, contents, examples, filters)
        labels = described[0][1] if len(described) == 1 else ()
        return Answer(tuple(hits[:k]), labels, effort)

    def _find(self, view: Catalog, photo: Query) -> _Example:
        if isinstance(photo, int):
            content = view.content_of(photo)
            if content is None:
                raise unknown_photo(photo, self._library)
            return _Example(photo, content, photo)
        if isinstance(photo, bytes):
            hash_ = hashlib.sha256(photo).hexdigest()
            return _Example(None, view.content_with(hash_), photo)
        path = Path(os.path.realpath(photo.expanduser()))
        if path.exists() and not path.is_file():
            raise ImageError(f"{photo} is not a file: name a photo")  # a pipe would block
        try:
            with path.open("rb") as file:
                hash_ = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ImageError(f"{photo} can't be read: {error.strerror}") from error
        here = view.photo_at(str(path))
        return _Example(here.id if here else None, view.content_with(hash_), path)

    def _describe(
        self, view: Catalog, example: _Example, search: Ranking, region: Region | None = None
    ) -> tuple[NDArray[np.float32], tuple[Prediction, ...]]:
        """The descriptor (1, d) and the classes: what is stored, else what the network says."""
        if example.content is not None and region is None:
            stored = labels_of(view, example.content)
            return search.descriptors([example.content]), tuple(Prediction(*row) for row in stored)
        source = example.source
        if isinstance(source, int):
            source = self._path_of(view, source)
        try:
            pixels = read_photo(source)[0] if region is None else read_region(source, region)
        except ImageError as error:
            name = source.name if isinstance(source, Path) else "the photo"
            raise ImageError(f"{name} can't be used: {error.reason}") from error
        extractor = self._load_extractor()
        framed = frame(pixels, extractor.framing, extractor.side)
        described = extractor.describe(framed[np.newaxis])
        return described.fc7, tuple(top_labels(described.probabilities, extractor.classes)[0])

    def _path_of(self, view: Catalog, photo_id: int) -> Path:
        photo = view.photo(photo_id)
        if photo is None:
            raise unknown_photo(photo_id, self._library)
        return photo.path

    def _search(
        self,
        view: Catalog,
        now: _Opened,
        query: NDArray[np.float32],
        k: int,
        mode: Mode,
        filters: Filters,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], Effort]:
        """Distances (j,) and contents (j,), j <= k, of the contents nearest to a query (1, d)."""
        filtered = filters != Filters()
        only = self._vectors.passing(view, filters) if filtered else None
        total = now.search.count()
        rows = now.search.count(only) if filtered else total
        coded = now.coder_name is not None
        if mode == "codes" and not coded:
            raise LibraryError(
                f"{self._library} has no codes: fc7 codes train makes them, and --mode exact needs "
                "none"
            )
        if mode == "exact" or (mode == "auto" and (rows <= EXACT_ROWS or not coded)):
            distances, contents = now.search.exact(query, k, only)
            return distances[0], contents[0], Effort("exact", rows, total, 0, 0, filtered)
        if now.coder is None:
            now = self._open(view, coded=True)
        assert now.coder is not None, "codes are opened with their coder"
        shortlist = min(max(k, now.shortlist), rows)
        activations = now.coder.activations(query)
        distances, contents = now.search.by_codes(query, activations, k, shortlist, only)
        effort = Effort("codes", rows, total, shortlist, now.coder.bits, filtered)
        return distances[0], contents[0], effort

    # --- by a word

    def labelled(self, word: str, k: int, filters: Filters, offset: int) -> list[Labelled]:
        """Do what `Library.labelled` says."""
        _check(k)
        with self._catalog.snapshot() as view:
            return self._labelled(view, word, k, filters, offset)

    def _labelled(
        self, view: Catalog, word: str, k: int, filters: Filters, offset: int
    ) -> list[Labelled]:
        known = known_labels(view)
        same = [label for label in known if label.casefold() == word.casefold()]
        holding = [label for label in known if word.casefold() in label.casefold()]
        if view.is_empty():
            raise _empty(self._library)
        if not holding or not word.strip():
            near = _nearest_labels(word, known)
            hint = f"the nearest labels: {', '.join(near)}" if near else "nor nearly so"
            raise LibraryError(f"no photo here is labelled {word!r}; {hint}")
        found = labelled(view, same or holding, k, filters, offset)
        return [
            Labelled(rank, label, probability, photo)
            for rank, (photo, label, probability) in enumerate(found, start=offset + 1)
        ]

    def rows(self, view: Catalog) -> Rows:
        """What gives the stored rows (n, d) of the contents of a moment, also later than it."""
        return self._open(view).search.descriptors

    # --- how good codes are

    def measure(self) -> Measured:
        """Ask with photos of the library: how long must the shortlist be to lose nothing?"""
        now = at_one_moment(self._catalog, lambda view: self._open(view, coded=True))
        assert now.coder is not None, "codes are opened with their coder"
        search = now.search
        asked = search.some(_QUERIES)
        queries = search.descriptors(asked.tolist())
        activations = now.coder.activations(queries)
        _, wanted = search.exact(queries, _NEAREST + 1)  # a photo is its own nearest
        for length in SHORTLISTS:
            _, found = search.by_codes(queries, activations, _NEAREST + 1, length)
            kept = sum(np.isin(w, f).sum() for w, f in zip(wanted, found, strict=True))
            recall = (int(kept) - len(asked)) / max(1, wanted.size - len(asked))
            if recall >= ENOUGH:
                break
        return Measured(length, recall, search.count())

    # --- the open segments

    def _open(self, view: Catalog, *, coded: bool = False) -> _Opened:
        """The segments, opened anew when the catalogue has changed; coded: with their codes.

        Raises SearchError or CodesError where a run has replaced them since the view's moment.
        """
        remedy = "delete the library and index again"
        with self._guard:
            try:
                now = self._opened
                if now is None or now.generation != view.generation():
                    now = self._open_segments(view)
                if coded and now.coder is None:
                    remedy = "fc7 codes train makes them anew, and --mode exact needs none"
                    now = self._open_codes(now)
            except (SearchError, CodesError) as error:
                if view.generation() == self._catalog.generation():
                    raise LibraryError(f"{error}: {remedy}") from error
                raise
            self._opened = now
            return now

    def _open_segments(self, view: Catalog) -> _Opened:
        settings = view.settings()
        return _Opened(
            generation=settings.get("generation", ""),
            search=self._vectors.open(view),
            coder_name=settings.get("coder"),
            shortlist=int(settings.get("shortlist", SHORTLIST)),
        )

    def _open_codes(self, now: _Opened) -> _Opened:
        name = now.coder_name
        if name is None:
            raise CodesError("the library has no codes")
        coder = CoderStore(self._library / "coders").read(name)
        self._vectors.open_codes(now.search, name)
        if coder.bits != now.search.bits:
            raise SearchError(
                f"coder {name} makes {coder.bits} bits, the stored codes have {now.search.bits}"
            )
        return replace(now, coder=coder)


def _hits(
    view: Catalog,
    distances: NDArray[np.float32],
    contents: NDArray[np.int64],
    examples: Collection[int],
    filters: Filters,
) -> list[Hit]:
    photos = view.photos_of(contents.tolist(), filters)
    found = [
        (float(distance), photo)
        for distance, content in zip(distances, contents.tolist(), strict=True)
        for photo in photos.get(content, ())
        if photo.id not in examples
    ]
    found.sort(key=lambda pair: (pair[0], str(pair[1].path)))
    return [Hit(rank, *pair) for rank, pair in enumerate(found, start=1)]


def _check(k: int) -> None:
    if k < 1:
        raise LibraryError(f"{k} answers were asked for: ask for 1 or more")


def _empty(library: Path) -> LibraryError:
    return LibraryError(f"{library} holds no photos yet: fc7 index FOLDER adds some")


def unknown_photo(photo_id: int, library: Path) -> LibraryError:
    return LibraryError(f"no photo {photo_id} in {library}: it was removed, or never there")


def _nearest_labels(word: str, known: Sequence[str]) -> list[str]:
    """Up to three labels spelled much like the word, as a whole or in one of their words."""
    spelled = {part: label for label in known for part in label.casefold().split()}
    spelled |= {label.casefold(): label for label in known}
    near = get_close_matches(word.casefold(), spelled, n=6)
    return list(dict.fromkeys(spelled[one] for one in near))[:3]
