"""Keeps a library in step with its folders, run after run.

What watches only says that something changed. What did, each run finds out as `Library.index`
always does, by listing the folders; so what a watcher tells twice, or late, does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from watchfiles import Change, watch

from indexer.catalog import Skip
from indexer.library import Library
from indexer.mounts import mount_of, mounts, mounts_around
from indexer.run import IndexReport
from indexer.scan import scan
from retrieval.errors import Fc7Error, LibraryBusyError

SETTLE = 3.0  # seconds; FAT, on cameras' cards, keeps time in steps of two
POLL = 10.0  # seconds
_LONGEST = 20  # settle times: so long a burst is waited for before it is looked at all the same
_SPARE = 20  # times what a look took pass until the next, so that it costs a core's twentieth
_TICK = 0.5  # seconds, at most, between looks at what the system doesn't tell
_BUSY = 2.0  # seconds until a library that another run writes into is tried again
_PAUSES = (2.0, 60.0)  # seconds after an error, doubled each time: the first, the longest
_ANEW = 3600.0  # seconds; the system forgets to tell when its queue is full
_LIMITS = "fs.inotify.max_user_watches and max_user_instances are Linux's limits"


@dataclass(frozen=True, slots=True)
class Round:
    """A run that changed something, or the first one."""

    report: IndexReport
    new_skips: tuple[Skip, ...]  # files that were not skipped in the round before, or otherwise


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell that is no round: a folder that went, an error that is waited out."""

    text: str


