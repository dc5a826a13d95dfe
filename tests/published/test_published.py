# SPDX-License-Identifier: Apache-2.0
"""Published tables are read as they stand, in Markdown and in CSV, and their words become the right numbers."""

from pathlib import Path

import pytest

from benchmarks.published import cases
from benchmarks.published import table as published
from benchmarks.published.hardware import find, hardware, network_rate, parameters, ranks_per_node
from benchmarks.published.table import Point, parse_points, read_table
from hpc_dl.errors import HpcDlError

MARKDOWN = """
# Results
### Systems
| System | Accelerators per node | Intra-node | NIC per node | Topology | Tag |
|---|---|---|---|---|---|
| Made-up One | 4 x A100 | NVLink3 | 2 x Slingshot-11: 50 GB/s | dragonfly | V |

### Models
| Model | Parameters, M | fp32, MB |
|---|---|---|
| TinyNet | 10 | 40 |

### B7 Runs
| Row | System | Model | Software | Precision; local batch; mode | Points, unit in brackets | Source | Tag | Note |
|---|---|---|---|---|---|---|---|---|
| weak | Made-up One | TinyNet | Horovod | fp32; 64; weak | [img/s] 1: 640; 8: 4,608 (90 %); 16: n/s | here | V | |
| alone | Made-up One | TinyNet | Horovod | fp32; 64; weak | 32: 80.0 % | here | V | |
| strong | Made-up One | TinyNet | DDP | fp16; 64 -> 16; strong | [img/s] 4: 400; 16: 1200 | here | V | |
| nodes | Made-up One (nodes) | TinyNet | DDP | AMP; 8, accum 4/2; fixed | [tok/s/GPU] 1: 100; 2: 95 | here | V | |
| words | Made-up One | TinyNet | DDP | fp32; 64; weak | faster than before | here | V | |
| elsewhere | Nowhere | TinyNet | DDP | fp32; 64; weak | [img/s] 1: 10; 2: 19 | here | V | |
| split | Made-up One | TinyNet | Megatron TP2 | fp32; 64; weak | [img/s] 1: 10; 2: 19 | here | V | |
"""


@pytest.fixture
def table(tmp_path: Path) -> published.Table:
    path = tmp_path / "table.md"
    path.write_text(MARKDOWN)
    return read_table(path)


def test_points_with_rates_percentages_and_thousands() -> None:
    unit, points = parse_points("[img/s] 1: 134.4; 16: 2,022.6 (94.1 %)")
    assert unit == "img/s"
    assert points == (Point(1, 134.4, None), Point(16, 2022.6, pytest.approx(0.941)))
    assert parse_points("27,360: 90.7 %")[1] == (Point(27360, None, pytest.approx(0.907)),)
    assert parse_points("1/2/4 GPUs: 41.3 / 15.9 s")[1] == ()


def test_markdown_brings_its_systems_models_groups_and_cases(table: published.Table) -> None:
    built = cases.build(table)
    by_series = {case.series: case for case in built.cases}
    assert set(by_series) == {"weak", "alone", "strong", "nodes"}
    assert {case.group for case in built.cases} == {"B7"}
    assert built.excluded["words"] == "no points that can be read"
    assert "Nowhere" in built.excluded["elsewhere"]
    assert "not data-parallel alone" in built.excluded["split"]

    weak = by_series["weak"]
    assert (weak.base.ranks, weak.target.ranks, weak.target.nodes) == (1, 8, 2)
    assert weak.efficiency == pytest.approx(0.9)
    assert weak.step_seconds == pytest.approx(0.1)
    assert weak.wire_bytes == 40e6
    assert weak.hardware.network_bytes_per_second == 50e9

    alone = by_series["alone"]
    assert (alone.base.ranks, alone.efficiency) == (1, pytest.approx(0.8))
    assert alone.step_seconds == pytest.approx(0.1), "the one-rank rate comes from the row of the same system and model"

    strong = by_series["strong"]
    assert strong.target.local_batch_ratio == pytest.approx(0.25)
    assert strong.wire_bytes == 20e6
    assert strong.efficiency == pytest.approx(0.75)

    nodes = by_series["nodes"]
    assert (nodes.base.ranks, nodes.target.ranks) == (4, 8)
    assert (nodes.base.accumulation, nodes.target.accumulation) == (4, 2)
    assert nodes.efficiency == pytest.approx(0.95), "a rate per GPU is not divided by ranks again"
    assert nodes.assumed == ("tokens per step",)


def test_csv_says_the_same_as_markdown(table: published.Table, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "# a comment\n"
        "group,row,system,model,software,precision; local batch; mode,points,source,tag,note\n"
        'B7,weak,Made-up One,TinyNet,Horovod,fp32; 64; weak,"[img/s] 1: 640; 8: 4,608 (90 %)",here,V,\n'
    )
    assert read_table(path).series[0] == table.series[0]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.md"
    path.write_text("| a | b |\n|---|---|\n| 1 | 2 |\n")
    with pytest.raises(HpcDlError, match="no row of the known form"):
        read_table(path)
    with pytest.raises(HpcDlError, match="no such file"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "tcp", "gigabytes"),
    [
        ("1 x 25 GbE, RoCE-capable: 3.125 GB/s", False, 3.125),
        ("2 x Slingshot-10: 2 x 12.5 GB/s (M)", False, 25),
        ("8 x Slingshot-11: 160-200 GB/s, on the host side", False, 180),
        ("10 GbE (M)", True, 1.25),
        ("2 x FDR (M)", False, 13.6),
        ("1 x FDR IB 56 Gb/s = 6.8 GB/s (M), reached only through MPI; Ethernet about 24-25 Gb/s (M)", False, 6.8),
        ("1 x FDR IB 56 Gb/s = 6.8 GB/s (M), reached only through MPI; Ethernet about 24-25 Gb/s (M)", True, 3.125),
        ("4 x 100 Gb EFA: 50 GB/s", False, 50),
    ],
)
def test_network_rates(text: str, tcp: bool, gigabytes: float) -> None:
    assert network_rate(text, tcp) == pytest.approx(gigabytes * 1e9)
    assert network_rate("(one node only)") is None


def test_ranks_per_node_count_tiles_not_cards() -> None:
    assert ranks_per_node("6 x PVC = 12 tiles") == 12
    assert ranks_per_node("8 K80 dies") == 8
    assert ranks_per_node("as Aurora") is None


def test_a_test_system_counts_as_the_machine_it_copies() -> None:
    systems = published.known("systems")
    found = hardware("Sunspot (nodes)", "torchtitan", systems)
    assert found is not None
    assert (found.key, found.per_node) == ("Aurora", 12)
    azure = hardware("Azure-P40", "Horovod, NCCL over TCP", systems)
    assert azure is not None
    assert azure.tcp
    assert azure.network_bytes_per_second == 25e9 / 8


def test_models_are_found_by_their_variants() -> None:
    models = published.known("models")
    assert parameters("ResNet-50 v1.5", models) == 25.56e6
    assert parameters("EfficientNet v1-B0", models) == 5.3e6
    assert parameters("EfficientNet v2-S", models) == 21.5e6
    assert parameters("AuroraGPT-20B", models) == 20e9
    assert parameters("Virgo GAN", models) is None
    assert find("Virgo GAN", models) is None
