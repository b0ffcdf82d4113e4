"""Runs: what they learn, what they leave behind, and that nothing is lost when they are killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from retrieval.errors import TrainingError
from retrieval.extractor import Extractor
from retrieval.images import read_photo
from retrieval.networks import build
from retrieval.training.loop import Listeners, resume, train
from retrieval.training.prepare import Asked, prepare
from retrieval.training.ranks import Ranks
from retrieval.training.runs import EpochRow, read_run
from retrieval.training.split import read_list
from retrieval.training.start import begin, take_shallow
from retrieval.weights import load_weights
from ui.cli import main

HOUSE = Path(__file__).parent.parent


def draw_shape(path: Path, kind: str, seed: int) -> None:
    """A light disc, square or cross of any place and size on a dark ground, or its negative."""
    chance = np.random.default_rng([seed, len(kind)])
    image = Image.new("RGB", (32, 32), tuple(chance.integers(0, 90, 3).tolist()))
    pen, light = ImageDraw.Draw(image), tuple(chance.integers(160, 256, 3).tolist())
    size = int(chance.integers(12, 20))
    x, y = (int(v) for v in chance.integers(2, 30 - size, 2))
    if kind == "disc":
        pen.ellipse((x, y, x + size, y + size), fill=light)
    elif kind == "square":
        pen.rectangle((x, y, x + size, y + size), fill=light)
    else:
        pen.line((x, y, x + size, y + size), fill=light, width=4)
        pen.line((x + size, y, x, y + size), fill=light, width=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 drawn shapes of three classes."""
    folder = tmp_path_factory.mktemp("shapes")
    for kind in ("disc", "square", "cross"):
        for seed in range(20):
            draw_shape(folder / kind / f"{seed}.png", kind, seed)
    return folder


def asked(data: Path, out: Path, **others: object) -> Asked:
    """Three epochs of three steps of a small network."""
    usual = Asked(data, out, "alexnet-cifar", "fast", epochs=3, batch=16)
    return replace(usual, **others)  # type: ignore[arg-type]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    network: dict[str, torch.Tensor] = torch.load(run / "last.pt", weights_only=True)["network"]
    return network