def watch_folders(
    library: Library,
    folders: Sequence[Path] = (),
    *,
    settle: float = SETTLE,
    poll: float | None = None,
    network: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Generator[Round | Notice, None, None]:
    """Index, and then again each time that something changed; never ends by itself.

    folders, network, weights, device, progress: as `Library.index` takes them.
    settle: seconds that a folder must be quiet, and a file unchanged, before it is indexed.
    poll: look so often, in seconds, instead of waiting for the system's word. None: only where the
    system has none to give, on network drives and where its watches are used up.

    A library that another run writes into is waited for. After the first round an error is told,
    once, and tried again. Raises what `Library.index` raises in the first.
    """

    def index(given: Sequence[Path]) -> IndexReport:
        return library.index(
            given, network=network, weights=weights, device=device, settle=settle, progress=progress
        )

    return _Watch(index, library.path, settle, poll).rounds(folders)


class _Watch:
    """What is remembered from round to round."""

    def __init__(
        self,
        index: Callable[[Sequence[Path]], IndexReport],
        library: Path,
        settle: float,
        poll: float | None,
    ) -> None:
        self._index = index
        self._library = library
        self._settle = settle
        self._poll = poll
        self._missing: set[Path] = set()
        self._skipped: dict[Path, Skip] = {}

    def rounds(self, folders: Sequence[Path]) -> Generator[Round | Notice, None, None]:
        """See `watch_folders`."""
        report = yield from self._first(folders)
        yield from self._told(report, report.missing_folders, first=True)
        roots = report.folders
        told: set[str] = set()
        while True:
            lookout = Lookout(roots, self._library, settle=self._settle, poll=self._poll)
            try:
                for notice in lookout.notices:
                    if notice not in told:
                        yield Notice(notice)
                told.update(lookout.notices)
                while not lookout.is_stale:
                    report = yield from self._round(roots)
                    lookout.wait(unsettled=report.later > 0)
            finally:
                lookout.close()

    def _first(self, folders: Sequence[Path]) -> Generator[Notice, None, IndexReport]:
        told = False
        while True:
            try:
                return self._index(folders)
            except LibraryBusyError as error:
                if not told:
                    yield Notice(f"{error}; waiting for it")
                told = True
                time.sleep(_BUSY)

    def _round(self, roots: Sequence[Path]) -> Generator[Round | Notice, None, IndexReport]:
        """One run that works, however often it must be tried."""
        told, pause = "", _PAUSES[0]
        while True:
            here = [folder for folder in roots if folder.is_dir()]
            try:
                report = self._index(here) if here else _NOTHING
            except Fc7Error as error:
                if str(error) != told:
                    told = str(error)
                    yield Notice(f"{told}; trying again")
                busy = isinstance(error, LibraryBusyError)
                time.sleep(_BUSY if busy else pause)
                pause = _PAUSES[0] if busy else min(2 * pause, _PAUSES[1])
                continue
            gone = [folder for folder in roots if folder not in here]
            yield from self._told(report, [*gone, *report.missing_folders])
            return report

    def _told(
        self, report: IndexReport, missing: Sequence[Path], *, first: bool = False
    ) -> Generator[Round | Notice, None, None]:
        """What a run changed, and which folders went or are back."""
        for folder in missing:
            if folder not in self._missing:
                yield Notice(f"{folder} is missing or empty: its photos are kept")
        for folder in self._missing.difference(missing):
            yield Notice(f"{folder} is back")
        self._missing = set(missing)
        new = tuple(s for s in report.skipped if self._skipped.get(s.path) != s)
        self._skipped.update({skip.path: skip for skip in new})
        if first or new or report.added or report.updated or report.moved or report.removed:
            yield Round(report, new)


_NOTHING = IndexReport(0, 0, 0, 0, 0, skipped=(), missing_folders=(), folders=())


class Lookout:
    """Sees that something changed in folders, by the system's word or by looking. Close it.

    Only folders that indexing enters are watched, each for itself: watchfiles would follow symbolic
    links, and one to / is enough to watch the whole machine. Where the system has no word to give,
    the folders are listed as indexing lists them: a poll by watchfiles sees whole seconds only.
    """

    def __init__(
        self, roots: Sequence[Path], library: Path, *, settle: float, poll: float | None
    ) -> None:
        """roots: may be missing. library: its folder, which is not looked at."""
        self.is_stale = False  # what is watched is not any more what should be
        self.notices: list[str] = []  # why what is looked at now and then
        self._roots = roots
        self._library = library
        self._settle = settle
        self._poll = poll or POLL
        self._since = time.monotonic()
        self._around = self._look_around()
        self._watched: frozenset[str] = frozenset()
        self._events: Generator[set[tuple[Change, str]], None, None] | None = None
        table = mounts()
        on = {root: mount_of(root, table) for root in roots}
        remote = {root: mount.kind for root, mount in on.items() if mount and mount.is_remote}
        self._polled = [root for root in roots if poll or root in remote]
        for root, kind in remote.items():
            self._tell(f"{root} is on a network drive ({kind})")
        self._arm([root for root in roots if root not in self._polled])
        self._list()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None

    def wait(self, *, unsettled: bool) -> None:
        """Return when something changed and all has been quiet since, or won't be.

        unsettled: there are files that were too young to be read: return once it is quiet.
        """
        first = last = time.monotonic() if unsettled else None
        while True:
            changed = self._changed(busy=first is not None)
            now = time.monotonic()
            if changed:
                first, last = first or now, now
            if first is not None and last is not None:
                quiet = now - last >= self._settle
                if quiet or now - first >= _LONGEST * self._settle:
                    return

    def _changed(self, *, busy: bool) -> bool:
        """Whether something changed; takes a tick to see it.

        busy: something did of late. What is polled is then looked at sooner, until it rests.
        """
        events = self._next_events()
        changed = bool(events)
        every = min(self._settle, self._poll) if busy else max(self._poll, _SPARE * self._took)
        if time.monotonic() - self._listed >= every:
            before = self._listing
            self._list()
            changed = changed or self._listing != before
        stale = (
            any(path in self._watched or Path(path).is_dir() for _, path in events)
            or self._look_around() != self._around
            or time.monotonic() - self._since > _ANEW
        )
        changed = changed or (stale and not self.is_stale)
        self.is_stale = self.is_stale or stale
        return changed

    # --- by the system's word

    def _arm(self, roots: Sequence[Path]) -> None:
        """Have the system tell of changes; look at all the folders if it won't."""
        try:
            self._watch(roots)
        except (OSError, RuntimeError) as error:
            self.close()
            self._watched = frozenset()
            self._polled = list(self._roots)
            self._tell(f"the system can't watch the folders ({error}; {_LIMITS})")

    def _watch(self, roots: Sequence[Path]) -> None:
        """Watch the folders; those made or lost meanwhile are found by a second listing."""
        folders = self._folders(roots)
        while folders != self._watched:
            self.close()
            self._watched = folders
            self._events = watch(
                *sorted(folders),
                watch_filter=self._matters,
                step=50,
                rust_timeout=round(1000 * self._tick),
                yield_on_timeout=True,
                force_polling=False,
                recursive=False,
                ignore_permission_denied=True,
            )
            try:
                next(self._events)
            except FileNotFoundError:
                if folders == self._folders(roots):
                    raise
                self._watched = frozenset()
            folders = self._folders(roots)

    def _folders(self, roots: Sequence[Path]) -> frozenset[str]:
        """Those to be watched; a name that is not UTF-8 is more than watchfiles can take."""
        folders: list[str] = []
        for root in roots:
            found = scan(root, exclude=self._library)
            if all(map(_is_text, (*found.folders, *(stat.path for stat in found.files)))):
                folders += found.folders
            elif root not in self._polled:
                self._polled.append(root)
                self._tell(f"names in {root} are not UTF-8")
        return frozenset(folders)

    def _matters(self, _: Change, path: str) -> bool:
        return not Path(path).name.startswith(".") and path != str(self._library)

    def _next_events(self) -> set[tuple[Change, str]]:
        if self._events is None:
            time.sleep(self._tick)
            return set()
        try:
            return next(self._events)
        except (OSError, RuntimeError):  # what is wrong shows when all is set up anew
            self.close()
            self.is_stale = True
            return {(Change.modified, "")}

    def _tell(self, why: str) -> None:
        self.notices.append(f"{why}: looking every {self._poll:g} s")

    @property
    def _tick(self) -> float:
        return min(_TICK, self._settle)

    # --- by looking

    def _list(self) -> None:
        """Look at the polled folders: what they hold becomes a number, and another one later."""
        begun = time.monotonic()
        self._listing = hash(tuple(scan(root, exclude=self._library) for root in self._polled))
        self._listed = time.monotonic()
        self._took = self._listed - begun

    def _look_around(self) -> tuple[object, ...]:
        """Something else when a folder goes or comes back, or a mount on it or in it."""
        table = mounts()
        seen: list[object] = []
        for root in self._roots:
            try:
                stat = root.stat()
                seen += (stat.st_dev, stat.st_ino)
            except OSError:
                seen.append(None)
            seen.append(mounts_around(root, table))
        return tuple(seen)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
