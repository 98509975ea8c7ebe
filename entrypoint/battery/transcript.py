"""Answers as others keep them, the tutorial's printed form and JSONL, and Markdown for people."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from entrypoint.answers import evalscope, exams, results
from entrypoint.answers.questions import Question
from entrypoint.answers.results import Answer, RecordedTurn, Run
from entrypoint.common import files
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _
from entrypoint.common.visible import visible

HEADING = "问题{number}："  # the tutorial's, whatever the user's language
# A line of JSONL: what was asked and what was answered, as we, EvalScope and data sets call it.
ASKED, SAID = ("question", "query", "prompt", "instruction"), ("answer", "response", "output")
PRINTED = re.compile(r"^问题[ \t]*(\d{1,6})[ \t]*[：:][ \t]*$", re.MULTILINE)


def read(path: Path, questions: Sequence[Question]) -> list[tuple[Question, str]]:
    """Read a transcript: the questions that it answers, and their answers.

    It is in the printed form, or JSONL if its name ends in .jsonl. Raises ConfigFailure or NotUtf8
    saying what is wrong.
    """
    return _lines(path, questions) if path.suffix.lower() == ".jsonl" else _printed(path, questions)


def _lines(path: Path, questions: Sequence[Question]) -> list[tuple[Question, str]]:
    """Read objects that name their question by its words or its `id`, or have EvalScope's form."""
    known = {each.id: each for each in questions} | {each.text.strip(): each for each in questions}
    known |= {"".join(each.asks): each for each in questions}
    answers: dict[str, tuple[Question, str]] = {}
    for where, row in exams.lines(path):
        text_of_question, answer = _exchange(row)
        question = known.get(text_of_question) or known.get(str(row.get("id", "")))
        if answer is None:
            raise ConfigFailure(
                _("{where} has no answer.").format(where=where),
                next=_("Its field is one of: {names}.").format(names=", ".join(SAID)),
            )
        if question is None:
            raise ConfigFailure(
                _("{where} answers no question of the list.").format(where=where),
                next=_("Name the questions that were asked: --questions FILE"),
            )
        if question.id in answers:
            raise ConfigFailure(
                _("{where} answers {name} a second time.").format(where=where, name=question.id)
            )
        answers[question.id] = question, answer
    if not answers:
        raise ConfigFailure(_("{path} has no answers.").format(path=path))
    return list(answers.values())


def _exchange(row: Mapping[str, object]) -> tuple[str, str | None]:
    """Return what was asked and what was answered, None if nothing was."""
    if evalscope.is_talk(row):
        return "".join(evalscope.question(row).asks), evalscope.answer(row)
    return _field(row, ASKED) or "", _field(row, SAID)


def _field(row: Mapping[str, object], names: Iterable[str]) -> str | None:
    """Return the first of these fields that is text, without blanks around it."""
    return next((value.strip() for each in names if isinstance(value := row.get(each), str)), None)


def _printed(path: Path, questions: Sequence[Question]) -> list[tuple[Question, str]]:
    """Read the printed form.

    A heading counts only if its number follows the last one's: an answer may quote a heading.
    """
    text = textwrap.dedent(files.text(path))
    headings: list[re.Match[str]] = []
    for match in PRINTED.finditer(text):
        if int(match[1]) == len(headings) + 1:
            headings.append(match)
    if not headings:
        raise ConfigFailure(
            _("{path} has no line {heading} to begin the first answer.").format(
                path=path, heading=HEADING.format(number=1)
            )
        )
    if len(headings) > len(questions):
        raise ConfigFailure(
            _("{path} has {count} answers; there are {known} questions.").format(
                path=path, count=len(headings), known=len(questions)
            ),
            next=_("Name the questions that were asked: --questions FILE"),
        )
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    answers = [
        text[heading.end() : end].strip() for heading, end in zip(headings, ends, strict=True)
    ]
    return list(zip(questions, answers, strict=False))  # the last ones may be missing


def write(folder: Path, answers: Iterable[Answer]) -> None:
    """Write `folder`/transcript.md anew, in one step; raise NotWritable or DiskFull."""
    files.write(folder / "transcript.md", visible(markdown(answers)).encode())


def markdown(answers: Iterable[Answer]) -> str:
    """Return the answers as Markdown: a chapter for each run, in order."""
    return "\n".join(
        _chapter(run) + "".join(_section(number, each) for number, each in enumerate(batch, 1))
        for run, batch in results.runs(answers).items()
    )


def _chapter(run: Run) -> str:
    options = asdict(run.options) | {"system": run.system or None} if run.options else {}
    facts = [
        *(f"`{file.sha256}`" for file in run.files),
        *((run.endpoint,) if run.endpoint else ()),
        run.engine,
        *(f"{name} {value}" for name, value in options.items() if value is not None),
    ]
    return f"# {run.model}\n\n{', '.join(facts)}\n"


def _section(number: int, answer: Answer) -> str:
    first, *more = answer.turns
    heading = f"\n## {HEADING.format(number=number)}{first.question}\n{_quoted(first)}"
    later = "".join(f"\n**{turn.question}**\n{_quoted(turn)}" for turn in more)
    return heading + later + (f"\n{answer.error}\n" if answer.error else "")


def _quoted(turn: RecordedTurn) -> str:
    """Quote, so that an answer's own headings and open code blocks stay inside it."""
    quotation = "".join(f"> {line}".rstrip() + "\n" for line in turn.answer.splitlines())
    if turn.usage is None or turn.seconds is None:
        return f"\n{quotation}"
    cost = _("{tokens} tokens in {seconds:.1f} s, {rate:.1f} tok/s, ended by {reason}").format(
        tokens=turn.usage.completion_tokens,
        seconds=turn.seconds,
        rate=turn.usage.rate,
        reason=turn.usage.finish_reason,
    )
    return f"\n{quotation}\n{cost}\n"
