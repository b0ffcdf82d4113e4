"""Power loss: what was not synced is gone, or is there, or in part.

An operation is done under strace. Its system calls are then done again in a model of a disk (see
disk.py), up to any of them; what that disk then holds is opened, checked, and finished.
"""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from torture.disk import LOSSES, Disk, Loss, write
from torture.forking import Trials, trials
from torture.libraries import Summary, differences, problems, summary
from torture.operations import OPERATIONS, do, prepare
from torture.table import Row, times
from torture.traced import Call, CantTraceError, calls, catalogue, trace

LOST = 400  # power losses an operation, in a whole run
_HASH = 64  # characters of a mark


@dataclass(frozen=True, slots=True)
class State:
    """What a disk may hold after a loss. commits: how many had returned before it."""

    files: dict[str, bytes | None] = field(repr=False)
    commits: int
    where: str


class Bench:
    """An operation's calls, and what it makes of a library undisturbed."""

    def __init__(self, name: str, folder: Path, fork: Trials) -> None:
        self.name, self.folder, self.fork = name, folder, fork
        fork.value(prepare, name, folder)
        self._disk = folder / "disk"  # what is traced: library/ in it
        self._disk.mkdir()
        if (folder / "library").exists():
            shutil.copytree(folder / "library", self._disk / "library")
        before = Disk(self._disk)
        log, told = folder / "trace", folder / "marks"
        outcome = fork(trace, name, self._disk / "library", folder / "photos", log, told)
        if outcome.value:
            raise CantTraceError(outcome.value)
        assert not outcome.error, outcome.error
        marks = told.read_text()
        self.marks = [marks[at : at + _HASH] for at in range(0, len(marks), _HASH)]
        self.calls = [
            Call("mark") if call.path == str(told) and call.kind == "write" else call
            for call in calls(log, folder)
        ]
        self.calls = [c for c in self.calls if c.kind == "mark" or self._is_on_disk(c)]
        log.unlink()
        self._check_model(before)
        self.expected: Summary = fork.value(summary, self._disk / "library")

    def _is_on_disk(self, call: Call) -> bool:
        """SQLite makes its -shm anew after a loss, so that it need not be on the disk."""
        return call.path.startswith(str(self._disk)) and not call.path.endswith("-shm")

    def _check_model(self, disk: Disk) -> None:
        """The calls done again make what is on the real disk: so none was missed."""
        for call in self.calls:
            if call.kind != "mark":
                disk.apply(call)
        found = disk.after("none", random.Random())
        real = {
            str(one.relative_to(self._disk)): None if one.is_dir() else one.read_bytes()
            for one in self._disk.rglob("*")
            if not one.name.endswith("-shm")
        }
        if found != real:
            wrong = [
                name for name in found.keys() | real.keys() if found.get(name) != real.get(name)
            ]
            raise RuntimeError(f"the trace of {self.name} does not explain {wrong}")

    def states(self, most: int, seed: int = 0) -> Iterator[State]:
        """So many different states after a loss, at moments spread over the operation."""
        rng = random.Random(f"{self.name} {seed}")
        ends = [at for at, call in enumerate(self.calls) if call.kind in ("sync", "mark", "rename")]
        points = sorted({*ends, *(at + 1 for at in ends), *range(0, len(self.calls), 5)})
        if most < len(points) * len(LOSSES):
            points = sorted(rng.sample(points, max(1, min(len(points), most // len(LOSSES)))))
        original = self.folder / "library"
        start = self.folder / "start"
        shutil.rmtree(start, ignore_errors=True)
        start.mkdir()
        if original.exists():
            shutil.copytree(original, start / "library")
        disk = Disk(start)
        disk._place = type(disk._place)(self._disk)
        seen: set[int] = set()
        done = commits = 0
        for point in points:
            for call in self.calls[done:point]:
                if call.kind == "mark":
                    commits += 1
                else:
                    disk.apply(call)
            done = point
            for loss in LOSSES:
                files = disk.after(loss, rng)
                held = {
                    name: data and hashlib.sha256(data).digest() for name, data in files.items()
                }
                known = hash((commits, *sorted(held.items(), key=lambda one: one[0])))
                if known not in seen:
                    seen.add(known)
                    yield State(files, commits, f"{_said(self.calls, point)}, {_WORDS[loss]}")

    def look(self, state: State) -> list[str]:
        """What is wrong with what a disk holds, and with what becomes of it."""
        place = self.folder / "after"
        shutil.rmtree(place, ignore_errors=True)
        write(state.files, place)
        sure = self.marks[state.commits - 1 : state.commits + 1] if state.commits else []
        outcome = self.fork(
            _recover, self.name, place / "library", self.folder / "photos", sure, state.commits
        )
        if outcome.error or outcome.status:
            return [f"finishing ended with {outcome.status}\n{outcome.error}"]
        found, left = outcome.value
        return [*found, *differences(left, self.expected)]


_WORDS: dict[Loss, str] = {
    "all": "all that was not synced is gone",
    "none": "all is there",
    "data": "names are there, and data that was not synced is not",
    "some": "some is there",
}


def _said(made: list[Call], point: int) -> str:
    if not point:
        return "before the first call"
    call = made[point - 1]
    return f"after call {point}, {call.kind} {Path(call.path).name}"


def _recover(
    name: str, library: Path, photos: Path, sure: list[str], commits: int
) -> tuple[list[str], Summary]:
    """sure: the catalogue as of the last commit that had returned, and as of the next."""
    found = []
    if commits:
        if not (library / "catalog.sqlite").exists():
            found.append("the catalogue is not there")
        else:
            with closing(sqlite3.connect(library / "catalog.sqlite")) as connection:
                if catalogue(connection) not in sure:
                    found.append("the catalogue is not as it was committed last")
        found += problems(library)
    do(name, library, photos)
    return [*found, *problems(library)], summary(library)


@dataclass(slots=True)
class Tried:
    states: int = 0
    lost: list[str] = field(default_factory=list)


def lose(bench: Bench, most: int) -> Tried:
    tried = Tried()
    for state in bench.states(most):
        tried.states += 1
        wrong = bench.look(state)
        if wrong:
            tried.lost.append(f"{state.where}: {'; '.join(wrong)}")
    return tried


def rows(share: float) -> Iterator[Row]:
    with trials() as fork, tempfile.TemporaryDirectory() as scratch:
        for one in OPERATIONS:
            try:
                bench = Bench(one.name, Path(scratch) / one.name.replace(" ", "-"), fork)
            except CantTraceError as error:
                yield Row("power", f"nothing: {error}", 0, 0)
                return
            tried = lose(bench, times(LOST, share))
            note = tried.lost[0][:300].replace("\n", " ") if tried.lost else ""
            note = note or f"{len(bench.calls):,} system calls, {len(bench.marks)} commits"
            yield Row("power", f"{one.name}, power lost", tried.states, len(tried.lost), note)
