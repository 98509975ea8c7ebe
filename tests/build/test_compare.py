"""A real model as the judge: of the image, and behind the API that it is served with."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest

Start = Callable[..., "Popen[str]"]
Run = Callable[..., "CompletedProcess[str]"]

COMPARISON = Path(__file__).parents[1] / "unit/comparison"
JUDGE = "smollm2-135m"
VERDICTS = 10  # two orders of two questions, the one in three dimensions, the other in two


def compare(run: Run, output: Path, *words: str) -> dict[str, Any]:
    runs = [output / name for name in ("qwen.jsonl", "smol.jsonl")]
    for path in runs:
        lines = (COMPARISON / path.stem / "answers.jsonl").read_text().splitlines(keepends=True)
        path.write_text("".join(lines[:2]))
    listed = ("--questions", COMPARISON / "list.toml")
    done = run("compare", *runs, *listed, "--output", output, "--judge", JUDGE, *words)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    judging: dict[str, Any] = json.loads((output / "report.json").read_text())["judging"]
    assert judging["verdicts"] == VERDICTS
    undecided = VERDICTS // 2 - judging["pairs"]
    assert judging["unclear"] + judging["refused"] >= undecided
    return judging


def test_what_a_real_judge_says_is_counted_kept_and_not_asked_again(
    run: Run, tmp_path: Path
) -> None:
    first = compare(run, tmp_path)
    assert (first["reused"], first["failed"]) == (0, 0)
    again = compare(run, tmp_path)
    assert again == {**first, "reused": VERDICTS}
    kept = (tmp_path / "verdicts.jsonl").read_text().splitlines()
    assert [json.loads(line)["judge"].split()[0] for line in kept] == [JUDGE] * VERDICTS


@pytest.fixture
def served(start: Start) -> Iterator[str]:
    """Return the address of the judge's API."""
    with start("serve", "--model", JUDGE, "--port", "0") as process:
        assert process.stderr
        told: dict[str, Any] = {}
        try:
            while told.get("event") != "model loaded":
                told |= json.loads(process.stderr.readline())
            yield f"http://127.0.0.1:{told['port']}/v1"
        finally:
            process.terminate()


def test_a_judge_can_be_served_elsewhere(run: Run, served: str, tmp_path: Path) -> None:
    told = compare(run, tmp_path, "--judge-endpoint", served)
    assert told["judge"] == f"{JUDGE} {served}"
    assert told["failed"] == 0
