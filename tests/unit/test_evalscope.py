"""EvalScope's predictions and reviews, as version 1.9 writes them, imported and compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from entrypoint import __main__ as program
from entrypoint.answers import questions
from entrypoint.battery import transcript
from entrypoint.common.errors import ConfigFailure

RAIN = """回答下面的单项选择题，请选出其中的正确答案。最后一行的格式："答案：[LETTER]"。

问题：天气预报说本周星期三会下雨，昨天果然下雨了，今天星期几？
选项：
A) 星期一
B) 星期三
C) 星期四
"""
RUNS = "James runs 3 sprints of 60 meters 3 times a week. How many meters does he run a week?"
ESSAY = "Write a line about rain."


def message(role: str, content: object) -> dict[str, Any]:
    return {"id": "5d17", "content": content, "source": None, "perf_metrics": None, "role": role}


def talk(index: int, asked: str, said: object) -> dict[str, Any]:
    messages = [message("user", asked), message("assistant", said)]
    return {"index": index, "messages": messages, "metadata": {"level": 1}}


def prediction(index: int, asked: str, said: object) -> dict[str, Any]:
    output = {"choices": [{"message": message("assistant", said), "stop_reason": "stop"}]}
    return {**talk(index, asked, said), "model": "qwen3-max", "model_output": output}


def review(index: int, asked: str, said: object, target: str) -> dict[str, Any]:
    score = {"score": {"value": {"acc": 1.0}, "prediction": said}, "sample_id": index}
    return {**talk(index, asked, said), "target": target, "sample_score": score}


def write(name: str, *rows: dict[str, Any]) -> Path:
    path = Path(name)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMDEPLOY_LANG", "en")


@pytest.fixture
def reviews() -> Path:
    return write(
        "reviews.jsonl",
        review(0, RAIN, "果然是星期三。\n\n答案：C", "C"),
        review(1, RUNS, "3 × 180 = 540.\n\nANSWER: $\\boxed{540}$", "540"),
        review(2, ESSAY, "It rains.", ""),
    )


def test_reviews_are_a_list_of_questions(reviews: Path) -> None:
    rain, runs, essay = questions.load(reviews)
    assert (rain.id, rain.choices, rain.right) == ("0", ("星期一", "星期三", "星期四"), "C")
    assert rain.asks[0].endswith("选项：\nA. 星期一\nB. 星期三\nC. 星期四")
    assert (runs.asks, [point.says for point in runs.points]) == ((RUNS,), ["540"])
    assert (essay.asks, essay.points) == ((ESSAY,), ())


def test_a_thought_is_no_part_of_an_imported_answer(reviews: Path) -> None:
    parts = [{"type": "reasoning", "reasoning": "A?"}, {"type": "text", "text": "答案：C"}]
    path = write("predictions.jsonl", talk(0, RAIN, parts))
    [(question, answer)] = transcript.read(path, questions.load(reviews))
    assert (question.id, answer) == ("0", "答案：C")


def test_a_talk_of_another_question_is_refused_whatever_its_number(reviews: Path) -> None:
    path = write("predictions.jsonl", prediction(0, "What else?", "C"))
    with pytest.raises(ConfigFailure, match="line 1 answers no question of the list"):
        transcript.read(path, questions.load(reviews))


def test_a_talk_without_an_answer_is_refused(reviews: Path) -> None:
    row = {**talk(0, RAIN, ""), "messages": [message("user", RAIN)]}
    with pytest.raises(ConfigFailure, match="line 1 has no answer"):
        transcript.read(write("predictions.jsonl", row), questions.load(reviews))


def test_two_models_of_evalscope_are_compared(reviews: Path) -> None:
    other = write(
        "other.jsonl",
        prediction(0, RAIN, "答案：B"),
        prediction(1, RUNS, "She runs 540 meters in 3 weeks. So the answer is 180."),
        prediction(2, ESSAY, "Rain falls."),
    )
    for name, path in (("one", reviews), ("two", other)):
        run(f"battery --import {path} --model-name {name} --questions {reviews} --output {name}")
    run(f"compare one two --questions {reviews} --output out")
    told = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    passed = [
        [reply["checks"][0]["passed"] for reply in question["replies"]]
        for question in told["questions"][:2]
    ]
    assert passed == [[True, False], [True, None]]  # 540 stands in the answer, not as its end
    assert not [note for note in told["notes"] if "Nothing is known" in note]


def run(words: str) -> None:
    arguments = program._parser().parse_args(words.split())
    arguments.run(arguments)
