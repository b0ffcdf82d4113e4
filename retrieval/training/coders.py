"""Learn binary codes from descriptors: the autoencoder, and the baselines it must beat.

    FC7 -> directions (PCA) -> encoder -> bits -> decoder -> directions

The encoder begins as ITQ's linear map, to which a small network adds a correction that begins at
zero; the decoder begins at zero. So training starts where the best linear codes end. The loss is
the squared error of reconstruction plus how far each photo's neighbours by code, within a batch,
are from its neighbours by Euclidean distance. Signs have no slope: it is taken to be 1 where an
activation is small, and 0 beyond (straight-through).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.codes import BITS, Coder
from retrieval.errors import CodesError
from retrieval.extractor import choose_device
from retrieval.search import itq_rotation, random_planes

Progress = Callable[[int, int], None]  # epochs done, epochs at most
_HELD_OUT = 20  # one descriptor in so many tells when to stop
_ITQ_ROWS = 50_000  # enough for a rotation
_PATIENCE = 3  # epochs without a better answer on them


@dataclass(frozen=True, slots=True)
class AutoencoderSettings:
    """How an autoencoder is trained; the defaults are those of the bundled ones."""

    directions: int = 2048  # principal directions that it sees
    hidden: int = 512  # neurons of the correction, and of the decoder
    epochs: int = 16  # at most
    batch: int = 1024
    rate: float = 1e-3  # AdamW's, at its highest
    neighbours: float = 3.0  # weight of the neighbours beside the reconstruction
    temperature: float = 0.03  # of the neighbours, in squared Euclidean distance


class _Autoencoder(nn.Module):
    """(n, k) -> bits -> (n, k)."""

    def __init__(self, linear: Tensor, hidden: int) -> None:
        """linear: (bits, k), the encoder to begin with."""
        super().__init__()
        bits, k = linear.shape
        self.linear = nn.Linear(k, bits)
        self.hidden = nn.Linear(k, hidden)
        self.correction = nn.Linear(hidden, bits, bias=False)
        self.decode = nn.Linear(bits, k)
        self.widen = nn.Linear(bits, hidden)
        self.refine = nn.Linear(hidden, k, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(2.5))  # of similarities by code; its logarithm
        with torch.no_grad():
            self.linear.weight.copy_(linear)
            self.linear.bias.zero_()
            self.decode.bias.zero_()
            for layer in (self.correction, self.decode, self.refine):
                layer.weight.zero_()

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes (n, bits) of -1 and 1, and what the decoder makes of them (n, k)."""
        soft = self.linear(y) + self.correction(torch.relu(self.hidden(y)))
        soft = soft.clamp(-1, 1)
        codes = soft + (torch.where(soft > 0, 1.0, -1.0) - soft).detach()
        return codes, self.decode(codes) + self.refine(torch.relu(self.widen(codes)))


