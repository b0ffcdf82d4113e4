"""The seam between a library and what keeps its vectors.

FAISS files in the library's folder are the default (`SegmentStore`); a Milvus server is another
(indexer/engines/milvus.py). The catalogue is the truth for both: it lists the parts that count by
name, and a row whose content it doesn't know is never answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.catalog import Catalog, NewContent, SegmentRow
from indexer.filters import Filters
from retrieval.codes import Coder

Blocks = Iterator[tuple[NDArray[np.int64], NDArray[np.float16]]]  # ids (m,) and rows (m, d)
Only = Any  # what a store makes of filters; nobody else reads it


class Ranking(Protocol):
    """The vectors as they are in one generation of the catalogue, to be searched.

    Its methods do what those of `retrieval.search.Search` say.
    """

    @property
    def bits(self) -> int: ...

    def count(self, only: Only | None = None) -> int: ...

    def some(self, count: int, seed: int = 0) -> NDArray[np.int64]: ...

    def exact(
        self, queries: NDArray[np.float32], k: int, only: Only | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...

    def by_codes(
        self,
        queries: NDArray[np.float32],
        activations: NDArray[np.float32],
        k: int,
        shortlist: int,
        only: Only | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...

    def descriptors(self, ids: Sequence[int]) -> NDArray[np.float32]: ...


class Vectors(Protocol):
    """Where a library's descriptors are, and the codes of each, by the coder in use."""

    def close(self) -> None:
        """Give back what it holds."""

    def use(self, name: str, coder: Coder) -> None:
        """From now on rows are written with their codes, by the coder so named."""

    def write(
        self,
        ids: NDArray[np.int64],
        descriptors: NDArray[np.float32],
        contents: Sequence[NewContent],
    ) -> SegmentRow:
        """Store rows (n, d) under the ids (n,) of these contents; return their part.

        They are safe by then. They count once the catalogue lists the part and the contents; until
        then the same ids may be written again.
        """

    def marks(self) -> dict[str, str]:
        """Settings that the catalogue must take up together with what was written last."""

    def encode(self, name: str) -> str | None:
        """Make the codes of a part's rows by the coder in use, unless they are there.

        Returns the sha256 of the file that they are in, if they are in one.
        """

    def sweep(self, catalog: Catalog) -> None:
        """Remove what a killed run left and the catalogue doesn't know, and other codes."""

    def gather(self, catalog: Catalog) -> None:
        """Bring small parts together, if that is of use."""

    def drop_hidden(self, catalog: Catalog) -> list[str]:
        """Drop rows of contents that have lost their photos, where it is worth it.

        Returns the hashes of those that the catalogue doesn't know any more either.
        """

    def blocks(self, catalog: Catalog) -> Blocks:
        """Ids (m,) and rows (m, d) of all parts that count, a few thousand at once.

        They are those of the catalogue's moment, where files are read, however long that takes.
        """

    def open(self, catalog: Catalog) -> Ranking:
        """Raises SearchError if something is missing or damaged."""

    def open_codes(self, ranking: Ranking, coder: str) -> None:
        """Let a ranking use the codes by the coder of that name. Raises SearchError."""

    def passing(self, catalog: Catalog, filters: Filters) -> Only:
        """What a ranking must be told so that only photos which pass are answered."""

    def lost(self, catalog: Catalog) -> list[str]:
        """Which of the parts that count should be there and are not."""
