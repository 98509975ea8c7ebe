"""From checks, marks and verdicts to one score for each contender and dimension."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from entrypoint.common.language import _
from entrypoint.compare import chance
from entrypoint.compare.judge import Verdict
from entrypoint.compare.report import (
    ComparedQuestion,
    Counted,
    Dimension,
    Judged,
    Judging,
    Marked,
    Reply,
    Score,
)

if TYPE_CHECKING:
    from entrypoint.compare.checks import Check

ALL = "all"  # what is right, whatever dimension it counts for


def dimensions(
    questions: Sequence[ComparedQuestion], contenders: Sequence[str], verdicts: Sequence[Verdict]
) -> tuple[Dimension, ...]:
    """Return the scores of all contenders: in all, in form, in the tutorial's five dimensions."""
    titles = {
        ALL: _("all questions together"),
        "form": _("form (language, repetition, completeness)"),
        "fluency": _("fluency and readability"),
        "hard": _("hard problems"),
        "humour": _("humour and creativity"),
        "accuracy": _("accuracy and knowledge"),
        "logic": _("consistency and logic"),
    }
    return tuple(
        Dimension(
            name,
            title,
            tuple(
                Score(
                    counted(questions, place, name),
                    judged(verdicts, contender, name),
                    marked(questions, place, name),
                )
                for place, contender in enumerate(contenders)
            ),
        )
        for name, title in titles.items()
    )


def counted(
    questions: Sequence[ComparedQuestion], contender: int, dimension: str
) -> Counted | None:
    """Return the points that a contender's answers made in a dimension, None without a check."""
    replies = [question.replies[contender].every for question in questions]
    checks = [
        [check for reply in every for check in reply.checks if _counts(check, dimension)]
        for every in replies
    ]
    outcomes = [check.passed for some in checks for check in some if check.passed is not None]
    if not outcomes:
        return None
    checked_questions = sum(any(check.passed is not None for check in some) for some in checks)
    share = sum(outcomes) / len(outcomes)
    return Counted(
        passed=sum(outcomes),
        total=len(outcomes),
        open=sum(map(len, checks)) - len(outcomes),
        **dict(zip(("low", "high"), chance.interval(share, checked_questions), strict=True)),
        shares=tuple(_shares(questions, contender, dimension)),
        repeats=tuple(_repeats(replies, dimension)),
    )


def _repeats(replies: Sequence[Sequence[Reply]], dimension: str) -> Iterator[float]:
    """Yield the share of each repetition, of those that answered every question; none of one."""
    for repetition in zip(*replies, strict=False):
        outcomes = [
            check.passed
            for reply in repetition
            for check in reply.checks
            if _counts(check, dimension) and check.passed is not None
        ]
        if outcomes and len(min(replies, key=len)) > 1:
            yield sum(outcomes) / len(outcomes)


def _counts(check: Check, dimension: str) -> bool:
    """Tell whether a check counts for a dimension; the form is no part of all that is right."""
    return dimension in check.dimensions or (dimension == ALL and "form" not in check.dimensions)


def _shares(
    questions: Sequence[ComparedQuestion], contender: int, dimension: str
) -> Iterator[float]:
    """Yield a contender's share of each question's points, of those that are counted for all."""
    for question in questions:
        rows = zip(*(_means(reply) for reply in question.replies), strict=True)
        outcomes = [
            row[contender]
            for check, row in zip(question.replies[contender].checks, rows, strict=True)
            if _counts(check, dimension) and all(each is not None for each in row)
        ]
        if outcomes:
            yield sum(filter(None, outcomes)) / len(outcomes)


def _means(reply: Reply) -> Iterator[float | None]:
    """Yield how often each check was passed, over all repetitions; None if that is open in all."""
    for checks in zip(*(each.checks for each in reply.every), strict=True):
        outcomes = [check.passed for check in checks if check.passed is not None]
        yield sum(outcomes) / len(outcomes) if outcomes else None


