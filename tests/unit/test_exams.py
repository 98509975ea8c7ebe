"""Exams of others as lists of questions, and what is wrong with files that are none."""

import tomllib
from pathlib import Path

import pytest

from entrypoint.answers import questions
from entrypoint.answers.questions import FORTY, Question
from entrypoint.answers.results import Answer, RecordedTurn, Run
from entrypoint.common.errors import ConfigFailure, NotUtf8
from entrypoint.compare.checks import check

ONE = "以下是单项选择题，请只回答正确选项的字母。"
CEVAL = """id,question,A,B,C,D,answer,explanation
0,下列设备属于资源子网的是____。,计算机软件,网桥,交换机,路由器,A,"1. 网络分两部分,
2. 答案是A"
1,"Which of 2, 4, 6 is prime?",2,4,6,none,A,
"""
CMMLU = """,Question,A,B,C,D,Answer
0,水的化学式是,H2O,CO2,NaCl,O2,A
1,最大的沙漠是,撒哈拉沙漠,戈壁,南极大陆,阿塔卡马,C
"""
EVALSCOPE = """
{"id": "7", "question": "最大的沙漠是？", "A": "撒哈拉", "B": "南极", "answer": "B"}

{"question": "下列是质数的有？", "A": "2", "B": "4", "C": "7", "answer": ["A", "C"]}
{"system": "你是一位天文学家", "query": "最大的行星是哪颗？", "response": "是木星"}
{"query": "How can I sleep better?", "category": "generic"}
"""


def load(tmp_path: Path, name: str, content: str) -> tuple[Question, ...]:
    (tmp_path / name).write_text(content, encoding="utf-8")
    return questions.load(tmp_path / name)


def test_c_eval_is_read(tmp_path: Path) -> None:
    first, second = load(tmp_path, "val.csv", CEVAL)
    assert (first.id, first.right) == ("0", "A")
    assert first.asks == (
        f"{ONE}\n\n下列设备属于资源子网的是____。\nA. 计算机软件\nB. 网桥\nC. 交换机\nD. 路由器",
    )
    assert second.text.startswith("Reply with nothing but the letter")


def test_cmmlu_is_read(tmp_path: Path) -> None:
    told = load(tmp_path, "geography.csv", f"\ufeff{CMMLU}")
    assert [(each.id, each.right) for each in told] == [("0", "A"), ("1", "C")]


def test_evalscopes_lines_are_read(tmp_path: Path) -> None:
    desert, primes, planet, sleep = load(tmp_path, "mine.jsonl", EVALSCOPE)
    assert (desert.id, desert.choices, desert.right) == ("7", ("撒哈拉", "南极"), "B")
    assert (primes.id, primes.right) == ("2", "AC")
    assert primes.text.startswith("以下是多项选择题")
    assert planet.text == "你是一位天文学家\n\n最大的行星是哪颗？"
    assert [point.says for point in planet.points] == ["是木星"]
    assert (sleep.text, sleep.points) == ("How can I sleep better?", ())


def test_a_choice_counts_for_accuracy_and_an_open_answer_is_left_to_a_judge(tmp_path: Path) -> None:
    desert, _primes, planet, _sleep = load(tmp_path, "mine.jsonl", EVALSCOPE)
    for question, text, passed in (
        (desert, "B", True),
        (desert, "A", False),
        (planet, "木星", None),
    ):
        turns = (RecordedTurn(question.asks[0], text),)
        first, *_form = check(question, Answer(question.id, turns, Run("m", "import")))
        assert (first.passed, first.dimensions) == (passed, ("accuracy",))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("test.csv", "id,question,A,B\n0,what,1,2\n", "line 2 does not say which choice is right"),
        (
            "a.csv",
            "id,question,A,B,answer\n0,what,1,2,E\n",
            "line 2: 'E' is none of the choices A, B",
        ),
        ("a.csv", "id,question,A,B,answer\n0,what, it is,1,2,A\n", "line 2: its columns"),
        ("a.csv", "id,question,A,B,answer\n0,what,1\n", "line 2: its columns"),
        ("a.csv", 'id,question,A,B,answer\n0,"what,1,2,A\n', "is not a table"),
        ("a.csv", "id,question,A,B,answer\n0,,1,2,A\n", "line 2: question is empty"),
        ("a.csv", "name,age\nBo,7\n", "line 2 has an unknown format"),
        ("a.csv", "", "has no questions"),
        ("a.jsonl", "{}\n", "line 1 has an unknown format"),
        ("a.jsonl", '\n{"query": \n', "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", "line 1 is not an object"),
        ("a.jsonl", '{"query": " "}\n', "line 1: query is empty"),
        (
            "a.jsonl",
            '{"id": 1, "query": "a"}\n{"id": 1, "query": "b"}\n',
            "several questions called 1",
        ),
    ],
)
def test_what_is_no_exam_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str, told: str
) -> None:
    monkeypatch.setenv("LLMDEPLOY_LANG", "en")
    with pytest.raises(ConfigFailure, match=told):
        load(tmp_path, name, content)


def test_an_exam_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_bytes(CEVAL.encode("gb18030"))
    with pytest.raises(NotUtf8, match="byte"):
        questions.load(tmp_path / "val.csv")


def test_a_list_can_be_chosen_by_its_name() -> None:
    assert questions.named("forty") == FORTY
    assert questions.named("./forty") == Path("forty")


ANSWERS = tomllib.loads(Path(__file__).with_name("forty.toml").read_text(encoding="utf-8"))


def test_the_larger_list_has_forty_in_two_languages() -> None:
    forty = questions.load(FORTY)
    assert [each.id for each in forty] == list(ANSWERS)
    assert [each.language for each in forty] == ["zh"] * 20 + ["en"] * 20
    assert all(each.points or each.checker for each in forty)
    assert {name for each in forty for name in each.dimensions} == {
        "hard",
        "humour",
        "accuracy",
        "logic",
    }


@pytest.mark.parametrize("name", list(ANSWERS))
def test_right_answers_meet_every_point_and_wrong_ones_none(name: str) -> None:
    (question,) = (each for each in questions.load(FORTY) if each.id == name)
    for kind, passed in (("good", True), ("bad", False)):
        assert ANSWERS[name][kind]
        for text in ANSWERS[name][kind]:
            turns = tuple(RecordedTurn(each, text) for each in question.asks)
            found = check(question, Answer(name, turns, Run("m", "import")))
            counted = [each for each in found if each.kind in {"point", "program"}]
            assert counted
            assert {each.passed for each in counted} == {passed}, (text, counted)
