"""What a changing library held at each commit, told by its writers; and the right answers then.

A writer, as soon as all is written and before it commits, appends what the catalogue will hold to a
log, and after the commit that it is done. So the log tells of each state that a reader could see,
from when on at the earliest, and until when at the latest. What is right in a state comes from
descriptors made here, one by one, and plain arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from indexer.catalog import Catalog, Writer
from retrieval.extractor import Extractor
from retrieval.images import frame, read_photo
from retrieval.labels import top_labels

_CLOSE = 2e-3  # of distances: rows are kept in half precision, and don't depend on the batch but so

_PHOTOS = "SELECT p.id, p.path, c.hash FROM photos p JOIN contents c ON c.id = p.content"

State = Mapping[int, tuple[str, str]]  # photo -> (path, hash of its file)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what came of it, and the moments when it was put and when it was answered."""

    kind: str
    about: int  # a photo, or 0
    k: int
    before: int
    after: int
    answer: tuple[tuple[str, float], ...]  # paths, and distances or what the kind has
    error: str = ""  # one line, of an Fc7Error


class Truth:
    """Descriptors (d,) and labels by the sha256 of a file, each photo described alone."""

    def __init__(self, files: Collection[Path], extractor: Extractor) -> None:
        self.rows: dict[str, NDArray[np.float64]] = {}
        self.labels: dict[str, list[str]] = {}
        for file in files:
            content = file.read_bytes()
            hash_ = hashlib.sha256(content).hexdigest()
            framed = frame(read_photo(content)[0], extractor.framing, extractor.side)
            told = extractor.describe(framed[np.newaxis])
            self.rows[hash_] = told.fc7[0].astype(np.float16).astype(np.float64)
            (top,) = top_labels(told.probabilities, extractor.classes)
            self.labels[hash_] = [one.label for one in top]

    def add_alike(self, content: bytes, file: Path) -> None:
        """Another file that shows the same, as one with bytes after its end does."""
        like, hash_ = (hashlib.sha256(one).hexdigest() for one in (file.read_bytes(), content))
        self.rows[hash_], self.labels[hash_] = self.rows[like], self.labels[like]

    def distances(self, state: State, asked: int) -> dict[str, float]:
        """The distance to each photo of a state but the one asked with, by path."""
        query = self.rows[state[asked][1]]
        return {
            path: float(np.sqrt(((self.rows[hash_] - query) ** 2).sum()))
            for photo, (path, hash_) in state.items()
            if photo != asked
        }


def log_of(library: Path) -> Path:
    """Beside the library's folder: it holds nothing that isn't fc7's."""
    return library.with_name(f"{library.name}.states")


def keep_log(library: Path) -> None:
    """Begin the log of a library that nobody writes now."""
    log_of(library).write_bytes(b"")
    with closing(sqlite3.connect(library / "catalog.sqlite")) as catalog:
        _append(library, {"put": catalog.execute(_PHOTOS).fetchall(), "gone": []})
    _append(library, {})


def tell_commits(library: Path) -> None:
    """Let this process, which writes photos of the library, tell its log of each commit."""
    before: dict[int, list[object]] = {}
    for _, state in read_states(library)[-1:]:
        before = {photo: [photo, *held] for photo, held in state.items()}

    def begun(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("fc7_begin") == "BEGIN IMMEDIATE":
            now = {row[0]: list(row) for row in connection.exec_driver_sql(_PHOTOS)}
            put = [row for photo, row in now.items() if before.get(photo) != row]
            _append(library, {"put": put, "gone": [*(before.keys() - now.keys())]})
            before.clear()
            before.update(now)

    write = Catalog.write

    @contextmanager
    def told(catalog: Catalog, *, contents: bool = True) -> Iterator[Writer]:
        with write(catalog, contents=contents) as writer:
            yield writer
        _append(library, {})

    sa.event.listen(sa.Engine, "commit", begun)
    Catalog.write = told  # type: ignore[method-assign]


def _append(library: Path, line: dict[str, object]) -> None:
    """One line in one write, so that a reader sees the whole of it or nothing."""
    log = os.open(log_of(library), os.O_WRONLY | os.O_APPEND)
    try:
        os.write(log, json.dumps(line).encode() + b"\n")
    finally:
        os.close(log)


def moment(library: Path) -> int:
    """How far the log is."""
    return log_of(library).stat().st_size


def read_states(library: Path) -> list[tuple[range, State]]:
    """(the moments at which a reader could see it, what the library held), in their order."""
    found: list[tuple[int, State]] = []
    ends: list[int] = []
    now: dict[int, tuple[str, str]] = {}
    at = 0
    for line in log_of(library).read_bytes().splitlines(keepends=True):
        at += len(line)
        if told := json.loads(line):
            now |= {photo: (path, hash_) for photo, path, hash_ in told["put"]}
            for photo in told["gone"]:
                del now[photo]
            found.append((at, dict(now)))
        else:
            ends += [at] * (len(found) - 1 - len(ends))  # of all before the one that is done now
    ends += [at + 1] * (len(found) - len(ends))
    return [(range(begin, end), state) for (begin, state), end in zip(found, ends, strict=True)]


def seen_by(states: Sequence[tuple[range, State]], asked: Asked) -> Iterator[State]:
    """The states that a reader could see between a question and its answer."""
    for seen, state in states:
        if seen.start <= asked.after and seen.stop > asked.before:
            yield state


def is_right(asked: Asked, states: Sequence[tuple[range, State]], truth: Truth) -> bool:
    """Whether an answer is the right one of some state between question and answer."""
    return any(_is_right_in(state, asked, truth) for state in seen_by(states, asked))


def _is_right_in(state: State, asked: Asked, truth: Truth) -> bool:
    if asked.error:
        return asked.about not in state and f"no photo {asked.about} " in asked.error
    if asked.kind in ("exact", "codes", "shortlist"):  # which may miss some of the nearest
        if asked.about not in state:
            return False
        distances = truth.distances(state, asked.about)
        told = {path for path, _ in asked.answer}
        others = [far for path, far in distances.items() if path not in told]
        return _are_ranked(asked.answer, distances, asked.k) and (
            asked.kind == "shortlist" or all(far > asked.answer[-1][1] - _CLOSE for far in others)
        )
    paths = sorted(path for path, _ in asked.answer)
    if asked.kind == "label":
        label = truth.labels[state[asked.about][1]][0] if asked.about in state else ""
        wanted = [path for path, hash_ in state.values() if label in truth.labels[hash_]]
        return paths == sorted(wanted)
    if asked.kind == "files":  # equal files but the one to keep of each: how many there are
        return len(paths) == len(state) - len({hash_ for _, hash_ in state.values()})
    assert asked.kind == "photos", asked.kind
    return paths == sorted(path for path, _ in state.values())


def _are_ranked(
    answer: Sequence[tuple[str, float]], distances: Mapping[str, float], k: int
) -> bool:
    """As many as there should be, each once, each at its distance, the nearest first."""
    paths = [path for path, _ in answer]
    told = [distance for _, distance in answer]
    return (
        len(paths) == min(k, len(distances)) == len(set(paths))
        and set(paths) <= distances.keys()
        and told == sorted(told)
        and all(abs(distances[path] - distance) < _CLOSE for path, distance in answer)
    )
