"""Exams in the forms of others, read as lists of questions.

C-Eval and CMMLU are CSV files with a column for the question, one for each choice and one for the
right letter; EvalScope's JSONL has the same by names, or a `query` with its `response`, and the
files that it writes have whole talks, see `evalscope`.
"""

from __future__ import annotations

import csv
import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from entrypoint.answers import evalscope
from entrypoint.answers.questions import Point, Question
from entrypoint.common import files
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

FEWEST = 2  # choices
HAN = re.compile(r"[\u4e00-\u9fff]")
LISTED = re.compile(r"[\s,，、;；]+")  # between the letters of several right choices
# What is asked besides, in the question's language: an answer is read by its letter.
ASKED = {
    ("zh", False): "以下是单项选择题，请只回答正确选项的字母。",
    ("zh", True): "以下是多项选择题，请只回答所有正确选项的字母。",
    ("en", False): "Reply with nothing but the letter of the right choice.",
    ("en", True): "Reply with nothing but the letters of all right choices.",
}

Row = Mapping[str, object]


def load(path: Path) -> tuple[Question, ...]:
    """Read an exam, told apart by its name's end: .csv or .jsonl.

    Raises ConfigFailure or NotUtf8 saying what is wrong where.
    """
    rows = {".csv": _table, ".jsonl": lines}[path.suffix.lower()](path)
    exam = tuple(_question(row, number, where) for number, (where, row) in enumerate(rows, 1))
    if not exam:
        raise ConfigFailure(_("{path} has no questions.").format(path=path))
    return exam


def is_exam(path: Path) -> bool:
    """Tell whether a file has the name of an exam."""
    return path.suffix.lower() in {".csv", ".jsonl"}


def _table(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a CSV file, each with the words for where it stands."""
    table = csv.DictReader(files.text(path).splitlines(keepends=True), strict=True)
    try:
        for row in table:
            where = _("{path}, line {number}").format(path=path, number=table.line_num)
            if None in row or None in row.values():
                raise ConfigFailure(
                    _("{where}: its columns are not those of the first line.").format(where=where),
                    next=_("Put a text that has commas between quotation marks."),
                )
            # CMMLU writes Question and Answer, and has numbers in a column without a name.
            yield (
                where,
                {
                    name if len(name) == 1 else name.lower() or "id": cell
                    for name, cell in row.items()
                },
            )
    except csv.Error as error:
        raise ConfigFailure(
            _("{path} is not a table: {error}").format(path=path, error=error)
        ) from None


def lines(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield the objects of a JSONL file, each with the words for where it stands.

    Raises ConfigFailure or NotUtf8 saying what is wrong where.
    """
    for number, line in enumerate(files.text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = _("{path}, line {number}").format(path=path, number=number)
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigFailure(
                _("{where} is not JSON: {error}").format(where=where, error=error)
            ) from None
        if not isinstance(row, dict):
            raise ConfigFailure(
                _("{where} is not an object in braces.").format(where=where),
            )
        yield where, row


def _question(row: Row, number: int, where: str) -> Question:
    if evalscope.is_talk(row):
        return evalscope.question(row)
    name = str(row.get("id") or "").strip() or str(number)
    if "query" in row:
        text = _cell(row, "query", where)
        system, response = (str(row.get(key) or "").strip() for key in ("system", "response"))
        return Question(
            id=name,
            text=f"{system}\n\n{text}".strip(),
            dimensions=("accuracy",),
            points=(Point(says=response),) if response else (),
        )
    letters = [letter for letter in string.ascii_uppercase if str(row.get(letter) or "").strip()]
    if "question" not in row or len(letters) < FEWEST:
        raise ConfigFailure(
            _("{where} has an unknown format.").format(where=where),
            _("It has these: {names}.").format(names=", ".join(str(each) for each in row)),
            _("It takes question, A, B, ... and answer, as in C-Eval, or query and response."),
        )
    text = _cell(row, "question", where)
    right = _right(row.get("answer"), letters, where)
    language = "zh" if HAN.search(text) else "en"
    return Question(
        id=name,
        text=f"{ASKED[language, len(right) > 1]}\n\n{text}",
        choices=tuple(_cell(row, letter, where) for letter in letters),
        right=right,
        dimensions=("accuracy",),
    )


def _cell(row: Row, key: str, where: str) -> str:
    """Return a text that must be there."""
    text = row.get(key)
    if not isinstance(text, str) or not text.strip():
        raise ConfigFailure(_("{where}: {key} is empty.").format(where=where, key=key))
    return text.strip()


def _right(answer: object, letters: Sequence[str], where: str) -> str:
    """Return the letters of the right choices, in their order."""
    parts = answer if isinstance(answer, list) else LISTED.split(str(answer or ""))
    right = sorted({letter for part in parts for letter in str(part).strip().upper()})
    if not right:
        raise ConfigFailure(
            _("{where} does not say which choice is right.").format(where=where),
            next=_("Take a part of the exam that has answers: in C-Eval val or dev, not test."),
        )
    if strange := [letter for letter in right if letter not in letters]:
        raise ConfigFailure(
            _("{where}: {answer} is none of the choices {letters}.").format(
                where=where, answer=repr(strange[0]), letters=", ".join(letters)
            )
        )
    return "".join(right)
