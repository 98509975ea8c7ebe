"""The battery with the real engine and both models, killed and interrupted for real."""

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest

from entrypoint import catalog, questions

Start = Callable[..., "Popen[str]"]
Run = Callable[..., "CompletedProcess[str]"]

SMALL = ("battery", "--model", "smollm2-135m", "--max-tokens", "32")


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the whole lines of answers.jsonl, which may be growing."""
    path = folder / "answers.jsonl"
    content = path.read_text(errors="replace") if path.exists() else ""  # may end in mid-character
    return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith("\n")]


def wait_for(count: int, folder: Path, process: "Popen[str]") -> None:
    while len(lines(folder)) < count:
        assert process.poll() is None
        time.sleep(0.01)


def engines(folder: Path) -> list[str]:
    """Return the servers that have a model open in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[0].endswith("llama-server") and any(str(folder) in word for word in words):
            found.append(process.name)
    return found


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of a battery that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert run(*SMALL, "--output", folder).returncode == 0
    return folder


def test_both_models_answer_the_ten_questions(run: Run, models_dir: Path, tmp_path: Path) -> None:
    names = ("smollm2-135m", "qwen2.5-coder-0.5b")
    chosen = [word for name in names for word in ("--model", name)]
    done = run("battery", *chosen, "--max-tokens", "8", "--output", tmp_path)
    assert done.returncode == 0
    assert re.findall(r"^问题(\d+)：$", done.stdout, re.MULTILINE) == [
        str(n) for _ in names for n in range(1, 11)
    ]
    assert re.findall(r"^(\d+/20)  [\d.]+ tok/s  \d+ s left$", done.stderr, re.MULTILINE) == [
        f"{n}/20" for n in range(1, 21)
    ]
    answers = lines(tmp_path)
    known = catalog.load(models_dir)
    asked = [(name, question) for name in names for question in questions.load()]
    for answer, (name, question) in zip(answers, asked, strict=True):
        assert (answer["model"], answer["id"]) == (name, question.id)
        assert answer["sha256"] == known.find(name).files[0].sha256
        assert answer["answer"] in done.stdout
        assert 1 <= answer["completion_tokens"] <= 8
        assert answer["finish_reason"] in {"stop", "length"}
    assert any("深度学习" in answer["answer"] for answer in answers)


def test_killed_and_started_again_it_ends_with_the_same_answers(
    start: Start, run: Run, whole: Path, models_dir: Path, tmp_path: Path
) -> None:
    with start(*SMALL, "--output", tmp_path) as process:
        wait_for(3, tmp_path, process)
        process.kill()
    kept = lines(tmp_path)
    assert 3 <= len(kept) < 10
    while engines(models_dir):  # the kernel kills the engine with its parent
        time.sleep(0.01)
    again = run(*SMALL, "--output", tmp_path)
    assert again.returncode == 0
    assert again.stderr.count("tok/s") == 10 - len(kept)
    assert lines(tmp_path)[: len(kept)] == kept
    assert [each["answer"] for each in lines(tmp_path)] == [each["answer"] for each in lines(whole)]


def test_ctrl_c_stops_the_engine_and_keeps_what_is_done(
    start: Start, models_dir: Path, tmp_path: Path
) -> None:
    with start(*SMALL, "--output", tmp_path) as process:
        wait_for(1, tmp_path, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the same command again to go on." in err
    assert "Traceback" not in err
    assert not engines(models_dir)
    transcript = (tmp_path / "transcript.md").read_text()
    assert transcript.count("## 问题") == len(lines(tmp_path)) > 0


def test_a_disk_that_fills_up_is_named_and_what_is_kept_is_whole(
    run: Run, small_disk: Callable[[int], Path]
) -> None:
    folder = small_disk(4096)
    done = run(*SMALL, "--output", folder)
    assert done.returncode == 8
    assert "Traceback" not in done.stderr
    assert 1 <= len(lines(folder)) < 10


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--output", "/proc/here"), 14, "/proc/here"),
        (("--model", "smollm2-135n"), 3, "Did you mean smollm2-135m?"),
        (("--questions", "/dev/null"), 4, "/dev/null"),
        (("--temprature", "1"), 2, "Did you mean --temperature?"),
    ],
)
def test_wrong_input_is_one_message_and_a_code(
    run: Run, words: tuple[str, ...], code: int, told: str
) -> None:
    done = run("battery", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("llmdeploy: ")
    assert told in done.stderr
