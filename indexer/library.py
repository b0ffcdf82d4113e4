"""Library: the one object people talk to. It owns a folder:

LIBRARY/catalog.sqlite     what is known (the truth)
LIBRARY/segments/          FC7 of the photos, FAISS files
LIBRARY/thumbnails/        small upright JPEGs, by content hash
LIBRARY/index.lock         held while a run writes
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import filelock
import numpy as np
import platformdirs
from numpy.typing import NDArray

from indexer.catalog import Catalog, Photo, Skip
from indexer.pipeline import Pipeline, merge_segments, thumbnail_path
from indexer.scan import Found, SyncPlan, plan, scan
from indexer.segments import SegmentStore, hollow, to_merge
from retrieval.errors import ImageError, LibraryError
from retrieval.images import frame, read_photo
from retrieval.labels import Prediction, top_labels
from retrieval.search import ExactSearch

if TYPE_CHECKING:
    from retrieval.extractor import Extractor

DEFAULT_NETWORK = "alexnet"
DEFAULT_WEIGHTS = "bundled"


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: its rank from 1, its Euclidean distance (0 to sqrt 2), the photo."""

    rank: int
    distance: float
    photo: Photo


@dataclass(frozen=True, slots=True)
class Answer:
    """The answers to a photo, and the five likeliest classes of that photo."""

    hits: tuple[Hit, ...]
    labels: tuple[Prediction, ...]


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an indexing run did. Counts of photos; `skipped` holds those of earlier runs too."""

    added: int
    updated: int
    moved: int
    removed: int
    unchanged: int
    skipped: tuple[Skip, ...]
    missing_folders: tuple[Path, ...]  # gone or empty: their photos are kept


@dataclass(frozen=True, slots=True)
class Status:
    """What `fc7 status` shows."""

    path: Path
    photos: int
    folders: tuple[Path, ...]
    bytes: int  # on disk, thumbnails included
    network: str | None  # None: nothing was indexed yet
    weights: str | None
    stamp: str | None
    last_run: str | None  # ISO 8601, UTC
    skipped: tuple[Skip, ...]


def default_path() -> Path:
    """$FC7_LIBRARY, else `fc7` in the user's data folder."""
    named = os.environ.get("FC7_LIBRARY")
    return Path(named) if named else Path(platformdirs.user_data_dir("fc7", appauthor=False))


def open_library(
    path: Path | None = None, *, create: bool = True, extractor: Extractor | None = None
) -> Library:
    """Open a library, or make it. Raises LibraryError if it can't be, or is newer than this fc7.

    extractor: one that is loaded already, to be used by this library too; None loads one when it is
    first needed.
    """
    return Library(path or default_path(), create=create, extractor=extractor)


