"""retrieval.weights and retrieval.download: files that fit, files that don't, and a real server."""

from __future__ import annotations

import hashlib
import json
import pickle
import socket
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from retrieval.download import download
from retrieval.errors import WeightsError
from retrieval.networks import NETWORKS, build
from retrieval.weights import WeightsInfo, load_imagenet, load_weights, stamp, weights_table

State = dict[str, Tensor]


def light_state(network: str, classes: int = 1000) -> State:
    """A state dict of the right shapes in a few bytes: every tensor repeats one number."""
    shapes = {key: value.shape for key, value in build(network, classes).state_dict().items()}
    return {k: torch.tensor(0.5).expand(shape) for k, shape in shapes.items()}


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch; returns where it keeps downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


# The table


def test_the_table_lists_torchvisions_weights_without_downloading(torch_home: Path) -> None:
    rows = {row.network: row for row in weights_table() if row.name == "imagenet"}
    assert set(rows) == {name for name in NETWORKS if name in models.list_models()}
    alexnet = rows["alexnet"]
    assert alexnet.source == models.AlexNet_Weights.IMAGENET1K_V1.url
    assert (alexnet.sha256, alexnet.top1, alexnet.top5) == ("7be5be79", 56.522, 79.066)
    assert alexnet.bytes == pytest.approx(244_408_911, rel=1e-4)
    assert all(row.path is None for row in rows.values())
    assert not torch_home.exists()


def test_the_table_finds_a_download_of_torchs_own(torch_home: Path) -> None:
    torch_home.mkdir(parents=True)
    file = torch_home / "alexnet-owt-7be5be79.pth"
    file.touch()
    rows = {row.network: row for row in weights_table() if row.name == "imagenet"}
    assert rows["alexnet"].path == file
    assert rows["vgg16"].path is None


# Files


@pytest.mark.parametrize("network", ["alexnet", "vgg16", "vgg19_bn"])
def test_a_state_dict_of_torchvisions_layout_loads(network: str, tmp_path: Path) -> None:
    torch.save(light_state(network), tmp_path / "own.pth")
    loaded = load_weights(network, str(tmp_path / "own.pth"))
    assert loaded.state_dict.keys() == build(network).state_dict().keys()
    assert loaded.classes[:2] == ("tench", "goldfish")
    assert len(loaded.classes) == 1000
    assert loaded.info.sha256 == hashlib.sha256((tmp_path / "own.pth").read_bytes()).hexdigest()


