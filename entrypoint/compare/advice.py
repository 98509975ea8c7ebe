"""Strengths, weaknesses and advice: plain rules, and every sentence carries its numbers.

A rule says nothing where the difference is small or may be chance. A judge's opinion is told as
one, and only where its interval leaves out the even half.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from entrypoint.common.language import _
from entrypoint.compare import chance
from entrypoint.compare.report import (
    EVEN,
    ComparedQuestion,
    Contender,
    Dimension,
    Evidence,
    Finding,
    Reply,
    Score,
    Sort,
    Source,
)

if TYPE_CHECKING:
    from entrypoint.compare.checks import Kind

LEAD = 0.1  # the difference of two shares that counts as one
GOOD, POOR = 0.75, 0.4  # shares that are good or poor whatever the others have
FASTER = 1.25  # the ratio of two speeds that counts as a difference
SORTS: tuple[Sort, ...] = ("strength", "weakness", "advice")


def findings(
    contenders: Sequence[Contender],
    dimensions: Sequence[Dimension],
    questions: Sequence[ComparedQuestion],
) -> tuple[Finding, ...]:
    """Return what the rules say of each contender in turn, the good before the bad."""
    names = [each.name for each in contenders]
    found: list[Finding] = []
    for place in range(len(contenders)):
        mine: list[Finding] = []
        for number, dimension in enumerate(dimensions):
            mine += _points(names, number, dimension, place)
            mine += _opinion(names, number, dimension, place)
        mine += _speed(contenders, place)
        mine += _faults(names, questions, place)
        mine += _choice(contenders, dimensions, place)
        found += sorted(mine, key=lambda each: SORTS.index(each.kind))
    return tuple(found)


def told(score: Score, source: Source) -> str:
    """Write what a source says of a score; a dash where it says nothing."""
    if source == "person" and score.person:
        return _("{mean:.1f} of 10").format(mean=score.person.mean)
    if source == "judge" and score.judge:
        return _("{rate:.0%} ({low:.0%} to {high:.0%})").format(
            rate=score.judge.rate, low=score.judge.low, high=score.judge.high
        )
    if source == "counted" and score.counted:
        points = _("{passed} of {total} points ({low:.0%} to {high:.0%})").format(
            **{key: getattr(score.counted, key) for key in ("passed", "total", "low", "high")}
        )
        more = [_("{n} open").format(n=score.counted.open)] if score.counted.open else []
        if repeats := score.counted.repeats:
            more.append(
                _("{n} repetitions: {low:.0%} to {high:.0%}").format(
                    n=len(repeats), low=min(repeats), high=max(repeats)
                )
            )
        return ", ".join((points, *more))
    return "-"


def leads(score: Score, other: Score, source: Source | None) -> bool:
    """Tell whether a score is better than another by a difference that counts and is no chance."""
    if source is None:
        return False
    if source == "judge":
        return score.judge is not None and score.judge.sure and score.judge.rate > EVEN
    far = (score.share(source) or 0.0) >= (other.share(source) or 0.0) + LEAD
    return far and chance.tie(score.shares(source), other.shares(source)) < chance.SURE


def leader(dimension: Dimension) -> int | None:
    """Return the place of the contender that leads all others, if one does."""
    for place, score in enumerate(dimension.scores):
        others = [each for n, each in enumerate(dimension.scores) if n != place]
        if others and all(leads(score, each, dimension.source) for each in others):
            return place
    return None


def _points(
    names: Sequence[str], number: int, dimension: Dimension, place: int
) -> Iterator[Finding]:
    """Compare counted points, or a person's marks where there are any."""
    source, scores = dimension.source, dimension.scores
    if source is None or source == "judge":
        return
    shares = [score.share(source) or 0.0 for score in scores]
    rivals = [each for each in range(len(names)) if each != place]
    best = max(rivals, key=shares.__getitem__, default=place)
    kind: Sort
    if leader(dimension) == place:
        ahead, poor = _("Ahead in {dimension}."), _("Ahead in {dimension}, but poor.")
        kind, text = "strength", poor if shares[place] <= POOR else ahead
    elif leads(scores[best], scores[place], source):
        kind, text = "weakness", _("Behind in {dimension}.")
    elif len(scores[place].shares(source)) < chance.FEWEST:
        return
    elif shares[place] >= GOOD:
        kind, text = "strength", _("Good in {dimension}.")
    elif shares[place] <= POOR:
        kind, text = "weakness", _("Poor in {dimension}.")
    else:
        return
    evidence = (
        _score(names[each], number, dimension, each, source)
        for each in dict.fromkeys((place, best))
    )
    yield Finding(kind, names[place], text.format(dimension=dimension.title), tuple(evidence))


def _opinion(
    names: Sequence[str], number: int, dimension: Dimension, place: int
) -> Iterator[Finding]:
    """Tell a judge's opinion where it is surer than chance."""
    judged = dimension.scores[place].judge
    if judged is None or not judged.sure:
        return
    kind: Sort
    if judged.rate > EVEN:
        kind, text = "strength", _("The judge prefers it in {dimension}.")
    else:
        kind, text = "weakness", _("The judge prefers others in {dimension}.")
    evidence = (_score(names[place], number, dimension, place, "judge"),)
    yield Finding(kind, names[place], text.format(dimension=dimension.title), evidence)


