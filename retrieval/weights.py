"""Weights: which there are, where they come from, and loading them safely.

"bundled"   ships with fc7 and works offline: one compact file a network
"imagenet"  torchvision's own, downloaded once into torch's cache
a file      .safetensors or .pth in torchvision's names, or a compact file
a folder    what `fc7 train` made: its best.safetensors

The words in a .safetensors file may name its network. Nothing is ever unpickled that could run
code.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torchvision import models

from retrieval.compact import unpack
from retrieval.download import Progress, download
from retrieval.errors import WeightsError
from retrieval.images import FRAMINGS
from retrieval.networks import (
    FC8,
    MEAN,
    NETWORKS,
    PUBLISHED,
    STD,
    build,
    check_network,
    usual_framing,
)
from retrieval.shipped import shipped

_NORMALISATION = f"rgb/255, mean {MEAN}, std {STD}; fc7 after relu, unit rows; version 1"

NAMED = ("bundled", "imagenet")  # weights that are no paths
DEFAULT_NETWORK = "alexnet"
BEST = "best.safetensors"  # in the folder of a training run: its best epoch

_COUNTER = "num_batches_tracked"  # BatchNorm counts its training steps; nothing is computed of it


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """One network's weights: what is known of them without loading them."""

    network: str
    name: str  # "bundled", "imagenet", or the path of a file or of a run's folder
    source: str  # where they come from: a URL, a recipe, a path
    licence: str
    bytes: int  # size of the file, rounded where it is not on this machine
    sha256: str  # hex; of "imagenet" only the digits that its publisher gives, until loaded
    top1: float | None  # accuracy on ImageNet's validation photos, percent, as published
    top5: float | None
    framing: str
    path: Path | None  # where the file is on this machine; None if it isn't


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """Weights in memory, checked to fit their network."""

    info: WeightsInfo  # with the whole sha256
    state_dict: dict[str, Tensor]  # torchvision's names, float32
    classes: tuple[str, ...]  # what fc8 tells apart, in its order


