"""The real `fc7 ui` in a process of its own, for tests in a real Chromium."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOUSE = Path(__file__).parent.parent
PATIENCE = 180_000  # ms; a busy machine loads torch slowly
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@contextmanager
def serving(
    library: Path,
    host: str = "127.0.0.1",
    password: str | None = None,
    *,
    started: Path = HOUSE,
) -> Iterator[str]:
    """Run `fc7 ui` in the folder `started`, give its address, and stop it as Ctrl-C does."""
    port = free_port()
    process = start_ui(library, port, host, password, started=started)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert f"http://{host}:{port}" in line, line + process.stdout.read()
        yield f"http://{host}:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            rest, _ = process.communicate(timeout=PATIENCE / 1000)
        finally:
            process.kill()
    assert process.returncode == 0, rest
    assert "Traceback" not in rest, rest
    assert "Stack (most recent call last)" not in rest, rest


def start_ui(
    library: Path,
    port: int,
    host: str = "127.0.0.1",
    password: str | None = None,
    *,
    started: Path = HOUSE,
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ui.cli", "ui", "--no-browser", "--host", host]
    said = {} if password is None else {"FC7_PASSWORD": password}
    return subprocess.Popen(
        [*command, "--port", str(port), "--library", str(library)],
        cwd=started,
        env={**os.environ, "PYTHONPATH": str(HOUSE), **said},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
