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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import filelock
import numpy as np
import platformdirs
from numpy.typing import NDArray

from indexer.catalog import Catalog, Photo, Skip
from indexer.coding import CoderStore, recode, sample
from indexer.pipeline import thumbnail_path
from indexer.run import IndexReport, Run
from indexer.segments import SegmentStore
from retrieval.codes import shipped_coder
from retrieval.errors import ImageError, LibraryError, SearchError
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
        self._coders = CoderStore(self.path / "coders")
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
            model = self._choose_model(network, weights)
            self._use_coder()
            run = Run(
                self.path,
                self._catalog,
                self._segments,
                self._thumbnails,
                lambda: self._claim(model, device),
            )
            return run.sync(folders, prune=prune, progress=progress)

    # --- the model

    def _choose_model(self, network: str | None, weights: str | None) -> tuple[str, str]:
        """(network, weights) of this library; what is asked for must not contradict them."""
        settings = self._catalog.settings()
        if weights is not None and Path(weights).exists():
            weights = str(Path(weights).absolute())
        if "stamp" in settings:
            own = (settings["network"], settings["weights"])
        elif self._extractor is not None:
            own = (self._extractor.network, self._extractor.weights)
        else:
            return network or DEFAULT_NETWORK, weights or DEFAULT_WEIGHTS
        asked = (network or own[0], weights or own[1])
        if asked != own:
            raise LibraryError(
                f"{self.path} is of {own[0]} ({own[1]}), not of {asked[0]} ({asked[1]}): "
                "give another library with --library, or delete this one and index again"
            )
        return own

    def _claim(self, model: tuple[str, str], device: str) -> Extractor:
        """Load the model; a new library takes its stamp, an old one must have the same."""
        extractor = self._load(model, device)
        if "stamp" not in self._catalog.settings():
            with self._catalog.write() as writer:
                writer.set(network=model[0], weights=model[1], stamp=extractor.stamp)
            self._use_coder()
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

    # --- codes

    def train_codes(
        self,
        bits: int = 256,
        *,
        seed: int = 0,
        device: str = "auto",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> None:
        """Learn a coder from this library's descriptors, and make all its codes anew with it.

        progress: called with what is done now, how much of it, of how much.

        Raises CodesError if there are too few photos or the number of bits is unknown, LibraryError
        if another run is at work.
        """
        from retrieval.training.coders import learn_autoencoder  # torch: only when it is needed

        def tell(what: str) -> Callable[[int, int], None] | None:
            return progress and (lambda done, total: progress(what, done, total))

        with self._writing():
            descriptors = sample(self._catalog, self._segments, seed)
            coder = learn_autoencoder(
                descriptors, bits, seed=seed, device=device, progress=tell("epochs")
            )
            about = {"bits": str(bits), "learned_from": str(len(descriptors)), "source": "library"}
            recode(self._catalog, self._segments, self._coders, coder, about, tell("photos"))

    def _use_coder(self) -> None:
        """Write codes from now on: by the library's own coder, else by the one that fc7 brings."""
        settings = self._catalog.settings()
        if "coder" in settings:
            self._segments.use(settings["coder"], self._coders.read(settings["coder"]))
            self._coders.sweep(settings["coder"])
        elif "stamp" in settings:
            brought = shipped_coder(settings["network"], settings["stamp"])
            if brought is not None:
                recode(self._catalog, self._segments, self._coders, *brought)

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
        if path.exists() and not path.is_file():
            raise ImageError(f"{photo} is not a file: name a photo")  # a pipe would block
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
                files = [self._segments.path(one.name) for one in self._catalog.segments()]
                hidden = np.array(self._catalog.hidden_contents(), dtype=np.int64)
                try:
                    self._search = (generation, ExactSearch(files, hidden))
                except SearchError as error:
                    if generation == self._catalog.settings()["generation"]:
                        raise LibraryError(
                            f"{error}: delete the library and index again"
                        ) from error
                    # else a run merged the file into another under our hands: look again

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
