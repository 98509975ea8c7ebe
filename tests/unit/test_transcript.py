import dataclasses
import json
from pathlib import Path

import pytest

from entrypoint.answers import questions
from entrypoint.answers.questions import Question
from entrypoint.answers.results import Answer, RecordedTurn, Run, Sampling
from entrypoint.battery import transcript
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import ConfigFailure, NotUtf8
from entrypoint.engines import Usage

USAGE = Usage(9, 2, 4, 0.1, rate=50.0, finish_reason="stop")
RUN = Run(
    "one",
    "llamacpp",
    files=(ModelFile("model.gguf", 1, "11"),),
    options=Sampling(temperature=0, top_p=0.9, max_tokens=512, seed=None),
)
ONE = Answer("a", (RecordedTurn("甲？", "甲。", USAGE, 0.5),), RUN)
TWO = Answer(
    "b", (RecordedTurn("乙？", "乙。", USAGE, 0.5), RecordedTurn("丙？", "丙。", USAGE, 0.25)), RUN
)
OLD = Answer("a", (RecordedTurn("甲？", "旧的。"),), Run("old", "import"))
ASKED = (Question("a", "甲？"), Question("b", "乙？"), Question("c", "丙？"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "printed.txt"


def read(path: Path, text: str) -> list[tuple[str, str]]:
    path.write_text(text, encoding="utf-8")
    return [(question.id, answer) for question, answer in transcript.read(path, ASKED)]


def test_the_tutorials_printed_form_is_read(path: Path) -> None:
    text = "问题1：\n甲甲。\n\n第二段。\n问题2：\n\n问题3：\n丙丙。\n"
    assert read(path, text) == [("a", "甲甲。\n\n第二段。"), ("b", ""), ("c", "丙丙。")]


@pytest.mark.parametrize("asked", ["question", "query", "prompt", "instruction", "id"])
@pytest.mark.parametrize("said", ["answer", "response", "output"])
def test_jsonl_is_read_whatever_its_fields_are_called(
    tmp_path: Path, asked: str, said: str
) -> None:
    names = ("c", "a") if asked == "id" else (" 丙？", "甲？")
    rows = zip(names, ("丙丙。", "甲\n甲。"), strict=True)
    text = "\n".join(json.dumps({asked: name, said: answer, "n": 1}) for name, answer in rows)
    assert read(tmp_path / "it.JSONL", f"\ufeff{text}\n\n") == [("c", "丙丙。"), ("a", "甲\n甲。")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"question": "甲？"', "line 2 is not JSON"),
        ('["甲？"]', "line 2 is not an object"),
        ('{"question": "甲？", "answer": null}', r"line 2 has no answer.*answer, response"),
        ('{"question": "丁？", "answer": "丁"}', "line 2 answers no question of the list"),
        ('{"id": "b", "answer": "乙"}', "line 2 answers b a second time"),
    ],
)
def test_jsonl_that_cannot_be_read_is_told_where(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigFailure, match=f"(?s){told}"):
        read(tmp_path / "it.jsonl", f'{{"question": "乙？", "answer": ""}}\n{line}')


def test_jsonl_without_a_line_has_no_answers(tmp_path: Path) -> None:
    with pytest.raises(ConfigFailure, match="has no answers"):
        read(tmp_path / "it.jsonl", "\n")


@pytest.mark.parametrize(
    "text",
    [
        "  问题1：\n  甲\n    乙\n",  # as it stands in a list of the tutorial
        "\ufeff问题1：\r\n甲\r\n  乙\r\n",
        "Loading...\n问题 1:\n甲\n  乙",
    ],
)
def test_indentation_other_line_ends_and_other_colons_are_no_matter(path: Path, text: str) -> None:
    assert read(path, text) == [("a", "甲\n  乙")]


def test_a_heading_inside_an_answer_is_part_of_it(path: Path) -> None:
    text = "问题1：\n他问：\n问题1：\n和\n问题5：\n问题2：是什么\n问题2：\n乙\n"
    assert read(path, text) == [("a", "他问：\n问题1：\n和\n问题5：\n问题2：是什么"), ("b", "乙")]


@pytest.mark.parametrize("text", ["", "问题2：\n乙\n", "# Answers\n", f"问题{'9' * 5000}：\n甲\n"])
def test_a_file_without_a_first_answer_is_refused(path: Path, text: str) -> None:
    with pytest.raises(ConfigFailure, match=r"printed\.txt has no line 问题1："):
        read(path, text)


def test_more_answers_than_questions_are_refused(path: Path) -> None:
    with pytest.raises(ConfigFailure, match="has 4 answers; there are 3 questions") as caught:
        read(path, "".join(f"问题{n}：\n答\n" for n in range(1, 5)))
    assert "--questions" in caught.value.next


def test_a_file_that_cannot_be_read_is_named(path: Path) -> None:
    with pytest.raises(ConfigFailure, match=r"printed\.txt does not exist"):
        transcript.read(path, ASKED)
    path.write_bytes("问题1：".encode("gb18030"))
    with pytest.raises(NotUtf8, match=r"printed\.txt is not UTF-8"):
        transcript.read(path, ASKED)


def test_the_ten_of_the_tutorial_can_be_imported(path: Path) -> None:
    path.write_text("".join(f"问题{n}：\n答{n}。\n" for n in range(1, 11)), encoding="utf-8")
    found = transcript.read(path, questions.load())
    assert found[9][0].id == "dice"
    assert found[9][1] == "答10。"


def test_a_transcript_is_written_in_one_step(tmp_path: Path) -> None:
    transcript.write(tmp_path, [ONE])
    assert [each.name for each in tmp_path.iterdir()] == ["transcript.md"]
    assert (tmp_path / "transcript.md").read_text().startswith("# one\n")


def test_the_transcript_keeps_the_marks_of_an_answer_inside_it() -> None:
    marked = dataclasses.replace(
        ONE, turns=(RecordedTurn("甲？", "# 标题\n\n```python\nprint(1)", USAGE, 0.5),)
    )
    failed = dataclasses.replace(OLD, error="Too long.")
    assert transcript.markdown([marked, TWO, failed]).splitlines() == [
        "# one",
        "",
        "`11`, llamacpp, temperature 0, top_p 0.9, max_tokens 512",
        "",
        "## 问题1：甲？",
        "",
        "> # 标题",
        ">",
        "> ```python",
        "> print(1)",
        "",
        "4 tokens in 0.5 s, 50.0 tok/s, ended by stop",
        "",
        "## 问题2：乙？",
        "",
        "> 乙。",
        "",
        "4 tokens in 0.5 s, 50.0 tok/s, ended by stop",
        "",
        "**丙？**",
        "",
        "> 丙。",
        "",
        "4 tokens in 0.2 s, 50.0 tok/s, ended by stop",
        "",
        "# old",
        "",
        "import",
        "",
        "## 问题1：甲？",
        "",
        "> 旧的。",
        "",
        "Too long.",
    ]
