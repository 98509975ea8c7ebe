import typing
from pathlib import Path

import pytest

from builder.settings import ROOT
from entrypoint.answers import questions
from entrypoint.answers.questions import Checker, Point, Question
from entrypoint.common.errors import ConfigFailure, NotUtf8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def test_the_tutorial_asks_ten() -> None:
    ten = questions.load()
    assert len(ten) == 10
    assert ten[0].text.endswith("冬天：能穿多少穿多少；夏天：能穿多少穿多少。")
    assert (ten[9].id, ten[9].text) == ("dice", "编写一个简单的计算机程序，模拟掷骰子的结果。")


def test_each_of_the_ten_has_points_and_together_they_have_all_dimensions() -> None:
    ten = questions.load()
    assert all(question.points and question.dimensions for question in ten)
    assert all(question.language == "zh" for question in ten)
    counted = {name for question in ten for name in question.dimensions}
    assert counted | {"form", "fluency"} == set(typing.get_args(questions.Dimension))
    assert ten[9].checker is not None


def test_a_list_keeps_its_order(path: Path) -> None:
    path.write_text('[[questions]]\nid = "b"\ntext = "2"\n[[questions]]\nid = "a"\ntext = "1"\n')
    assert questions.load(path) == (Question("b", "2"), Question("a", "1"))


def test_a_question_may_have_several_turns_and_all_that_is_to_be_checked(path: Path) -> None:
    path.write_text(
        """
        [[questions]]
        id = "a"
        turns = ["My name is Bo.", "What is my name?"]
        dimensions = ["logic", "accuracy"]
        language = "en"
        format = "code"
        points = [{says = "Bo", must = "Bo", never = "Al"}, {says = "polite"}]
        checker = {kind = "python-program", prints = "Bo"}
        """
    )
    assert questions.load(path) == (
        Question(
            id="a",
            turns=("My name is Bo.", "What is my name?"),
            dimensions=("logic", "accuracy"),
            language="en",
            format="code",
            points=(Point("Bo", must="Bo", never="Al"), Point("polite")),
            checker=Checker("python-program", prints="Bo"),
        ),
    )
    assert questions.load(path)[0].asks == ("My name is Bo.", "What is my name?")
    assert Question("b", "1").asks == ("1",)


def test_the_example_in_the_documentation_is_a_list(path: Path) -> None:
    text = (ROOT / "docs/battery.md").read_text(encoding="utf-8")
    path.write_text(text.partition("```toml\n")[2].partition("```")[0])
    assert [question.id for question in questions.load(path)] == ["capital", "name", "sum"]


DEEP = "(" * 9999


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[[question]]\nid = "a"', "Unknown key 'question'"),
        ('[[questions]]\nid = "a"\ntxet = "1"', "Unknown key 'txet' in .*question 1"),
        ('[[questions]]\nid = "a"', "question 1 needs either the key 'text' or the key 'turns'"),
        ('[[questions]]\nid = "a"\ntext = "1"\nturns = ["1"]', "question 1 needs either the key"),
        ('[[questions]]\nid = "a"\nturns = ["1", " "]', "question 1: text is empty"),
        ('[[questions]]\nid = "a"\ntext = "1"\nlanguage = "de"', "must be one of zh, en"),
        (
            '[[questions]]\nid = "a"\ntext = "1"\ndimensions = ["fun"]',
            "a list of one of form, fluency",
        ),
        (
            '[[questions]]\nid = "a"\ntext = "1"\n[[questions.points]]\nmust = "x"',
            "'says' is missing in .*question 1, .points 1.",
        ),
        (
            '[[questions]]\nid = "a"\ntext = "1"\n[[questions.points]]\nsays = "x"\nmust = "("',
            r"question 1: '\(' is not a pattern: missing \)",
        ),
        (
            (
                '[[questions]]\nid = "a"\ntext = "1"\n[[questions.points]]\nsays = "x"\n'
                f'must = "{DEEP}"'
            ),
            r"question 1: .* is not a pattern",
        ),
        (
            '[[questions]]\nid = "a"\ntext = "1"\n[questions.checker]\nkind = "c"\nprints = "1"',
            "'kind' in .*question 1, .checker. must be one of python-program, not 'c'",
        ),
        ('[[questions]]\nid = 7\ntext = "1"', "'id' in .*question 1 must be text, not 7"),
        ('[questions]\nid = "a"\ntext = "1"', "'questions' in .* must be a list of a table"),
        ('questions = ["1"]', "'questions' in .* must be a list of a table"),
        ("questions = []", "has no questions"),
        ("", "'questions' is missing"),
        ('[[questions]]\nid = "a"\ntext = " "', "question 1: text is empty"),
        ('[[questions]]\nid = ""\ntext = "1"', "question 1: id is empty"),
        ('[[questions]]\nid = "a"\ntext = "1"\n' * 2, "several questions called a"),
        ('[[questions]]\nid = "a\n', "not valid TOML: .*line 2"),
    ],
)
def test_a_mistake_is_named_with_its_place(path: Path, content: str, message: str) -> None:
    path.write_text(content)
    with pytest.raises(ConfigFailure, match=message) as caught:
        questions.load(path)
    assert str(path) in caught.value.what


def test_a_file_in_another_encoding_is_named(path: Path) -> None:
    path.write_bytes('[[questions]]\nid = "a"\ntext = "你好"\n'.encode("gb18030"))
    with pytest.raises(NotUtf8, match=r"mine\.toml is not UTF-8"):
        questions.load(path)


def test_a_folder_is_not_a_list_of_questions(tmp_path: Path) -> None:
    with pytest.raises(ConfigFailure, match="cannot be read: Is a directory"):
        questions.load(tmp_path)


def test_a_byte_order_mark_is_no_mistake(path: Path) -> None:
    path.write_text('[[questions]]\nid = "a"\ntext = "1"\n', encoding="utf-8-sig")
    assert questions.load(path) == (Question("a", "1"),)
