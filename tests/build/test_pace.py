"""`llmdeploy bench` with the real engine and a small model, in a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.build.conftest import Run

SMALL = ("--model", "smollm2-135m")


def test_a_model_is_measured_alone_and_several_at_once(run: Run, tmp_path: Path) -> None:
    done = run("bench", *SMALL, "--seconds", "16", "--price", "3.6", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [pace["at_once"] for pace in found["paces"]] == [1, 2, 4, 8]
    assert all(pace["answers"] >= pace["at_once"] for pace in found["paces"])
    costs = zip(found["paces"], found["rmb_per_million_tokens"], strict=True)
    answered = [(pace, cost) for pace, cost in costs if cost is not None]
    assert answered, "a busy machine may bring no token in four seconds, but not each time"
    for pace, cost in answered:
        assert 0 < pace["first"] <= pace["first_p99"]
        assert cost * pace["rate"] == pytest.approx(1000)  # 3.6 an hour are 0.001 a second
    assert found["machine"]["kernels"]
    assert found["machine"]["threads"] > 0
    assert 50 << 20 < found["memory"] < 4 << 30
    (tmp_path / "here.json").write_text(done.stdout, encoding="utf-8")
    joined = run("bench", "--join", tmp_path / "here.json", tmp_path / "here.json")
    assert joined.returncode == 0, joined.stderr
    assert len(joined.stdout.splitlines()) == 3
