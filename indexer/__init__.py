"""The library that knows its photos.

>>> from indexer import open_library  # doctest: +SKIP
>>> with open_library() as library:
...     library.index([Path("~/Pictures")])
...     for hit in library.search(Path("query.jpg")):
...         print(hit.rank, hit.distance, hit.photo.path)
"""

from indexer.album_rows import Album
from indexer.albums import Albums, Change, GroupReport, Proposal
from indexer.catalog import Photo, Skip
from indexer.duplicates import Copy, Duplicates, Group
from indexer.facets import Facets
from indexer.filters import Filters
from indexer.finder import Answer, Effort, Hit, Labelled
from indexer.grouping import Grouping
from indexer.library import Library, open_library
from indexer.map import Map, MapReport, Point
from indexer.run import IndexReport
from indexer.status import Status
from retrieval.labels import Prediction

__all__ = [
    "Album",
    "Albums",
    "Answer",
    "Change",
    "Copy",
    "Duplicates",
    "Effort",
    "Facets",
    "Filters",
    "Group",
    "GroupReport",
    "Grouping",
    "Hit",
    "IndexReport",
    "Labelled",
    "Library",
    "Map",
    "MapReport",
    "Photo",
    "Point",
    "Prediction",
    "Proposal",
    "Skip",
    "Status",
    "open_library",
]
