"""Lists of questions for the battery: the tutorial's ten, or a person's own TOML file."""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from entrypoint.common import tomlfile
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

TUTORIAL = Path(__file__).with_name("questions.toml")
FORTY = Path(__file__).with_name("forty.toml")
LISTS = {"tutorial": TUTORIAL, "forty": FORTY}  # by the names that they can be chosen by

LETTERS = string.ascii_uppercase  # of choices, in their order

# What the tutorial compares models by: fluency and readability, hard problems, humour and
# creativity, accuracy and knowledge, consistency and logic. The form of every answer is counted.
Dimension: TypeAlias = Literal["form", "fluency", "hard", "humour", "accuracy", "logic"]


@dataclass(frozen=True)
class Point:
    """A table [[questions.points]]: one thing that a right answer says.

    `says` is it in words. It is met if the pattern `must` is found, the opposite is said if `never`
    is, neither behind a denial nor in words of the question; with `about` both count only from
    there to the next point's `about`, or to the end of the sentence and of those that go on with
    it. One that has `never` is a claim: supposing, guessing or asking it, or denying it elsewhere,
    leaves it open. With `last`, only the last sentence can meet it. `formula` is a pattern like
    `must` for what `points.plain` makes of the answer. A point that is not met is open if `maybe`
    is found, and unless those are met whose numbers, from 1, are in `needs`. Patterns are Python's
    regular expressions; capitals and small letters are the same. Without any of them only a judge
    can tell.
    """

    says: str
    about: str = ""
    must: str = ""
    never: str = ""
    maybe: str = ""
    formula: str = ""
    needs: tuple[int, ...] = ()
    last: bool = False


@dataclass(frozen=True)
class Checker:
    """A table [questions.checker]: the answer's program is run, with `input` typed to it.

    Each run must print something in which the pattern `prints` is found.
    """

    kind: Literal["python-program"]
    prints: str
    input: str = ""


@dataclass(frozen=True)
class Question:
    """One table [[questions]]: a name to find its answers by, what is asked, what is right.

    `text` is asked; or each of `turns`, one after the other in one conversation, of which the last
    answer is checked. `language` is that of a right answer, "" if any will do. `format` is "code"
    if the answer must have a block of code. After the text stand the `choices`, if there are any,
    each with its letter; `right` has the letters of the right ones.
    """

    id: str
    text: str = ""
    turns: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    right: str = ""
    dimensions: tuple[Dimension, ...] = ()
    language: Literal["zh", "en", ""] = ""
    format: Literal["code", ""] = ""
    points: tuple[Point, ...] = ()
    checker: Checker | None = None

    @property
    def asks(self) -> tuple[str, ...]:
        """What is asked, turn by turn."""
        if self.turns:
            return self.turns
        listed = (f"{letter}. {each}" for letter, each in zip(LETTERS, self.choices, strict=False))
        return ("\n".join((self.text, *listed)),)


@dataclass(frozen=True)
class _QuestionsFile:
    questions: tuple[dict[str, object], ...]


def named(text: str) -> Path:
    """Return the list that a user named: one of ours, or a file."""
    return LISTS.get(text) or Path(text)


def load(path: Path = TUTORIAL) -> tuple[Question, ...]:
    """Read a list of questions; raise ConfigFailure or NotUtf8 saying what is wrong where.

    A name that ends in .csv or .jsonl is that of an exam, see `exams`.
    """
    from entrypoint.answers import exams  # which makes questions, too

    questions = exams.load(path) if exams.is_exam(path) else _read(path)
    twice = [name for name, count in Counter(each.id for each in questions).items() if count > 1]
    if twice:
        raise ConfigFailure(
            _("{path} has several questions called {names}.").format(
                path=path, names=", ".join(twice)
            ),
            next=_("Give each question an id of its own."),
        )
    return questions


def _read(path: Path) -> tuple[Question, ...]:
    """Read a TOML file."""
    tables = tomlfile.record(_QuestionsFile, tomlfile.read(path), str(path)).questions
    if not tables:
        raise ConfigFailure(
            _("{path} has no questions.").format(path=path),
            next=_('Write one as: [[questions]], id = "name", text = "..."'),
        )
    return tuple(
        _question(table, _("{path}, question {number}").format(path=path, number=n))
        for n, table in enumerate(tables, 1)
    )


def _question(table: dict[str, object], where: str) -> Question:
    question = tomlfile.record(Question, table, where)
    if bool(question.text) == bool(question.turns):
        raise ConfigFailure(
            _("{where} needs either the key {one} or the key {other}.").format(
                where=where, one="'text'", other="'turns'"
            )
        )
    for key, texts in (("id", (question.id,)), ("text", question.asks)):
        if not all(text.strip() for text in texts):
            raise ConfigFailure(_("{where}: {key} is empty.").format(where=where, key=key))
    patterns = [
        pattern
        for point in question.points
        for pattern in (point.about, point.must, point.never, point.maybe, point.formula)
    ]
    if question.checker:
        patterns.append(question.checker.prints)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigFailure(
                _("{where}: {pattern} is not a pattern: {error}").format(
                    where=where, pattern=repr(pattern), error=error
                )
            ) from None
    _require_points(question, where)
    letters = LETTERS[: len(question.choices)]
    if bool(question.choices) != bool(question.right) or set(question.right) - set(letters):
        raise ConfigFailure(
            _("{where}: {key} must name letters of the choices.").format(where=where, key="right")
        )
    return question


def _require_points(question: Question, where: str) -> None:
    """Refuse a point that needs itself, or one that the question does not have."""
    for number, point in enumerate(question.points, 1):
        if strange := [
            each
            for each in point.needs
            if each == number or each < 1 or each > len(question.points)
        ]:
            raise ConfigFailure(
                _("{where}: point {number} needs point {other}, which is not another one.").format(
                    where=where, number=number, other=strange[0]
                )
            )
