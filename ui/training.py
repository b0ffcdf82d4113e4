"""The commands that train: `fc7 split` and `fc7 train`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.errors import TrainingError
from ui.arguments import add_device, command, count
from ui.terminal import Progress, shown

if TYPE_CHECKING:
    from retrieval.training.loop import StepNote, TrainReport
    from retrieval.training.prepare import Asked
    from retrieval.training.runs import EpochRow

_SHOWN_BROKEN = 20
_PRESETS = {
    "fast": "short, one cycle (default)",
    "tune": "shorter, gentler (default with --from)",
    "alexnet": "as published in 2012",
    "vgg": "as published in 2014, S = 256",
    "vgg-jitter": "the same, S in 256..512",
    "adam": "Adam, 5 epochs, no crops",
}


def add_training_commands(commands: Any) -> None:
    """`fc7 split` and `fc7 train`."""
    one = command(commands, "split", split, "say which photos train and which validate, in a list")
    one.add_argument("data", type=Path, metavar="DATA", help="one folder a class")
    one.add_argument("--val", type=float, default=0.2, metavar="SHARE",
                     help="of each class that validates (default: 0.2)")  # fmt: skip
    one.add_argument("--seed", type=seed, default=0, help="another seed, another split")
    one.add_argument("--out", type=Path, default=Path("split.csv"), metavar="FILE",
                     help="the list: split,path,class (default: split.csv)")  # fmt: skip
    one.add_argument("--copy", type=Path, metavar="DIR",
                     help="copy the photos into DIR/train/CLASS and DIR/val/CLASS instead"
                     )  # fmt: skip

    one = command(commands, "train", train, "train or fine-tune a network on classes of your own")
    one.set_defaults(refuse=one.error)
    one.add_argument("data", type=Path, nargs="?", metavar="DATA",
                     help="one folder a class; or train and val folders of such; or a list made by "
                     "fc7 split")  # fmt: skip
    one.add_argument("--network", help="default: alexnet, or the one that --from is for")
    presets = ", ".join(f"{name} ({what})" for name, what in _PRESETS.items())
    one.add_argument("--preset", choices=tuple(_PRESETS), metavar="NAME", help=presets)
    one.add_argument("--epochs", type=count, metavar="N", help="default: the preset's")
    one.add_argument("--batch", type=count, metavar="N",
                     help="photos a step, over all processes (default: the preset's)")  # fmt: skip
    one.add_argument("--seed", type=seed, default=0, help="decides all that is left to chance")
    one.add_argument("--from", dest="start", metavar="NAME|FILE|RUN",
                     help="begin with bundled or imagenet weights, a file, or another run; a "
                     "deeper VGG takes a shallower one's layers")  # fmt: skip
    one.add_argument(
        "--freeze", choices=("conv",), help="leave the convolutional layers as they are"
    )
    one.add_argument("--colours", type=Path, metavar="RUN",
                     help="take the colour noise's components from another run")  # fmt: skip
    one.add_argument("--out", type=Path, metavar="RUN",
                     help="the run's folder (default: runs/NETWORK-PRESET)")  # fmt: skip
    one.add_argument("--resume", type=Path, metavar="RUN",
                     help="go on with a run; all but --device is in its folder")  # fmt: skip
    add_device(one)


def seed(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 on")
    return int(text)


def split(options: argparse.Namespace) -> int:
    from retrieval.training.runs import write_whole
    from retrieval.training.split import copy_photos, list_text, split_folder

    out: Path = options.out
    photos = split_folder(options.data, options.val, options.seed)
    training = sum(photo.split == "train" for photo in photos)
    numbers = f"{training:,} photos train, {len(photos) - training:,} validate"
    if options.copy:
        copy_photos(photos, options.data, options.copy)
        print(f"{shown(options.copy)}: {numbers}")
        return 0
    if out.exists():
        raise TrainingError(f"{out} is there already: name another list by --out")
    text = list_text(photos, out.parent).encode("utf-8", "surrogateescape")
    write_whole(out, lambda file: file.write(text))
    print(f"{shown(out)}: {numbers}, of {len({p.label for p in photos}):,} classes")
    return 0


def train(options: argparse.Namespace) -> int:
    from retrieval.training.loop import Listeners, resume
    from retrieval.training.loop import train as begin
    from retrieval.training.runs import SETTINGS

    if (options.data is None) == (options.resume is None):
        options.refuse("either DATA or --resume RUN is needed")
    folder = options.resume or _out(options)
    with Progress("bytes") as download, _Told() as told:
        tell = Listeners(told.step, told.epoch, download)
        try:
            if options.resume:
                report = resume(folder, options.device, tell)
            else:
                report = begin(_asked(options, folder), options.device, tell)
        except KeyboardInterrupt:
            told.close()
            if told.speaks:
                goes_on = f"go on by: fc7 train --resume {shown(folder)}"
                begun = (folder / SETTINGS).exists()
                print(f"fc7: stopped; {goes_on if begun else 'nothing began'}", file=sys.stderr)
            return 130
    if told.speaks:
        _print_report(report)
    return 0


def _asked(options: argparse.Namespace, folder: Path) -> Asked:
    from retrieval.training.prepare import Asked

    return Asked(
        data=options.data,
        out=folder,
        network=_network(options),
        preset=_preset(options),
        epochs=options.epochs,
        batch=options.batch,
        seed=options.seed,
        start=options.start,
        freeze_conv=options.freeze == "conv",
        colours=options.colours,
    )


def _network(options: argparse.Namespace) -> str:
    from retrieval.weights import DEFAULT_NETWORK, network_of

    if options.network is None and options.start is not None:
        return network_of(options.start)
    network: str = options.network or DEFAULT_NETWORK
    return network


def _preset(options: argparse.Namespace) -> str:
    return options.preset or ("tune" if options.start else "fast")


def _out(options: argparse.Namespace) -> Path:
    out: Path | None = options.out
    return out or Path("runs") / f"{_network(options)}-{_preset(options)}"


def _print_report(report: TrainReport) -> None:
    best = report.best
    training, validating = report.photos
    print(
        f"{report.epochs} epochs in {report.seconds / 60:.1f} minutes: {training:,} photos train, "
        f"{validating:,} validate"
    )
    print(f"best: epoch {best.epoch}, top-1 {best.val_top1:.2%}, top-5 {best.val_top5:.2%}")
    if report.broken:
        print(f"skipped {len(report.broken):,} photos that can't be used")
    for path, reason in report.broken[:_SHOWN_BROKEN]:
        print(f"    {shown(path)}: {reason}")
    if len(report.broken) > _SHOWN_BROKEN:
        print(f"    ... and {len(report.broken) - _SHOWN_BROKEN:,} more")
    print(f"use it: fc7 index PHOTOS --weights {shown(report.folder)}")


class _Told:
    """What a run tells: a line an epoch on stdout, a bar with the time left on stderr.

    Of several processes only the first one speaks.
    """

    def __init__(self) -> None:
        self.speaks = os.environ.get("RANK", "0") == "0"  # torchrun's number of this process
        self._bar: Any = None
        self._begun = False

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def step(self, note: StepNote) -> None:
        if not self.speaks:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=note.steps,
                initial=note.step - 1,
                unit=" steps",
                disable=None,  # off unless stderr is a terminal
                file=sys.stderr,
                dynamic_ncols=True,
            )
        self._bar.set_description(f"epoch {note.epoch}", refresh=False)
        self._bar.set_postfix(loss=f"{note.loss:.3f}", refresh=False)
        self._bar.update(note.step - self._bar.n)

    def epoch(self, row: EpochRow) -> None:
        if not self.speaks:
            return
        if self._bar is not None:
            self._bar.clear()
        if not self._begun:
            print("epoch     rate  train loss  top-1  top-5    val loss  top-1  top-5  seconds")
            self._begun = True
        print(
            f"{row.epoch:5}  {row.rate:7.2g}  {row.train_loss:10.4f} {row.train_top1:6.3f} "
            f"{row.train_top5:6.3f}  {row.val_loss:10.4f} {row.val_top1:6.3f} {row.val_top5:6.3f}  "
            f"{row.seconds:7.1f}",
            flush=True,
        )