def _speed(contenders: Sequence[Contender], place: int) -> Iterator[Finding]:
    """Compare tokens a second."""
    rates = [contender.cost.rate or 0.0 for contender in contenders]
    rivals = [
        each
        for each, other in enumerate(contenders)
        if each != place and rates[each] and _comparable(other, contenders[place])
    ]
    if not rivals or not rates[place]:
        return
    best = max(rivals, key=rates.__getitem__)
    kind: Sort
    if rates[place] >= rates[best] * FASTER:
        kind, text = "strength", _("Fastest.")
    elif rates[place] * FASTER <= rates[best]:
        kind, text = "weakness", _("Slower than the fastest.")
    else:
        return
    evidence = (_rate(contenders, place), _rate(contenders, best))
    yield Finding(kind, contenders[place].name, text, evidence)


def _comparable(one: Contender, other: Contender) -> bool:
    """Tell whether two speeds differ by one thing only: the model, or the machine."""
    return one.machine == other.machine or one.model == other.model


def _faults(
    names: Sequence[str], questions: Sequence[ComparedQuestion], place: int
) -> Iterator[Finding]:
    """Count what is wrong with the shape of answers."""
    texts: dict[Kind, str] = {
        "language": _("Answers not in the language of the question: {n} of {all}."),
        "repetition": _("Answers that go round in circles: {n} of {all}."),
        "whole": _("Unfinished answers: {n} of {all}."),
        "format": _("Answers not in the form asked for: {n} of {all}."),
        "program": _("Programs that do not do what was asked: {n} of {all}."),
    }
    for kind, text in texts.items():
        outcomes = [
            (
                Evidence(pointer("questions", n, *steps, "checks", k, "passed"), question.id),
                check,
            )
            for n, question in enumerate(questions)
            for steps, reply in _replies(question, place)
            for k, check in enumerate(reply.checks)
            if check.kind == kind and check.passed is not None
        ]
        failed = [evidence for evidence, check in outcomes if not check.passed]
        if failed:
            yield Finding(
                "weakness",
                names[place],
                text.format(n=len(failed), all=len(outcomes)),
                tuple(failed),
            )


def _replies(
    question: ComparedQuestion, place: int
) -> Iterator[tuple[tuple[str | int, ...], Reply]]:
    """Yield a contender's answers to a question, and the steps that lead to each."""
    reply = question.replies[place]
    yield ("replies", place), reply
    for number, each in enumerate(reply.again):
        yield ("replies", place, "again", number), each


def _choice(
    contenders: Sequence[Contender], dimensions: Sequence[Dimension], place: int
) -> Iterator[Finding]:
    """Say what a contender is the one to choose for."""
    if len(contenders) == 1:
        return
    name = contenders[place].name
    compared = {n: each for n, each in enumerate(dimensions) if each.source}
    mine = {n: _score(each.title, n, each, place) for n, each in compared.items()}
    poor = [
        n for n, each in compared.items() if (each.scores[place].share(each.source) or 0) <= POOR
    ]
    ahead = [
        n
        for n, each in compared.items()
        if each.name != "form" and n not in poor and leader(each) == place
    ]
    if ahead:
        listed = _(", ").join(dimensions[n].title for n in ahead)
        text = _("Choose {name} for: {dimensions}.").format(name=name, dimensions=listed)
        yield Finding("advice", name, text, tuple(mine[n] for n in ahead))
    fast = any(each.kind == "strength" for each in _speed(contenders, place))
    if fast:
        if len(poor) * 2 >= len(compared) > 0:
            text = _("{name} is fast, but choose it only where poor answers do no harm.")
        else:
            text, poor = _("Choose {name} where answers must come fast."), []
        evidence = (_rate(contenders, place), *(mine[n] for n in poor))
        yield Finding("advice", name, text.format(name=name), evidence)
    if not ahead and not fast:
        text = _("Nothing that was measured here speaks for {name} over the others.")
        yield Finding("advice", name, text.format(name=name), tuple(mine.values()))


def _score(
    label: str, number: int, dimension: Dimension, place: int, source: Source | None = None
) -> Evidence:
    """Point at a contender's score in a dimension; by default at the one that is compared."""
    source = source or dimension.source or "counted"
    return Evidence(
        pointer("dimensions", number, "scores", place, source),
        f"{label}: {told(dimension.scores[place], source)}",
    )


def _rate(contenders: Sequence[Contender], place: int) -> Evidence:
    text = _("{name}: {rate:.1f} tokens a second").format(
        name=contenders[place].name, rate=contenders[place].cost.rate
    )
    return Evidence(pointer("contenders", place, "cost", "rate"), text)


def pointer(*steps: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a number in report.json."""
    return "".join(f"/{step}" for step in steps)