def learn_autoencoder(
    descriptors: NDArray[np.floating],
    bits: int,
    settings: AutoencoderSettings | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Coder:
    """Learn a coder from descriptors (n, d); one in 20 is held out, and tells when to stop.

    Raises CodesError for a number of bits that is not one of 32, 64, 128, 256, 512, or more than
    the descriptors can teach; DeviceError.
    """
    if bits not in BITS:
        raise CodesError(f"{bits} bits: choose one of {', '.join(map(str, BITS))}")
    if len(descriptors) <= bits:
        raise CodesError(f"{len(descriptors)} photos are too few to learn {bits} bits from")
    settings = settings or AutoencoderSettings()
    torch.manual_seed(seed)
    x = torch.from_numpy(np.asarray(descriptors, np.float16))
    mean, directions = _principal(x, max(bits, settings.directions), seed)
    y = _project(x, mean, directions)
    scale = float(y.pow(2).mean().sqrt())
    y /= scale
    rotation = _rotation(y[:, :bits], seed)
    linear = nn.functional.pad(rotation, (0, y.shape[1] - bits))
    linear /= (y @ linear.T).std()
    held = torch.arange(len(y)) % _HELD_OUT == 0
    network = _Autoencoder(linear, settings.hidden).to(choose_device(device)[0])
    network = _fit(network, y[~held], y[held], settings, scale, progress)
    state = {k: v.float().cpu() for k, v in network.state_dict().items()}
    from_fc7 = directions / scale
    return Coder(
        mean=mean.numpy(),
        linear=(state["linear.weight"] @ from_fc7).numpy(),
        bias=state["linear.bias"].numpy(),
        hidden=(state["hidden.weight"] @ from_fc7).numpy(),
        hidden_bias=state["hidden.bias"].numpy(),
        correction=state["correction.weight"].numpy(),
    )


def _fit(
    network: _Autoencoder,
    y: Tensor,
    held: Tensor,
    settings: AutoencoderSettings,
    scale: float,
    progress: Progress | None,
) -> _Autoencoder:
    device = next(network.parameters()).device
    steps = settings.epochs * max(1, len(y) // settings.batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=max(steps, 2), pct_start=0.1
    )
    batch = min(settings.batch, len(y))
    best, best_state, since = float("inf"), deepcopy(network.state_dict()), 0
    for epoch in range(settings.epochs):
        order = torch.randperm(len(y))
        for i in range(0, len(y) - batch + 1, batch):
            loss = _loss(network, y[order[i : i + batch]].to(device), settings, scale)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            parts = [part.to(device) for part in _cut(held, batch) if len(part) > 1]
            now = float(np.mean([_loss(network, p, settings, scale).item() for p in parts]))
        since = 0 if now < best else since + 1
        if now < best:
            best, best_state = now, deepcopy(network.state_dict())
        if progress:
            progress(epoch + 1, settings.epochs)
        if since == _PATIENCE:
            break
    network.load_state_dict(best_state)
    return network


def _loss(network: _Autoencoder, y: Tensor, settings: AutoencoderSettings, scale: float) -> Tensor:
    codes, back = network(y)
    wrong = nn.functional.mse_loss(back, y)
    itself = torch.eye(len(y), dtype=torch.bool, device=y.device)
    near = -torch.cdist(y, y).pow(2) * (scale**2 / settings.temperature)
    alike = codes @ codes.T * (network.sharpness.exp() / codes.shape[1])
    target = near.masked_fill(itself, -1e4).log_softmax(dim=1)
    answer = alike.masked_fill(itself, -1e4).log_softmax(dim=1)
    apart = (target.exp() * (target - answer)).sum(dim=1).mean()
    loss: Tensor = wrong + settings.neighbours * apart
    return loss


# The baselines, all linear


def learn_itq(descriptors: NDArray[np.floating], bits: int, *, seed: int = 0) -> Coder:
    """Iterative quantisation (Gong and Lazebnik 2011): PCA, then a rotation towards the signs."""
    x = torch.from_numpy(np.asarray(descriptors, np.float16))
    mean, directions = _principal(x, bits, seed)
    return _linear(mean, _rotation(_project(x, mean, directions), seed) @ directions)


def learn_pca_signs(descriptors: NDArray[np.floating], bits: int, *, seed: int = 0) -> Coder:
    """The signs of the first principal components."""
    return _linear(*_principal(torch.from_numpy(np.asarray(descriptors, np.float16)), bits, seed))


def random_hyperplanes(descriptors: NDArray[np.floating], bits: int, *, seed: int = 0) -> Coder:
    """Locality-sensitive hashing (Charikar 2002): sides of random hyperplanes through the mean."""
    mean = torch.from_numpy(np.asarray(descriptors, np.float32).mean(axis=0))
    return _linear(mean, torch.from_numpy(random_planes(len(mean), bits, seed)))


def _linear(mean: Tensor, directions: Tensor) -> Coder:
    bits, width = directions.shape
    return Coder(
        mean=mean.numpy(),
        linear=directions.contiguous().numpy(),
        bias=np.zeros(bits, np.float32),
        hidden=np.zeros((0, width), np.float32),
        hidden_bias=np.zeros(0, np.float32),
        correction=np.zeros((bits, 0), np.float32),
    )


def _principal(x: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Mean (d,) and leading principal directions (k, d) of x (n, d) float16, k <= count."""
    torch.manual_seed(seed)
    mean = torch.zeros(x.shape[1])
    for part in _cut(x, 8192):
        mean += part.float().sum(dim=0)
    mean /= len(x)
    spread = torch.zeros(x.shape[1], x.shape[1])
    for part in _cut(x, 8192):
        centred = part.float() - mean
        spread += centred.T @ centred
    count = min(count, len(x) - 1, x.shape[1])
    directions = torch.svd_lowrank(spread, q=min(count + 32, x.shape[1]), niter=6)[0]
    return mean, directions[:, :count].T.contiguous()


def _project(x: Tensor, mean: Tensor, directions: Tensor) -> Tensor:
    return torch.cat([(part.float() - mean) @ directions.T for part in _cut(x, 8192)])


def _cut(rows: Tensor, size: int) -> tuple[Tensor, ...]:
    return tuple(rows[i : i + size] for i in range(0, len(rows), size))


def _rotation(y: Tensor, seed: int) -> Tensor:
    return torch.from_numpy(itq_rotation(y[:: -(-len(y) // _ITQ_ROWS)].numpy(), seed))
