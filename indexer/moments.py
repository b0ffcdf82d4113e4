"""Reading a library as it is at one moment, while others write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from indexer.catalog import Catalog
from retrieval.errors import CodesError, SearchError

T = TypeVar("T")


def at_one_moment(catalog: Catalog, read: Callable[[Catalog], T]) -> T:
    """What `read` makes of the catalogue as it is at one moment, and of the files it names then.

    read: opens at once what files it needs. Where a run has put others in their place by then, all
    is read anew.
    """
    while True:
        with catalog.snapshot() as view:
            try:
                return read(view)
            except (SearchError, CodesError):
                if view.generation() == catalog.generation():
                    raise
