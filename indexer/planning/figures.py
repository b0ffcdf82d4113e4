"""What a plan is made of. Every figure says whether it is measured, computed or assumed, and how.

Units: bytes, seconds, photos; GB = 1e9 bytes, as disks and clouds are sold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Basis = Literal["measured", "computed", "assumed"]
Of = Literal["FC7", "codes"]

# Multiplications of one photo up to FC7, 1e9, and numbers of FC7. Counted layer by layer.
NETWORKS = {
    "alexnet": (0.710, 4096),
    "alexnet-2012": (0.720, 4096),
    "alexnet-half": (0.309, 2048),
    "alexnet-cifar": (0.073, 2048),
    "vgg11": (7.605, 4096),
    "vgg11-lrn": (7.605, 4096),
    "vgg11_bn": (7.605, 4096),
    "vgg13": (11.304, 4096),
    "vgg13_bn": (11.304, 4096),
    "vgg16": (15.466, 4096),
    "vgg16-c": (11.767, 4096),
    "vgg16_bn": (15.466, 4096),
    "vgg19": (19.628, 4096),
    "vgg19_bn": (19.628, 4096),
}
BITS = (32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Setup:
    """What is planned."""

    photos: int
    gpus: int = 1  # 0: the network runs on the cores
    cpus: int | None = None  # cores for decoding; None: 16 a GPU
    bits: int = 256
    network: str = "alexnet"
    replicas: int = 2
    node_memory: float = 64e9  # bytes of a query node
    gpu_rate: float | None = None  # photos/s of one GPU, where you know it


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of a plan."""

    key: str
    what: str
    value: float
    unit: str
    basis: Basis
    how: str


@dataclass(frozen=True, slots=True)
class IndexNeed:
    """What one of Milvus's index types takes in memory. Computed."""

    index: str
    of: Of
    bytes_a_photo: float
    memory: float  # bytes, one replica, overhead included
    disk: float  # bytes on each replica's SSDs
    nodes: int  # all replicas
    how: str
    basis: Basis = "computed"


@dataclass(frozen=True, slots=True)
class QueryCost:
    """What one query takes. Computed."""

    index: str
    of: Of
    rows: float  # compared, centroids included
    bytes: float  # read from memory for it
    core_seconds: float
    cores: int  # for an answer in WAIT
    bandwidth: float  # bytes/s then, of all nodes of a replica together
    how: str
    basis: Basis = "computed"


@dataclass(frozen=True, slots=True)
class Driver:
    """What something costs in the first year, in hours of a core. Computed, at assumed prices."""

    what: str
    core_hours: float
    how: str
    basis: Basis = "computed"


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it, in the order in which it is told."""

    setup: Setup
    rates: tuple[Line, ...]
    extraction: tuple[Line, ...]
    bottleneck: Literal["reading", "the network"]
    storage: tuple[Line, ...]
    indexes: tuple[IndexNeed, ...]
    queries: tuple[QueryCost, ...]
    loading: tuple[Line, ...]
    drivers: tuple[Driver, ...]  # dearest first

    def figures(self) -> dict[str, Line]:
        """Its lines by their keys."""
        lines = (*self.rates, *self.extraction, *self.storage, *self.loading)
        return {line.key: line for line in lines}