def test_a_safetensors_file_loads_with_its_words(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    state = {key: tensor.half().contiguous() for key, tensor in light_state("alexnet", 2).items()}
    words = {"framing": "squash", "classes": json.dumps(["cat", "dog"]), "licence": "CC0"}
    save_file(state, path, metadata=words)
    loaded = load_weights("alexnet", str(path))
    assert loaded.classes == ("cat", "dog")
    assert (loaded.info.framing, loaded.info.licence) == ("squash", "CC0")
    assert all(tensor.dtype == torch.float32 for tensor in loaded.state_dict.values())
    assert torch.equal(loaded.state_dict["classifier.6.bias"], torch.full((2,), 0.5))


def test_wrappers_of_training_scripts_are_taken_off(tmp_path: Path) -> None:
    state = {f"module.{key}": tensor for key, tensor in light_state("alexnet").items()}
    torch.save({"state_dict": state, "epoch": 90}, tmp_path / "checkpoint.pt")
    loaded = load_weights("alexnet", str(tmp_path / "checkpoint.pt"))
    assert "features.0.weight" in loaded.state_dict


def test_another_number_of_classes_fits(tmp_path: Path) -> None:
    torch.save(light_state("alexnet", 3), tmp_path / "own.pth")
    loaded = load_weights("alexnet", str(tmp_path / "own.pth"))
    assert loaded.classes == ("class 0", "class 1", "class 2")


def test_batchnorm_counters_may_be_missing(tmp_path: Path) -> None:
    state = light_state("vgg11_bn")
    kept = {key: tensor for key, tensor in state.items() if "num_batches_tracked" not in key}
    assert len(kept) < len(state)
    torch.save(kept, tmp_path / "old.pth")
    assert load_weights("vgg11_bn", str(tmp_path / "old.pth")).state_dict.keys() == kept.keys()


def test_another_networks_weights_are_refused_by_key_and_shape(tmp_path: Path) -> None:
    torch.save(light_state("vgg16"), tmp_path / "vgg16.pth")
    with pytest.raises(WeightsError) as error:
        load_weights("alexnet", str(tmp_path / "vgg16.pth"))
    message = str(error.value)
    assert message.startswith("vgg16.pth doesn't fit alexnet: missing ")
    assert "more" in message
    assert "\n" not in message


def test_a_missing_key_and_a_wrong_shape_are_named(tmp_path: Path) -> None:
    state = light_state("alexnet")
    del state["classifier.6.bias"]
    state["features.0.weight"] = torch.zeros(64, 3, 3, 3)
    state["extra"] = torch.zeros(1)
    torch.save(state, tmp_path / "own.pth")
    with pytest.raises(WeightsError) as error:
        load_weights("alexnet", str(tmp_path / "own.pth"))
    assert str(error.value) == (
        "own.pth doesn't fit alexnet: missing classifier.6.bias; features.0.weight is (64, 3, 3, "
        "3), should be (64, 3, 11, 11); extra is not one of its names"
    )


def test_a_file_made_for_another_network_says_so(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"network": "vgg16"})
    with pytest.raises(WeightsError, match=r"x\.safetensors is for vgg16, not alexnet"):
        load_weights("alexnet", str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("words", [{"framing": "stretch"}, {"top1": "good"}, {"top5": "nan%"}])
def test_words_that_make_no_sense_are_refused(words: dict[str, str], tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "own.safetensors", metadata=words)
    with pytest.raises(WeightsError, match=r"own\.safetensors"):
        load_weights("alexnet", str(tmp_path / "own.safetensors"))


@pytest.mark.parametrize("classes", ["7", '["cat"]'])
def test_class_names_that_do_not_fit_fc8_are_refused(classes: str, tmp_path: Path) -> None:
    state = {key: tensor.half().contiguous() for key, tensor in light_state("alexnet", 2).items()}
    save_file(state, tmp_path / "own.safetensors", metadata={"classes": classes})
    with pytest.raises(WeightsError, match=r"own\.safetensors.*classes"):
        load_weights("alexnet", str(tmp_path / "own.safetensors"))


class Burglar:
    """Unpickling it would write a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


def test_a_pickle_that_needs_code_is_refused_and_its_code_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"x": Burglar(trace)}, tmp_path / "evil.pth")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Burglar(trace), protocol=2))
    for name in ("evil.pth", "evil.pt"):
        with pytest.raises(WeightsError, match="needs code") as error:
            load_weights("alexnet", str(tmp_path / name))
        assert "\n" not in str(error.value)
    assert not trace.exists()


def test_a_whole_module_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(WeightsError, match=r"needs code to be loaded \(torch\.nn\..*Linear\)"):
        load_weights("alexnet", str(tmp_path / "module.pth"))


@pytest.mark.parametrize("name", ["own.pth", "own.safetensors"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "text"])
def test_a_damaged_file_is_refused(name: str, damage: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(light_state("alexnet"), path)
    else:
        save_file({"x": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    noise = bytes((17 * i + i // 7) % 256 for i in range(4000))
    ways = {"empty": b"", "cut": whole[: len(whole) // 2], "noise": noise, "text": b"<html>no"}
    path.write_bytes(ways[damage])
    with pytest.raises(WeightsError, match=name) as error:
        load_weights("alexnet", str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"state_dict": {"a": "b"}}, {1: 2}])
def test_a_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "own.pth")
    with pytest.raises(WeightsError, match="holds no state dict"):
        load_weights("alexnet", str(tmp_path / "own.pth"))


def test_names_that_nobody_knows_are_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"unknown network 'resnet18'.*alexnet, vgg11"):
        load_weights("resnet18")
    with pytest.raises(WeightsError, match=r"no weights file .*nowhere"):
        load_weights("alexnet", str(tmp_path / "nowhere.pth"))
    with pytest.raises(WeightsError, match=r"no bundled weights for vgg19_bn.*imagenet"):
        load_weights("vgg19_bn", "bundled")


def test_the_stamp_follows_content_and_not_the_name_of_the_file(tmp_path: Path) -> None:
    torch.save(light_state("alexnet"), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes((tmp_path / "a.pth").read_bytes())
    torch.save(light_state("alexnet", 10), tmp_path / "c.pth")
    infos = [load_weights("alexnet", str(tmp_path / f"{name}.pth")).info for name in "abc"]
    a, b, c = (stamp(info) for info in infos)
    assert a == b != c
    assert len(a) == 64


# Downloads


class Truncating(BaseHTTPRequestHandler):
    """Promises more than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"x" * 600)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(handler: object) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:  # type: ignore[arg-type]
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


