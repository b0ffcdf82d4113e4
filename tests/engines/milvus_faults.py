"""Kill query nodes of a Milvus cluster while clients search: how many answers are wrong?

    python tests/engines/milvus_cluster.py --fetch      # once, with a network
    python tests/engines/namespace.py python tests/engines/milvus_faults.py --faults 20 --replicas 2

Two collections, FC7-like rows (4,096-d, Euclidean) and codes (256 bits, Hamming), of two shards,
with flushed, growing, deleted and replaced rows. Watchers search without pause, filtered and not,
and compare every answer with numpy. Each request carries the witnesses of
indexer/engines/witnesses.py, so one run says both: how often a plain client is wrong, and whether
the witnesses told. Guarded clients ask until the answer is whole, as the library does.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from milvus_cluster import QUERY_NODES, MilvusCluster
from numpy.typing import NDArray

HOUSE = Path(__file__).parent.parent.parent
sys.path.append(str(HOUSE))

from indexer.engines.witnesses import (  # noqa: E402
    EXPRESSION,
    Witnesses,
    far_vector,
    rare_code,
    until_whole,
)

K, SHARDS, PARTS = 10, 2, 5
PATIENCE = 60.0  # seconds a guarded client asks
CALL = 10.0  # seconds a single call may take
QUIET = 5.0  # seconds between a whole cluster and the next kill, twice as much at most
LONGEST = 180.0  # seconds that a cluster gets to be well again before the next kill


@dataclass
class Collection:
    """What a collection holds, known apart from Milvus."""

    name: str
    rows: NDArray[Any]  # (n, 4096) float32 or (n, 32) uint8
    part: NDArray[np.int64]  # (n,) the field that filters ask
    alive: NDArray[np.bool_]
    witnesses: Witnesses = field(default_factory=lambda: Witnesses(0, SHARDS))

    @property
    def binary(self) -> bool:
        return self.rows.dtype == np.uint8

    def sent(self, row: NDArray[Any]) -> Any:
        return row.tobytes() if self.binary else row

    def witness(self, number: int) -> Any:
        width = self.rows.shape[1]
        return rare_code(number, 8 * width) if self.binary else far_vector(number, width)

    def distances(self, query: NDArray[Any]) -> NDArray[np.float64]:
        """(n,) from the query to each row; infinite for what was deleted."""
        if self.binary:
            apart = np.bitwise_count(self.rows ^ query).sum(axis=1).astype(np.float64)
        else:
            apart = 2.0 - 2.0 * (self.rows @ query).astype(np.float64)  # unit rows
        return np.where(self.alive, apart, np.inf)

    def verdict(self, query: NDArray[Any], most: int, hits: list[tuple[int, float]]) -> str:
        """`right`, or how the answer differs from that of numpy."""
        true = self.distances(query)
        wanted = np.sort(true[self.part < most])[:K]
        ids = [id_ for id_, _ in hits]
        if not all(self.alive[id_] for id_ in ids):
            return "a deleted row"
        given = np.array([distance for _, distance in hits])
        if not np.allclose(true[ids], given, atol=1e-4):
            return "an old vector"
        if len(set(ids)) == len(wanted) and np.allclose(given, wanted, atol=1e-4):
            return "right"
        return "hits missing"


@dataclass
class Tally:
    """What clients saw."""

    counts: Counter[str] = field(default_factory=Counter)
    last_good: float = field(default_factory=time.monotonic)
    outage: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *kinds: str, good: bool = False) -> None:
        with self.lock:
            self.counts.update(kinds)
            now = time.monotonic()
            if good:
                self.outage = max(self.outage, now - self.last_good)
                self.last_good = now


def fill(client: Any, collection: Collection, replicas: int) -> None:
    """Create and fill: flushed segments, growing rows, then deleted and replaced ones."""
    from pymilvus import DataType

    kind = DataType.BINARY_VECTOR if collection.binary else DataType.FLOAT_VECTOR
    dim = collection.rows.shape[1] * (8 if collection.binary else 1)
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("part", DataType.INT64)
    schema.add_field("vector", kind, dim=dim)
    how = ("BIN_FLAT", "HAMMING") if collection.binary else ("FLAT", "L2")
    index = client.prepare_index_params()
    index.add_index("vector", index_type=how[0], metric_type=how[1])
    client.create_collection(collection.name, schema=schema, num_shards=SHARDS)
    client.create_index(collection.name, index)
    client.load_collection(collection.name, replica_number=replicas)
    blocks = np.array_split(np.arange(len(collection.rows)), 6)
    for number, block in enumerate(blocks):
        for some in np.array_split(block, max(1, len(block) // 500)):
            write(client, collection, some)
        if number < len(blocks) - 1:
            client.flush(collection.name)
    gone = np.arange(3, len(collection.rows), 97)
    client.delete(collection.name, ids=gone.tolist())
    collection.alive[gone] = False
    changed = np.arange(5, len(collection.rows), 101)
    changed = changed[collection.alive[changed]]
    collection.rows[changed] = np.roll(collection.rows[changed], 1, axis=1)
    write(client, collection, changed)


def write(client: Any, collection: Collection, block: NDArray[np.int64]) -> None:
    """Upsert rows between their witnesses, as the library does."""
    number = collection.witnesses.writes
    first, last = collection.witnesses.of_write(number)
    far = collection.witness(collection.witnesses.class_of(number))
    rows = [
        {"id": int(i), "part": int(collection.part[i]), "vector": collection.sent(row)}
        for i, row in zip(block, collection.rows[block], strict=True)
    ]
    ends = [[{"id": i, "part": -1, "vector": far} for i in ids] for ids in (first, last)]
    client.upsert(collection.name, [*ends[0], *rows, *ends[1]])
    collection.witnesses = Witnesses(number + 1, SHARDS)


Answer = tuple[list[tuple[int, float]], int]


def search(client: Any, collection: Collection, query: NDArray[Any], most: int) -> Answer:
    """The K hits with part < most, and how many witnesses are missing from the request."""
    classes = collection.witnesses.classes()
    found = client.search(
        collection.name,
        data=[collection.sent(query), *(collection.witness(n) for n in range(len(classes)))],
        limit=K + sum(map(len, classes)),
        filter=f"(part < {most}) or {EXPRESSION}",
        consistency_level="Strong",
        timeout=CALL,
    )
    ids = [[(int(hit["id"]), float(hit["distance"])) for hit in hits] for hits in found]
    missing = collection.witnesses.missing([[id_ for id_, _ in hits] for hits in ids[1:]])
    return [hit for hit in ids[0] if hit[0] >= 0][:K], missing


def errors() -> tuple[type[Exception], ...]:
    import grpc
    from pymilvus.exceptions import MilvusException

    return (MilvusException, grpc.RpcError)


def watch(uri: str, collection: Collection, seed: int, tally: Tally, stop: threading.Event) -> None:
    """Ask as a plain client does; note what came, and what the witnesses said of it."""
    from pymilvus import MilvusClient

    client, rng = MilvusClient(uri), np.random.default_rng(seed)
    while not stop.is_set():
        query, most = question(collection, rng)
        try:
            hits, missing = search(client, collection, query, most)
        except errors() as error:
            tally.add("errors", f"error: {reason(error)}")
            time.sleep(0.1)
            continue
        verdict = collection.verdict(query, most, hits)
        right = verdict == "right"
        told = "witnesses missing" if missing else "witnesses there"
        tally.add("answers", f"{'right' if right else 'wrong'}, {told}", good=right and not missing)
        if not right:
            tally.add(f"wrong: {verdict}")


def ask(uri: str, collection: Collection, seed: int, tally: Tally, stop: threading.Event) -> None:
    """Ask as the library does: until the answer is whole."""
    from pymilvus import MilvusClient

    client, rng = MilvusClient(uri), np.random.default_rng(seed)
    while not stop.is_set():
        query, most = question(collection, rng)
        tries = 0

        def once(query: NDArray[Any] = query, most: int = most) -> Answer:
            nonlocal tries
            tries += 1
            return search(client, collection, query, most)

        try:
            answer = until_whole(once, lambda answer: not answer[1], errors(), PATIENCE)
        except errors():
            answer = None
        if answer is None:
            tally.add("given up")
            continue
        verdict = collection.verdict(query, most, answer[0])
        tally.add("answers", verdict, *(["asked again"] if tries > 1 else []), good=True)


def question(collection: Collection, rng: np.random.Generator) -> tuple[NDArray[Any], int]:
    """A query near some row, and a filter that lets all or some rows pass."""
    row = collection.rows[rng.integers(len(collection.rows))]
    if collection.binary:
        flips = np.packbits(rng.random(8 * len(row)) < 0.05)
        query = row ^ flips
    else:
        query = row + np.abs(rng.standard_normal(len(row), dtype=np.float32)) * 0.01
        query /= np.linalg.norm(query)
    return query, int(rng.choice([PARTS, 2]))


def reason(error: Exception) -> str:
    """An error without the ids and numbers in it."""
    text = str(getattr(error, "message", "")) or str(getattr(error, "details", lambda: "")())
    return "".join("#" if c.isdigit() else c for c in text.split("[")[0].split("=")[0])[:70]


def torment(
    cluster: MilvusCluster,
    client: Any,
    names: list[str],
    faults: int,
    pause: bool,
    rng: np.random.Generator,
    tally: Tally,
) -> None:
    """Kill one query node after the other, each when Milvus says it holds all replicas again, and
    there was a whole answer.

    pause: stop it for up to 20 seconds instead.
    """
    newest = 0
    for number in range(faults + 1):
        began = time.monotonic()
        while (
            (nodes := complete_nodes(client, names)) is None
            or max(nodes) <= newest
            or tally.last_good < began + QUIET
        ) and time.monotonic() - began < LONGEST:
            time.sleep(0.5)
        newest = 0 if pause else max(nodes or [newest])
        healed = time.monotonic() - began
        time.sleep(rng.uniform(QUIET, 2 * QUIET))
        print(f"{number} faults, replicas whole after {healed:.0f} s: {shown(tally)}", flush=True)
        if number == faults:
            return
        victim = QUERY_NODES[number % 2]
        cluster.pause(victim) if pause else cluster.kill(victim)
        time.sleep(rng.uniform(1, 20))
        cluster.resume(victim) if pause else cluster.start(victim)


def complete_nodes(client: Any, names: list[str]) -> set[int] | None:
    """The ids of all query nodes in use, None while some replica or segment is in want of one."""
    nodes: set[int] = set()
    try:
        for name in names:
            replicas = client.describe_replica(name)
            parts = client.list_loaded_segments(name)
            nodes |= {node for replica in replicas for node in replica.group_nodes}
            led = all(
                len(replica.shards) == SHARDS
                and all(shard.shard_leader in replica.group_nodes for shard in replica.shards)
                for replica in replicas
            )
            if not led or any(len(set(part.node_ids)) < len(replicas) for part in parts):
                return None
    except errors():
        return None
    return nodes


def shown(tally: Tally) -> str:
    with tally.lock:
        return str({k: v for k, v in sorted(tally.counts.items()) if ":" not in k})


def made(rng: np.random.Generator, count: int) -> list[Collection]:
    fc7 = np.maximum(rng.standard_normal((count, 4096), dtype=np.float32) - 0.8, 0)
    fc7 /= np.linalg.norm(fc7, axis=1, keepdims=True)
    codes = rng.integers(0, 256, (5 * count, 32), dtype=np.uint8)
    return [
        Collection(name, rows, rng.integers(0, PARTS, len(rows)), np.ones(len(rows), np.bool_))
        for name, rows in (("fc7", fc7), ("codes", codes))
    ]


def report(title: str, collections: list[Collection], tallies: dict[str, Tally]) -> str:
    lines = [f"## {title}"]
    for name, tally in tallies.items():
        lines += ["", f"{name}: longest time without a whole, right answer {tally.outage:.1f} s"]
        lines += [f"  {count:8,}  {kind}" for kind, count in sorted(tally.counts.items())]
    held = ", ".join(
        f"{len(c.rows):,} {c.name} ({c.witnesses.writes} writes, "
        f"{sum(map(len, c.witnesses.classes()))} witnesses)"
        for c in collections
    )
    return "\n".join([*lines, "", f"rows: {held}", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument(
        "--pause", action="store_true", help="stop nodes for a while, not kill them"
    )
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--rows", type=int, default=3000, help="of FC7; five times as many codes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="append the report to this file")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    collections = made(rng, arguments.rows)
    with tempfile.TemporaryDirectory() as folder, MilvusCluster(Path(folder)) as cluster:
        from pymilvus import MilvusClient

        logging.disable(logging.CRITICAL)  # pymilvus logs each error with its traceback
        client = MilvusClient(cluster.uri)
        for collection in collections:
            fill(client, collection, arguments.replicas)
        plain, guarded, stop = Tally(), Tally(), threading.Event()
        threads = [
            threading.Thread(target=role, args=(cluster.uri, one, seed, tally, stop), daemon=True)
            for seed, one in enumerate(collections)
            for role, tally in ((watch, plain), (ask, guarded))
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        names = [collection.name for collection in collections]
        torment(cluster, client, names, arguments.faults, arguments.pause, rng, plain)
        stop.set()
        for thread in threads:
            thread.join(2 * PATIENCE)
        took = time.monotonic() - began
    tallies = {"plain clients": plain, "guarded clients": guarded}
    fault = "nodes paused" if arguments.pause else "nodes killed"
    title = (
        f"{arguments.faults} {fault}, replica_number={arguments.replicas}, {took / 60:.0f} minutes"
    )
    text = report(title, collections, tallies)
    print(text)
    if arguments.log:
        with arguments.log.open("a") as log:
            log.write(text + "\n")


if __name__ == "__main__":
    main()
