"""Indexing spread over many machines: `fc7 index --engine ray`. `indexer.loading` takes it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from retrieval.errors import EngineError


@dataclass(frozen=True, slots=True)
class ExtractionReport:
    """What a run's shards hold now."""

    shards: int
    before: int  # of them were there when this call began
    files: int
    skipped: dict[str, int]  # how many files gave no picture, by reason
    unreadable: tuple[tuple[str, str], ...]  # (folder, why): not in the plan


def extract(
    folders: Sequence[str],
    shards: str,
    *,
    network: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    address: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExtractionReport:
    """Describe the photos under folders on a Ray cluster; go on where an earlier call was cut off.

    folders: paths or fsspec addresses; none means those of the run that `shards` holds.
    shards: a path or an address that every machine can write to.
    network, weights: of a new run; as of a new library.
    device: "auto" takes GPUs if the cluster has any now.
    address: of the cluster, HOST:PORT, or "auto" for one that runs on this machine; None makes one
    of this machine alone for as long as this takes.
    progress: called with (files in shards, files).

    Raises ShardsError if `shards` is of other photos or another model; EngineError if Ray is
    missing, can't be reached or fails; WeightsError, and LibraryError if a folder isn't there.
    """
    try:
        from indexer.engines import ray_extraction
    except ModuleNotFoundError as error:
        raise missing("--engine ray", error) from error
    return ray_extraction.extract(
        folders,
        shards,
        network=network,
        weights=weights,
        device=device,
        address=address,
        progress=progress,
    )


def missing(what: str, error: ModuleNotFoundError) -> EngineError:
    """What to raise where a package of the cluster extra isn't installed."""
    return EngineError(f'{what} needs {error.name} and more: pip install "fc7[cluster]"')
