"""Work on a library that goes on when the page, or its server, is closed.

A run is the real `fc7 index`, `fc7 codes train` or `fc7 forget` in a process and session of its
own. How far it is stands in the library's run.json, so nothing here has to remember it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from indexer.work import read_work
from retrieval.errors import LibraryError

LOG = "run.log"  # in the library: what the last run that a page began printed
_HOUSE = Path(__file__).resolve().parent.parent
_PATIENCE = 30.0  # seconds for a process to begin


def index(library: Path, folders: Sequence[Path] = (), network: str | None = None) -> None:
    """Begin to index these folders, or all that are known; see `_begin` for errors.

    network: of a new library.
    """
    which = [] if network is None else ["--network", network]
    _begin(library, ["index", *which, *map(str, folders)])


def train_codes(library: Path, bits: int) -> None:
    _begin(library, ["codes", "train", "--bits", str(bits)])


def forget(library: Path, folder: Path) -> None:
    _begin(library, ["forget", str(folder)])


def check_folder(text: str, library: Path, known: Sequence[Path]) -> tuple[Path | None, str]:
    """What a person typed -> (the folder, the name of a text that says what is wrong, or "").

    known: the folders that the library has.
    """
    if not text.strip() or "\0" in text:
        return None, "library.add.which"
    typed = Path(os.path.expanduser(text.strip()))  # noqa: PTH111 (a strange ~name stays)
    folder = Path(os.path.realpath(typed))
    wrong = {
        "whole": not typed.is_absolute(),
        "not there": not folder.exists(),
        "file": not folder.is_dir(),
        "closed": not os.access(folder, os.R_OK | os.X_OK),
        "itself": folder == library or library in folder.parents,
        "known": any(one == folder or one in folder.parents for one in known),
    }
    name = next((name for name, is_so in wrong.items() if is_so), None)
    return (folder, "") if name is None else (None, f"library.add.{name}")


def likely_folders(library: Path, known: Sequence[Path]) -> list[Path]:
    """Where people keep photos, as far as it is there and not in the library yet."""
    places = [Path.home() / name for name in ("Pictures", "Photos", "Desktop", "Downloads")]
    return [one for one in places if check_folder(str(one), library, known)[0] is not None]


def _begin(library: Path, arguments: Sequence[str]) -> None:
    """Start a command of fc7 and wait until it is at work.

    Raises LibraryError if it ended before, with the line that it printed.
    """
    before = read_work(library)
    # -P: not what happens to lie in the current folder. PYTHONPATH: the code that runs here.
    command = [sys.executable, "-P", "-m", "ui.cli", *arguments, "--library", str(library)]
    paths = [str(_HOUSE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {name: v for name, v in os.environ.items() if name != "FC7_PASSWORD"}
    try:
        with (library / LOG).open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C in the server's terminal is not meant for it
            )
    except OSError as error:
        raise LibraryError(f"{library} can't be written to: {error.strerror}") from error
    Thread(target=process.wait, daemon=True).start()  # so that no zombie of it stays
    patience = time.monotonic() + _PATIENCE
    while time.monotonic() < patience:
        ended = process.poll() is not None
        now = read_work(library)
        if now is not None and (before is None or now.token != before.token):
            return
        if ended:
            raise LibraryError(_last_line(library / LOG) or "the run ended at once")
        time.sleep(0.05)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1].removeprefix("fc7: ")[:500] if lines else ""
