"""The battery with the real engine and both models, killed and interrupted for real."""

import json
import mmap
import re
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess, Popen
from typing import Any

import pytest

from entrypoint.answers import questions, results
from entrypoint.common import catalog, machine

Start = Callable[..., "Popen[str]"]
Run = Callable[..., "CompletedProcess[str]"]

SMALL = ("battery", "--model", "smollm2-135m", "--max-tokens", "32", "--parallel", "1")
PAGE = mmap.PAGESIZE  # by which a tmpfs counts what is left


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


def test_answers_one_after_the_other_are_told_as_such(whole: Path) -> None:
    """Else the speed of the whole run, and its price, would be those of answers at once."""
    spans = [
        (ended - timedelta(seconds=answer.seconds), ended)
        for answer in results.load(whole).answers
        for ended in (datetime.fromisoformat(answer.ended),)
    ]
    for (_begun, ended), (begun, _ended) in pairwise(spans):
        assert begun >= ended - timedelta(milliseconds=20)


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
    answers = results.load(tmp_path).answers
    known = catalog.load(models_dir)
    for asked, given in results.runs(answers).items():
        assert asked.files == known.find(asked.model).files
        assert {answer.id for answer in given} == {question.id for question in questions.load()}
    assert [asked.model for asked in results.runs(answers)] == list(names)
    for answer in answers:
        assert answer.text in done.stdout
        assert 1 <= answer.tokens <= 8
        assert answer.finish_reason in {"stop", "length"}
        assert answer.machine is not None
        assert answer.machine.kernels
        assert answer.machine.parallel > 1
        model = known.find(answer.run.model)
        assert answer.memory is not None
        weights = model.files[0].size
        # The catalogue tells the engine's need beforehand; the program itself is beside it.
        expected = machine.need(model, answer.machine.parallel)
        assert weights < answer.memory < 1.1 * expected + 100 * 2**20
    assert any("深度学习" in answer.text for answer in answers)


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
    again = run("battery", "--resume", tmp_path)
    assert again.returncode == 0
    assert again.stderr.count("tok/s") == 10 - len(kept)
    assert lines(tmp_path)[: len(kept)] == kept
    texts = [[each.text for each in results.load(folder).answers] for folder in (tmp_path, whole)]
    assert texts[0] == texts[1]


def test_killed_with_several_on_their_way_it_asks_only_the_missing_ones(
    start: Start, run: Run, models_dir: Path, tmp_path: Path
) -> None:
    words = (*SMALL[:-1], "4", "--output", tmp_path)
    with start(*words) as process:
        wait_for(2, tmp_path, process)
        process.kill()
    kept = lines(tmp_path)
    while engines(models_dir):
        time.sleep(0.01)
    again = run(*words)
    assert again.returncode == 0
    assert again.stderr.count("tok/s") == 10 - len(kept)
    loaded = results.load(tmp_path)
    assert {answer.id for answer in loaded.answers} == {each.id for each in questions.load()}
    assert loaded.repeated == ()
    assert re.findall(r"^问题(\d+)：$", again.stdout, re.MULTILINE) == [
        str(n) for n in range(1, 11)
    ]


def test_a_question_longer_than_the_context_fails_alone(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        f"""
        [[questions]]
        id = "long"
        text = "{"word " * 9000}"
        [[questions]]
        id = "name"
        turns = ["My name is Bo.", "What is my name?"]
        """
    )
    done = run(*SMALL, "--questions", mine, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    long, name = results.load(tmp_path).answers
    assert "the model's context has 8192" in long.error
    assert f"问题1：{long.error}" in done.stderr
    assert [turn.question for turn in name.turns] == ["My name is Bo.", "What is my name?"]
    first, second = (turn.usage for turn in name.turns)
    assert first is not None
    assert second is not None
    assert second.prompt_tokens > first.prompt_tokens + first.completion_tokens


@pytest.mark.parametrize("parallel", ["1", "3"])
def test_ctrl_c_stops_the_engine_and_keeps_what_is_done(
    start: Start, models_dir: Path, tmp_path: Path, parallel: str
) -> None:
    with start(*SMALL[:-1], parallel, "--output", tmp_path) as process:
        wait_for(1, tmp_path, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Go on with: llmdeploy battery --resume {tmp_path}" in err
    assert "Traceback" not in err
    assert not engines(models_dir)
    transcript = (tmp_path / "transcript.md").read_text()
    assert transcript.count("## 问题") == len(lines(tmp_path)) > 0


def test_a_disk_that_fills_up_is_named_and_what_is_kept_is_whole(
    run: Run, small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    run(*SMALL, "--output", tmp_path / "room")
    pages = -(-(tmp_path / "room/battery.json").stat().st_size // PAGE)
    folder = small_disk((pages + 1) * PAGE)  # one for the answers
    done = run(*SMALL, "--output", folder)
    assert done.returncode == 8
    assert "Traceback" not in done.stderr
    assert 1 <= len(lines(folder)) < 10


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--output", "/proc/here"), 14, "/proc/here"),
        (("--resume", "/nowhere"), 4, "/nowhere/battery.json"),
        (("--resume", "/nowhere", "--seed", "1"), 2, "--resume"),
        (("--model", "smollm2-135n"), 3, "Did you mean smollm2-135m?"),
        (("--questions", "/dev/null"), 4, "/dev/null"),
        (("--temprature", "1"), 2, "Did you mean --temperature?"),
        (("--parallel", "256", "--model", "qwen2.5-coder-0.5b"), 12, "--parallel"),
        (("--endpoint", "http://127.0.0.1:9/v1", "--model", "m"), 24, "http://127.0.0.1:9/v1"),
        (("--import", "/nowhere", "--model-name", "m", "--output", "/proc/x"), 4, "/nowhere"),
    ],
)
def test_wrong_input_is_one_message_and_a_code(
    run: Run, words: tuple[str, ...], code: int, told: str
) -> None:
    done = run("battery", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("llmdeploy: ")
    assert told in done.stderr