@dataclass(frozen=True, slots=True)
class _File:
    """What a weights file holds: tensors by name, and the words that travel with them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def weights_table() -> list[WeightsInfo]:
    """List every network's weights: the bundled ones first, then torchvision's.

    Downloads nothing.
    """
    bundled = [_bundled_info(n, p) for n in NETWORKS if (p := _bundled_path(n))]
    return bundled + [_imagenet_info(network) for network in PUBLISHED]


def network_of(weights: str, otherwise: str = DEFAULT_NETWORK) -> str:
    """The network that these weights are for: what their file says, or `otherwise`.

    Raises WeightsError if there is no such file, or it names a network that fc7 doesn't know.
    """
    if weights in NAMED:
        return otherwise
    file = _file(Path(weights).expanduser().resolve())
    network = _metadata(file).get("network", otherwise)
    if network not in NETWORKS:
        raise WeightsError(f"{_shown(file)} is for {network}, a network that fc7 doesn't know")
    return network


def load_weights(
    network: str | None, weights: str = "bundled", progress: Progress | None = None
) -> LoadedWeights:
    """Load a network's weights.

    network: None takes the one that the weights are for.
    weights: "bundled", "imagenet", or the path of a file or of a training run's folder.
    progress: told of a download, in bytes.

    Raises WeightsError if the network is unknown, the weights can't be had, or don't fit.
    """
    network = network or network_of(weights)
    check_network(network)
    if weights == "bundled":
        path = _bundled_path(network)
        if path is None:
            raise WeightsError(_no_bundled(network))
        return _load(_bundled_info(network, path), path)
    if weights == "imagenet":
        if network not in PUBLISHED:
            raise WeightsError(
                f"torchvision has no {network}: train it with fc7 train, or give a file of weights"
            )
        return load_imagenet(_imagenet_info(network), progress)
    file = _file(Path(weights).expanduser().resolve())
    return _load(describe_file(network, weights), file)


def describe_file(network: str, weights: str) -> WeightsInfo:
    """What is known of the weights of a file or a run's folder; their numbers are not read.

    Raises WeightsError if there are none, or they are for another network.
    """
    path = Path(weights).expanduser().resolve()
    file = _file(path)
    return _file_info(network, file, str(path), str(file))


def load_imagenet(info: WeightsInfo, progress: Progress | None = None) -> LoadedWeights:
    """Load a published file, downloading it first unless it is in torch's cache.

    info: a row of the table; its source is the URL, its sha256 the first digits.
    """
    path = info.path or _cache_path(info.source)
    if not path.is_file():
        download(info.source, path, info.sha256, progress)
    digest = _sha256(path)
    if not digest.startswith(info.sha256):
        raise WeightsError(
            f"{path} is damaged: its sha256 begins {digest[: len(info.sha256)]}, expected "
            f"{info.sha256}. Delete it, and it will be downloaded again"
        )
    size = path.stat().st_size
    return _load(replace(info, path=path, sha256=digest, bytes=size), path)


def stamp(info: WeightsInfo) -> str:
    """Name, as a sha256 in hex, everything that decides what a photo's descriptor is.

    Two libraries with equal stamps can be compared. It holds the network, the content of the
    weights file, the framing and the normalisation; not the device, whose rounding is small.
    """
    parts = [info.network, info.sha256, info.framing, _NORMALISATION]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# Where weights are


def _bundled_path(network: str) -> Path | None:
    """Find the bundled file of a network, or None if it has none."""
    return shipped(f"{network}.safetensors")


def _no_bundled(network: str) -> str:
    have = [name for name in NETWORKS if _bundled_path(name)]
    others = "use --weights imagenet" if network in PUBLISHED else "train it with fc7 train"
    return (
        f"no bundled weights for {network} (there are some for: {', '.join(have) or 'none'}): "
        f"{others}, or give a file"
    )


def _file(path: Path) -> Path:
    """The file that a path of weights means."""
    if path.is_dir():
        if not (path / BEST).is_file():
            raise WeightsError(
                f"{path} holds no {BEST}: give the folder of a run of fc7 train, or a file"
            )
        return path / BEST
    if not path.is_file():
        raise WeightsError(f"no weights file {path}: give a file, or 'bundled' or 'imagenet'")
    return path


def _shown(file: Path) -> str:
    """A file's name for people; of a run's file it is the folder that tells."""
    return f"{file.parent.name}/{file.name}" if file.name == BEST else file.name


def _bundled_info(network: str, path: Path) -> WeightsInfo:
    return _file_info(network, path, "bundled", "fc7's own recipe, data/weights")


def _file_info(network: str, path: Path, name: str, source: str) -> WeightsInfo:
    """Describe a file by the words inside it, where it has any (`source` is one of them)."""
    words = _metadata(path)
    made_for = words.get("network", network)
    if made_for != network:
        raise WeightsError(
            f"{_shown(path)} is for {made_for}, not {network}: leave --network out, or give other "
            "weights"
        )
    framing = words.get("framing", usual_framing(network))
    if framing not in FRAMINGS:
        raise WeightsError(f"{_shown(path)} asks for framing {framing!r}, which fc7 doesn't know")
    return WeightsInfo(
        network=network,
        name=name,
        source=words.get("source", source),
        licence=words.get("licence", "unknown"),
        bytes=path.stat().st_size,
        sha256=_sha256(path),
        top1=_percent(words, "top1", path),
        top5=_percent(words, "top5", path),
        framing=framing,
        path=path,
    )


def _imagenet_info(network: str) -> WeightsInfo:
    """Describe torchvision's weights for a network, from torchvision's own table."""
    entry = models.get_model_weights(network).IMAGENET1K_V1
    accuracy = entry.meta["_metrics"]["ImageNet-1K"]
    path = _cache_path(entry.url)
    return WeightsInfo(
        network=network,
        name="imagenet",
        source=entry.url,
        licence="BSD-3-Clause (torchvision); trained on ImageNet, which has terms of its own",
        bytes=round(entry.meta["_file_size"] * 2**20),
        sha256=path.stem.rpartition("-")[2],
        top1=accuracy["acc@1"],
        top5=accuracy["acc@5"],
        framing="crop",
        path=path if path.is_file() else None,
    )


def _cache_path(url: str) -> Path:
    """Say where torch keeps its own download of a URL."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _percent(words: Mapping[str, str], key: str, path: Path) -> float | None:
    try:
        return float(words[key]) if key in words else None
    except ValueError as error:
        raise WeightsError(f"{_shown(path)}: its {key} is no number: {words[key]!r}") from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror}") from error


