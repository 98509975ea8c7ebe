import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from entrypoint.common.errors import ConfigFailure, NotUtf8, NotWritable
from entrypoint.compare import marks, scores
from entrypoint.compare.report import ComparedQuestion, Marked, Reply

NAMES = ("one", "two")


def question(name: str, *dimensions: str) -> ComparedQuestion:
    reply = Reply(("!",), (), {}, 1, 1.0, "stop", "")
    return ComparedQuestion(1, name, ("?",), ("fluency", *dimensions), (), (reply, reply))


QUESTIONS = (question("a", "logic"), question("b"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "marks.csv"


def fill(path: Path, *rows: Sequence[object]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([marks.COLUMNS, *rows])


def test_a_row_is_written_for_each_mark_that_can_be_given(path: Path) -> None:
    marks.write(path, QUESTIONS, NAMES)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf"), "a spreadsheet takes it for UTF-8"
    with path.open(newline="", encoding="utf-8-sig") as file:
        assert list(csv.reader(file)) == [
            ["question", "model", "dimension", "mark"],
            ["a", "one", "fluency", ""],
            ["a", "one", "logic", ""],
            ["a", "two", "fluency", ""],
            ["a", "two", "logic", ""],
            ["b", "one", "fluency", ""],
            ["b", "two", "fluency", ""],
        ]


def test_a_file_that_nobody_filled_in_has_no_marks(path: Path) -> None:
    marks.write(path, QUESTIONS, NAMES)
    assert marks.read(path, QUESTIONS, NAMES) == QUESTIONS


def test_marks_come_to_the_answers_that_they_are_for(path: Path) -> None:
    fill(path, ("a", "two", "logic", 7), ("b", "one", "fluency", "2.5"), ())
    first, second = marks.read(path, QUESTIONS, NAMES)
    assert [reply.marks for reply in first.replies] == [{}, {"logic": 7.0}]
    assert [reply.marks for reply in second.replies] == [{"fluency": 2.5}, {}]


def test_only_questions_where_every_model_has_a_mark_count(path: Path) -> None:
    given = (("a", "one", 8), ("a", "two", 4), ("b", "one", 0))
    fill(path, *((question, name, "fluency", mark) for question, name, mark in given))
    marked = marks.read(path, QUESTIONS, NAMES)
    assert [scores.marked(marked, place, "fluency") for place in (0, 1)] == [
        Marked(8, 1, (0.8,)),
        Marked(4, 1, (0.4,)),
    ]
    assert scores.marked(marked, 0, "logic") is None


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (("c", "one", "logic", 7), "line 3: nothing that is compared is called c, one, logic"),
        (("a", "oen", "logic", 7), "line 3: nothing that is compared is called a, oen, logic"),
        (("b", "one", "logic", 7), "line 3: nothing that is compared is called b, one, logic"),
        (("a", "one", "logic", 11), "line 3: '11' is not a number from 0 to 10"),
        (("a", "one", "logic", "good"), "line 3: 'good' is not a number from 0 to 10"),
        (("a", "one", "logic", "nan"), "line 3: 'nan' is not a number from 0 to 10"),
        (("a", "two", "fluency", 5), "line 3: there are two marks for one thing"),
        (("a", "one", 5), "line 3: there are 3 columns instead of 4"),
    ],
)
def test_a_wrong_row_is_named(path: Path, row: Sequence[object], told: str) -> None:
    fill(path, ("a", "two", "fluency", 5), row)
    with pytest.raises(ConfigFailure, match=told):
        marks.read(path, QUESTIONS, NAMES)


def test_a_file_of_another_kind_is_refused(path: Path) -> None:
    path.write_text("a;b\n")
    with pytest.raises(ConfigFailure, match="does not begin with the columns question,model"):
        marks.read(path, QUESTIONS, NAMES)
    path.write_bytes("问题".encode("gb18030"))
    with pytest.raises(NotUtf8):
        marks.read(path, QUESTIONS, NAMES)
    with pytest.raises(ConfigFailure, match="cannot be read"):
        marks.read(path.parent, QUESTIONS, NAMES)


@pytest.mark.parametrize("cell", ["x" * 200_000, '"' + "x" * 200_000])
def test_a_cell_without_an_end_is_refused(path: Path, cell: str) -> None:
    path.write_text(f"{','.join(marks.COLUMNS)}\na,one,logic,{cell}\n")
    with pytest.raises(ConfigFailure, match="is not a table"):
        marks.read(path, QUESTIONS, NAMES)


def test_a_place_that_cannot_be_written_is_named() -> None:
    with pytest.raises(NotWritable, match="/proc/marks"):
        marks.write(Path("/proc/marks.csv"), QUESTIONS, NAMES)
