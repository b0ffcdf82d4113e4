"""Search by Euclidean distance over FAISS files of FC7: exact, or a shortlist by codes first.

A segment is a flat FAISS index (`IDMap2` over fp16 rows) and is never edited: it is written whole
and then memory-mapped, so a library may be larger than memory. Beside it may lie a file of codes,
one a row, in the same order; these are read into memory. faiss returns squared distances;
everything that leaves this file is the distance itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.codes import WIDER, shorten
from retrieval.errors import DeviceError, SearchError
from retrieval.layout import read_codes, read_layout
from retrieval.scattered import OpenFile, read_scattered

# Of counter-examples beside examples in a query. Rocchio's relevance feedback (1971) takes the mean
# of the ones less the mean of the others; that the others should weigh less is Salton and Buckley's
# finding (1990). The half is ours, not measured.
NEGATIVE_WEIGHT = 0.5

_CHUNK = 1 << 20  # bytes written at once
_BUILDS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12", "faiss-gpu-cuvs")


def _installed_builds() -> list[str]:
    found = {(dist.metadata["Name"] or "").lower() for dist in metadata.distributions()}
    return [name for name in _BUILDS if name in found]


def check_faiss_builds(builds: Sequence[str]) -> None:
    """Refuse an environment where two builds of faiss have overwritten each other's files.

    Raises DeviceError with the commands that mend it.
    """
    if len(builds) > 1:
        raise DeviceError(
            f"{' and '.join(builds)} are both installed and overwrite each other's files; keep "
            f"one: pip uninstall -y {' '.join(builds)}, then pip install {builds[0]}"
        )


check_faiss_builds(_installed_builds())  # before the import: a wrong mix can crash it

import faiss  # noqa: E402

from retrieval.hamming import Codes, threads_for  # noqa: E402


def write_rows(path: Path, ids: NDArray[np.int64], descriptors: NDArray[np.float32]) -> None:
    """Write descriptors (n, d) float32 under their ids (n,) int64 as one FAISS file, in fp16.

    Raises SearchError if it can't be written, as `merge_rows` and `write_codes` do.
    """
    index = _empty(descriptors.shape[1])
    index.add_with_ids(np.ascontiguousarray(descriptors, np.float32), ids.astype(np.int64))
    _write(faiss.write_index, index, path)


def merge_rows(path: Path, sources: Sequence[Path], keep: NDArray[np.int64]) -> int:
    """Write the rows of `sources` whose id is in `keep` as one file; return how many there are.

    Rows are copied as they are stored: no rounding is added.
    """
    opened = _open_all(sources)
    merged = _empty(opened[0].fp16.shape[1])
    for rows in opened:
        kept = np.isin(rows.ids, keep)
        if kept.any():
            stored = np.ascontiguousarray(rows.fp16[kept]).view(np.uint8)
            merged.add_sa_codes(stored, rows.ids[kept])
    _write(faiss.write_index, merged, path)
    return int(merged.ntotal)


def write_codes(path: Path, codes: NDArray[np.uint8]) -> None:
    """Write codes (n, bits / 8) as one FAISS file, in their order."""
    index = faiss.IndexBinaryFlat(8 * codes.shape[1])
    index.add(np.ascontiguousarray(codes))
    _write(faiss.write_index_binary, index, path)


def _write(write: Callable[[Any, Any], None], index: Any, path: Path) -> None:
    """Not by FAISS itself: when the last bytes find no room, it says nothing."""
    try:
        with path.open("wb") as file:
            write(index, faiss.PyCallbackIOWriter(file.write, _CHUNK))
    except OSError as error:
        raise SearchError(f"{path} can't be written: {error.strerror}") from error


def stored_rows(path: Path) -> NDArray[np.float16]:
    """The descriptors (n, d) of a FAISS file, memory-mapped, in their order."""
    return _Rows(path).fp16


def stored_ids(path: Path) -> NDArray[np.int64]:
    """The ids (n,) of a FAISS file, in the order of its rows."""
    return _Rows(path).ids


def itq_rotation(rows: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The rotation (d, d) of centred rows (n, d) that brings them near their signs (ITQ)."""
    itq = faiss.ITQMatrix(rows.shape[1])
    itq.seed = seed
    itq.train(np.ascontiguousarray(rows, np.float32))
    return np.asarray(faiss.vector_to_array(itq.A).reshape(rows.shape[1], -1), np.float32)


