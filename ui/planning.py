"""`fc7 plan`: what a library of very many photos would take, on paper."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ui.arguments import add_json, command, count, large_count

if TYPE_CHECKING:
    from indexer.planning.figures import Line, Plan

_BYTES = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1, "B"))
_SMALL = ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def add_plan_command(commands: Any) -> None:
    one = command(commands, "plan", plan, "capacity for very many photos, on paper")
    one.add_argument("--photos", type=large_count, required=True, metavar="N",
                     help="how many: 1e9, 100M, 1_000_000")  # fmt: skip
    one.add_argument("--gpus", type=_count_or_none, default=1, metavar="N",
                     help="for the network (default: 1; 0: the cores do it)")  # fmt: skip
    one.add_argument("--cpus", type=count, metavar="N",
                     help="cores for reading photos (default: 16 a GPU)")  # fmt: skip
    one.add_argument("--bits", type=int, default=256, help="32, 64, 128, 256 (default) or 512")
    one.add_argument("--network", default="alexnet", help="alexnet (default), vgg16, ...")
    one.add_argument("--replicas", type=count, default=2, metavar="N",
                     help="of what Milvus has in memory (default: 2)")  # fmt: skip
    one.add_argument("--node-memory", type=count, default=64, metavar="GB",
                     help="of a query node of Milvus (default: 64)")  # fmt: skip
    one.add_argument("--gpu-rate", type=count, metavar="N",
                     help="photos/s that one of your GPUs describes (default: assumed from its "
                     "FLOP/s)")  # fmt: skip
    one.add_argument("--rates", type=Path, nargs="+", default=[], metavar="FILE.json",
                     help="what fc7 bench index --json and fc7 bench search --json print on your "
                     "machine (default: what came with fc7)")  # fmt: skip
    add_json(one, "as one JSON object")


def plan(options: argparse.Namespace) -> int:
    from indexer.planning.figures import Setup
    from indexer.planning.plan import make_plan
    from indexer.planning.rates import read_rates

    setup = Setup(
        photos=options.photos,
        gpus=options.gpus,
        cpus=options.cpus,
        bits=options.bits,
        network=options.network,
        replicas=options.replicas,
        node_memory=1e9 * options.node_memory,
        gpu_rate=options.gpu_rate,
    )
    made = make_plan(setup, read_rates(setup.network, options.rates))
    if options.json:
        print(json.dumps(_summary(made)))
    else:
        _print_plan(made)
    return 0


def _count_or_none(text: str) -> int:
    return 0 if text == "0" else count(text)


def _summary(made: Plan) -> dict[str, object]:
    """Ready for JSON: lines by their keys, tables as lists."""
    lines = {key: asdict(line) for key, line in made.figures().items()}
    for line in lines.values():
        del line["key"]
    return {
        "setup": asdict(made.setup),
        "bottleneck": made.bottleneck,
        "figures": lines,
        "indexes": [asdict(one) for one in made.indexes],
        "queries": [asdict(one) for one in made.queries],
        "drivers": [asdict(one) for one in made.drivers],
    }


def _print_plan(made: Plan) -> None:
    from indexer.planning.milvus import OVERHEAD, USABLE, WAIT

    s = made.setup
    print(f"{s.photos:,} photos, {s.network}, codes of {s.bits} bits; {s.gpus:,} GPUs; Milvus: "
          f"{s.replicas} replicas, nodes of {_bytes(s.node_memory)}")  # fmt: skip
    _print_lines("rates", made.rates)
    _print_lines("extraction", made.extraction)
    _print_lines("kept, one copy", made.storage)

    print("\nMilvus's query nodes: bytes a photo, ids and fields included; memory of a replica, "
          f"x {OVERHEAD:g} (assumed);\nnodes of all replicas, filled to {USABLE:.0%} (Milvus "
          "limits)")  # fmt: skip
    for one in made.indexes:
        disk = f", SSD {_bytes(one.disk)}" if one.disk else ""
        print(f"  {one.basis:8}  {one.of:5} {one.index:12} {one.bytes_a_photo:9,.0f} B "
              f"{_bytes(one.memory):>8} {one.nodes:6,} nodes  {one.how}{disk}")  # fmt: skip

    print(f"\na query: rows compared, bytes read, seconds of one core, cores and bandwidth for an "
          f"answer in {WAIT:g} s")  # fmt: skip
    for cost in made.queries:
        print(f"  {cost.basis:8}  {cost.of:5} {cost.index:12} {cost.rows:14,.0f} "
              f"{_bytes(cost.bytes):>8} {cost.core_seconds:9,.3f} s {cost.cores:6,} cores "
              f"{_bytes(cost.bandwidth):>7}/s  {cost.how}")  # fmt: skip

    _print_lines("loading", made.loading)

    print("\nwhat costs most, first year, in hours of a core, at assumed prices; of FC7 in Milvus "
          "choose one")  # fmt: skip
    for rank, driver in enumerate(made.drivers, start=1):
        print(f"  {driver.basis:8}  {rank}. {driver.what:28} {driver.core_hours:14,.0f}  "
              f"{driver.how}")  # fmt: skip


def _print_lines(title: str, lines: Sequence[Line]) -> None:
    print(f"\n{title}")
    for line in lines:
        print(f"  {line.basis:8}  {line.what:32} {_value(line):>17}  {line.how}")


def _value(line: Line) -> str:
    if line.unit == "bytes":
        return _bytes(line.value)
    if line.unit == "bytes/s":
        return f"{_bytes(line.value)}/s"
    if line.unit == "core-s":
        size, name = next((one for one in _SMALL if line.value >= one[0]), _SMALL[-1])
        return f"{line.value / size:,.1f} core-{name}"
    if line.unit == "h" and line.value < 1:
        return f"{60 * line.value:,.1f} min"
    if line.unit in ("h", "core-h", "GPU-h") and line.value < 100:
        return f"{line.value:,.1f} {line.unit}"
    return f"{line.value:,.0f} {line.unit}"


def _bytes(value: float) -> str:
    """Decimal, as disks and clouds are sold: 32.0 GB."""
    size, name = next((one for one in _BYTES if value >= one[0]), _BYTES[-1])
    return f"{value / size:.1f} {name}"
