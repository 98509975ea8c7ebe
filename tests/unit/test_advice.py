from collections.abc import Sequence

import pytest

from entrypoint.compare import advice
from entrypoint.compare.checks import Check, Kind
from entrypoint.compare.report import (
    Contender,
    Cost,
    Counted,
    Dimension,
    Judged,
    Marked,
    Question,
    Reply,
    Score,
)

GOOD, BAD = Score(Counted(9, 10)), Score(Counted(3, 10))


def contender(name: str, rate: float | None = 50.0) -> Contender:
    return Contender(name, (), Cost(100, 200, 0.1, rate, rate, None, None))


def dimension(*scores: Score, name: str = "logic") -> Dimension:
    return Dimension(name, name, scores)


def said(
    dimensions: Sequence[Dimension],
    rates: Sequence[float | None] = (50.0, 50.0),
    questions: Sequence[Question] = (),
) -> list[str]:
    contenders = [contender(name, rate) for name, rate in zip("abc", rates, strict=False)]
    found = advice.findings(contenders, dimensions, questions)
    return [f"{each.contender} {each.text}" for each in found]


def test_one_is_ahead_and_the_other_behind() -> None:
    assert said([dimension(GOOD, BAD)]) == [
        "a Ahead in logic.",
        "a Choose a for: logic.",
        "b Behind in logic.",
        "b Nothing that was measured here speaks for b over the others.",
    ]


def test_one_that_is_ahead_and_poor_is_not_recommended_for_it() -> None:
    assert said([dimension(BAD, Score(Counted(0, 10)))]) == [
        "a Ahead in logic, but poor.",
        "a Nothing that was measured here speaks for a over the others.",
        "b Behind in logic.",
        "b Nothing that was measured here speaks for b over the others.",
    ]


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        (Counted(11, 20), Counted(10, 20)),  # two shares are too close
        (Counted(1, 1), Counted(0, 1)),  # one point says nothing
        (Counted(60, 100), Counted(55, 100)),
    ],
)
def test_a_small_difference_is_none(mine: Counted, other: Counted) -> None:
    told = said([dimension(Score(mine), Score(other))])
    assert not [text for text in told if "Ahead" in text or "Behind" in text or "Choose" in text]


def test_what_is_good_or_poor_is_said_without_a_lead() -> None:
    assert said([dimension(GOOD, GOOD)])[0] == "a Good in logic."
    assert said([dimension(BAD, BAD)])[0] == "a Poor in logic."
    assert said([dimension(GOOD)], rates=[50.0]) == ["a Good in logic."]


def test_a_persons_marks_come_before_counted_points() -> None:
    first = Score(Counted(1, 10), person=Marked(9, 1))
    second = Score(Counted(9, 10), person=Marked(2, 1))
    assert said([dimension(first, second)])[0] == "a Ahead in logic."


def test_an_opinion_is_told_as_one_and_only_if_it_is_sure() -> None:
    sure, unsure = Judged(0.9, 0.7, 1.0, 10), Judged(0.6, 0.4, 0.8, 10)
    lost = Judged(0.1, 0.0, 0.3, 10)
    assert said([dimension(Score(judge=sure), Score(judge=lost))]) == [
        "a The judge prefers it in logic.",
        "a Choose a for: logic.",
        "b The judge prefers others in logic.",
        "b Nothing that was measured here speaks for b over the others.",
    ]
    assert not [
        text
        for text in said([dimension(Score(judge=unsure), Score(judge=unsure))])
        if "judge" in text
    ]


def test_a_judge_does_not_overrule_what_was_counted() -> None:
    contrary = Judged(0.9, 0.7, 1.0, 10)
    told = said([dimension(GOOD, Score(Counted(3, 10), contrary))])
    assert "a Ahead in logic." in told
    assert "b The judge prefers it in logic." in told
    assert "b Choose b for: logic." not in told


def test_the_fastest_is_chosen_for_speed_unless_its_answers_are_poor() -> None:
    even = [dimension(GOOD, GOOD)]
    assert said(even, [80.0, 50.0])[1:3] == [
        "a Fastest.",
        "a Choose a where answers must come fast.",
    ]
    assert "b Slower than the fastest." in said(even, [80.0, 50.0])
    poor = said([dimension(BAD, GOOD)], [80.0, 50.0])
    assert "a a is fast, but choose it only where poor answers do no harm." in poor
    assert not [text for text in said(even, [55.0, 50.0]) if "ast" in text]


def test_speed_that_nobody_measured_is_not_compared() -> None:
    assert not [text for text in said([dimension(GOOD, GOOD)], [80.0, None]) if "ast" in text]


def test_of_three_only_one_can_be_ahead() -> None:
    told = said([dimension(GOOD, BAD, GOOD)], [50.0, 50.0, 50.0])
    assert "b Behind in logic." in told
    assert not [text for text in told if "Ahead" in text]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("language", "Answers not in the language of the question: 1 of 2."),
        ("repetition", "Answers that go round in circles: 1 of 2."),
        ("whole", "Answers that do not come to their end: 1 of 2."),
        ("format", "Answers not in the form asked for: 1 of 2."),
        ("program", "Programs that do not do what was asked: 1 of 2."),
    ],
)
def test_faults_are_counted_and_each_is_pointed_at(kind: Kind, text: str) -> None:
    def question(name: str, *, passed: bool | None) -> Question:
        check = Check(kind, "", passed, "", ("fluency",))
        return Question(name, ("?",), (), (), (Reply(("!",), (check,), {}, 1, 1.0, "stop", ""),))

    questions = [
        question("p", passed=True),
        question("q", passed=False),
        question("r", passed=None),
    ]
    (found,) = advice.findings([contender("a")], [], questions)
    assert (found.kind, found.text) == ("weakness", text)
    assert [(each.path, each.text) for each in found.evidence] == [
        ("/questions/1/replies/0/checks/0/passed", "q")
    ]
