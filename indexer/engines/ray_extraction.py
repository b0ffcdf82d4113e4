"""A run spread by Ray Data: decoding on CPUs, the network in actors on GPUs, a row a shard.

A row is never split, so a shard's photos stay together on their way. Ray gives the work of a lost
worker, actor or node to another, and decodes again what was lost with them; who finishes second
finds the shard committed. What makes that sound is `shards`, not Ray.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa

from indexer.engines.extraction import PER_SHARD, Describer, open_run, read_files
from indexer.engines.places import Place
from indexer.engines.shards import (
    Commit,
    RunHeader,
    committed,
    is_committed,
    planned_files,
    write_shard,
)
from indexer.spreading import ExtractionReport, missing
from retrieval.errors import EngineError, Fc7Error

_ROUND = 10_000  # shards that Ray is told of at once; 5 million photos
_PATIENCE = 5.0  # seconds until a cluster must answer; Ray itself would wait for minutes


def extract(
    folders: Sequence[str],
    shards: str,
    *,
    network: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    address: str | None = None,
    per_shard: int = PER_SHARD,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractionReport:
    """Do what `indexer.spreading.extract` says. per_shard: files a shard of a new run."""
    place = Place(shards)
    with _cluster_later(address) as connect:
        header = open_run(place, folders, network=network, weights=weights, per_shard=per_shard)
        before = committed(place)
        done = sum(one.files for one in before.values())
        todo = [shard for shard in range(header.shards) if shard not in before]
        tell = progress or (lambda _done, _total: None)
        tell(done, header.files)
        if todo:
            connect()
        for start in range(0, len(todo), _ROUND):
            for files in _spread(place, header, todo[start : start + _ROUND], device):
                done += files
                tell(done, header.files)
    found = committed(place)
    if len(found) < header.shards:
        raise EngineError(
            f"{header.shards - len(found)} of {header.shards} shards are missing in "
            f"{place.address}: the same command makes them"
        )
    return _report(header, before, found)


def _report(
    header: RunHeader, before: dict[int, Commit], found: dict[int, Commit]
) -> ExtractionReport:
    skipped: Counter[str] = Counter()
    for one in found.values():
        skipped.update(one.skipped)
    return ExtractionReport(
        header.shards,
        len(before),
        header.files,
        dict(skipped),
        tuple((folder, why) for folder, why in header.unreadable),
    )


# --- on the driver


def _spread(place: Place, header: RunHeader, todo: Sequence[int], device: str) -> Iterator[int]:
    """Have these shards made; yields the number of files of each as it is committed."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    resources = ray.cluster_resources()
    gpus, cpus = resources.get("GPU", 0), int(resources.get("CPU", 0))
    if device == "cuda" and not gpus:
        raise EngineError("no machine of the cluster has a GPU now: leave --device cuda out")
    on_gpu = device != "cpu" and gpus > 0
    about = {"address": place.address, "header": header}
    rows = ray.data.from_items([{"shard": n} for n in todo], override_num_blocks=len(todo))
    read = rows.map_batches(
        _read, batch_size=1, batch_format="pyarrow", num_cpus=1, fn_kwargs=about
    )
    # Actors hold no CPU: else those that move here from a lost node might leave none to decode.
    described = read.map_batches(
        _Describe,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=0,
        num_gpus=1 if on_gpu else 0,
        compute=ActorPoolStrategy(min_size=1, max_size=None if on_gpu else max(1, cpus // 2)),
        fn_constructor_kwargs={"header": header, "device": "cuda" if on_gpu else "cpu"},
    )
    # Apart from the network, so that no GPU waits for a store.
    written = described.map_batches(
        _write, batch_size=1, batch_format="pyarrow", num_cpus=0, fn_kwargs=about
    )
    with _explained():
        for row in written.iter_rows():
            if row["error"] is not None:
                raise EngineError(row["error"])
            yield int(row["files"])


@contextmanager
def _explained() -> Iterator[None]:
    """Say in one line that Ray failed; a bug in what it ran stays a traceback."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        line = next(iter(str(error).splitlines()), "")
        raise EngineError(
            f"Ray gave up ({type(error).__name__}: {line}): the same command goes on from here"
        ) from error


@contextmanager
def _cluster_later(address: str | None) -> Iterator[Callable[[], None]]:
    """Gives a function that connects to Ray; disconnects in the end, if it has.

    Whether there is Ray at all, and somebody at the address, is looked at now: planning may take
    long.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "CRITICAL")
    if address is None:  # it listens on this machine's addresses: nobody else shall get in
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise missing("--engine ray", error) from error
    if address not in (None, "auto"):
        _check_reachable(str(address))

    def connect() -> None:
        alone = False if address is None else None
        try:
            ray.init(
                address or "local",
                include_dashboard=alone,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except (OSError, RuntimeError, ValueError) as error:
            line = next(iter(str(error).splitlines()), "")
            raise EngineError(f"no Ray cluster at {address or 'this machine'}: {line}") from error
        logging.getLogger("ray").setLevel(logging.CRITICAL)

    # Ray prints what it retries to stdout, which is for our answer. Its own logs keep it.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            yield connect
        finally:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        raise EngineError(f"{address} is no address of a Ray cluster: give HOST:PORT, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise EngineError(
            f"no Ray cluster answers at {address}: start one there with ray start --head --port "
            f"{port}, or leave --address out"
        ) from error


# --- on the workers
#
# Rows are (shard, rows, error): our own errors travel as rows, for Ray would wrap them in its own.
# Each stage gives one row for one, whatever happened before: Ray counts on it when it runs a task
# again.


def _read(row: pa.Table, address: str, header: RunHeader) -> pa.Table:
    """Decode a shard's files; no rows if it is committed by now."""
    shard = row["shard"][0].as_py()
    try:
        place = Place(address)
        if is_committed(place, shard):
            return _one(shard)
        return _one(shard, _packed(read_files(place, header, shard)))
    except Fc7Error as error:
        return _one(shard, error=str(error))


class _Describe:
    """An actor: put descriptors in the place of pixels. It loads the network at the first shard."""

    def __init__(self, header: RunHeader, device: str) -> None:
        self._header, self._device = header, device
        self._describer: Describer | None = None

    def __call__(self, row: pa.Table) -> pa.Table:
        shard, read = row["shard"][0].as_py(), _unpacked(row)
        if read is None:
            return row
        try:
            if self._describer is None:
                self._describer = Describer(self._header, self._device)
            return _one(shard, _packed(self._describer.describe(read)))
        except Fc7Error as error:
            return _one(shard, error=str(error))


def _write(row: pa.Table, address: str, header: RunHeader) -> pa.Table:
    """Commit a shard's rows: (shard, files, error)."""
    shard, error, files = row["shard"][0].as_py(), row["error"][0].as_py(), 0
    try:
        place, rows = Place(address), _unpacked(row)
        if rows is not None:
            write_shard(place, shard, rows)
        if error is None:
            files = len(planned_files(place, header, shard))
    except Fc7Error as own:
        error = str(own)
    kinds = pa.schema([("shard", pa.int64()), ("files", pa.int64()), ("error", pa.string())])
    return pa.Table.from_pylist([{"shard": shard, "files": files, "error": error}], kinds)


def _packed(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _unpacked(row: pa.Table) -> pa.Table | None:
    """What `_packed` made of; None if there is nothing to do."""
    data = row["rows"].combine_chunks()[0].as_buffer()
    return pa.ipc.open_stream(data).read_all() if data.size else None


def _one(shard: int, rows: pa.Buffer | None = None, error: str | None = None) -> pa.Table:
    """One row; its bytes are not copied."""
    data = pa.py_buffer(b"") if rows is None else rows
    ends = pa.py_buffer(np.array([0, data.size], np.int64))
    return pa.table(
        {
            "shard": pa.array([shard], pa.int64()),
            "rows": pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, data]),
            "error": pa.array([error], pa.string()),
        }
    )
