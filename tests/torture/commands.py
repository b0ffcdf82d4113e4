"""Commands of `fc7`, each in a process forked for it: what it says, and how it ends."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torture.forking import extractor


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended, and what it wrote."""

    command: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def is_done(self) -> bool:
        return self.code == 0

    @property
    def is_refused(self) -> bool:
        """One clear line, and the exit code that goes with it."""
        return self.code == 1 and self.err.startswith("fc7: ") and self.err.count("\n") == 1

    def __str__(self) -> str:
        return f"fc7 {' '.join(self.command)} ended with {self.code} and said {self.err!r}"


def fc7(
    *command: object,
    first: Sequence[Callable[[], object]] = (),
) -> Said:
    """Run a command. first: called in its process before it."""
    words = tuple(map(str, command))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if not pid:
            _run(words, out.fileno(), err.fileno(), first)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return Said(words, code, out.read(), err.read())


def _run(
    words: tuple[str, ...],
    out: int,
    err: int,
    first: Sequence[Callable[[], object]],
) -> None:
    code = 1
    try:
        import retrieval.extractor
        from ui.cli import main

        loaded = extractor()
        retrieval.extractor.Extractor = lambda *_a, **_k: loaded  # type: ignore[assignment,misc]
        os.dup2(out, 1)
        os.dup2(err, 2)
        for call in first:
            call()
        code = main(words)
    except BaseException:  # noqa: BLE001 - as Python tells of what nobody caught
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
