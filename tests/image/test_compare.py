"""The real thing: both models answer the tutorial's questions, and the image compares them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

Run = Callable[..., CompletedProcess[str]]
MODELS = ("qwen2.5-coder-0.5b", "smollm2-135m")


def test_the_model_that_speaks_chinese_is_ahead_on_the_chinese_questions(
    run: Run, tmp_path: Path
) -> None:
    mounted = ["-v", f"{tmp_path}:/runs", "--user", f"{os.getuid()}:{os.getgid()}"]
    chosen = [word for name in MODELS for word in ("--model", name)]
    asked = run("battery", *chosen, "--max-tokens", "96", "--output", "/runs/both", flags=mounted)
    assert asked.returncode == 0, asked.stderr
    compared = run("compare", "/runs/both", "-o", "/runs/report", "--lang", "zh", flags=mounted)
    assert (compared.returncode, compared.stderr) == (0, "")
    assert compared.stdout == "/runs/report/report.html\n"

    report = json.loads((tmp_path / "report/report.json").read_text())
    assert [each["name"] for each in report["contenders"]] == [*MODELS]
    assert len(report["questions"]) == 10
    points = {
        dimension["name"]: [score["counted"]["passed"] for score in dimension["scores"]]
        for dimension in report["dimensions"]
        if dimension["name"] != "fluency"  # which only a judge or a person can tell
    }
    assert set(points) == {"all", "form", "hard", "humour", "accuracy", "logic"}
    for qwen, smol in points.values():
        assert qwen >= smol
    qwen, smol = (points["all"][place] + points["form"][place] for place in (0, 1))
    assert qwen > smol + 5
    (dice,) = (each for each in report["questions"] if each["id"] == "dice")
    (program,) = (check for check in dice["replies"][0]["checks"] if check["kind"] == "program")
    assert program["passed"] is not None, "the image's sandbox runs the program of the answer"
    (advice, *_more) = (each for each in report["findings"] if each["kind"] == "advice")
    assert advice["contender"] == MODELS[0]
    page = (tmp_path / "report/report.html").read_text()
    assert '<html lang="zh-CN">' in page
    assert "smollm2-135m" in (tmp_path / "report/report.md").read_text()
