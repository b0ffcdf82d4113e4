"""Library: the one object people talk to. It owns a folder:

LIBRARY/catalog.sqlite     what is known (the truth), unless LIBRARY/engines.json names a server
LIBRARY/segments/          FC7 of the photos, and their codes, FAISS files
LIBRARY/coders/            what made the codes
LIBRARY/thumbnails.sqlite  small upright JPEGs, by content hash
LIBRARY/index.lock         held while a run writes; LIBRARY/run.json tells of it (indexer/work.py)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

import platformdirs

from indexer.albums import Albums
from indexer.catalog import Photo
from indexer.coding import CoderStore, recode, sample, use_coder
from indexer.duplicates import Duplicates
from indexer.engines.catalogs import has_catalog, open_catalog
from indexer.engines.stores import open_store
from indexer.facets import Facets, read_facets
from indexer.filters import NO_FILTERS, Filters
from indexer.finder import (
    EXACT_ROWS,
    Answer,
    Finder,
    Hit,
    Labelled,
    Mode,
    Query,
    unknown_photo,
)
from indexer.inside import THUMBNAILS, refuse_links
from indexer.label_rows import labels_of_photos
from indexer.loading import LoadReport, load_shards
from indexer.map import Map
from indexer.run import IndexReport, Run
from indexer.status import Status, read_status
from indexer.storing import Store
from indexer.syncing import make_folder
from indexer.thumbnails import ThumbnailStore
from indexer.work import Work, read_work, working
from retrieval.errors import LibraryError
from retrieval.images import Region
from retrieval.labels import Prediction

if TYPE_CHECKING:
    from retrieval.evaluation import Comparison
    from retrieval.extractor import Extractor

_COMPARED = 20_000  # descriptors, 300 MB
DEFAULT_WEIGHTS = "bundled"


def default_path() -> Path:
    """$FC7_LIBRARY, else `fc7` in the user's data folder."""
    named = os.environ.get("FC7_LIBRARY")
    return Path(named) if named else Path(platformdirs.user_data_dir("fc7", appauthor=False))


def open_library(
    path: Path | None = None,
    *,
    create: bool = True,
    extractor: Extractor | None = None,
    catalog: str | None = None,
    store: str | None = None,
) -> Library:
    """Open a library, or make it. Raises LibraryError if it can't be, or is newer than this fc7.

    extractor: one that is loaded already, to be used by this library too; None loads one when it is
    first needed.
    catalog: the address of the PostgreSQL database that a new library keeps its catalogue in; None
    is a file in its folder. An old one remembers it, all but the password.
    store: the address of the Milvus server that a new library keeps its vectors on (see
    `indexer.engines.stores.open_store`); None are files in its folder. It too is remembered.
    """
    where = path or default_path()
    try:
        return Library(where, create=create, extractor=extractor, catalog=catalog, store=store)
    except OSError as error:
        raise LibraryError(f"{where} can't be used as a library: {error.strerror}") from error