def change_recipe(run: Path, **numbers: object) -> None:
    settings = json.loads((run / "settings.json").read_text())
    settings["recipe"] |= numbers
    (run / "settings.json").write_text(json.dumps(settings))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log_of(run: Path) -> list[dict[str, str]]:
    """The log, less what a clock decides."""
    rows = csv.DictReader((run / "log.csv").read_text().splitlines())
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def unbroken(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    train(asked(shapes, run), "cpu")
    return run


# A real run that kills itself at the n-th time that it comes by a point. It saves at each step.
RUN = """
import os, signal, sys
from pathlib import Path
from retrieval.training import loop
from retrieval.training.prepare import Asked

data, out, point, when = sys.argv[1:]
left = int(when)
loop._SAVE_SECONDS = -1.0

def dying(function):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call

if point == "step":         # within an epoch, after a checkpoint within it
    loop._Trainer._take_step = dying(loop._Trainer._take_step)
elif point == "checkpoint": # the best weights are written, the checkpoint is not
    loop.write_checkpoint = dying(loop.write_checkpoint)
loop.train(Asked(Path(data), Path(out), "alexnet-cifar", "fast", epochs=3, batch=16), "cpu")
"""


@pytest.mark.parametrize(("point", "when"), [("step", 4), ("checkpoint", 5)])
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    shapes: Path, unbroken: Path, tmp_path: Path, point: str, when: int
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", RUN, str(shapes), str(run), point, str(when)]
    killed = subprocess.run(command, check=False, cwd=HOUSE)
    assert killed.returncode == -signal.SIGKILL
    assert len(log_of(run)) == 1  # it was in its second epoch
    report = resume(run, "cpu")
    assert report.epochs == 3
    assert same(weights_of(run), weights_of(unbroken))
    assert same(*(load_file(folder / "best.safetensors") for folder in (run, unbroken)))
    assert log_of(run) == log_of(unbroken)


def test_a_run_leaves_its_log_its_curves_and_a_network_to_use(shapes: Path, unbroken: Path) -> None:
    rows = log_of(unbroken)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    best = max(rows, key=lambda row: float(row["val_top1"]))
    with safe_open(unbroken / "best.safetensors", "pt") as file:
        words = file.metadata()
    assert words["network"] == "alexnet-cifar"
    assert json.loads(words["classes"]) == ["cross", "disc", "square"]
    extractor = Extractor(weights=str(unbroken), device="cpu")
    val = [photo for photo in read_list(unbroken / "data.csv") if photo.split == "val"]
    pixels = np.stack([read_photo(photo.path)[0] for photo in val])
    said = extractor.describe(pixels).probabilities.argmax(axis=1)
    right = np.mean([extractor.classes[i] == p.label for i, p in zip(said, val, strict=True)])
    assert right == pytest.approx(float(best["val_top1"]), abs=1e-5)
    events = EventAccumulator(str(unbroken))
    events.Reload()
    assert [e.value for e in events.Scalars("loss/validation")] == pytest.approx(
        [float(row["val_loss"]) for row in rows], rel=1e-4
    )
    with Image.open(unbroken / "curves.png") as curves:
        assert curves.size == (1200, 400)
    settings = json.loads((unbroken / "settings.json").read_text())
    assert settings["recipe"]["batch"] == 16
    assert settings["versions"]["torch"] == torch.__version__.split("+")[0]


def test_a_finished_run_that_is_resumed_stays_as_it_is(unbroken: Path) -> None:
    before = weights_of(unbroken)
    assert resume(unbroken, "cpu").epochs == 3
    assert same(weights_of(unbroken), before)


def test_a_small_set_is_learned_by_heart(shapes: Path, tmp_path: Path) -> None:
    run, rows = tmp_path / "run", list[EpochRow]()
    prepare(asked(shapes, run, preset="adam", epochs=10, batch=8))
    change_recipe(run, dropout=0.0, rate=0.0003)
    report = resume(run, "cpu", Listeners(epoch=rows.append))
    assert report.photos == (48, 12)
    assert rows[-1].train_loss < 0.2 < rows[0].train_loss
    assert rows[-1].train_top1 == 1.0
    assert report.best.val_top1 > 0.8


# In float32, where rounding is too small to hide a mistake.
EXACT = """
import sys
from pathlib import Path
from retrieval.training import loop

loop.has_bfloat16 = lambda: False
loop.resume(Path(sys.argv[1]), "cpu")
"""


def test_two_processes_take_the_steps_of_one(shapes: Path, tmp_path: Path) -> None:
    one, two, script = tmp_path / "one", tmp_path / "two", tmp_path / "exact.py"
    script.write_text(EXACT)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HOUSE)}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for run, python in ((one, [sys.executable]), (two, launch)):
        prepare(asked(shapes, run, network="alexnet-half", preset="alexnet", epochs=1, batch=16))
        change_recipe(run, dropout=0.0)  # which neurons are dropped differs by process
        command = [*python, str(script), str(run)]
        subprocess.run(command, check=True, env=environment, capture_output=True)
    begun = begin("alexnet-half", ("cross", "disc", "square"), seed=0, start=None).state_dict()
    alone, together = weights_of(one), weights_of(two)
    for name, first in begun.items():
        moved, apart = (alone[name] - first).norm(), (alone[name] - together[name]).norm()
        assert apart < 0.001 * moved, name
    (mine,), (theirs,) = log_of(one), log_of(two)
    assert theirs.keys() == mine.keys()
    for column, value in mine.items():
        assert float(theirs[column]) == pytest.approx(float(value), rel=1e-3), column


def test_processes_share_a_batch_without_overlap() -> None:
    batch = np.arange(40, 52)
    shares = [Ranks(rank, 3, torch.device("cpu")).share(batch) for rank in range(3)]
    assert sorted(np.concatenate(shares)) == list(batch)
    assert {len(share) for share in shares} == {4}
    with pytest.raises(TrainingError, match="shared by 3 processes"):
        Ranks(0, 3, torch.device("cpu")).check_batch(128)


