"""Whether witnesses come to lie where they must, asked of what a real Milvus wrote to its disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from milvus_server import MilvusServer, skip_where_milvus_cannot_run

from indexer.engines.witnesses import Witnesses, far_vector, shards_of

WIDTH, SHARDS = 1024, 2
ROOM = 256  # rows in a segment of 1 MB
SMALL = {"dataCoord.segment.maxSize": "1", "dataCoord.enableCompaction": "false"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    skip_where_milvus_cannot_run()
    with MilvusServer(tmp_path_factory.mktemp("milvus"), SMALL) as server:
        yield server


@pytest.fixture
def client(server: MilvusServer) -> Iterator[Any]:
    from pymilvus import MilvusClient

    client = MilvusClient(server.uri)
    yield client
    client.close()


def made(client: Any, name: str) -> str:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=WIDTH)
    client.create_collection(name, schema=schema, num_shards=SHARDS)
    return str(client.describe_collection(name)["collection_id"])


def upsert(client: Any, name: str, ids: list[int]) -> None:
    vector = far_vector(0, WIDTH)
    client.upsert(name, [{"id": id_, "vector": vector} for id_ in ids])


def segments(client: Any, server: MilvusServer, name: str, collection: str) -> dict[str, int]:
    """The least id of each flushed segment, from the statistics Milvus keeps beside its rows."""
    flushed = {str(one.segment_id) for one in client.list_persistent_segments(name)}
    least: dict[str, int] = {}
    for file in (server.folder / "data" / "stats_log" / collection).rglob("*"):
        if file.is_file() and file.parent.parent.name in flushed:
            least.setdefault(file.parent.parent.name, 0)
            least[file.parent.parent.name] = min(least_id(file), least[file.parent.parent.name])
    assert least.keys() == flushed
    return least


def least_id(file: Path) -> int:
    stats = json.loads(file.read_text())
    return min(one["minPk"] for one in (stats if isinstance(stats, list) else [stats]))


def test_every_segment_holds_a_witness_also_where_a_write_was_cut(
    server: MilvusServer, client: Any
) -> None:
    collection = made(client, "rows")
    rng = np.random.default_rng(0)
    start, flushes = 1, 0
    for number, count in enumerate(rng.integers(1, 2 * ROOM, 60).tolist()):
        first, last = Witnesses(number, SHARDS).of_write(number)
        upsert(client, "rows", [*first, *range(start, start + count), *last])
        start += count
        if number % 6 == 5:
            client.flush("rows")
            flushes += 1
    least = segments(client, server, "rows", collection)
    assert len(least) > 2 * SHARDS * flushes, "no write was cut"
    assert all(id_ < 0 for id_ in least.values())


def test_without_witnesses_a_segment_would_have_been_seen_to_lack_one(
    server: MilvusServer, client: Any
) -> None:
    collection = made(client, "bare")
    upsert(client, "bare", list(range(1, 100)))
    client.flush("bare")
    assert set(segments(client, server, "bare", collection).values()) == {0}


@pytest.mark.parametrize("shard", range(SHARDS))
def test_ids_of_one_shard_make_one_segment_in_milvus(
    server: MilvusServer, client: Any, shard: int
) -> None:
    collection = made(client, f"shard{shard}")
    ids = np.arange(-ROOM // 2, ROOM // 2)
    upsert(client, f"shard{shard}", ids[shards_of(ids, SHARDS) == shard].tolist())
    client.flush(f"shard{shard}")
    assert len(segments(client, server, f"shard{shard}", collection)) == 1
    upsert(client, f"shard{shard}", ids[shards_of(ids, SHARDS) != shard][:1].tolist())
    client.flush(f"shard{shard}")
    assert len(segments(client, server, f"shard{shard}", collection)) == 2