class Library:
    """Photos, their descriptors, and search over them. Close it, or use it in a `with`.

    Any number of processes may read a library while one writes; one object may be used by several
    threads.
    """

    def __init__(
        self,
        path: Path,
        *,
        create: bool = True,
        extractor: Extractor | None = None,
        catalog: str | None = None,
        store: str | None = None,
    ) -> None:
        self.path = path.expanduser().absolute()
        refuse_links(self.path)
        if not has_catalog(self.path):
            self._prepare(create)
        self._catalog = open_catalog(self.path, catalog)
        try:
            self._vectors = open_store(self.path, self._catalog, store)
        except LibraryError:
            self._catalog.close()
            raise
        self._coders = CoderStore(self.path / "coders")
        self._thumbnails = ThumbnailStore(self.path / THUMBNAILS)
        self._finder = Finder(
            self.path, self._catalog, self._vectors, lambda: self._load(self._own_model())
        )
        self._extractor = extractor
        self._loading = Lock()
        self.albums = Albums(self._catalog, self._vectors, self._finder.rows)
        self.map = Map(self._catalog, self._vectors)
        self.duplicates = Duplicates(
            self._catalog, self._vectors, self._thumbnails, self._finder.rows
        )

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
        self._vectors.close()
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
        settle: float = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexReport:
        """Bring the library in step with its folders; read only what is new or changed.

        folders: what to look at; none means every folder indexed before.
        network, weights: asked of a new library; an old one keeps to its own. Weights of a file or
        of a training run's folder name their network.
        prune: forget the photos of folders that are missing or empty.
        settle: leave files that changed in the last so many seconds for a later run.
        progress: called with (files done, files to read).

        Raises LibraryBusyError if another run is at work, LibraryError if a folder was never there
        or the library was made with another model; WeightsError and DeviceError from the network.
        """
        with working(self.path, "index") as journal:
            tell = journal.teller("photos", progress)
            model = self._choose_model(network, weights)
            self._use_coder()
            run = self._run(lambda: self._claim(model, device))
            report = run.sync(folders, prune=prune, settle=settle, progress=tell)
            journal.conclude(**report.counts())
            self._fit_shortlist()
            return report

    def load(
        self, shards: str, *, progress: Callable[[int, int], None] | None = None
    ) -> LoadReport:
        """Take in what a run on many machines described; loading it twice is loading it once.

        shards: the folder of the run, a path or an address. Of a run that is not complete, what is
        there is loaded. Its photos are known by path, as if they had been indexed here; its local
        folders are kept in step by `index` from now on. Nothing leaves the library.
        progress: called with (files done, files).

        Raises LibraryBusyError if another run is at work, LibraryError if the library is of another
        model, ShardsError if the shards are missing or damaged, EngineError if they can't be read.
        """
        with working(self.path, "load") as journal:
            # Whoever loads may not see the run's disks: no photo has moved because of that.
            store = Store(self._catalog, self._vectors, self._thumbnails, lambda _path: True)
            tell = journal.teller("photos", progress)
            report = load_shards(shards, self._catalog, self._vectors, self._use_coder, store, tell)
            journal.conclude(**report.counts())
            self._fit_shortlist()
            return report

    def forget(self, folder: Path) -> int:
        """Let a folder's photos leave the library, and their albums; return how many they were.

        folder: one of those that were indexed. Its files stay as they are.

        Raises LibraryError if it is none of them, or another run is at work.
        """
        with working(self.path, "forget") as journal:
            forgotten = self._run(lambda: self._load(self._own_model())).forget(folder)
            journal.conclude(removed=forgotten)
            return forgotten

    def work(self) -> Work | None:
        """The run that is at work here, in whichever process, or the last one."""
        return read_work(self.path)

    def _run(self, load_extractor: Callable[[], Extractor]) -> Run:
        return Run(self.path, self._catalog, self._vectors, self._thumbnails, load_extractor)

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

    def model(self) -> tuple[str, str] | None:
        """The network of the library's descriptors and its weights; None before there are any."""
        return self._own_model() if "stamp" in self._catalog.settings() else None

    def _own_model(self) -> tuple[str, str]:
        settings = self._catalog.settings()
        return settings["network"], settings["weights"]

    def _claim(self, model: tuple[str | None, str], device: str) -> Extractor:
        """Load the model; a new library takes its stamp, an old one must have the same."""
        extractor = self._load(model, device)
        if "stamp" not in self._catalog.settings():
            with self._catalog.write() as writer:
                classes = json.dumps(extractor.classes)
                writer.set(network=extractor.network, weights=model[1], stamp=extractor.stamp)
                writer.set(classes=classes)
            self._use_coder()
        return extractor

    def warm(self) -> None:
        """Load now what answers need, so that the first one need not wait for it."""
        first = self.photos(limit=1)
        if first:
            self._load(self._own_model())
            self.answer(first[0].id, 1)

    def _load(self, model: tuple[str | None, str], device: str = "auto") -> Extractor:
        from retrieval.extractor import Extractor  # torch takes seconds: only when it is needed

        with self._loading:
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

        with working(self.path, "codes") as journal:

            def tell(what: str) -> Callable[[int, int], None]:
                return journal.teller(what, progress and partial(progress, what))

            descriptors = sample(self._catalog, self._vectors, seed)
            coder = learn_autoencoder(
                descriptors, bits, seed=seed, device=device, progress=tell("epochs")
            )
            about = {"bits": str(bits), "learned_from": str(len(descriptors)), "source": "library"}
            recode(self._catalog, self._vectors, self._coders, coder, about, tell("photos"))
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
        fc7 = sample(self._catalog, self._vectors, seed, most=_COMPARED)
        return compare_coders(fc7, bits, own=own, device=device, progress=progress, seed=seed)

    def fit_shortlist(self) -> None:
        """Measure how long a shortlist must be here, if the library has grown much since."""
        with working(self.path, "codes"):
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
        use_coder(self._catalog, self._vectors, self._coders)

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

    def labelled(
        self, word: str, k: int = 10, *, filters: Filters = NO_FILTERS, offset: int = 0
    ) -> list[Labelled]:
        """Return the k photos that likeliest show what the word says, likeliest first.

        word: a label, or else a part of some, in any case. What is compared are the five likeliest
        classes stored with each photo; equal probabilities go by path.
        offset: so many of the likeliest are passed over.

        Raises LibraryError if no photo has such a label; it names the nearest that some have.
        """
        return self._finder.labelled(word, k, filters, offset)

    # --- looking

    def count(self) -> int:
        return self._catalog.count()

    def photo(self, photo_id: int) -> Photo:
        photo = self._catalog.photo(photo_id)
        if photo is None:
            raise unknown_photo(photo_id, self.path)
        return photo

    def photo_at(self, path: Path) -> Photo:
        """The photo of a file. Raises LibraryError if it is not indexed."""
        photo = self._catalog.photo_at(os.path.realpath(path.expanduser()))
        if photo is None:
            raise LibraryError(f"{path} is not in {self.path}: fc7 index its folder first")
        return photo

    def photos(self, *, offset: int = 0, limit: int = 100) -> list[Photo]:
        """Newest taken first; those without a date last, by path."""
        return self._catalog.photos(offset=offset, limit=limit)

    def thumbnail(self, photo_id: int) -> bytes | None:
        """An upright JPEG, long side at most 320 pixels, made when the photo was indexed."""
        return self._thumbnails.get(self.photo(photo_id).content_hash)

    def labels(self, photo_id: int) -> list[Prediction]:
        """The five likeliest classes, as stored when the photo was indexed."""
        return self.labels_of([self.photo(photo_id).id])[photo_id]

    def labels_of(self, photo_ids: Sequence[int]) -> dict[int, list[Prediction]]:
        """The same of many photos, by photo."""
        found = labels_of_photos(self._catalog, photo_ids)
        return {photo: [Prediction(*row) for row in rows] for photo, rows in found.items()}

    def facets(self) -> Facets:
        """What searches can be narrowed by; looks at every photo."""
        with self._catalog.snapshot() as view:
            return read_facets(view)

    def generation(self) -> str:
        """Another text each time that photos came, went or changed."""
        return self._catalog.generation()

    def change(self) -> str:
        """Another text each time that anything changed: albums and the map too."""
        settings = self._catalog.settings()
        return settings.get("change", settings.get("generation", ""))  # older ones have no change

    def status(self) -> Status:
        return read_status(self.path, self._catalog, self._vectors)

    # --- the folder

    def _prepare(self, create: bool) -> None:
        if not create:
            raise LibraryError(f"no library in {self.path}: fc7 index FOLDER makes one")
        try:
            make_folder(self.path)
        except OSError as error:
            raise LibraryError(f"{self.path} can't be made: {error.strerror}") from error
        if any(self.path.iterdir()) and not (self.path / "segments").is_dir():
            raise LibraryError(
                f"{self.path} holds other files: give an empty or a new folder with --library"
            )
