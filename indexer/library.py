"""Library: the one object people talk to. It owns a folder:

LIBRARY/catalog.sqlite     what is known (the truth)
LIBRARY/segments/          FC7 of the photos, and their codes, FAISS files
LIBRARY/coders/            what made the codes
LIBRARY/thumbnails.sqlite  small upright JPEGs, by content hash
LIBRARY/index.lock         held while a run writes
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import filelock
import platformdirs

from indexer.catalog import Catalog, Photo, Skip
from indexer.coding import SAMPLE, CoderStore, recode, sample
from indexer.filters import Filters
from indexer.finder import (
    ENOUGH,
    EXACT_ROWS,
    Answer,
    Finder,
    Hit,
    Labelled,
    Mode,
    Query,
    unknown_photo,
)
from indexer.run import IndexReport, Run
from indexer.segments import SegmentStore
from indexer.thumbnails import ThumbnailStore
from retrieval.codes import BITS, SHORTLIST, shipped_coder
from retrieval.errors import CodesError, LibraryError
from retrieval.images import Region
from retrieval.labels import Prediction

if TYPE_CHECKING:
    from retrieval.evaluation import Comparison
    from retrieval.extractor import Extractor

_COMPARED = 20_000  # descriptors, 300 MB
_WORTH_TRAINING = EXACT_ROWS  # photos: with fewer, searches don't use codes
DEFAULT_WEIGHTS = "bundled"
NO_FILTERS = Filters()


@dataclass(frozen=True, slots=True)
class CodesStatus:
    """What a library's codes are, and how a search by them goes."""

    bits: int
    learned_from: int  # photos
    own: bool  # learned from this library; else it came with fc7
    shortlist: int  # photos that a search by codes compares exactly
    recall: float | None  # the share of the ten nearest that it so finds; None: not measured yet
    measured_on: int  # photos


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
    codes: CodesStatus | None  # None: there are none
    exact_up_to: int  # photos: beyond, a search goes by codes unless it is told otherwise
    advice: tuple[str, ...]  # what would make search better here
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
        self._thumbnails = ThumbnailStore(self.path / "thumbnails.sqlite")
        self._finder = Finder(
            self.path, self._catalog, self._segments, lambda: self._load(self._own_model())
        )
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
        self._finder.close()
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
        network, weights: asked of a new library; an old one keeps to its own. Weights of a file or
        of a training run's folder name their network.
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
            report = run.sync(folders, prune=prune, progress=progress)
            self._fit_shortlist()
            return report

    # --- the model

    def _choose_model(self, network: str | None, weights: str | None) -> tuple[str | None, str]:
        """(network, weights) of this library; what is asked for must not contradict them.

        The network is None where the weights shall say which it is.
        """
        settings = self._catalog.settings()
        if weights and weights not in ("bundled", "imagenet") and Path(weights).exists():
            weights = str(Path(weights).absolute())
        if "stamp" in settings:
            own = self._own_model()
        elif self._extractor is not None:
            own = (self._extractor.network, self._extractor.weights)
        else:
            return network, weights or DEFAULT_WEIGHTS
        asked = (network or own[0], weights or own[1])
        if asked != own:
            other = f"{network} ({asked[1]})" if network else asked[1]
            raise LibraryError(
                f"{self.path} is of {own[0]} ({own[1]}), not of {other}: "
                "give another library with --library, or delete this one and index again"
            )
        return own

    def _own_model(self) -> tuple[str, str]:
        settings = self._catalog.settings()
        return settings["network"], settings["weights"]

    def _claim(self, model: tuple[str | None, str], device: str) -> Extractor:
        """Load the model; a new library takes its stamp, an old one must have the same."""
        extractor = self._load(model, device)
        if "stamp" not in self._catalog.settings():
            with self._catalog.write() as writer:
                writer.set(network=extractor.network, weights=model[1], stamp=extractor.stamp)
            self._use_coder()
        return extractor

    def _load(self, model: tuple[str | None, str], device: str = "auto") -> Extractor:
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
            self._fit_shortlist(anew=True)

    def compare_codes(
        self,
        bits: int = 256,
        *,
        seed: int = 0,
        device: str = "auto",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[Comparison]:
        """Compare coders learned from this library's descriptors, and the one in use; keep none.

        At most 20,000 descriptors are looked at. Raises CodesError or EvaluationError if there are
        too few.
        """
        from retrieval.evaluation import compare_coders  # torch: only when it is needed

        settings = self._catalog.settings()
        own = self._coders.read(settings["coder"]) if "coder" in settings else None
        fc7 = sample(self._catalog, self._segments, seed, most=_COMPARED)
        return compare_coders(fc7, bits, own=own, device=device, progress=progress, seed=seed)

    def fit_shortlist(self) -> None:
        """Measure how long a shortlist must be here, if the library has grown much since."""
        with self._writing():
            self._fit_shortlist()

    def _fit_shortlist(self, *, anew: bool = False) -> None:
        """Fit the shortlist to the library, each time that it has doubled since it was measured."""
        settings = self._catalog.settings()
        rows = sum(segment.rows for segment in self._catalog.segments())
        due = rows > EXACT_ROWS and rows >= 2 * int(settings.get("shortlist_rows", 0))
        if "coder" in settings and (anew or due):
            found = self._finder.measure()
            with self._catalog.write() as writer:
                writer.set(
                    shortlist=str(found.shortlist),
                    shortlist_recall=f"{found.recall:.4f}",
                    shortlist_rows=str(found.rows),
                )

    def _use_coder(self) -> None:
        """Write codes from now on: by the library's own coder, else by the one that fc7 brings.

        It also takes the place of one that is damaged; the codes are then made anew.
        """
        settings = self._catalog.settings()
        damage = None
        if "coder" in settings:
            try:
                self._segments.use(settings["coder"], self._coders.read(settings["coder"]))
                self._coders.sweep(settings["coder"])
                return
            except CodesError as error:
                damage = error
        if "stamp" in settings:
            brought = shipped_coder(settings["network"], settings["stamp"])
            if brought is not None:
                recode(self._catalog, self._segments, self._coders, *brought)
            elif damage is not None:
                raise damage

    # --- search

    def search(self, photo: Query, k: int = 10) -> list[Hit]:
        """The hits of `answer`."""
        return list(self.answer(photo, k).hits)

    def answer(
        self,
        photo: Query,
        k: int = 10,
        *,
        like: Sequence[Query] = (),
        unlike: Sequence[Query] = (),
        region: Region | None = None,
        mode: Mode = "auto",
        filters: Filters = NO_FILTERS,
    ) -> Answer:
        """Return the k nearest photos, nearest first; equal distances by path.

        photo: a file, the bytes of one, or the id of a photo of this library.
        like, unlike: more examples, and counter-examples; see `retrieval.search.blend`.
        region: the part of the photo to ask with; see `retrieval.images.read_region`.
        mode: "exact" compares with every descriptor; "codes" with every code, and then with the
        descriptors of the nearest; "auto" is exact where few enough photos compete.
        filters: what the answers must fulfil.

        No example of the library is an answer, but its copies at other paths are.

        Raises ImageError if an example is no picture or the region not inside it, LibraryError if
        the library holds no photos, an id is unknown, or codes are asked for and not there.
        """
        return self._finder.answer(
            photo, k, like=like, unlike=unlike, region=region, mode=mode, filters=filters
        )

    def labelled(self, word: str, k: int = 10, *, filters: Filters = NO_FILTERS) -> list[Labelled]:
        """Return the k photos that likeliest show what the word says, likeliest first.

        word: a label, or else a part of some, in any case. What is compared are the five likeliest
        classes stored with each photo; equal probabilities go by path.

        Raises LibraryError if no photo has such a label; it names the nearest that some have.
        """
        return self._finder.labelled(word, k, filters)

    # --- looking

    def count(self) -> int:
        return self._catalog.count()

    def photo(self, photo_id: int) -> Photo:
        photo = self._catalog.photo(photo_id)
        if photo is None:
            raise unknown_photo(photo_id, self.path)
        return photo

    def photos(self, *, offset: int = 0, limit: int = 100) -> list[Photo]:
        """Newest taken first; those without a date last, by path."""
        return self._catalog.photos(offset=offset, limit=limit)

    def thumbnail(self, photo_id: int) -> bytes | None:
        """An upright JPEG, long side at most 320 pixels, made when the photo was indexed."""
        return self._thumbnails.get(self.photo(photo_id).content_hash)

    def labels(self, photo_id: int) -> list[Prediction]:
        """The five likeliest classes, as stored when the photo was indexed."""
        content = self._catalog.content_of(self.photo(photo_id).id)
        assert content is not None, "a photo always has a content"
        return [Prediction(*row) for row in self._catalog.labels(content)]

    def status(self) -> Status:
        settings = self._catalog.settings()
        codes = _codes_status(settings)
        photos = self.count()
        return Status(
            path=self.path,
            photos=photos,
            folders=tuple(self._catalog.folders()),
            bytes=sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()),
            network=settings.get("network"),
            weights=settings.get("weights"),
            stamp=settings.get("stamp"),
            codes=codes,
            exact_up_to=EXACT_ROWS,
            advice=_advice(photos, codes),
            last_run=settings.get("last_run"),
            skipped=tuple(self._catalog.skipped()),
        )

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


def _codes_status(settings: Mapping[str, str]) -> CodesStatus | None:
    if "coder" not in settings:
        return None
    recall = settings.get("shortlist_recall")
    return CodesStatus(
        bits=int(settings["coder_bits"]),
        learned_from=int(settings["coder_learned_from"]),
        own=settings["coder_source"] == "library",
        shortlist=int(settings.get("shortlist", SHORTLIST)),
        recall=None if recall is None else float(recall),
        measured_on=int(settings.get("shortlist_rows", 0)),
    )


def _advice(photos: int, codes: CodesStatus | None) -> tuple[str, ...]:
    """Commands worth their time; see docs/codes.md for what they bring."""
    advice: list[str] = []
    if codes is None:
        return ()
    if photos >= _WORTH_TRAINING and not codes.own:
        advice.append("fc7 codes train: codes learned from these photos keep more of the nearest")
    if codes.own and codes.learned_from < min(photos // 4, SAMPLE):
        advice.append(
            "fc7 codes train: there are many more photos than the codes were learned from"
        )
    if codes.recall is not None and codes.recall < ENOUGH and codes.bits < max(BITS):
        advice.append(f"fc7 codes train --bits {2 * codes.bits}: longer codes keep more")
    return tuple(advice)
