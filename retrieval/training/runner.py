"""Run a frozen network fast over many views: 8-bit on a CPU, half precision on a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Runner = Callable[[Tensor], NDArray[np.float32]]
_BATCH = 16  # views at a time: fits the processor's caches, and the compiled graph is fixed to it
_ENOUGH = 64  # views to set 8-bit scales by


def make_runner(module: nn.Module, sample: Tensor, device: str, cache: Path) -> Runner:
    """Make a function (n, 3, s, s) float32 -> the module's output, for any n >= 1.

    sample: (n, 3, s, s) typical inputs, by which the 8-bit scales are set.
    cache: where the 8-bit graph is kept (.xml), so that a resumed run computes the same numbers.
    On a CPU without OpenVINO and NNCF (extra `distill`), or with a sample of fewer than 64, plain
    torch runs: exact, and four times slower.
    """
    installed = all(importlib.util.find_spec(p) for p in ("openvino", "nncf"))
    if device == "cpu" and installed and len(sample) >= _ENOUGH:
        return _eight_bits(module, sample, cache)
    half = torch.float16 if device != "cpu" else torch.float32
    placed = module.to(device, half).to(memory_format=torch.channels_last)

    def run(inputs: Tensor) -> NDArray[np.float32]:
        out = []
        with torch.inference_mode():
            for i in range(0, len(inputs), _BATCH):
                there = (
                    inputs[i : i + _BATCH]
                    .to(device, half)
                    .contiguous(memory_format=torch.channels_last)
                )
                out.append(placed(there).float().cpu())
        return np.asarray(torch.cat(out).numpy(), np.float32)

    return run


def _eight_bits(module: nn.Module, sample: Tensor, cache: Path) -> Runner:
    openvino = importlib.import_module("openvino")
    if not cache.exists():
        _quantise(module, sample, cache)
    # Pinning would tie this thread, and all that it starts to decode photos, to one core.
    options = {"ENABLE_CPU_PINNING": False, "INFERENCE_NUM_THREADS": os.cpu_count()}
    graph = openvino.Core().compile_model(cache, "CPU", options)

    def run(inputs: Tensor) -> NDArray[np.float32]:
        count = len(inputs)
        padded = nn.functional.pad(inputs, (0, 0, 0, 0, 0, 0, 0, -count % _BATCH)).numpy()
        parts = [graph(padded[i : i + _BATCH])[0].copy() for i in range(0, count, _BATCH)]
        return np.asarray(np.concatenate(parts)[:count], np.float32)

    return run


def _quantise(module: nn.Module, sample: Tensor, cache: Path) -> None:
    openvino, nncf = importlib.import_module("openvino"), importlib.import_module("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    shape = (_BATCH, *sample.shape[1:])
    with torch.no_grad():
        exact = openvino.convert_model(module, example_input=sample[:_BATCH], input=[shape])
    whole = len(sample) // _BATCH * _BATCH
    batches = [sample[i : i + _BATCH].numpy() for i in range(0, whole, _BATCH)]
    small = nncf.quantize(
        exact,
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
    )
    cache.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(small, cache, compress_to_fp16=False)
