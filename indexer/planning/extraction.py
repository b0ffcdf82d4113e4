"""How long it takes to turn photos into descriptors, and which stage decides it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from indexer.planning.figures import NETWORKS, Basis, Line, Setup
from indexer.planning.rates import CODE_BYTES, FC7_NUMBERS, Rates
from retrieval.errors import PlanError

# Assumed
SUSTAINED = 30e12  # FLOP/s of a GPU: a tenth of an A100's 312e12 on paper in half precision
CORES_A_GPU = 16  # where --cpus does not say


def cores_of(setup: Setup) -> int:
    return setup.gpus * CORES_A_GPU if setup.cpus is None else setup.cpus


@dataclass(frozen=True, slots=True)
class Pace:
    """How quickly photos become descriptors, photos/s; what a photo costs, seconds of a core."""

    reading: float  # core-seconds a photo
    one_gpu: float  # photos/s; 0 without GPUs
    read: float  # photos/s that the cores can read
    described: float  # photos/s that the network does
    whole: float  # photos/s in the end
    gpu_basis: Basis

    @property
    def bottleneck(self) -> Literal["reading", "the network"]:
        return "reading" if self.read <= self.described else "the network"


def extraction_pace(setup: Setup, rates: Rates) -> Pace:
    """GPUs and cores work at once: the slower of the two decides. Without GPUs the cores share.

    Raises PlanError if there are no GPUs and the network was never measured on cores.
    """
    reading = rates.reading.decoding + rates.reading.beside
    cores = cores_of(setup)
    read = cores / reading
    if setup.gpus == 0:
        computing = rates.reading.computing
        if computing is None:
            raise PlanError(
                f"{setup.network} was not measured on cores: give fc7 bench index --network "
                f"{setup.network} --json as --rates, or --gpus"
            )
        described = cores / computing
        return Pace(reading, 0.0, read, described, cores / (reading + computing), "measured")
    flops = 2e9 * NETWORKS[setup.network][0]
    basis: Basis = "assumed" if setup.gpu_rate or not rates.reading.card else "measured"
    one = setup.gpu_rate or rates.reading.card or SUSTAINED / flops
    described = setup.gpus * one
    return Pace(reading, one, read, described, min(read, described), basis)


def rate_lines(setup: Setup, rates: Rates, pace: Pace) -> tuple[Line, ...]:
    """What the plan stands on."""
    r, c, s = rates.reading, rates.comparing, rates.storing
    gmac, dims = NETWORKS[setup.network]
    whole: Basis = "measured" if dims == FC7_NUMBERS else "computed"
    if setup.gpu_rate:
        how = "--gpu-rate"
    elif pace.gpu_basis == "measured":
        how = f"fc7 bench index, {r.source}"
    else:
        how = (
            f"{SUSTAINED / 1e12:g} TFLOP/s sustained / {2 * gmac:.2f} GFLOP a photo; no GPU was "
            "ever measured (--gpu-rate)"
        )
    photo = f"fc7 bench index, photos of {r.megapixels:.1f} megapixels, {r.megabytes:.1f} MB"
    lines = [
        Line("decoding", "read, decode, frame a photo", r.decoding, "core-s", "measured",
             f"{photo}; {r.source}"),
        Line("beside", "hash, thumbnail, code, store it", r.beside, "core-s", "measured",
             "not told apart by a run on a card: left out" if r.card
             else "the rest of fc7's own time in that run"),
    ]  # fmt: skip
    if setup.gpus:
        lines.append(
            Line("gpu_rate", "a GPU describes", pace.one_gpu, "photos/s", pace.gpu_basis, how)
        )
    elif r.computing:
        lines.append(
            Line("computing", "describe it on cores", r.computing, "core-s", "measured", photo)
        )
    lines += [
        Line("compare_code", f"compare a code of {setup.bits} bits", c.code(setup.bits), "core-s",
             "measured" if setup.bits == 8 * CODE_BYTES else "computed",
             f"fc7 bench search, {c.photos:,} photos, {8 * CODE_BYTES} bits; {c.source}"),
        Line("compare_fc7", "compare an FC7", c.fc7 * dims / FC7_NUMBERS, "core-s",
             whole, "the same, fp16; Milvus compares float32"),
        Line("insert_codes", "Milvus takes codes", s.code_rows, "rows/s", "measured",
             f"one loader, one server of one process; {s.source}"),
        Line("insert_fc7", "Milvus takes FC7", s.fc7_rows * FC7_NUMBERS / dims,
             "rows/s", whole, "the same, float32"),
        Line("metadata", "metadata of a photo", s.metadata, "bytes", "measured",
             "PostgreSQL's tables and indexes, drawn rows"),
        Line("thumbnail", "thumbnail of a photo", s.thumbnail, "bytes", "measured",
             f"mean JPEG; {s.source}"),
    ]  # fmt: skip
    return tuple(lines)


def extraction_lines(setup: Setup, rates: Rates, pace: Pace) -> tuple[Line, ...]:
    """Hours, and what would balance the two stages."""
    n, hours = setup.photos, setup.photos / pace.whole / 3600
    cores, original = cores_of(setup), rates.reading.megabytes * 1e6
    given = f"{CORES_A_GPU} a GPU, unless --cpus says" if setup.cpus is None else "--cpus"
    lines = [
        Line("cores", "cores that read", cores, "cores", "assumed", given),
        Line("read_rate", "these cores read", pace.read, "photos/s", "computed",
             f"{cores:,} cores / {1e3 * pace.reading:.1f} core-ms a photo"),
        Line("describe_rate", "the network describes", pace.described, "photos/s", "computed",
             f"{setup.gpus:,} x {pace.one_gpu:,.0f} ({pace.gpu_basis})" if setup.gpus
             else "on the same cores, in turn"),
        Line("hours", f"extraction; {pace.bottleneck} binds", hours, "h", "computed",
             "photos / the slower rate" if setup.gpus else "photos / both on the same cores"),
        Line("reading_core_hours", "work of cores", n * pace.reading / 3600, "core-h",
             "computed", "photos x core-s a photo"),
    ]  # fmt: skip
    if setup.gpus:
        needed = math.ceil(pace.described * pace.reading)
        enough = math.ceil(pace.read / pace.one_gpu)
        lines += [
            Line("gpu_hours", "work of GPUs", n / pace.one_gpu / 3600, "GPU-h", "computed",
                 f"photos / a GPU's rate ({pace.gpu_basis})"),
            Line("gpu_hours_held", "GPUs held for it", setup.gpus * hours, "GPU-h", "computed",
                 f"{setup.gpus:,} GPUs for all the hours"),
            Line("cores_needed", "cores that keep all GPUs busy", needed, "cores", "computed",
                 f"rate of the GPUs x core-s a photo ({pace.gpu_basis} rate)"),
            Line("gpus_needed", "GPUs that these cores keep busy", enough, "GPUs", "computed",
                 f"rate of the cores / a GPU's ({pace.gpu_basis})"),
        ]  # fmt: skip
    lines += [
        Line("originals", "originals read", n * original, "bytes", "computed",
             f"{original / 1e6:.1f} MB a photo"),
        Line("network_rate", "read from their store at", pace.whole * original, "bytes/s",
             "computed", "rate x bytes a photo"),
    ]  # fmt: skip
    return tuple(lines)
