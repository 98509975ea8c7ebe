from collections.abc import Sequence
from dataclasses import replace

import pytest

from entrypoint.compare import advice, chance
from entrypoint.compare.checks import Check, Kind
from entrypoint.compare.report import (
    ComparedQuestion,
    Contender,
    Cost,
    Counted,
    Dimension,
    Judged,
    Marked,
    Reply,
    Score,
)

TEN = 10  # questions of one point each


def points(passed: int, total: int = TEN) -> Counted:
    """Return the count of a contender that is right about the first `passed` questions."""
    shares = tuple(float(n < passed) for n in range(total))
    return Counted(passed, total, 0, *chance.interval(passed / total, total), shares)


GOOD, BAD = Score(points(9)), Score(points(3))


def contender(name: str, rate: float | None = 50.0) -> Contender:
    return Contender(name, name, "", (), Cost(100, 200, 0.1, rate, rate, None, None))


def dimension(*scores: Score, name: str = "logic") -> Dimension:
    return Dimension(name, name, scores)


def said(
    dimensions: Sequence[Dimension],
    rates: Sequence[float | None] = (50.0, 50.0),
    questions: Sequence[ComparedQuestion] = (),
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
    assert said([dimension(Score(points(6, 16)), Score(points(0, 16)))]) == [
        "a Ahead in logic, but poor.",
        "a Nothing that was measured here speaks for a over the others.",
        "b Behind in logic.",
        "b Nothing that was measured here speaks for b over the others.",
    ]


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        (points(11, 20), points(10, 20)),  # two shares are too close
        (points(1, 1), points(0, 1)),  # one question says nothing
        (points(5, 5), points(0, 5)),  # nor do five
        (points(9), points(4)),
        (points(60, 100), points(53, 100)),  # no chance, and yet of no account
    ],
)
def test_a_difference_that_is_small_or_may_be_chance_is_none(mine: Counted, other: Counted) -> None:
    told = said([dimension(Score(mine), Score(other))])
    assert not [text for text in told if "Ahead" in text or "Behind" in text or "Choose" in text]


def test_what_is_good_or_poor_is_said_without_a_lead() -> None:
    assert said([dimension(GOOD, GOOD)])[0] == "a Good in logic."
    assert said([dimension(BAD, BAD)])[0] == "a Poor in logic."
    assert said([dimension(GOOD)], rates=[50.0]) == ["a Good in logic."]


def test_a_persons_marks_come_before_counted_points() -> None:
    first = Score(points(1), person=Marked(9, 6, (0.9,) * 6))
    second = Score(points(9), person=Marked(2, 6, (0.2,) * 6))
    assert said([dimension(first, second)])[0] == "a Ahead in logic."


def test_an_opinion_is_told_as_one_and_only_if_it_is_sure() -> None:
    sure, unsure = Judged(0.9, 0.7, 1.0, 10, 10), Judged(0.6, 0.4, 0.8, 10, 10)
    lost = Judged(0.1, 0.0, 0.3, 10, 10)
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


def test_an_opinion_on_few_questions_is_no_lead_however_many_pairs_it_had() -> None:
    few = [
        dimension(Score(judge=Judged(1, 0.57, 1, 30, 5)), Score(judge=Judged(0, 0, 0.43, 30, 5)))
    ]
    assert not [text for text in said(few) if "judge" in text or "Choose" in text]


def test_a_judge_does_not_overrule_what_was_counted() -> None:
    contrary = Judged(0.9, 0.7, 1.0, 10, 10)
    told = said([dimension(GOOD, Score(points(3), contrary))])
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


def test_the_lead_in_form_is_no_reason_to_choose_a_model() -> None:
    told = said([dimension(GOOD, BAD, name="form")])
    assert told[0] == "a Ahead in form."
    assert not [text for text in told if "Choose" in text]


def test_a_score_is_told_with_what_chance_leaves_of_it_and_what_is_open() -> None:
    assert advice.told(GOOD, "counted") == "9 of 10 points (60% to 98%)"
    left = Score(replace(points(9), open=2))
    assert advice.told(left, "counted") == "9 of 10 points (60% to 98%), 2 open"


def test_of_three_only_one_can_be_ahead() -> None:
    told = said([dimension(GOOD, BAD, GOOD)], [50.0, 50.0, 50.0])
    assert "b Behind in logic." in told
    assert not [text for text in told if "Ahead" in text]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("language", "Answers not in the language of the question: 1 of 2."),
        ("repetition", "Answers that go round in circles: 1 of 2."),
        ("whole", "Unfinished answers: 1 of 2."),
        ("format", "Answers not in the form asked for: 1 of 2."),
        ("program", "Programs that do not do what was asked: 1 of 2."),
    ],
)
def test_faults_are_counted_and_each_is_pointed_at(kind: Kind, text: str) -> None:
    def question(name: str, *, passed: bool | None) -> ComparedQuestion:
        check = Check(kind, "", passed, "", ("form",))
        return ComparedQuestion(
            1, name, ("?",), (), (), (Reply(("!",), (check,), {}, 1, 1.0, "stop", ""),)
        )

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