# Reading files


def _load(info: WeightsInfo, path: Path) -> LoadedWeights:
    """Read a file, expand it if it is compact, and check that it fits its network."""
    file = _read(path)
    tensors = file.tensors
    if file.metadata.get("format", "").startswith("fc7-compact"):
        tensors = unpack(tensors, file.metadata)
    # BatchNorm's counters are whole numbers; all else computes.
    state = {k: v if k.endswith(_COUNTER) else v.float() for k, v in tensors.items()}
    classes = _fit(state, info.network, _shown(path))
    return LoadedWeights(info, state, _class_names(file, classes, _shown(path)))


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _metadata(path: Path) -> dict[str, str]:
    """Read the words in a safetensors file; other files have none."""
    if not _is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} can't be read: {error}") from error


def _read(path: Path) -> _File:
    """Read all tensors of a file."""
    if not _is_safetensors(path):
        return _File(_read_pickled(path), {})
    metadata = _metadata(path)
    with safe_open(path, framework="pt") as file:
        return _File({key: file.get_tensor(key) for key in file.keys()}, metadata)  # noqa: SIM118


def _read_pickled(path: Path) -> dict[str, Tensor]:
    """Read a file that torch.save wrote, refusing whatever would need code to be run."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols; the answer here says it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make torch raise anything
        raise WeightsError(_why_unread(path, error)) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise WeightsError(f"{path} holds no state dict: save one with torch.save(m.state_dict())")
    # DataParallel puts a prefix before every name.
    return {str(key).removeprefix("module."): tensor for key, tensor in content.items()}


def _why_unread(path: Path, error: Exception) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code:
        return (
            f"{path} needs code to be loaded ({code[1]}), which fc7 refuses: save only its state "
            "dict, with torch.save(module.state_dict(), file)"
        )
    return f"{path} is damaged, or not a file of torch.save or safetensors"


# Checking


def _fit(state: dict[str, Tensor], network: str, file: str) -> int:
    """Check names and shapes against the network and return how many classes fc8 has.

    Any number of classes fits. BatchNorm's counters may be missing.
    """
    weight = state.get(f"{FC8}.weight")
    classes = weight.shape[0] if weight is not None and weight.ndim == 2 else 1000
    expected = {k: v.shape for k, v in build(network, classes).state_dict().items()}
    wrong = [
        *(f"missing {key}" for key in expected if key not in state and not key.endswith(_COUNTER)),
        *(
            f"{key} is {tuple(state[key].shape)}, should be {tuple(shape)}"
            for key, shape in expected.items()
            if key in state and state[key].shape != shape
        ),
        *(f"{key} is not one of its names" for key in state if key not in expected),
    ]
    if wrong:
        raise WeightsError(f"{file} doesn't fit {network}: {_first(wrong)}")
    return classes


def _first(wrong: list[str], shown: int = 3) -> str:
    more = len(wrong) - shown
    return "; ".join(wrong[:shown]) + (f"; and {more} more" if more > 0 else "")


def _class_names(file: _File, count: int, name: str) -> tuple[str, ...]:
    """Name fc8's classes: by the file's own words, else ImageNet's if there are 1000."""
    if "classes" in file.metadata:
        try:
            names = tuple(str(name) for name in json.loads(file.metadata["classes"]))
        except (ValueError, TypeError, RecursionError) as error:
            raise WeightsError(f"{name}: its list of classes is not JSON ({error})") from error
        if len(names) != count:
            raise WeightsError(f"{name} names {len(names)} classes, but its fc8 has {count}")
        return names
    if count == 1000:
        return tuple(models.AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
    return tuple(f"class {index}" for index in range(count))