@pytest.fixture
def host(shelf: Path) -> Iterator[str]:
    """A server of the files on the shelf."""
    yield from serve(partial(Quiet, directory=str(shelf)))


@pytest.fixture
def breaking_host() -> Iterator[str]:
    yield from serve(Truncating)


def publish(shelf: Path, host: str, network: str = "alexnet") -> WeightsInfo:
    """Put weights on the shelf as torchvision publishes them; returns their row of the table."""
    torch.save(light_state(network), shelf / "new.pth")
    digest = hashlib.sha256((shelf / "new.pth").read_bytes()).hexdigest()
    name = f"{network}-{digest[:8]}.pth"
    (shelf / "new.pth").rename(shelf / name)
    return WeightsInfo(
        network=network,
        name="imagenet",
        source=f"{host}/{name}",
        licence="",
        bytes=0,
        sha256=digest[:8],
        top1=None,
        top5=None,
        framing="crop",
        path=None,
    )


def test_a_download_comes_once_with_progress_and_stays(
    shelf: Path, host: str, torch_home: Path
) -> None:
    info = publish(shelf, host)
    told: list[tuple[int, int]] = []
    first = load_imagenet(info, lambda done, total: told.append((done, total)))
    size = (torch_home / Path(info.source).name).stat().st_size
    assert told[-1] == (size, size)
    assert first.info.bytes == size
    assert first.info.sha256.startswith(info.sha256)
    assert len(first.info.sha256) == 64
    for file in shelf.iterdir():
        file.unlink()  # a second download would fail
    assert load_imagenet(info).info == first.info
    assert [path.name for path in torch_home.iterdir()] == [Path(info.source).name]


def test_a_download_with_a_wrong_checksum_leaves_nothing(shelf: Path, host: str) -> None:
    (shelf / "a.pth").write_bytes(b"not what was promised")
    target = shelf.parent / "cache" / "a.pth"
    with pytest.raises(WeightsError, match=r"sha256 begins [0-9a-f]{8}, expected 00000000"):
        download(f"{host}/a.pth", target, "00000000")
    assert list(target.parent.iterdir()) == []


def test_a_damaged_download_in_the_cache_is_refused(
    shelf: Path, host: str, torch_home: Path
) -> None:
    info = publish(shelf, host)
    torch_home.mkdir(parents=True)
    (torch_home / Path(info.source).name).write_bytes(b"half a file")
    with pytest.raises(WeightsError, match=r"is damaged.*Delete it"):
        load_imagenet(info)


def test_an_unreachable_host_is_named_with_the_ways_out(tmp_path: Path) -> None:
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(WeightsError) as error:
            download(f"http://127.0.0.1:{port}/a.pth", tmp_path / "a.pth", "")
    assert str(error.value) == (
        f"could not reach 127.0.0.1:{port}: Connection refused. Use --weights bundled (works "
        f"offline), or put the file at {tmp_path / 'a.pth'}"
    )


def test_a_file_that_the_host_has_not_is_told(host: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="it answered 404"):
        download(f"{host}/a.pth", tmp_path / "cache" / "a.pth", "")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_connection_that_breaks_off_leaves_nothing(breaking_host: str, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "a.pth"
    with pytest.raises(WeightsError, match="broke off 400 bytes before the end"):
        download(f"{breaking_host}/a.pth", target, "")
    assert list(target.parent.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_host(
    shelf: Path, host: str, tmp_path: Path
) -> None:
    (shelf / "a.pth").write_bytes(b"x")
    (tmp_path / "cache").write_bytes(b"a file where a folder should be")
    with pytest.raises(WeightsError, match="could not write"):
        download(f"{host}/a.pth", tmp_path / "cache" / "a.pth", "")