def test_frozen_layers_stay_and_the_others_learn(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(
        asked(shapes, run, network="alexnet", start="bundled", freeze_conv=True, epochs=1),
        "cpu",
    )
    bundled = load_weights("alexnet").state_dict
    learned = load_weights(None, str(run)).state_dict
    for name, tensor in learned.items():
        kept = bundled[name].shape == tensor.shape and torch.equal(tensor, bundled[name])
        assert kept == name.startswith("features."), name
    assert (learned["classifier.1.weight"] - bundled["classifier.1.weight"]).norm() < 1


def test_a_deeper_vgg_begins_with_the_layers_that_its_paper_names() -> None:
    """A's conv1-1, 2-1, 3-1 and 3-2 are features 0, 3, 6, 8; D's are features 0, 5, 10, 12."""
    shallow, deep = build("vgg11", 2), build("vgg16", 2).to_empty(device="cpu")
    learned = {
        name: torch.full(tensor.shape, number + 1.0)
        for number, (name, tensor) in enumerate(shallow.state_dict().items())
    }
    for tensor in deep.state_dict().values():
        tensor.zero_()
    take_shallow(deep, shallow, learned)
    places = {0: 0, 5: 3, 10: 6, 12: 8}
    for name, tensor in deep.state_dict().items():
        part, place, what = name.split(".")
        expected = 0.0
        if part == "classifier":
            expected = float(learned[name].flatten()[0])
        elif int(place) in places:
            expected = float(learned[f"features.{places[int(place)]}.{what}"].flatten()[0])
        assert (float(tensor.min()), float(tensor.max())) == (expected, expected), name


def test_fc8_is_taken_over_only_for_the_same_classes(unbroken: Path) -> None:
    learned = load_weights(None, str(unbroken)).state_dict
    same = begin("alexnet-cifar", ("cross", "disc", "square"), seed=5, start=str(unbroken))
    others = begin("alexnet-cifar", ("a", "b", "c"), seed=5, start=str(unbroken))
    for name, tensor in others.state_dict().items():
        assert torch.equal(same.state_dict()[name], learned[name])
        assert torch.equal(tensor, learned[name]) != name.startswith("classifier.6"), name
    with pytest.raises(TrainingError, match="only a VGG network"):
        begin("alexnet", ("a", "b"), seed=0, start=str(unbroken))


def test_a_loss_that_overflows_ends_the_run_in_a_line(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    prepare(asked(shapes, run))
    change_recipe(run, rate=1e30, schedule="constant")
    with pytest.raises(TrainingError, match="no finite number any more"):
        resume(run, "cpu")
    assert not (run / "best.safetensors").exists()


def test_the_command_trains_refuses_and_goes_on(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], draw: Callable[..., Path]
) -> None:
    out = str(tmp_path / "run")
    command = ["train", str(shapes), "--network", "alexnet-cifar", "--preset", "adam"]
    command += ["--epochs", "1", "--out", out, "--device", "cpu"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "48 photos train, 12 validate" in said.out
    assert f"fc7 index PHOTOS --weights {out}" in said.out
    assert main(command) == 1
    assert "--resume" in capsys.readouterr().err
    assert main(["train", "--resume", out]) == 0
    assert main(["train", "--resume", str(tmp_path / "nowhere")]) == 1
    assert main(["train", str(shapes), "--freeze", "conv", "--out", f"{out}2"]) == 1
    assert "--from" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train"])
    photo = draw(tmp_path / "photo.png", 1)
    assert main(["labels", str(photo), "--weights", out]) == 0
    assert "cross" in capsys.readouterr().out


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_a_run_that_goes_on(shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ui.cli", "train", str(shapes), "--out", str(run)]
    command += ["--network", "alexnet-cifar", "--epochs", "100", "--device", "cpu"]
    # What a shell runs in the background ignores Ctrl-C, and so would what it starts.
    with (
        heeding_ctrl_c(),
        subprocess.Popen(command, cwd=HOUSE, stdout=-1, stderr=-1, text=True) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()  # the head
        process.stdout.readline()  # an epoch
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == f"fc7: stopped; go on by: fc7 train --resume {run}\n"
    assert read_run(run)[0].network == "alexnet-cifar"
    assert weights_of(run)
