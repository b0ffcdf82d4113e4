"""What a run on many machines writes: shards of rows, readable without the engine that made them.

SHARDS/run.json             the header: model, coder, folders, how many files and shards
SHARDS/plan-<id>/*.parquet  which files belong to which shard: a row group a shard
SHARDS/data/*.parquet       the rows, a file an attempt: a shard may have been tried several times
SHARDS/commits/*.json       one a shard: which file of data/ counts, and what is in it

A shard is written under a name of its own and then committed by making its record: the first record
wins, and readers open only what a record names. So a worker that comes back late, or a node whose
work was given to another, makes rubbish in data/ but no photo twice. The header is made last and
once, so a run that goes on has the plan that it began with.
"""

from __future__ import annotations

import io
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from indexer.catalog import FileStat
from indexer.engines.places import Place
from retrieval.errors import ShardsError

FORMAT = 1
_HEADER = "run.json"
_GROUPS = 256  # shards a file of the plan
_DIGITS = 8  # of a shard's number in names

_FILES = pa.schema(
    [
        # As text, for people and other programs; where a name is not UTF-8, its bytes count.
        pa.field("path", pa.string(), nullable=False),
        pa.field("path_bytes", pa.binary()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
    ]
)
INFO = pa.schema(
    [
        pa.field("format", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("orientation", pa.int32()),
        pa.field("taken_at", pa.string()),
        pa.field("camera", pa.string()),
        pa.field("lens", pa.string()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
    ]
)
READ = pa.schema(
    [
        *_FILES,
        pa.field("skipped", pa.string()),  # why the file gave no picture; all else is null then
        pa.field("sha256", pa.string()),
        *INFO,
        pa.field("thumbnail", pa.binary()),  # JPEG
    ]
)
_INCOMPRESSIBLE = "thumbnail"


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What all shards of a run have in common."""

    format: int
    fc7: str  # the version that planned it
    folders: list[str]  # paths or addresses that were listed
    unreadable: list[list[str]]  # [folder, why]: what lies there is not in the plan
    files: int
    shards: int
    plan: str  # the folder of the plan
    network: str
    weights: str
    stamp: str
    framing: str
    side: int  # pixels
    dims: int  # of FC7
    classes: list[str]
    coder: str | None  # the digest of the coder that came with fc7; None if there was none
    bits: int  # of a code; 0 without a coder


@dataclass(frozen=True, slots=True)
class Commit:
    """The record that makes a shard count."""

    shard: int
    data: str  # the name of its file
    files: int
    skipped: dict[str, int]  # how many files gave no picture, by reason


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The rows of a shard: skipped files apart, all others a row each, in the plan's order."""

    skipped: list[tuple[FileStat, str]]
    stats: list[FileStat]
    hashes: list[str]
    infos: list[dict[str, Any]]  # of `retrieval.images.PhotoInfo`
    norms: list[float]
    labels: list[tuple[tuple[str, float], ...]]
    thumbnails: list[bytes]
    fc7: NDArray[np.float16]  # (n, d)
    codes: NDArray[np.uint8] | None  # (n, bits / 8)


# --- the run


def read_header(place: Place) -> RunHeader | None:
    """The run that a folder holds; None if it holds none. Raises ShardsError if it is damaged."""
    try:
        found = json.loads(place.read(_HEADER))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ShardsError(f"{place.address}/{_HEADER} is damaged: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ShardsError(
            f"{place.address} holds shards that this fc7 doesn't know: use the fc7 that made them"
        )
    try:
        return RunHeader(**{field.name: found[field.name] for field in fields(RunHeader)})
    except KeyError as error:
        raise ShardsError(f"{place.address}/{_HEADER} is damaged: no {error}") from error


def begin_run(
    place: Place, files: Iterable[FileStat], per_shard: int, common: dict[str, Any]
) -> RunHeader:
    """Write the plan of a new run and then its header; return it, or that of who was first.

    common: the fields of the header that neither the plan nor the format decides.
    """
    plan = f"plan-{uuid.uuid4().hex}"
    shards = count = 0
    left = iter(files)
    parts = iter(lambda: tuple(islice(left, per_shard)), ())
    while groups := list(islice(parts, _GROUPS)):
        out = io.BytesIO()
        with pq.ParquetWriter(out, _FILES) as writer:
            for group in groups:
                writer.write_table(_file_table(group), row_group_size=per_shard)
        place.write(f"{plan}/{shards // _GROUPS:0{_DIGITS}}.parquet", out.getvalue())
        shards += len(groups)
        count += sum(map(len, groups))
    if not count:
        raise ShardsError(f"{', '.join(common['folders'])}: no files there, so no run was begun")
    header = RunHeader(format=FORMAT, files=count, shards=shards, plan=plan, **common)
    if not place.write_once(_HEADER, json.dumps(asdict(header), indent=1).encode()):
        return read_header(place) or header
    return header


def planned_files(place: Place, header: RunHeader, shard: int) -> list[FileStat]:
    """The files of a shard, as they were listed. Raises ShardsError if the plan is gone."""
    name = f"{header.plan}/{shard // _GROUPS:0{_DIGITS}}.parquet"
    try:
        with place.open(name) as file:
            table = pq.ParquetFile(file).read_row_group(shard % _GROUPS)
    except (OSError, pa.ArrowException) as error:
        raise ShardsError(f"{place.address}/{name} is missing or damaged: {error}") from error
    return _stats(table)


def committed(place: Place) -> dict[int, Commit]:
    """The shards that count, by number. Raises ShardsError if a record is damaged."""
    names = [name for name in place.names("commits") if name.endswith(".json") and name[0] != "."]
    try:
        found = [
            Commit(**json.loads(record))
            for record in place.read_all([f"commits/{name}" for name in names])
        ]
    except (ValueError, TypeError) as error:
        raise ShardsError(f"{place.address}/commits holds a damaged record: {error}") from error
    return {one.shard: one for one in found}


def is_committed(place: Place, shard: int) -> bool:
    return place.exists(_record(shard))


def write_shard(place: Place, shard: int, table: pa.Table) -> bool:
    """Write a shard's rows and commit them; returns whether this attempt is the one that counts."""
    data = f"{shard:0{_DIGITS}}-{uuid.uuid4().hex}.parquet"
    out = io.BytesIO()
    pq.write_table(
        table,
        out,
        compression={
            name: "none" if name == _INCOMPRESSIBLE else "zstd" for name in _leaves(table)
        },
        use_dictionary=["format", "camera", "lens", "skipped"],
        write_statistics=["size", "mtime_ns", "sha256", "path"],
        row_group_size=len(table) or 1,
    )
    place.write(f"data/{data}", out.getvalue())
    reasons = Counter(why for why in table["skipped"].to_pylist() if why is not None)
    record = Commit(shard, data, len(table), dict(sorted(reasons.items())))
    if place.write_once(_record(shard), json.dumps(asdict(record)).encode()):
        return True
    # A network may lose the answer of our own first try and call the second one late.
    if json.loads(place.read(_record(shard)))["data"] == data:
        return True
    place.remove(f"data/{data}")
    return False


def read_shard(place: Place, header: RunHeader, commit: Commit) -> Shard:
    """Raises ShardsError if its file is missing, damaged, or not of this run."""
    name = f"data/{commit.data}"
    try:
        table = pq.read_table(io.BytesIO(place.read(name)))
    except (OSError, pa.ArrowException) as error:
        raise ShardsError(f"{place.address}/{name} is missing or damaged: {error}") from error
    if len(table) != commit.files or not {*READ.names, "fc7", "norm"} <= {*table.column_names}:
        raise ShardsError(f"{place.address}/{name} is damaged: other rows than its record says")
    is_skip = np.array([why is not None for why in table["skipped"].to_pylist()], bool)
    bad, good = table.filter(pa.array(is_skip)), table.filter(pa.array(~is_skip))
    pairs = zip(good["labels"].to_pylist(), good["probabilities"].to_pylist(), strict=True)
    return Shard(
        skipped=list(zip(_stats(bad), bad["skipped"].to_pylist(), strict=True)),
        stats=_stats(good),
        hashes=good["sha256"].to_pylist(),
        infos=good.select(INFO.names).to_pylist(),
        norms=good["norm"].to_pylist(),
        labels=[tuple(zip(*pair, strict=True)) for pair in pairs],
        thumbnails=good["thumbnail"].to_pylist(),
        fc7=_matrix(good["fc7"], header.dims, np.float16),
        codes=_matrix(good["code"], header.bits // 8, np.uint8) if header.bits else None,
    )


# --- tables


def read_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows by the names of READ, as a table; what a row doesn't say is null."""
    return pa.Table.from_pylist(list(rows), READ)


def path_columns(stat: FileStat) -> dict[str, Any]:
    """A file as the first columns have it."""
    raw = os.fsencode(stat.path)
    text = raw.decode("utf-8", "replace")
    own = None if text.encode() == raw else raw
    return {"path": text, "path_bytes": own, "size": stat.size, "mtime_ns": stat.mtime_ns}


def with_descriptors(
    table: pa.Table,
    rows: NDArray[np.intp],
    fc7: NDArray[np.float16],
    norms: NDArray[np.float32],
    labels: Sequence[Sequence[str]],
    probabilities: Sequence[Sequence[float]],
    codes: NDArray[np.uint8] | None,
) -> pa.Table:
    """Add what the network says of some rows; the others get nulls."""
    places = np.full(len(table), -1, np.int64)
    places[rows] = np.arange(len(rows))
    take = pa.array(places, mask=places < 0)

    def spread(name: str, values: pa.Array) -> tuple[str, pa.Array]:
        return name, values.take(take)

    columns = [
        spread("norm", pa.array(norms, pa.float32())),
        spread("labels", pa.array(list(labels), pa.list_(pa.string()))),
        spread("probabilities", pa.array(list(probabilities), pa.list_(pa.float32()))),
        spread("fc7", _fixed(fc7)),
    ]
    if codes is not None:
        columns.append(spread("code", _fixed(codes)))
    for name, values in columns:
        table = table.append_column(name, values)
    return table


def _fixed(matrix: NDArray[Any]) -> pa.FixedSizeListArray:
    """(n, d) -> a list of d numbers a row."""
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _matrix(column: pa.ChunkedArray, width: int, dtype: type[Any]) -> NDArray[Any]:
    """What `_fixed` made: (n, width), without its nulls."""
    flat = column.combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype).reshape(-1, width)


def _file_table(stats: Sequence[FileStat]) -> pa.Table:
    return pa.Table.from_pylist([path_columns(stat) for stat in stats], _FILES)


def _stats(table: pa.Table) -> list[FileStat]:
    names = ("path", "path_bytes", "size", "mtime_ns")
    rows: Iterator[Any] = zip(*(table[name].to_pylist() for name in names), strict=True)
    return [
        FileStat(path if raw is None else os.fsdecode(raw), size, mtime_ns)
        for path, raw, size, mtime_ns in rows
    ]


def _leaves(table: pa.Table) -> list[str]:
    """The columns as Parquet names them."""
    out = []
    for field in table.schema:
        nested = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
        out.append(f"{field.name}.list.element" if nested else field.name)
    return out


def _record(shard: int) -> str:
    return f"commits/{shard:0{_DIGITS}}.json"
