"""What the image's own benchmark prints: figures of one machine, and of several in one table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from entrypoint.__main__ import _parser
from entrypoint.answers.results import Machine
from entrypoint.bench import figures
from entrypoint.bench.figures import Benchmark, Pace, Sample
from entrypoint.common.errors import ConfigFailure, UsageFailure

LAPTOP = Benchmark(
    machine=Machine("Ryzen 7", "haswell", 4, 8 << 30, 2, "0.2.0"),
    model="small",
    quantization="Q4_0",
    engine="llamacpp",
    memory=1 << 30,
    paces=(Pace(1, 9, 10.0, 0.25, 0.5), Pace(2, 12, 16.0, 0.4, 0.9)),
    price=1.44,
)
SERVER = replace(
    LAPTOP, machine=replace(LAPTOP.machine, cpu="EPYC 9R14"), paces=(Pace(1, 9, 50.0, 0.1, 0.1),)
)


def test_a_pace_is_all_tokens_by_all_the_time_and_the_middle_and_the_worst_wait() -> None:
    samples = [Sample(10, first / 100) for first in range(1, 201)]
    assert figures.pace(8, samples, 50.0) == Pace(8, 200, 40.0, 1.005, 1.98)


def test_what_did_not_begin_in_time_has_no_first_token() -> None:
    slow = figures.pace(1, [Sample(0, None)], 4.0)
    assert slow == Pace(1, 1, 0.0, None, None)
    assert LAPTOP.cost(slow) is None
    assert figures.table(replace(LAPTOP, paces=(slow,))).splitlines()[-1].split()[3:] == ["-"] * 3


def test_a_price_of_an_hour_is_one_of_a_million_tokens() -> None:
    assert LAPTOP.cost(LAPTOP.paces[0]) == pytest.approx(40)  # 36,000 tokens for 1.44
    assert replace(LAPTOP, price=None).cost(LAPTOP.paces[0]) is None


def test_a_table_says_of_which_machine_it_is() -> None:
    about, _empty, head, *rows = figures.table(LAPTOP).splitlines()
    assert about == "Ryzen 7, haswell, threads: 4; small Q4_0 (llamacpp); memory 1.0 GiB"
    assert head.endswith("RMB per million tokens")
    assert [row.split() for row in rows] == [
        ["1", "9", "10.0", "0.250", "0.500", "40.00"],
        ["2", "12", "16.0", "0.400", "0.900", "25.00"],
    ]
    assert "RMB" not in figures.table(replace(LAPTOP, price=None))


def test_what_was_printed_on_several_machines_becomes_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, found in (("a", LAPTOP), ("b", SERVER)):
        (tmp_path / name).write_text(figures.dump(found), encoding="utf-8")
        assert figures.load(tmp_path / name) == found
    arguments = _parser().parse_args(["bench", "--join", f"{tmp_path}/a", f"{tmp_path}/b"])
    arguments.run(arguments)
    head, first, second = capsys.readouterr().out.splitlines()
    assert "tokens/s, 2 at once" in head
    assert "EPYC 9R14" in first, "the faster one"
    assert first.split()[-6:] == ["50.0", "-", "0.100", "1.0", "GiB", "8.00"]
    assert second.split()[-6:] == ["10.0", "16.0", "0.250", "1.0", "GiB", "25.00"]


def test_the_price_stands_in_the_json_too() -> None:
    assert json.loads(figures.dump(LAPTOP))["rmb_per_million_tokens"] == pytest.approx([40, 25])


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"schema": 2}', b"\xff", b"[" * 100_000, b'{"schema": 1}']
)
def test_what_bench_did_not_print_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(ConfigFailure, match="odd"):
        figures.load(tmp_path / "odd")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFailure, match="gone cannot be read"):
        figures.load(tmp_path / "gone")


def test_what_lacks_a_pace_is_named(tmp_path: Path) -> None:
    (tmp_path / "none").write_text(figures.dump(replace(LAPTOP, paces=())), encoding="utf-8")
    with pytest.raises(ConfigFailure, match="none is not what bench"):
        figures.load(tmp_path / "none")


def test_joining_measures_nothing(tmp_path: Path) -> None:
    arguments = _parser().parse_args(["bench", "--join", f"{tmp_path}/a", "--price", "1"])
    with pytest.raises(UsageFailure, match="--join"):
        arguments.run(arguments)
