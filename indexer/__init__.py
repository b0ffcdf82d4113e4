"""The library that knows its photos.

>>> from indexer import open_library  # doctest: +SKIP
>>> with open_library() as library:
...     library.index([Path("~/Pictures")])
...     for hit in library.search(Path("query.jpg")):
...         print(hit.rank, hit.distance, hit.photo.path)
"""

from indexer.catalog import Photo, Skip
from indexer.filters import Filters
from indexer.finder import Answer, Effort, Hit, Labelled
from indexer.library import Library, Status, open_library
from indexer.run import IndexReport
from retrieval.labels import Prediction

__all__ = [
    "Answer",
    "Effort",
    "Filters",
    "Hit",
    "IndexReport",
    "Labelled",
    "Library",
    "Photo",
    "Prediction",
    "Skip",
    "Status",
    "open_library",
]
