"""Several processes that train one network together, started by torchrun; or one, alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from retrieval.errors import TrainingError
from retrieval.extractor import choose_device


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together.

    Each takes its share of every batch, and their gradients are averaged, so that together they
    take the step that one process would take with the whole batch.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def share(self, batch: NDArray[np.intp]) -> NDArray[np.intp]:
        """This process's part of a batch."""
        return batch[self.rank :: self.count]

    def check_batch(self, photos: int) -> None:
        """Raise TrainingError unless a batch can be shared evenly."""
        if photos % self.count:
            raise TrainingError(
                f"a batch of {photos} photos can't be shared by {self.count} processes: choose a "
                "multiple of that with --batch"
            )

    def together(self, network: nn.Module) -> nn.Module:
        """Wrap a network on its device, so that gradients are averaged over all processes."""
        if self.count == 1:
            return network
        if self.device.type == "cuda":  # elsewhere torch has none: each normalises its own share
            convert = nn.SyncBatchNorm.convert_sync_batchnorm
            network = convert(network)  # type: ignore[no-untyped-call]
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=devices)

    def sum(self, values: Tensor) -> Tensor:
        """Add up over all processes."""
        if self.count > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            distributed.barrier()

    def union(self, found: dict[int, str]) -> dict[int, str]:
        """Put together what each process found."""
        if self.count == 1:
            return dict(found)
        parts: list[dict[int, str]] = [{} for _ in range(self.count)]
        distributed.all_gather_object(parts, found)
        return {key: value for part in parts for key, value in part.items()}


@contextmanager
def join(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started (it says so in the environment), or be alone.

    device: auto, cpu or cuda, each process then on a card of its own. Raises DeviceError.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(0, 1, choose_device(device)[0])
        return
    local = int(os.environ["LOCAL_RANK"])
    chosen, _ = choose_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Ranks(distributed.get_rank(), count, chosen)
    finally:
        distributed.destroy_process_group()
