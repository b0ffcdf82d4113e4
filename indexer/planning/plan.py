"""The whole plan: pure functions of a `Setup` and of `Rates`."""

from __future__ import annotations

from indexer.planning.extraction import (
    Pace,
    cores_of,
    extraction_lines,
    extraction_pace,
    rate_lines,
)
from indexer.planning.figures import BITS, NETWORKS, Driver, IndexNeed, Line, Plan, Setup
from indexer.planning.milvus import index_needs, loading_lines, query_costs
from indexer.planning.rates import Rates
from retrieval.errors import PlanError

# --- what things cost beside a core for an hour, to rank by only: round figures of public clouds
GPU_HOUR = 50.0
MEMORY_HOUR = 0.1  # a GB
SSD_YEAR = 24.0  # a GB
OBJECT_YEAR = 6.0  # a GB
HOURS_A_YEAR = 8_766.0


def make_plan(setup: Setup, rates: Rates) -> Plan:
    """Raises PlanError for a setup that can't be."""
    check(setup)
    pace = extraction_pace(setup, rates)
    storage = storage_of(setup, rates)
    indexes = index_needs(setup)
    return Plan(
        setup=setup,
        rates=rate_lines(setup, rates, pace),
        extraction=extraction_lines(setup, rates, pace),
        bottleneck=pace.bottleneck,
        storage=storage,
        indexes=indexes,
        queries=query_costs(setup, rates),
        loading=loading_lines(setup, rates),
        drivers=cost_drivers(setup, pace, storage, indexes),
    )


def check(setup: Setup) -> None:
    """Raises PlanError, with what to say instead."""
    if setup.network not in NETWORKS:
        raise PlanError(f"unknown network {setup.network!r}: choose one of {', '.join(NETWORKS)}")
    if setup.bits not in BITS:
        raise PlanError(f"codes have {', '.join(map(str, BITS))} bits, not {setup.bits}")
    if setup.gpus == 0 and setup.cpus is None:
        raise PlanError("without GPUs the cores do it all: say how many with --cpus")


def storage_of(setup: Setup, rates: Rates) -> tuple[Line, ...]:
    """What is kept, one copy, in no database's format but PostgreSQL's."""
    n, dims = setup.photos, NETWORKS[setup.network][1]
    code, fc7 = setup.bits // 8, 2 * dims
    meta, thumbnail = rates.storing.metadata, rates.storing.thumbnail
    return (
        Line("codes_bytes", "codes", n * code, "bytes", "computed", f"{code} bytes a photo"),
        Line("fc7_bytes", "FC7, fp16", n * fc7, "bytes", "computed", f"{fc7:,} bytes a photo"),
        Line("metadata_bytes", "metadata in PostgreSQL", n * meta, "bytes", "computed",
             f"{meta:,.0f} bytes a photo"),
        Line("thumbnails_bytes", "thumbnails", n * thumbnail, "bytes",
             "computed", f"{thumbnail:,.0f} bytes a photo"),
        Line("shards_bytes", "shards (FC7, codes, metadata)", n * (fc7 + code + meta), "bytes",
             "computed", "the sum, not compressed"),
    )  # fmt: skip


def cost_drivers(
    setup: Setup, pace: Pace, storage: tuple[Line, ...], indexes: tuple[IndexNeed, ...]
) -> tuple[Driver, ...]:
    """The first year of each part, dearest first; index types of FC7 are each other's alternative.

    Prices are assumed, in hours of a core: only the order means anything.
    """
    hours = setup.photos / pace.whole / 3600
    size = {line.key: line.value / 1e9 for line in storage}
    need = {one.index: one for one in indexes}

    def memory(index: str) -> float:
        one = need[index]
        held = one.nodes * setup.node_memory / 1e9 * MEMORY_HOUR * HOURS_A_YEAR
        return held + setup.replicas * one.disk / 1e9 * SSD_YEAR

    kept = ("BIN_FLAT", "IVF_SQ8", "HNSW", "DISKANN")
    drivers = [
        Driver("cores while extracting", cores_of(setup) * hours, "cores held x hours"),
        Driver("shards in an object store", size["shards_bytes"] * OBJECT_YEAR, "one copy"),
        Driver("thumbnails on SSD", size["thumbnails_bytes"] * SSD_YEAR, "one copy"),
        Driver("PostgreSQL on SSD", 2 * size["metadata_bytes"] * SSD_YEAR, "primary and standby"),
        *(
            Driver(f"Milvus, {need[index].of} as {index}", memory(index),
                   f"{need[index].nodes:,} nodes for a year"
                   + (", and their SSDs" if need[index].disk else ""))
            for index in kept
        ),
    ]  # fmt: skip
    if setup.gpus:
        held = setup.gpus * hours * GPU_HOUR
        drivers.append(Driver("GPUs while extracting", held, f"GPUs held x hours x {GPU_HOUR:g}"))
    return tuple(sorted(drivers, key=lambda one: -one.core_hours))
