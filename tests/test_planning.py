"""fc7 plan: its figures against figures worked by hand, and against what must hold of any plan."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from indexer.planning.figures import BITS, NETWORKS, IndexNeed, Plan, QueryCost, Setup
from indexer.planning.milvus import index_needs, lists_of, query_costs, rows_a_segment
from indexer.planning.plan import make_plan
from indexer.planning.rates import CODE_BYTES, Comparing, Rates, Reading, Storing, read_rates
from retrieval import networks
from retrieval.codes import BITS as CODERS_BITS
from retrieval.codes import shipped_coder
from retrieval.extractor import Extractor
from ui.cli import main

DOCS = Path(__file__).parent.parent / "docs" / "scaling.md"

# Round figures, so that a plan can be worked by hand: 40 + 10 core-ms to read a photo, 100 to
# describe it; 1 us for an FC7, 4 ns for a code of 256 bits; 1,000 and 10,000 rows/s into Milvus.
RATES = Rates(
    Reading("by hand", "alexnet", 8.0, 2.5, 0.040, 0.010, 0.100, None),
    Comparing("by hand", 1e-6, 4e-9 / 32, 1_000_000, 600, 0.98),
    Storing("by hand", 10_000.0, 1_000.0, 1_000.0, 10_000.0),
)


def values(plan: Plan) -> dict[str, float]:
    return {key: line.value for key, line in plan.figures().items()}


def needs(setup: Setup) -> dict[str, IndexNeed]:
    return {one.index: one for one in index_needs(setup)}


def costs(setup: Setup) -> dict[str, QueryCost]:
    return {one.index: one for one in query_costs(setup, RATES)}


# Worked by hand


def test_cores_that_read_too_slowly_decide_how_long_extraction_takes() -> None:
    plan = make_plan(Setup(36_000_000, gpus=2, cpus=100, gpu_rate=4_000), RATES)
    told = values(plan)
    assert told["read_rate"] == pytest.approx(2_000)  # 100 cores / 50 ms
    assert told["describe_rate"] == pytest.approx(8_000)
    assert told["hours"] == pytest.approx(5)  # 36 million / 2,000 / 3,600
    assert plan.bottleneck == "reading"
    assert told["reading_core_hours"] == pytest.approx(500)
    assert told["gpu_hours"] == pytest.approx(2.5)  # busy ...
    assert told["gpu_hours_held"] == pytest.approx(10)  # ... of those held
    assert told["cores_needed"] == 400
    assert told["gpus_needed"] == 1
    assert told["originals"] == pytest.approx(90e12)
    assert told["network_rate"] == pytest.approx(5e9)


def test_gpus_that_are_too_few_decide_it_instead() -> None:
    plan = make_plan(Setup(36_000_000, gpus=1, cpus=100, gpu_rate=500), RATES)
    assert plan.bottleneck == "the network"
    assert values(plan)["hours"] == pytest.approx(20)
    assert values(plan)["cores_needed"] == 25


def test_without_gpus_the_cores_read_and_describe_in_turn() -> None:
    plan = make_plan(Setup(36_000_000, gpus=0, cpus=150), RATES)
    assert values(plan)["hours"] == pytest.approx(10)  # 150 ms a photo on 150 cores: 1,000 a second
    assert plan.bottleneck == "the network"


def test_a_gpu_that_nobody_measured_is_assumed_from_its_flops_and_says_so() -> None:
    line = make_plan(Setup(10**6, network="vgg16"), RATES).figures()["gpu_rate"]
    assert line.value == pytest.approx(30e12 / (2 * 15.466e9))
    assert line.basis == "assumed"
    assert "30 TFLOP/s" in line.how
    assert "no GPU was ever measured" in line.how


def test_a_billion_photos_take_the_bytes_that_they_take() -> None:
    told = values(make_plan(Setup(10**9), RATES))
    assert told["codes_bytes"] == 32e9
    assert told["fc7_bytes"] == 8_192e9
    assert told["metadata_bytes"] == 1e12
    assert told["thumbnails_bytes"] == 10e12
    assert told["shards_bytes"] == 8_192e9 + 32e9 + 1e12


def test_milvus_holds_of_each_index_what_its_layout_says() -> None:
    found = needs(Setup(10**9))
    # beside its own, a row has an id of 8, a timestamp of 8, and 64 bytes of fields
    assert found["FLAT"].bytes_a_photo == 16_384 + 80
    assert found["HNSW"].bytes_a_photo == 16_384 + 128 + 80
    assert found["BIN_FLAT"].bytes_a_photo == 32 + 80
    assert found["DISKANN"].bytes_a_photo == pytest.approx(0.225 * 16_384 + 80)
    assert found["DISKANN"].disk == 20_480e9  # 16,384 + 57 x 4 bytes take five sectors
    # 512 MB hold 32,608.9 rows; 4 x sqrt of them are 722.3 centroids of 16,384 bytes
    assert found["IVF_FLAT"].bytes_a_photo == pytest.approx(16_384 + 362.9 + 8 + 80, abs=0.1)
    assert found["IVF_SQ8"].bytes_a_photo == pytest.approx(4_096 + 362.9 + 8 + 80, abs=0.1)
    assert found["IVF_PQ"].bytes_a_photo == pytest.approx(512 + 128.6 + 362.9 + 8 + 80, abs=0.1)


def test_nodes_are_filled_to_nine_tenths_and_counted_for_each_replica() -> None:
    # 10 million codes: 112 bytes x 1.2 = 1.344 GB; a node of 1 GB takes 0.9
    assert needs(Setup(10**7, node_memory=1e9, replicas=1))["BIN_FLAT"].nodes == 2
    assert needs(Setup(10**7, node_memory=1e9, replicas=3))["BIN_FLAT"].nodes == 6
    assert needs(Setup(1, node_memory=64e9, replicas=2))["HNSW"].nodes == 2


def test_a_query_reads_every_code_or_one_list_in_32_and_all_centroids() -> None:
    found = costs(Setup(10**9))
    flat, lists = found["BIN_FLAT"], found["BIN_IVF_FLAT"]
    assert (flat.rows, flat.bytes) == (10**9, 32e9)
    assert flat.core_seconds == pytest.approx(4)  # 4 ns each
    assert flat.cores == 40  # for an answer in a tenth of a second
    assert flat.bandwidth == pytest.approx(320e9)
    # 512 MB hold 4,793,490 rows of 112 bytes: 209 segments of 8,757.6 centroids
    assert lists.rows == pytest.approx(10**9 / 32 + 209 * 8_757.6, rel=1e-5)
    assert found["FLAT"].core_seconds == pytest.approx(1_000)


def test_codes_under_64_bits_take_as_long_as_those_of_64() -> None:
    seconds = [costs(Setup(10**9, bits=bits))["BIN_FLAT"].core_seconds for bits in BITS]
    assert seconds == pytest.approx([1, 1, 2, 4, 8])  # 32, 64, 128, 256, 512


def test_networks_of_fewer_numbers_take_as_much_less() -> None:
    plan = make_plan(Setup(10**9, network="alexnet-half"), RATES)
    assert values(plan)["fc7_bytes"] == 4_096e9
    assert values(plan)["compare_fc7"] == pytest.approx(0.5e-6)
    assert plan.figures()["compare_fc7"].basis == "computed"
    assert needs(plan.setup)["FLAT"].bytes_a_photo == 8_192 + 80


def test_loading_takes_as_long_as_the_rows_do_at_the_measured_rate() -> None:
    told = values(make_plan(Setup(36_000_000), RATES))
    assert told["load_codes_hours"] == pytest.approx(1)
    assert told["load_fc7_hours"] == pytest.approx(10)
    assert told["segments"] == 1_104  # of 32,608.9 rows


# What must hold of any plan

setups = st.builds(
    Setup,
    photos=st.integers(1, 10**12),
    gpus=st.integers(1, 1000),
    cpus=st.none() | st.integers(1, 100_000),
    bits=st.sampled_from(BITS),
    network=st.sampled_from(sorted(NETWORKS)),
    replicas=st.integers(1, 5),
    node_memory=st.floats(8e9, 4e12),
)


@settings(max_examples=60, deadline=None)
@given(setups)
def test_more_photos_never_cost_less(setup: Setup) -> None:
    less, more = make_plan(setup, RATES), make_plan(replace(setup, photos=2 * setup.photos), RATES)
    for key in ("hours", "reading_core_hours", "gpu_hours", "fc7_bytes", "load_fc7_hours"):
        assert values(more)[key] == pytest.approx(2 * values(less)[key])
    for few, many in zip(less.indexes, more.indexes, strict=True):
        assert few.nodes <= many.nodes <= 2 * few.nodes
    for few_, many_ in zip(less.queries, more.queries, strict=True):
        assert few_.core_seconds < many_.core_seconds


@settings(max_examples=60, deadline=None)
@given(setups)
def test_more_gpus_or_cores_never_take_longer_and_the_bottleneck_is_what_helps(
    setup: Setup,
) -> None:
    setup = replace(setup, cpus=setup.cpus or 500)
    plan = make_plan(setup, RATES)
    hours = values(plan)["hours"]
    gpus = values(make_plan(replace(setup, gpus=2 * setup.gpus), RATES))["hours"]
    cpus = values(make_plan(replace(setup, cpus=2 * (setup.cpus or 1)), RATES))["hours"]
    assert max(gpus, cpus) <= hours * (1 + 1e-9)
    helped = cpus if plan.bottleneck == "reading" else gpus
    assert helped < hours


@settings(max_examples=60, deadline=None)
@given(setups)
def test_the_balanced_numbers_of_cores_and_gpus_balance(setup: Setup) -> None:
    told = values(make_plan(setup, RATES))
    enough = values(make_plan(replace(setup, cpus=int(told["cores_needed"])), RATES))
    assert enough["read_rate"] >= enough["describe_rate"] * (1 - 1e-9)
    fitting = values(make_plan(replace(setup, gpus=int(told["gpus_needed"]),
                                       cpus=int(told["cores"])), RATES))  # fmt: skip
    assert fitting["describe_rate"] >= fitting["read_rate"] * (1 - 1e-9)


@settings(max_examples=60, deadline=None)
@given(setups)
def test_smaller_indexes_are_smaller_and_the_dearest_driver_comes_first(setup: Setup) -> None:
    memory = {one.index: one.memory for one in index_needs(setup)}
    assert memory["IVF_PQ"] < memory["IVF_SQ8"] < memory["FLAT"] < memory["HNSW"]
    assert memory["FLAT"] < memory["IVF_FLAT"]
    assert memory["DISKANN"] < memory["FLAT"]
    assert memory["BIN_FLAT"] < memory["BIN_IVF_FLAT"] < memory["IVF_PQ"]
    hours = [one.core_hours for one in make_plan(setup, RATES).drivers]
    assert hours == sorted(hours, reverse=True)


def test_longer_codes_take_more_and_everything_has_a_basis_and_a_reason() -> None:
    memory = [needs(Setup(10**9, bits=bits))["BIN_FLAT"].memory for bits in BITS]
    assert memory == sorted(memory)
    plan = make_plan(Setup(10**9), RATES)
    told = (*plan.figures().values(), *plan.indexes, *plan.queries, *plan.drivers)
    assert all(one.basis in ("measured", "computed", "assumed") and one.how for one in told)
    assert plan.figures()["decoding"].basis == "measured"


# What the tables of constants say, counted anew


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_multiplications_of_a_network_are_those_of_its_layers(network: str) -> None:
    count = 0

    def add(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal count
        if isinstance(layer, nn.Conv2d):
            side, other = layer.kernel_size
            count += out.numel() * (layer.in_channels // layer.groups) * side * other
        elif isinstance(layer, nn.Linear):
            count += layer.in_features * layer.out_features

    with torch.device("meta"):
        module = networks._TABLE[network].make(1000).eval()
        for layer in module.modules():
            layer.register_forward_hook(add)
        side = networks.input_side(network)
        module(torch.empty(1, 3, side, side))
    fc7 = networks.fc7_size(network)
    gmac, dims = NETWORKS[network]
    assert gmac == pytest.approx((count - 1000 * fc7) / 1e9, abs=6e-4)
    assert dims == fc7


def test_networks_and_lengths_of_codes_are_those_that_fc7_has(extractor: Extractor) -> None:
    assert set(NETWORKS) == set(networks.NETWORKS)
    assert BITS == CODERS_BITS
    coder = shipped_coder(extractor.network, extractor.stamp)
    assert coder is not None
    assert coder[0].bits == 8 * CODE_BYTES  # what bench search compares


def test_a_segment_of_milvus_holds_what_fits() -> None:
    assert rows_a_segment(16_384) == pytest.approx(536_870_912 / 16_464)
    assert lists_of(10_000) == 400


# Rates, from files


def index_figures(**changes: object) -> dict[str, object]:
    figures: dict[str, object] = {
        "network": "alexnet",
        "device": "cpu",
        "cores": 4,
        "mean_megapixels": 12.0,
        "mean_megabytes": 4.0,
        "decoding": 100.0,
        "computing": 200.0,
        "fc7": 50.0,
    }
    return figures | changes


def search_figures(*sizes: tuple[int, float, float]) -> dict[str, object]:
    rows = [
        {"photos": n, "exact_ms": e, "codes_ms": c, "shortlist": 400, "recall@10": 0.9}
        for n, e, c in sizes
    ]
    return {"rows": rows}


Write = Callable[[str, object], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def one(name: str, told: object) -> Path:
        (tmp_path / name).write_text(told if isinstance(told, str) else json.dumps(told))
        return tmp_path / name

    return one


def test_the_benches_output_takes_the_place_of_what_came_with_fc7(write: Write) -> None:
    files = [
        write("index.json", index_figures()),
        write("search.json", search_figures((10, 1.0, 1.0), (1_000, 3.0, 2.0), (3_000, 7.0, 2.4))),
    ]
    rates = read_rates("alexnet", files)
    assert rates.reading.decoding == pytest.approx(0.040)  # 4 cores, 100 photos/s
    assert rates.reading.beside == pytest.approx(0.020)  # 4 x (1/50 - 1/200 - 1/100)
    assert rates.reading.computing == pytest.approx(0.020)
    assert rates.comparing.fc7 == pytest.approx(2e-6)  # 4 ms for 2,000 rows more
    assert rates.comparing.code_byte == pytest.approx(0.4e-3 / 2_000 / 32)
    assert rates.storing == read_rates("alexnet").storing


def test_a_card_that_was_measured_is_no_assumption(write: Write) -> None:
    file = write("index.json", index_figures(device="cuda", computing=9_000.0, fc7=90.0))
    plan = make_plan(Setup(10**6, gpus=3), read_rates("alexnet", [file]))
    line = plan.figures()["gpu_rate"]
    assert (line.value, line.basis) == (9_000, "measured")
    assert str(file) in line.how


def test_rates_come_with_fc7_and_are_real() -> None:
    for network in NETWORKS:
        rates = read_rates(network)
        assert rates.reading.network == network
        assert 0.001 < rates.reading.decoding < 1
        assert 0 < rates.comparing.code_byte < 1e-8
    assert read_rates("alexnet").reading.computing is not None
    assert read_rates("vgg19").reading.computing is None  # not measured on cores


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ("nothing", "is not JSON"),
        ([1, 2], "holds neither the figures of fc7 bench index"),
        ({"help": 0.1}, "holds neither the figures of fc7 bench index"),
        (7, "lacks figures"),
        (index_figures(network="vgg16"), "measured with vgg16, the plan is for alexnet"),
        (index_figures(decoding=0), "lacks figures .* decoding is 0"),
        (index_figures(cores="many"), "lacks figures"),
        ({"decoding": 1.0}, "lacks figures"),
        (search_figures((10, 1.0, 1.0)), "holds one size of library"),
        (search_figures((10, 1.0, 1.0), (20, 0.9, 1.1)), "a larger library was no slower"),
        (search_figures((10, 1.0, 1.0), (10, 2.0, 2.0)), "lacks figures"),
    ],
)
def test_a_file_of_rates_that_is_none_is_told_in_a_line(
    told: object,
    line: str,
    write: Write,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write("rates.json", told)
    assert main(["plan", "--photos", "10", "--rates", str(file)]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"fc7: {file}")
    assert error.count("\n") == 1
    assert re.search(line, error)


# The command


@pytest.mark.parametrize(
    ("text", "photos"),
    [("1e9", 10**9), ("100M", 10**8), ("1_000_000", 10**6), ("2.5k", 2_500), ("1B", 10**9),
     ("1", 1), ("1.5e3", 1_500)],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(
    text: str, photos: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--photos", text, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["setup"]["photos"] == photos


@pytest.mark.parametrize(
    "text", ["0", "-5", "1.5", "many", "1e99", "nan", "inf", "", "1e-3", "_", "1MM", "1,000", "1 M"]
)
def test_what_is_no_number_of_photos_is_told_in_a_line(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["plan", f"--photos={text}"])
    assert left.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{text} is not a whole number like 1e9, 100M, 1_000_000" in last


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--bits", "100"), "codes have 32, 64, 128, 256, 512 bits, not 100"),
        (("--network", "resnet"), "unknown network 'resnet': choose one of alexnet"),
        (("--gpus", "0"), "say how many with --cpus"),
        (("--gpus", "0", "--cpus", "8", "--network", "vgg19"), "vgg19 was not measured on cores"),
        (("--rates", "nowhere.json"), "nowhere.json can't be read"),
    ],
)
def test_a_plan_that_can_not_be_is_told_in_a_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--photos", "1e6", *arguments]) == 1
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert line in error


def test_every_line_of_the_output_says_what_it_stands_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--photos", "1e9", "--gpus", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if re.match(r"  \w", line)]
    assert len(rows) > 40
    heads = {line.split()[0] for line in rows} - {"measured", "computed", "assumed"}
    assert heads <= {"nodes"}  # a heading's second line


def test_json_holds_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--photos", "1e9", "--gpus", "64", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    plan = make_plan(Setup(10**9, gpus=64), read_rates("alexnet"))
    assert {key: one["value"] for key, one in told["figures"].items()} == values(plan)
    assert [one["index"] for one in told["indexes"]] == [one.index for one in plan.indexes]
    assert told["bottleneck"] == plan.bottleneck
    assert all(math.isfinite(one["core_seconds"]) for one in told["queries"])


def test_the_documented_plan_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    block = re.search(r"```\n\$ fc7 (plan .*)\n((?:.*\n)+?)```", DOCS.read_text())
    assert block
    assert main(block[1].split()) == 0
    assert capsys.readouterr().out == block[2]
