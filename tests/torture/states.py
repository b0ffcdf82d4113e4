"""What a changing library held at each commit, by its own database; and the right answers then.

Triggers in the catalogue write each change of a photo, and each commit, into a table of their own,
within the same transaction: so the table tells of every state that a reader could see, and of no
other. What is right in a state comes from descriptors made here, one by one, and plain arithmetic.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.extractor import Extractor
from retrieval.images import frame, read_photo
from retrieval.labels import top_labels

_CLOSE = 2e-3  # of distances: rows are kept in half precision, and don't depend on the batch but so

_LOG = """
CREATE TABLE torture_log (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT, photo INTEGER, path TEXT, hash TEXT);
INSERT INTO torture_log (op, photo, path, hash)
    SELECT 'put', p.id, p.path, c.hash FROM photos p JOIN contents c ON c.id = p.content;
INSERT INTO torture_log (op) VALUES ('commit');
CREATE TRIGGER torture_put AFTER INSERT ON photos BEGIN
    INSERT INTO torture_log (op, photo, path, hash)
    SELECT 'put', NEW.id, NEW.path, hash FROM contents WHERE id = NEW.content; END;
CREATE TRIGGER torture_change AFTER UPDATE ON photos BEGIN
    INSERT INTO torture_log (op, photo, path, hash)
    SELECT 'put', NEW.id, NEW.path, hash FROM contents WHERE id = NEW.content; END;
CREATE TRIGGER torture_gone AFTER DELETE ON photos BEGIN
    INSERT INTO torture_log (op, photo) VALUES ('gone', OLD.id); END;
CREATE TRIGGER torture_first AFTER INSERT ON settings WHEN NEW.key = 'change' BEGIN
    INSERT INTO torture_log (op) VALUES ('commit'); END;
CREATE TRIGGER torture_next AFTER UPDATE ON settings WHEN NEW.key = 'change' BEGIN
    INSERT INTO torture_log (op) VALUES ('commit'); END;
"""

State = Mapping[int, tuple[str, str]]  # photo -> (path, hash of its file)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what came of it, and the last commits before it was put and after it ended."""

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

    def distances(self, state: State, asked: int) -> dict[str, float]:
        """The distance to each photo of a state but the one asked with, by path."""
        query = self.rows[state[asked][1]]
        return {
            path: float(np.sqrt(((self.rows[hash_] - query) ** 2).sum()))
            for photo, (path, hash_) in state.items()
            if photo != asked
        }


def keep_log(library: Path) -> None:
    """Let the catalogue of a library tell of its states from now on."""
    with closing(sqlite3.connect(library / "catalog.sqlite", timeout=60)) as catalog:
        catalog.executescript(f"BEGIN IMMEDIATE; {_LOG} COMMIT;")


def last_commit(library: Path) -> int:
    """The number of the last commit that whoever begins to read now sees."""
    with closing(sqlite3.connect(library / "catalog.sqlite", timeout=60)) as catalog:
        query = "SELECT max(seq) FROM torture_log WHERE op = 'commit'"
        return int(catalog.execute(query).fetchone()[0])


def read_states(library: Path) -> list[tuple[int, State]]:
    """(number of the commit, what the library held then), in their order."""
    found: list[tuple[int, State]] = []
    now: dict[int, tuple[str, str]] = {}
    with closing(sqlite3.connect(library / "catalog.sqlite", timeout=60)) as catalog:
        for seq, op, photo, path, hash_ in catalog.execute("SELECT * FROM torture_log ORDER BY 1"):
            if op == "put":
                now[photo] = (path, hash_)
            elif op == "gone":
                now.pop(photo)
            else:
                found.append((seq, dict(now)))
    return found


def seen_by(states: Sequence[tuple[int, State]], asked: Asked) -> Iterator[State]:
    """The states that the library had between a question and its answer."""
    for (seq, state), (ended, _) in zip(states, [*states[1:], (asked.after + 1, {})], strict=True):
        if seq <= asked.after and ended > asked.before:
            yield state


def is_right(asked: Asked, states: Sequence[tuple[int, State]], truth: Truth) -> bool:
    """Whether an answer is the right one of some state between question and answer."""
    return any(_is_right_in(state, asked, truth) for state in seen_by(states, asked))


def _is_right_in(state: State, asked: Asked, truth: Truth) -> bool:
    if asked.error:
        return asked.about not in state and f"no photo {asked.about} " in asked.error
    if asked.kind in ("exact", "codes"):
        return asked.about in state and _are_nearest(
            asked.answer, truth.distances(state, asked.about), asked.k
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


def _are_nearest(
    answer: Sequence[tuple[str, float]], distances: Mapping[str, float], k: int
) -> bool:
    paths = [path for path, _ in answer]
    told = [distance for _, distance in answer]
    if len(set(paths)) != len(paths) or not set(paths) <= distances.keys():
        return False
    others = [distance for path, distance in distances.items() if path not in set(paths)]
    return (
        len(paths) == min(k, len(distances))
        and told == sorted(told)
        and all(abs(distances[path] - distance) < _CLOSE for path, distance in answer)
        and all(distance > told[-1] - _CLOSE for distance in others)
    )
