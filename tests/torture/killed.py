"""Killed with SIGKILL at random moments, and at every commit point."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torture.forking import Trials, trials
from torture.libraries import Summary, differences, problems, summary
from torture.operations import OPERATIONS, do, prepare
from torture.table import Row, times

RANDOM = 200  # kills an operation
_PATCHED = {os: ("fsync", "fdatasync", "mkdir", "rename", "replace", "unlink", "remove", "link")}


@dataclass(slots=True)
class Tried:
    """What came of the kills of an operation."""

    killed: int = 0
    early: int = 0  # it had ended before it was to be killed
    lost: list[str] = field(default_factory=list)


class Bench:
    """An operation's library and photos, prepared once, and what it makes of them undisturbed."""

    def __init__(self, name: str, folder: Path, fork: Trials) -> None:
        self.name, self.folder, self.fork = name, folder, fork
        fork.value(prepare, name, folder)
        library = self.copy()
        unbroken = fork(do, name, library, self.photos)
        if unbroken.error:
            raise RuntimeError(unbroken.error)
        self.seconds = unbroken.seconds
        self.expected: Summary = fork.value(summary, library)

    @property
    def photos(self) -> Path:
        return self.folder / "photos"

    def copy(self) -> Path:
        """A copy of the library as it is before the operation, in the place of the last one."""
        trial = self.folder / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        if (self.folder / "library").exists():
            shutil.copytree(self.folder / "library", trial)
        return trial

    def look(self, library: Path) -> list[str]:
        """What is wrong with a library that was cut off, and with what becomes of it."""
        outcome = self.fork(_finish, self.name, library, self.photos)
        if outcome.error or outcome.status:
            return [f"finishing ended with {outcome.status}\n{outcome.error}"]
        found, left = outcome.value
        return [*found, *differences(left, self.expected)]


def _finish(name: str, library: Path, photos: Path) -> tuple[list[str], Summary]:
    found = problems(library)
    do(name, library, photos)
    return [*found, *problems(library)], summary(library)


def at_random(bench: Bench, kills: int, seed: int = 0) -> Tried:
    """Kill it at moments drawn evenly over the time that it takes."""
    tried, rng = Tried(), random.Random(f"{bench.name} {seed}")
    while tried.killed < kills and tried.early < 3 * kills + 20:
        library, moment = bench.copy(), rng.uniform(0, bench.seconds)
        outcome = bench.fork(do, bench.name, library, bench.photos, kill_after=moment)
        if outcome.orphans:
            tried.lost.append(f"after {moment:.3f} s: {outcome.orphans} processes left")
        if not outcome.was_killed:
            tried.early += 1
            if outcome.error:
                tried.lost.append(f"before {moment:.3f} s: {outcome.error}")
            continue
        tried.killed += 1
        tried.lost += [f"after {moment:.3f} s: {line}" for line in bench.look(library)]
    return tried


def at_points(bench: Bench, every: int = 1) -> Tried:
    """Kill it between any two things that outlive a process."""
    tried = Tried()
    outcome = bench.fork(dying, bench.name, bench.copy(), bench.photos, -1)
    names = outcome.value or []
    if not names:
        tried.lost.append(f"no commit point was counted\n{outcome.error}")
        return tried
    for number in range(min(every // 2, len(names) - 1), len(names), every):
        library = bench.copy()
        outcome = bench.fork(dying, bench.name, library, bench.photos, number)
        if not outcome.was_killed:  # it passed fewer points this time: files go in any order
            tried.lost += [f"{names[number]}: {outcome.error}"] if outcome.error else []
            continue
        tried.killed += 1
        if outcome.orphans:
            tried.lost.append(f"{names[number]}: {outcome.orphans} processes left")
        tried.lost += [f"{names[number]}: {line}" for line in bench.look(library)]
    return tried


def dying(name: str, library: Path, photos: Path, number: int) -> list[str]:
    """Do the operation; die at the commit point of this number. Returns the names of all."""
    from sqlalchemy.engine.default import DefaultDialect

    from indexer.thumbnails import ThumbnailStore

    points: list[str] = []

    def pass_by(point: str) -> None:
        if len(points) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        points.append(point)

    def around(owner: Any, method: str) -> None:
        real: Callable[..., Any] = getattr(owner, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            what = Path(args[0]).name if isinstance(args[0], str | Path) else ""
            pass_by(f"before {method} {what} ({len(points)})")
            return real(*args, **kwargs)

        setattr(owner, method, call)

    for owner, methods in _PATCHED.items():
        for method in methods:
            around(owner, method)
    around(DefaultDialect, "do_commit")
    around(ThumbnailStore, "put")
    around(ThumbnailStore, "remove")
    do(name, library, photos)
    pass_by("after all")
    return points


def rows(share: float) -> Iterator[Row]:
    with trials() as fork, tempfile.TemporaryDirectory() as scratch:
        for one in OPERATIONS:
            bench = Bench(one.name, Path(scratch) / one.name.replace(" ", "-"), fork)
            tried = at_random(bench, times(RANDOM, share))
            yield _row(f"{one.name}, killed at a random moment", tried)
            tried = at_points(bench, every=max(1, round(1 / share)))
            yield _row(f"{one.name}, killed at every commit point", tried)


def _row(what: str, tried: Tried) -> Row:
    note = tried.lost[0][:300].replace("\n", " ") if tried.lost else ""
    return Row("killed", what, tried.killed, len(tried.lost), note)