def random_planes(width: int, count: int, seed: int) -> NDArray[np.float32]:
    """Normals (count, width) of random hyperplanes, at right angles to each other."""
    planes = faiss.RandomRotationMatrix(width, count)
    planes.init(seed)
    return np.asarray(faiss.vector_to_array(planes.A).reshape(count, width), np.float32)


def rank_rows(
    query: NDArray[np.float32], ids: NDArray[np.int64], rows: NDArray[np.float16], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows (n, d) nearest to a query (d,), by the same arithmetic as `Search.exact`.

    Returns squared distances (1, k) and ids (1, k), padded with -1 if there are fewer rows.
    """
    index = _empty(len(query))
    index.add_sa_codes(np.ascontiguousarray(rows).view(np.uint8), ids)
    with threads_for(1):
        squared, found = index.search(query[np.newaxis], k)
    return squared, found


def blend(
    positive: NDArray[np.float32], negative: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Make one query (1, d) of examples (n, d) and counter-examples (m, d), all unit rows.

    It is the mean of the ones less half the mean of the others, cut at nought, since FC7 is never
    negative, and made a unit row. A single example is its own query, unchanged.

    Raises SearchError if the counter-examples leave nothing of the examples.
    """
    if negative is None or not len(negative):
        if len(positive) == 1:
            return positive
        negative = np.zeros_like(positive[:1])
    query = np.maximum(positive.mean(axis=0) - NEGATIVE_WEIGHT * negative.mean(axis=0), 0)
    norm = float(np.linalg.norm(query))
    if norm == 0:
        raise SearchError("nothing is left of the photos asked with: take a counter-example away")
    return np.asarray(query[np.newaxis] / norm, np.float32)


class Search:
    """The nearest descriptors of a set of segments.

    exact      Euclidean distance to every row
    by codes   Hamming distance to every code -> the nearest, by the query's activations
               -> shortlist -> Euclidean distance to its rows

    Where a CUDA card and the GPU build of faiss are there, exact search keeps the rows on the card
    in fp16, and search by codes the codes; that is asked of the card (`get_num_gpus`), since the
    GPU build imports without one. Restricted searches, and long shortlists, stay on the CPU.
    May be used by several threads.
    """

    def __init__(self, files: Sequence[Path], hidden: NDArray[np.int64]) -> None:
        """files: as `write_rows` made them; hidden: (m,) int64, ids that must not be answered.

        Raises SearchError if a file is missing or damaged.
        """
        self.files = tuple(files)
        self._parts = _open_all(files)
        self._ends = np.cumsum([len(part.ids) for part in self._parts], dtype=np.int64)
        ids = np.concatenate([np.empty(0, np.int64), *(part.ids for part in self._parts)])
        self._place = np.argsort(ids, kind="stable")  # where an id is among the rows of all parts
        self._ids = ids[self._place]
        self._shown = ~np.isin(self._ids, hidden)
        self._codes: Codes | None = None  # of the ids that may be answered, in their order
        self._answerable = self._ids[self._shown], self._place[self._shown]
        self._card: Any = None
        self._guard = threading.Lock()  # an index on the card serves one thread at a time

    @property
    def bits(self) -> int:
        """The length of the codes; 0 before `load_codes`."""
        return 0 if self._codes is None else self._codes.bits

    def load_codes(self, files: Sequence[Path]) -> None:
        """Read the codes of each segment, in the order of the segments, into memory.

        Raises SearchError if one is missing, damaged, or doesn't fit its segment or the others.
        """
        blocks: list[NDArray[np.uint8]] = []
        for part, file in zip(self._parts, files, strict=True):
            blocks.append(read_codes(file))
            if len(blocks[-1]) != len(part.ids):
                raise SearchError(
                    f"{file} doesn't fit its segment: {len(blocks[-1]):,} codes for "
                    f"{len(part.ids):,} rows"
                )
            if blocks[-1].shape[1] != blocks[0].shape[1]:
                raise SearchError(
                    f"{file} holds codes of {8 * blocks[-1].shape[1]} bits beside others of "
                    f"{8 * blocks[0].shape[1]}"
                )
        if blocks:
            # By id: at equal distance what comes first is taken, so the shortlist does not depend
            # on how the rows came into segments.
            self._codes = Codes(np.concatenate(blocks)[self._answerable[1]])

    def count(self, only: NDArray[np.int64] | None = None) -> int:
        """How many rows compete: those not hidden, of these ids (m,) if given."""
        return len(self._answerable[0]) if only is None else int(self._competing(only).sum())

    def some(self, count: int, seed: int = 0) -> NDArray[np.int64]:
        """Draw at most `count` of the ids that may be answered, the same for the same seed."""
        shown = self._answerable[0]
        rng = np.random.default_rng(seed)
        return np.sort(rng.choice(shown, min(count, len(shown)), replace=False))

    def exact(
        self, queries: NDArray[np.float32], k: int, only: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the k nearest rows of each query, nearest first; equal distances by id.

        Of rows equally far at the end of the k it is faiss that takes some.

        queries: (n, d) float32. only: (m,) int64, the ids that may be answered; None is all.
        Returns distances (n, j) float32 and ids (n, j) int64 with j = min(k, `count(only)`).
        """
        queries = np.ascontiguousarray(queries, np.float32)
        self._check_width(queries)
        if only is None and faiss.get_num_gpus() > 0 and self._parts:
            with self._guard:
                if self._card is None:
                    self._card = self._copy_to_card()
                return nearest_of([self._card.search(queries, k)], len(queries), k)
        found = []
        with threads_for(len(queries)):
            for part, options in self._selected(self._competing(only)):
                squared, rows = part.flat.search(queries, k, **options)
                found.append((squared, np.where(rows < 0, -1, part.ids[rows])))
        return nearest_of(found, len(queries), k)

    def by_codes(
        self,
        queries: NDArray[np.float32],
        activations: NDArray[np.float32],
        k: int,
        shortlist: int,
        only: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """As `exact`, but among the `shortlist` rows (k at least) whose codes are nearest.

        activations: (n, bits) float32, those of the queries; their signs are the codes. `shorten`
        says which codes are nearest; equal Hamming distances go by id. Raises SearchError if the
        codes loaded have another length.
        """
        ids, places = self._answerable
        competing = None if only is None else self._competing(only)[self._shown]
        rows = len(ids) if competing is None else int(competing.sum())
        if rows == 0:
            return nearest_of([], len(queries), k)
        if self._codes is None or activations.shape[1] != self.bits:
            raise SearchError(
                f"the photo's code has {activations.shape[1]} bits, the codes of the segments "
                f"{self.bits}"
            )
        self._check_width(queries)
        shortlist = max(k, shortlist)
        codes = np.packbits(activations > 0, axis=1)
        listed = self._codes.nearest(codes, min(WIDER * shortlist, rows), competing)
        found = []
        for query, mine, near in zip(
            np.asarray(queries, np.float32), activations, listed, strict=True
        ):
            kept = np.sort(near[shorten(self._codes.stored[near], mine, shortlist)])
            found.append(rank_rows(query, ids[kept], self._rows(places[kept]), k))
        squared, nearest = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return nearest_of([(squared, nearest)], len(queries), k)

    def descriptors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the stored rows of these ids, (n, d) float32. An unknown id is a KeyError."""
        wanted = np.asarray(ids, np.int64)
        at, known = self._find(wanted)
        if not known.all():
            raise KeyError(int(wanted[~known][0]))
        return self._rows(self._place[at]).astype(np.float32)

    def _check_width(self, queries: NDArray[np.float32]) -> None:
        if self._parts and queries.shape[1] != self._parts[0].fp16.shape[1]:
            raise SearchError(
                f"the photo's descriptor has {queries.shape[1]:,} numbers, those of "
                f"{self.files[0]} have {self._parts[0].fp16.shape[1]:,}"
            )

    def _find(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where ids (m,) are among the sorted ones, and which of them are there at all."""
        if not len(self._ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return at, self._ids[at] == ids

    def _competing(self, only: NDArray[np.int64] | None) -> NDArray[np.bool_]:
        """Which of the sorted ids may be answered."""
        if only is None:
            return self._shown
        at, known = self._find(only)
        competing = np.zeros_like(self._shown)
        competing[at[known]] = True
        return competing & self._shown

    def _selected(self, competing: NDArray[np.bool_]) -> Iterator[tuple[_Rows, dict[str, Any]]]:
        """The parts in which a row competes, and how faiss is told which."""
        mask = np.zeros_like(competing)
        mask[self._place[competing]] = True
        for part, rows in zip(self._parts, np.split(mask, self._ends)[:-1], strict=True):
            if rows.any():
                yield part, {} if rows.all() else _selecting(rows)

    def _rows(self, places: NDArray[np.int64]) -> NDArray[np.float16]:
        """The rows (n, d) at these places (n,) among those of all parts. Raises SearchError."""
        rows = np.empty((len(places), self._parts[0].fp16.shape[1]), np.float16)
        owner = np.searchsorted(self._ends, places, side="right")
        # Where the first of all rows would be in each file, if all were in it.
        starts = np.array([part.start for part in self._parts])
        starts -= rows.strides[0] * (self._ends - [len(part.ids) for part in self._parts])
        handles = np.array([part.file.handle for part in self._parts])[owner]
        offsets = starts[owner] + rows.strides[0] * places
        try:
            read_scattered(handles.tolist(), offsets.tolist(), rows)
        except OSError as error:
            raise SearchError(f"descriptors can't be read from the library: {error}") from error
        return rows

    def _copy_to_card(self) -> Any:
        width = self._parts[0].fp16.shape[1]
        config = faiss.GpuIndexFlatConfig()
        config.useFloat16 = True
        self._resources = faiss.StandardGpuResources()  # must outlive the index
        index = faiss.IndexIDMap(faiss.GpuIndexFlatL2(self._resources, width, config))
        shown = self._answerable[0]
        for part in self._parts:
            visible = np.isin(part.ids, shown)
            for start in range(0, len(part.ids), 65536):
                block = slice(start, start + 65536)
                rows = part.fp16[block][visible[block]].astype(np.float32)
                if len(rows):
                    index.add_with_ids(rows, part.ids[block][visible[block]])
        return index


def _open_all(files: Sequence[Path]) -> list[_Rows]:
    """Open the files of one library. Raises SearchError if one doesn't fit the first."""
    parts: list[_Rows] = []
    for file in files:
        parts.append(_Rows(file))
        width, first = parts[-1].fp16.shape[1], parts[0].fp16.shape[1]
        if width != first:
            raise SearchError(f"{file} holds rows of {width:,} numbers beside others of {first:,}")
    return parts


class _Rows:
    """One segment, memory-mapped: its flat index, its ids (n,), a view of its rows (n, d) fp16.

    file, start: the same rows in the file, and where they begin there, in bytes: to read a few.
    """

    def __init__(self, path: Path) -> None:
        layout = read_layout(path)  # before faiss: it would believe whatever the file says
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)  # owns what follows
            self.file, self.start = OpenFile(path), layout.start
        except (RuntimeError, OSError) as error:
            raise SearchError(f"{path} is missing or damaged") from error
        self.ids: NDArray[np.int64] = faiss.vector_to_array(self._index.id_map)
        self.flat = faiss.downcast_index(self._index.index)
        stored = self.flat.codes
        bytes_ = np.asarray(_Owned(faiss.rev_swig_ptr(stored.data(), stored.size()), self._index))
        self.fp16: NDArray[np.float16] = bytes_.view(np.float16).reshape(layout.count, layout.width)


class _Owned:
    """Memory of faiss, as numpy takes it: an array made of this keeps its owner alive."""

    def __init__(self, memory: NDArray[np.uint8], owner: Any) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._owner = owner


def nearest_of(
    found: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], queries: int, k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k best of several answers of faiss (n, any): distances and ids, by distance, then id."""
    if not found:
        return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)
    squared = np.concatenate([distances for distances, _ in found], axis=1)
    ids = np.concatenate([labels for _, labels in found], axis=1)
    squared = np.where(ids < 0, np.inf, squared)  # faiss pads short answers with id -1
    order = np.lexsort((ids, squared), axis=1)[:, :k]
    squared = np.take_along_axis(squared, order, axis=1)
    ids = np.take_along_axis(ids, order, axis=1)
    full = int(np.isfinite(squared[0]).sum())  # the same for each query: as many rows compete
    return np.sqrt(np.maximum(squared[:, :full], 0)), ids[:, :full]


def _selecting(rows: NDArray[np.bool_]) -> dict[str, Any]:
    """How faiss is told which rows (n,) compete."""
    bitmap = np.packbits(rows, bitorder="little")
    return {"params": faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))}


def _empty(width: int) -> Any:
    rows = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
    return faiss.IndexIDMap2(rows)
