"""A person's marks: a CSV file that a spreadsheet opens, written empty and read when filled in."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from entrypoint.common import files
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _
from entrypoint.compare.report import ComparedQuestion, Reply

COLUMNS = ("question", "model", "dimension", "mark")
HIGHEST = 10


def write(path: Path, questions: Sequence[ComparedQuestion], contenders: Sequence[str]) -> None:
    """Write a row for each mark that can be given; raise NotWritable or DiskFull."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    table.writerows(
        (question.id, name, dimension, "")
        for question in questions
        for name in contenders
        for dimension in question.dimensions
    )
    with files.writing(path):
        path.write_text(text.getvalue(), encoding="utf-8-sig", newline="")  # as Excel wants it


def read(
    path: Path, questions: Sequence[ComparedQuestion], contenders: Sequence[str]
) -> tuple[ComparedQuestion, ...]:
    """Return the questions with the file's marks; raise ConfigFailure, or NotUtf8 if it is not."""
    known = {
        (question.id, name, dimension)
        for question in questions
        for name in contenders
        for dimension in question.dimensions
    }
    marks: dict[tuple[str, str, str], float] = {}
    for number, (*key, text) in _rows(path):
        about = (key[0], key[1], key[2])
        where = _("{path}, line {number}").format(path=path, number=number)
        if about not in known:
            raise ConfigFailure(
                _("{where}: nothing that is compared is called {names}.").format(
                    where=where, names=", ".join(about)
                ),
                next=_("Delete the file to have it written anew, or correct that line."),
            )
        if about in marks:
            raise ConfigFailure(
                _("{where}: there are two marks for one thing.").format(where=where)
            )
        marks[about] = _mark(text, where)
    return tuple(
        replace(question, replies=tuple(_marked(question, marks, contenders)))
        for question in questions
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each row that has a mark."""
    table = csv.reader(files.text(path).splitlines())
    rows = _whole(table, path)
    if tuple(next(rows, ())) != COLUMNS:
        raise ConfigFailure(
            _("{path} does not begin with the columns {names}.").format(
                path=path, names=",".join(COLUMNS)
            ),
            next=_("Delete the file to have it written anew, or correct that line."),
        )
    for row in rows:
        if len(row) != len(COLUMNS) and any(row):
            raise ConfigFailure(
                _("{path}, line {number}: there are {found} columns instead of {right}.").format(
                    path=path, number=table.line_num, found=len(row), right=len(COLUMNS)
                )
            )
        if row and row[-1].strip():
            yield table.line_num, row


def _whole(table: Iterator[list[str]], path: Path) -> Iterator[list[str]]:
    """Yield the rows; raise ConfigFailure at what is none, such as a cell without an end."""
    try:
        yield from table
    except csv.Error as error:
        raise ConfigFailure(
            _("{path} is not a table: {error}").format(path=path, error=error),
            next=_("Delete the file to have it written anew, or correct that line."),
        ) from None


def _mark(text: str, where: str) -> float:
    try:
        mark = float(text)
    except ValueError:
        mark = -1.0
    if not 0 <= mark <= HIGHEST:
        raise ConfigFailure(
            _("{where}: {text} is not a number from {low} to {high}.").format(
                where=where, text=repr(text), low=0, high=HIGHEST
            )
        )
    return mark


def _marked(
    question: ComparedQuestion, marks: dict[tuple[str, str, str], float], contenders: Sequence[str]
) -> Iterator[Reply]:
    for name, reply in zip(contenders, question.replies, strict=True):
        marks_by_dimension = {
            dimension: marks[question.id, name, dimension]
            for dimension in question.dimensions
            if (question.id, name, dimension) in marks
        }
        yield replace(reply, marks=marks_by_dimension)