class Library:
    """Photos, their descriptors, and search over them. Close it, or use it in a `with`.

    Any number of processes may read a library while one writes; one object may be used by several
    threads.
    """

    def __init__(
        self, path: Path, *, create: bool = True, extractor: Extractor | None = None
    ) -> None:
        self.path = path.expanduser().absolute()
        file = self.path / "catalog.sqlite"
        if not file.is_file():
            self._prepare(create)
        self._catalog = Catalog(file)
        self._segments = SegmentStore(self.path / "segments")
        self._thumbnails = self.path / "thumbnails"
        self._guard = threading.Lock()
        self._search: tuple[str, ExactSearch] | None = None
        self._extractor = extractor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._search = None
        self._catalog.close()

    # --- indexing

    def index(
        self,
        folders: Sequence[Path] = (),
        *,
        network: str | None = None,
        weights: str | None = None,
        device: str = "auto",
        prune: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexReport:
        """Bring the library in step with its folders; read only what is new or changed.

        folders: what to look at; none means every folder indexed before.
        network, weights: asked of a new library; an old one keeps to its own.
        prune: forget the photos of folders that are missing or empty.
        progress: called with (files done, files to read).

        Raises LibraryError if another run is at work, a folder was never there, or the library was
        made with another model; WeightsError and DeviceError from the network.
        """
        with self._writing():
            roots = self._roots(folders)
            model = self._choose_model(network, weights)
            self._segments.sweep(self._catalog.segment_names())
            missing, plans = self._plans(roots, prune)
            report = self._apply(plans, missing, model, device, progress)
            self._finish(roots, missing if prune else [])
        return report

    def _plans(self, roots: list[Path], prune: bool) -> tuple[list[Path], list[SyncPlan]]:
        """(folders that are missing or empty, what to do in the others)."""
        missing, plans = [], []
        for root in roots:
            found = scan(root, exclude=self.path)
            photos, skipped = self._catalog.known_under(str(root))
            if not found.files and (photos or not root.is_dir()):
                missing.append(root)  # an unplugged disk looks like this
                if not prune:
                    continue
                found = Found((), ())  # what can't be listed is given up too
            plans.append(plan(found, photos, skipped))
        return missing, plans

    def _apply(
        self,
        plans: list[SyncPlan],
        missing: list[Path],
        model: tuple[str, str],
        device: str,
        progress: Callable[[int, int], None] | None,
    ) -> IndexReport:
        to_read = [stat for one in plans for stat in one.read]
        counts: Counter[str] = Counter()
        if to_read:
            extractor = self._claim(model, device)
            pipeline = Pipeline(self._catalog, self._segments, self._thumbnails, extractor)
            pipeline.run(to_read, lambda done: progress and progress(done, len(to_read)))
            counts = pipeline.counts
        before = self._catalog.count()
        with self._catalog.write() as writer:  # what moved is not at its old path any more
            writer.remove_photos(path for one in plans for path in one.gone)
            writer.remove_skips(path for one in plans for path in one.gone_skips)
        tried = {stat.path for stat in to_read} | {p for one in plans for p in one.still_skipped}
        closed = [
            Skip(Path(where), f"folder can't be listed: {why}")
            for one in plans
            for where, why in one.unreadable
        ]
        return IndexReport(
            added=counts["added"],
            updated=counts["updated"],
            moved=counts["moved"],
            removed=before - self._catalog.count(),
            unchanged=counts["unchanged"] + sum(one.unchanged for one in plans),
            skipped=(*closed, *(s for s in self._catalog.skipped() if str(s.path) in tried)),
            missing_folders=tuple(missing),
        )

    def _finish(self, roots: list[Path], pruned: list[Path]) -> None:
        """Merge segments, drop rows whose photos are gone, forget folders that hold nothing."""
        while names := to_merge(self._catalog.segments()):
            merge_segments(self._catalog, self._segments, names, drop_hidden=True)
        for name in hollow(self._catalog.segments()):
            dropped = merge_segments(self._catalog, self._segments, [name], drop_hidden=True)
            for hash_ in dropped:
                thumbnail_path(self._thumbnails, hash_).unlink(missing_ok=True)
        emptied = [f for f in self._catalog.folders() if not f.is_dir() and not self._holds(f)]
        with self._catalog.write() as writer:
            for root in roots:
                writer.add_folder(root)
            for folder in (*emptied, *pruned):
                writer.remove_folder(folder)
            writer.set(last_run=datetime.now(UTC).isoformat(timespec="seconds"))

    def _holds(self, folder: Path) -> bool:
        photos, _ = self._catalog.known_under(str(folder))
        return bool(photos)

    def _roots(self, folders: Sequence[Path]) -> list[Path]:
        """Absolute folders, none inside another. A folder nobody knows must be there."""
        known = self._catalog.folders()
        wanted = [Path(os.path.realpath(folder.expanduser())) for folder in folders] or known
        if not wanted:
            raise LibraryError("no folder was indexed yet: name one, as in fc7 index ~/Pictures")
        for folder in wanted:
            if not folder.is_dir() and folder not in known and not self._holds(folder):
                what = "is a file, not a folder" if folder.is_file() else "is not there"
                raise LibraryError(f"{folder} {what}: name the folder that holds your photos")
        return [
            folder
            for folder in dict.fromkeys(wanted)
            if not any(other in folder.parents for other in wanted)
        ]

    # --- the model

    def _choose_model(self, network: str | None, weights: str | None) -> tuple[str, str]:
        settings = self._catalog.settings()
        if weights is not None and Path(weights).exists():
            weights = str(Path(weights).absolute())
        if "stamp" not in settings:
            return network or DEFAULT_NETWORK, weights or DEFAULT_WEIGHTS
        own = (settings["network"], settings["weights"])
        asked = (network or own[0], weights or own[1])
        if asked != own:
            raise self._other_model(own, asked)
        return own

    def _other_model(self, own: tuple[str, str], asked: tuple[str, str]) -> LibraryError:
        return LibraryError(
            f"{self.path} was indexed with {own[0]} ({own[1]}), not with {asked[0]} ({asked[1]}): "
            "give another library with --library, or delete this one and index again"
        )

    def _claim(self, model: tuple[str, str], device: str) -> Extractor:
        """Load the model; a new library takes its stamp, an old one must have the same."""
        extractor = self._load(model, device)
        if "stamp" not in self._catalog.settings():
            with self._catalog.write() as writer:
                writer.set(network=model[0], weights=model[1], stamp=extractor.stamp)
        return extractor

    def _load(self, model: tuple[str, str], device: str = "auto") -> Extractor:
        from retrieval.extractor import Extractor  # torch takes seconds: only when it is needed

        if self._extractor is None:
            self._extractor = Extractor(*model, device=device)
        stamp = self._catalog.settings().get("stamp", self._extractor.stamp)
        if stamp != self._extractor.stamp:
            raise LibraryError(
                f"{self.path} was indexed with other {model[0]} weights than {model[1]} holds now: "
                "bring those weights back, or delete this library and index again"
            )
        return self._extractor

    # --- search

    def search(self, photo: Path | bytes | int, k: int = 10) -> list[Hit]:
        """Return the k nearest photos, nearest first; equal distances by path.

        photo: a file, the bytes of one, or the id of a photo of this library. A photo of the
        library is not its own answer, but its copies at other paths are.

        Raises ImageError if the query is no picture, LibraryError if the library holds no photos or
        the id is unknown.
        """
        return list(self.answer(photo, k).hits)

    def answer(self, photo: Path | bytes | int, k: int = 10) -> Answer:
        """As `search`, with the classes of the query beside the hits."""
        if k < 1:
            raise LibraryError(f"{k} answers were asked for: ask for 1 or more")
        if self.count() == 0:
            raise LibraryError(f"{self.path} holds no photos yet: fc7 index FOLDER adds some")
        itself, content, loaded = self._find(photo)
        search = self._searcher()
        if content is not None:
            descriptor = search.descriptors([content])
            labels = self._stored_labels(content)
        else:
            descriptor, labels = self._describe(loaded)
        spare = 1 if itself is not None else 0
        distances, contents = search.search(descriptor, k + spare)
        hits = self._hits(distances[0], contents[0], itself)
        return Answer(tuple(hits[:k]), labels)

    def _find(self, photo: Path | bytes | int) -> tuple[int | None, int | None, Path | bytes]:
        """(id of the photo asked with, its content, where to read it): None where unknown."""
        if isinstance(photo, int):
            known = self.photo(photo)
            return known.id, self._catalog.content_of(known.id), known.path
        if isinstance(photo, bytes):
            hash_ = hashlib.sha256(photo).hexdigest()
            return None, self._catalog.content_with(hash_), photo
        path = Path(os.path.realpath(photo.expanduser()))
        try:
            with path.open("rb") as file:
                hash_ = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ImageError(f"{photo} can't be read: {error.strerror}") from error
        here = self._catalog.photo_at(str(path))
        return here.id if here else None, self._catalog.content_with(hash_), path

    def _describe(self, photo: Path | bytes) -> tuple[NDArray[np.float32], tuple[Prediction, ...]]:
        try:
            pixels, _ = read_photo(photo)
        except ImageError as error:
            name = photo.name if isinstance(photo, Path) else "the photo"
            raise ImageError(f"{name} can't be used: {error.reason}") from error
        settings = self._catalog.settings()
        with self._guard:
            extractor = self._load((settings["network"], settings["weights"]))
        described = extractor.describe(frame(pixels, extractor.framing)[np.newaxis])
        return described.fc7, tuple(top_labels(described.probabilities, extractor.classes)[0])

    def _hits(
        self, distances: NDArray[np.float32], contents: NDArray[np.int64], itself: int | None
    ) -> list[Hit]:
        photos = self._catalog.photos_of(contents.tolist())
        found = [
            (float(distance), photo)
            for distance, content in zip(distances, contents.tolist(), strict=True)
            for photo in photos.get(content, ())
            if photo.id != itself
        ]
        found.sort(key=lambda pair: (pair[0], str(pair[1].path)))
        return [Hit(rank, *pair) for rank, pair in enumerate(found, start=1)]

    def _searcher(self) -> ExactSearch:
        """The open segments, opened anew when the catalogue has changed."""
        with self._guard:
            while True:
                generation = self._catalog.settings()["generation"]
                if self._search is not None and self._search[0] == generation:
                    return self._search[1]
                files = [self._segments.path(name) for name in self._catalog.segment_names()]
                hidden = np.array(self._catalog.hidden_contents(), dtype=np.int64)
                if not all(file.exists() for file in files):
                    if generation == self._catalog.settings()["generation"]:
                        lost = next(file for file in files if not file.exists())
                        raise LibraryError(f"{lost} is missing: delete the library and index again")
                    continue  # merged into another under our hands: look again
                self._search = (generation, ExactSearch(files, hidden))

    # --- looking

    def count(self) -> int:
        return self._catalog.count()

    def photo(self, photo_id: int) -> Photo:
        photo = self._catalog.photo(photo_id)
        if photo is None:
            raise LibraryError(
                f"no photo {photo_id} in {self.path}: it was removed, or never there"
            )
        return photo

    def photos(self, *, offset: int = 0, limit: int = 100) -> list[Photo]:
        """Newest taken first; those without a date last, by path."""
        return self._catalog.photos(offset=offset, limit=limit)

    def thumbnail(self, photo_id: int) -> Path:
        """An upright JPEG, long side at most 320 pixels, made when the photo was indexed."""
        return thumbnail_path(self._thumbnails, self.photo(photo_id).content_hash)

    def labels(self, photo_id: int) -> list[Prediction]:
        """The five likeliest classes, as stored when the photo was indexed."""
        content = self._catalog.content_of(self.photo(photo_id).id)
        assert content is not None, "a photo always has a content"
        return list(self._stored_labels(content))

    def status(self) -> Status:
        settings = self._catalog.settings()
        return Status(
            path=self.path,
            photos=self.count(),
            folders=tuple(self._catalog.folders()),
            bytes=sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()),
            network=settings.get("network"),
            weights=settings.get("weights"),
            stamp=settings.get("stamp"),
            last_run=settings.get("last_run"),
            skipped=tuple(self._catalog.skipped()),
        )

    def _stored_labels(self, content: int) -> tuple[Prediction, ...]:
        return tuple(Prediction(*row) for row in self._catalog.labels(content))

    # --- the folder

    def _prepare(self, create: bool) -> None:
        if not create:
            raise LibraryError(f"no library in {self.path}: fc7 index FOLDER makes one")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LibraryError(f"{self.path} can't be made: {error.strerror}") from error
        if any(self.path.iterdir()) and not (self.path / "segments").is_dir():
            raise LibraryError(
                f"{self.path} holds other files: give an empty or a new folder with --library"
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        lock = filelock.FileLock(self.path / "index.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise LibraryError(
                f"another run is indexing into {self.path}: wait for it, or stop it first"
            ) from error
        try:
            yield
        finally:
            lock.release()
