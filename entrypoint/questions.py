"""Lists of questions for the battery: the tutorial's ten, or a person's own TOML file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from entrypoint import tomlfile
from entrypoint.errors import ConfigFailure
from entrypoint.language import _

TUTORIAL = Path(__file__).with_name("questions.toml")


@dataclass(frozen=True)
class Question:
    """One table [[questions]]: a name to find its answers by, and what is asked."""

    id: str
    text: str


@dataclass(frozen=True)
class _File:
    questions: tuple[dict[str, object], ...]


def load(path: Path = TUTORIAL) -> tuple[Question, ...]:
    """Read a list of questions; raise ConfigFailure or NotUtf8 saying what is wrong where."""
    tables = tomlfile.record(_File, tomlfile.read(path), str(path)).questions
    questions = tuple(
        tomlfile.record(Question, table, _("{path}, question {number}").format(path=path, number=n))
        for n, table in enumerate(tables, 1)
    )
    if not questions:
        raise ConfigFailure(
            _("{path} has no questions.").format(path=path),
            next=_('Write one as: [[questions]], id = "name", text = "..."'),
        )
    for n, question in enumerate(questions, 1):
        for key in ("id", "text"):
            if not getattr(question, key).strip():
                raise ConfigFailure(
                    _("{path}, question {number}: {key} is empty.").format(
                        path=path, number=n, key=key
                    )
                )
    twice = [name for name, count in Counter(each.id for each in questions).items() if count > 1]
    if twice:
        raise ConfigFailure(
            _("{path} has several questions called {names}.").format(
                path=path, names=", ".join(twice)
            ),
            next=_("Give each question an id of its own."),
        )
    return questions
