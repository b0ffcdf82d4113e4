"""A real Milvus in one process: the server that PyPI's `milvus` 2.3.5 carries, for tests.

    python tests/engines/namespace.py python -m pytest tests/engines

    with MilvusServer(tmp_path) as server:
        client = MilvusClient(server.uri)
        server.restart()     # the same data
        server.kill()        # SIGKILL, as a power cut would
        server.start()

It binds every address, so it starts only where there is none but loopback (see namespace.py).
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import filelock
import platformdirs
import pytest
from namespace import loopback_only

VERSION = "2.3.5"
PATIENCE = 120.0  # seconds to become healthy; 5 are usual
GRACE = 10.0  # seconds
SETTINGS = {"common.session.ttl": "10"}  # s, not 30: so long a restarted server refuses searches


def skip_where_milvus_cannot_run() -> None:
    """Skip the test, saying why, where the server is not installed or would be seen outside."""
    if find_spec("milvus") is None:
        pytest.skip(f'no Milvus server here: pip install "milvus=={VERSION}"')
    if not loopback_only():
        pytest.skip("Milvus binds every address: run through tests/engines/namespace.py")


def binaries() -> Path:
    """The folder of the unpacked server; unpacked once for all tests, which takes some seconds."""
    import milvus

    home = Path(platformdirs.user_cache_dir("fc7-tests")) / f"milvus-{milvus.__version__}"
    if not home.is_dir():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as aside:
            milvus._initialize_data_files(aside)
            with contextlib.suppress(OSError):  # another process was quicker
                (Path(aside) / "bin").rename(home)
    return home


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MilvusServer:
    """One server on one data folder. A context manager: started on entry, ended on exit."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = SETTINGS) -> None:
        """settings: what differs from the package's, as in {"common.session.ttl": "10"}."""
        self.folder = folder
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.health = free_port()
        place = Path("/proc/self/ns/net").stat().st_ino if sys.platform == "linux" else 0
        # Its parts have ports of their own: there is one server at a time in a namespace.
        self.turn = filelock.FileLock(Path(tempfile.gettempdir()) / f"fc7-milvus-{place}.lock")

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def resident(self) -> int:
        """Bytes of memory the server holds now."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024

    def start(self) -> None:
        """Start on the folder's data and wait until the server calls itself healthy."""
        self.configure()
        home = binaries()
        environment = {
            **os.environ,
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self.health),
            "MILVUSCONF": str(self.folder / "configs"),
            "LD_LIBRARY_PATH": str(home),
        }
        with (self.folder / "logs" / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [home / "milvus", "run", "standalone"],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        wait_until_healthy(self.process, self.health, PATIENCE)

    def configure(self) -> None:
        """Write the server's settings at its first start; later ones find the same ports."""
        import milvus

        if not (self.folder / "configs" / "milvus.yaml").exists():
            with warnings.catch_warnings():  # it forgets to close the ports that it tries
                warnings.simplefilter("ignore", ResourceWarning)
                config = milvus.MilvusServerConfig(data_dir=str(self.folder), proxy_port=self.port)
                config.extra_configs.update(self.settings)
                config.resolve()
                gc.collect()

    def stop(self) -> None:
        """Ask the server to end as an operator would: SIGTERM, then SIGKILL.

        With a loaded collection 2.3.5 often does not end by itself (seen: not in 120 s).
        """
        if self.process:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
        self.kill()

    def kill(self) -> None:
        """SIGKILL: nothing is said good-bye to."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def __enter__(self) -> MilvusServer:
        self.turn.acquire()
        try:
            self.start()
        except BaseException:
            self.turn.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self.turn.release()


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, patience: float) -> None:
    """Wait for /healthz to say OK. RuntimeError where the process ended or patience did."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: see its log")
        with contextlib.suppress(OSError):
            url = f"http://127.0.0.1:{port}/healthz"
            with urllib.request.urlopen(url, timeout=5) as answer:
                if b"OK" in answer.read():
                    return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} was not healthy after {patience:.0f} s: see its log")
