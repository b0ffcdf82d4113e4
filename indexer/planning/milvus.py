"""What Milvus needs of memory and disks, by index type, and what a query and loading cost.

Sources: Milvus's documentation (milvus.io: Milvus limits, in-memory index, on-disk index,
performance FAQ) and the `milvus.yaml` that comes with its server 2.3.5.
"""

from __future__ import annotations

import math

from indexer.planning.figures import NETWORKS, IndexNeed, Line, Of, QueryCost, Setup
from indexer.planning.rates import FC7_NUMBERS, Rates

# --- assumed: nobody here has measured these
OVERHEAD = 1.2  # of Milvus's memory over what its rows and index take: growing segments, copies
FIELDS = 64  # bytes a row of what filters ask for
PROBED = 1 / 32  # of an IVF index's lists are compared; docs/scaling.md has what that finds
WAIT = 0.1  # s, for an answer
LINKS = 16  # M of HNSW
PQ_DIMS = 8  # numbers of a descriptor that one byte of IVF_PQ stands for

# --- documented, or in the milvus.yaml of 2.3.5
USABLE = 0.9  # "data to be loaded must be under 90 % of the total memory of all query nodes"
SEGMENT = 512 * 2**20  # bytes, dataCoord.segment.maxSize
SHARDS = 16  # at most of a collection, proxy.maxShardNum
DISK_CODES = 0.125  # of the vectors' bytes in memory, common.DiskIndex.PQCodeBudgetGBRatio
DISK_CACHE = 0.1  # ... SearchCacheBudgetGBRatio
DISK_DEGREE = 56  # ... MaxDegree
SECTOR = 4096  # bytes; DiskANN begins each row that is larger at a sector of its own
ROW = 16  # bytes of a row beside its fields: the 64-bit id and the 64-bit timestamp
LIST_ID = 8  # bytes of an id in an IVF index's list
FLOAT = 4  # bytes a number: FLOAT_VECTOR. FLOAT16_VECTOR (2.4 and newer) takes 2


def rows_a_segment(vector: float) -> float:
    """vector: bytes. Milvus builds an index for each sealed segment of SEGMENT bytes."""
    return SEGMENT / (vector + ROW + FIELDS)


def lists_of(rows: float) -> float:
    """nlist, as Milvus's performance FAQ recommends: 4 x sqrt(rows of the segment)."""
    return 4 * math.sqrt(rows)


def index_needs(setup: Setup) -> tuple[IndexNeed, ...]:
    """Memory of Milvus's query nodes by index type, and the nodes that hold it.

    nodes = replicas x ceil(photos x bytes a photo x OVERHEAD / (memory of a node x USABLE))
    """
    dims = NETWORKS[setup.network][1]
    v, b = float(FLOAT * dims), setup.bits / 8
    centroids = v * lists_of(rows_a_segment(v)) / rows_a_segment(v)
    code_centroids = b * lists_of(rows_a_segment(b)) / rows_a_segment(b)
    codebook = 256 * v / rows_a_segment(v)
    graph = v + FLOAT * (DISK_DEGREE + 1)
    on_disk = SECTOR * math.ceil(graph / SECTOR)
    ivf = f"+ {centroids:.0f} of centroids + {LIST_ID} of id"
    # index, of, bytes of its own a photo in memory, on disk, how
    table: tuple[tuple[str, Of, float, float, str], ...] = (
        ("FLAT", "FC7", v, 0, f"{FLOAT} x {dims:,}"),
        ("IVF_FLAT", "FC7", v + centroids + LIST_ID, 0, f"{FLOAT} x {dims:,} {ivf}"),
        ("IVF_SQ8", "FC7", dims + centroids + LIST_ID, 0, f"1 x {dims:,} {ivf}"),
        ("IVF_PQ", "FC7", dims / PQ_DIMS + codebook + centroids + LIST_ID, 0,
         f"m = {dims // PQ_DIMS} bytes + {codebook:.0f} of codebooks {ivf}"),
        ("HNSW", "FC7", v + 2 * LINKS * 4, 0, f"{FLOAT} x {dims:,} + links 2 x M {LINKS} x 4"),
        ("DISKANN", "FC7", (DISK_CODES + DISK_CACHE) * v, on_disk,
         f"({DISK_CODES} + {DISK_CACHE}) x {v:,.0f}; on SSD {on_disk:,} bytes a photo"),
        ("BIN_FLAT", "codes", b, 0, f"{setup.bits} / 8"),
        ("BIN_IVF_FLAT", "codes", b + code_centroids + LIST_ID, 0,
         f"{setup.bits} / 8 + {code_centroids:.2f} of centroids + {LIST_ID} of id"),
    )  # fmt: skip
    needs = []
    for index, of, own, disk, how in table:
        memory = setup.photos * (own + ROW + FIELDS) * OVERHEAD
        nodes = setup.replicas * math.ceil(memory / (setup.node_memory * USABLE))
        needs.append(
            IndexNeed(index, of, own + ROW + FIELDS, memory, setup.photos * disk, nodes, how)
        )
    return tuple(needs)


def query_costs(setup: Setup, rates: Rates) -> tuple[QueryCost, ...]:
    """What one query compares: all rows, or every segment's centroids and PROBED of the rows."""
    n, dims = float(setup.photos), NETWORKS[setup.network][1]
    code = (setup.bits / 8, rates.comparing.code(setup.bits))
    fc7 = (float(FLOAT * dims), rates.comparing.fc7 * dims / FC7_NUMBERS)

    def cost(index: str, of: Of, rows: float, a_row: tuple[float, float], how: str) -> QueryCost:
        bytes_, seconds = rows * a_row[0], rows * a_row[1]
        return QueryCost(
            index, of, rows, bytes_, seconds, math.ceil(seconds / WAIT), bytes_ / WAIT, how
        )

    def probed(vector: float) -> float:
        segment = min(n, rows_a_segment(vector))
        return n * PROBED + math.ceil(n / segment) * lists_of(segment)

    share = f"1 / {round(1 / PROBED)} of the rows (assumed), all centroids"
    return (
        cost("BIN_FLAT", "codes", n, code, "every code"),
        cost("BIN_IVF_FLAT", "codes", probed(code[0]), code, share),
        cost("IVF_FLAT", "FC7", probed(fc7[0]), fc7, share),
        cost("FLAT", "FC7", n, fc7, "every FC7"),
    )


def loading_lines(setup: Setup, rates: Rates) -> tuple[Line, ...]:
    """Hours to insert what was extracted; building indexes and loading them come on top."""
    n, fc7 = setup.photos, rates.storing.fc7_rows * FC7_NUMBERS / NETWORKS[setup.network][1]
    codes = n / rates.storing.code_rows / 3600
    rows = n / fc7 / 3600
    many = f"by one loader; by {SHARDS}, one a shard, a {SHARDS}th if they add up (assumed)"
    return (
        Line("load_codes_hours", "codes into Milvus", codes, "h", "computed",
             many),
        Line("load_fc7_hours", "FC7 into Milvus", rows, "h", "computed",
             many),
        Line("segments", "segments of FC7 then", math.ceil(n / rows_a_segment(
             FLOAT * NETWORKS[setup.network][1])), "segments", "computed",
             "512 MB each, milvus.yaml; every query asks all of them"),
    )  # fmt: skip
