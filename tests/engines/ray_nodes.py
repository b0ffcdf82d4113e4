"""Two Ray nodes on this machine, 127.0.0.1 and 127.0.0.2, and ways to kill them and their parts.

Ray puts the machine's own address in the place of 127.0.0.1 wherever there is one, so this works
only in a network namespace: python tests/engines/namespace.py python ...
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

HOUSE = Path(__file__).parent.parent.parent
PORT = 6379
ACTOR = "ray::MapWorker(MapBatches(_Describe))"
_PATIENCE = 180.0  # seconds, on a busy machine


class Nodes:
    """A head and a second node, each with as many CPUs; in a `with`, which ends them."""

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        """folder: for Ray's own files; a short path, for it holds sockets."""
        self.address = f"127.0.0.1:{PORT}"
        self._folder, self._cpus = folder, cpus
        self.environment = os.environ | {
            "PYTHONPATH": str(HOUSE),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }
        self._nodes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        head = ["--head", "--port", str(PORT), "--include-dashboard", "false"]
        self._start("127.0.0.1", [*head, "--temp-dir", str(self._folder)])
        self._start("127.0.0.2", ["--address", self.address])
        wait_for(lambda: self._alive() == 2, "two nodes")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in reversed(self._nodes):
            _kill_all(node.pid)
            node.wait()

    def kill_second(self) -> None:
        """Every process of the second node at once, as if its power were cut."""
        _kill_all(self._nodes[1].pid)
        self._nodes[1].wait()

    def kill_actor(self) -> None:
        """One of the processes that hold a network."""
        os.kill(actors()[0], signal.SIGKILL)

    def drive(self, folder: Path, shards: Path, per_shard: int) -> subprocess.Popen[bytes]:
        """Start a driver in a process of its own."""
        script = str(Path(__file__).parent / "ray_driver.py")
        command = [sys.executable, script, str(folder), str(shards), str(per_shard), self.address]
        with words_of(shards).open("ab") as words:
            return subprocess.Popen(
                command, cwd=HOUSE, env=self.environment, stdout=words, stderr=words
            )

    def _start(self, ip: str, more: list[str]) -> None:
        ray = Path(sys.executable).parent / "ray"
        command = [str(ray), "start", "--block", "--node-ip-address", ip, "--num-cpus",
                   str(self._cpus), "--object-store-memory", str(1 << 29), *more]  # fmt: skip
        self._nodes.append(
            subprocess.Popen(
                command,
                env=self.environment,
                cwd=HOUSE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def _alive(self) -> int:
        """How many nodes the head knows."""
        code = (
            "import ray, logging\n"
            f"ray.init('{self.address}', logging_level=logging.CRITICAL, log_to_driver=False)\n"
            "print(sum(node['Alive'] for node in ray.nodes()))"
        )
        asked = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
        return int(asked.stdout.strip() or 0)


def words_of(shards: Path) -> Path:
    """Where the drivers of a run say what a terminal would show."""
    return shards.with_name(f"{shards.name}.words")


def why_not() -> str | None:
    """Why two nodes can't be started here; None if they can."""
    if shutil.which("unshare") is None:
        return "two Ray nodes need a network namespace: unshare is missing"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else "no network namespace can be made here"


def wait_for(happened: Callable[[], bool], what: str) -> None:
    """Look until it has."""
    end = time.monotonic() + _PATIENCE
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {_PATIENCE:.0f} s for {what}")
        time.sleep(0.05)


def actors() -> list[int]:
    """The processes that hold a network."""
    return [pid for pid in _processes() if _title(pid).startswith(ACTOR)]


def _kill_all(root: int) -> None:
    """A process and all that came from it, stopped first so that none is born meanwhile."""
    tree = _tree(root)
    for signal_ in (signal.SIGSTOP, signal.SIGKILL):
        for pid in tree:
            _signal(pid, signal_)
        tree = _tree(root) | tree


def _tree(root: int) -> set[int]:
    parents = {pid: _parent(pid) for pid in _processes()}
    tree = {root}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def _signal(pid: int, signal_: signal.Signals) -> None:
    try:
        os.kill(pid, signal_)
    except ProcessLookupError:
        return


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
