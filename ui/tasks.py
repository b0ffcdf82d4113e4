"""Work that takes longer than a page may keep a person waiting: done in a thread of the server.

It goes on when the page is closed, and every window sees how far it is.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread
from typing import Generic, TypeVar

from ui.memory import give_back

AT_ONCE = 1.0  # seconds; what ends within them needs no bar
Tell = Callable[[str, int, int], None]  # what is done now, how much of it, of how much
T = TypeVar("T")


class Task(Generic[T]):
    """One piece of work, on its way or done."""

    def __init__(self, key: object, work: Callable[[Tell], T]) -> None:
        self.key = key
        self.stage, self.done, self.total = "", 0, 0
        self._results: list[T] = []
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def ended(self, within: float = 0.0) -> bool:
        """Whether it has ended, or does within so many seconds."""
        self._thread.join(within)
        return not self._thread.is_alive()

    def result(self) -> T:
        """What came of it, once it has ended; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self, work: Callable[[Tell], T]) -> None:
        try:
            self._results.append(work(self._tell))
        except BaseException as error:  # noqa: BLE001 (raised again where the result is asked for)
            self._error = error
        finally:
            give_back()

    def _tell(self, stage: str, done: int, total: int) -> None:
        self.stage, self.done, self.total = stage, done, total


class Tasks(Generic[T]):
    """Tasks of one kind, of which one is at work at a time; the newest is kept with its result."""

    def __init__(self) -> None:
        self.newest: Task[T] | None = None
        self._lock = Lock()

    def begin(self, key: object, work: Callable[[Tell], T]) -> Task[T]:
        """Begin work, unless it is there already under this key or another one is at work.

        Returns the task that is there now, whose key may therefore be another one.
        """
        with self._lock:
            newest = self.newest
            if newest is None or (newest.ended() and newest.key != key):
                newest = self.newest = Task(key, work)
            return newest

    def forget(self) -> None:
        """Let the same be begun again, if it came to nothing."""
        with self._lock:
            if self.newest is not None and self.newest.ended():
                self.newest = None

    def at_work(self) -> Task[T] | None:
        return self.newest if self.newest is not None and not self.newest.ended() else None
