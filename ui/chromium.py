"""The real `fc7 ui` and a real Chromium that looks at it: for the bench and for screenshots.

Playwright, which drives Chromium, is no part of fc7: it is asked for when it is needed.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.errors import BenchError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_STOPPING = 30.0  # seconds


@contextmanager
def chromium() -> Iterator[Browser]:
    """Raises BenchError if Playwright or Chromium is not installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BenchError(
            "this needs a real browser and what drives it: pip install playwright, and Chromium "
            "(apt-get install chromium)"
        ) from error
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise BenchError("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serving(library: Path) -> Iterator[str]:
    """Run `fc7 ui` in a process of its own and give its address.

    Raises BenchError with what it said if it doesn't start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ui.cli", "ui", "--no-browser", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--library", str(library)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if str(port) not in line:
            raise BenchError(f"fc7 ui did not start: {line.strip() or 'it said nothing'}")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=_STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