def marked(questions: Sequence[ComparedQuestion], contender: int, dimension: str) -> Marked | None:
    """Return the mean of a person's marks, of the questions where every contender has one."""
    marks = [
        question.replies[contender].marks[dimension]
        for question in questions
        if all(dimension in reply.marks for reply in question.replies)
    ]
    if not marks:
        return None
    return Marked(sum(marks) / len(marks), len(marks), tuple(mark / 10 for mark in marks))


def decide(verdict: Verdict, turned: Verdict) -> float | None:
    """Return what the first contender of `verdict` gets of a point, None if it is not decided.

    `turned` is the verdict on the same answers in the other order. Two that contradict each other
    are a tie.
    """
    value = {"first": 1.0, "tie": 0.5, "second": 0.0}
    if verdict.outcome not in value or turned.outcome not in value:
        return None
    mean = (value[verdict.outcome] + 1 - value[turned.outcome]) / 2
    return mean if mean in (0, 1) else 0.5


def judged(verdicts: Sequence[Verdict], contender: str, dimension: str) -> Judged | None:
    """Return a contender's win rate in a dimension over all pairs that were decided."""
    known = {
        (each.question, each.first, each.second): each
        for each in verdicts
        if each.dimension == dimension
    }
    points: dict[str, list[float]] = {}  # by question, as pairs of one hang together
    for (question, first, second), verdict in known.items():
        if first == contender:
            point = decide(verdict, known[question, second, first])
            if point is not None:
                points.setdefault(question, []).append(point)
    if not points:
        return None
    every = [point for some in points.values() for point in some]
    rate = sum(every) / len(every)
    return Judged(rate, *chance.interval(rate, len(points)), len(every), len(points))


def judging(
    verdicts: Sequence[Verdict],
    judge: str,
    reused: int,
    questions: Sequence[ComparedQuestion],
    contenders: Sequence[str],
) -> Judging:
    """Return the tally of a judge's verdicts, and how far they agree with what was counted."""
    known = {(each.question, each.dimension, each.first, each.second): each for each in verdicts}
    outcomes = [each.outcome for each in verdicts]
    pairs = [
        (verdict, known[question, dimension, second, first])
        for (question, dimension, first, second), verdict in known.items()
        if first < second and (question, dimension, second, first) in known
    ]
    either = outcomes.count("first") + outcomes.count("second")
    beside = list(_beside(pairs, questions, contenders))
    return Judging(
        judge=judge,
        verdicts=len(verdicts),
        reused=reused,
        unclear=outcomes.count("unclear"),
        refused=outcomes.count("refused"),
        failed=outcomes.count("failed"),
        pairs=sum(decide(*pair) is not None for pair in pairs),
        flipped=sum({a.outcome, b.outcome} in ({"first"}, {"second"}) for a, b in pairs),
        measured=len(beside),
        agreement=sum(a == b for a, b in beside) / len(beside) if beside else None,
        kappa=chance.kappa(beside) if beside else None,
        first=outcomes.count("first") / either if either else None,
    )


def _beside(
    pairs: Iterable[tuple[Verdict, Verdict]],
    questions: Sequence[ComparedQuestion],
    contenders: Sequence[str],
) -> Iterator[tuple[float, float]]:
    """Yield what the judge gives the first of two answers, and what their points give it.

    Both are 1, 0 or, for a tie, 0.5. How an answer reads is nothing that points could tell.
    """
    known = {question.id: question for question in questions}
    for verdict, turned in pairs:
        opinion = decide(verdict, turned)
        if opinion is None or verdict.dimension == "fluency":
            continue
        places = (contenders.index(verdict.first), contenders.index(verdict.second))
        shares = [next(_shares([known[verdict.question]], place, ALL), None) for place in places]
        if shares[0] is not None and shares[1] is not None:
            yield opinion, (1 + (shares[0] > shares[1]) - (shares[0] < shares[1])) / 2
