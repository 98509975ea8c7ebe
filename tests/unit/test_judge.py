import itertools
import json
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from entrypoint.answers.questions import Point
from entrypoint.common.errors import EngineCrashed, MessageTooLong
from entrypoint.compare import scores
from entrypoint.compare.judge import PATIENCE, Judge, Outcome, Verdict, Verdicts, read
from entrypoint.compare.report import ComparedQuestion, Reply
from entrypoint.engines import AnswerStream, Engine, Options, Prompt, Tokens, Usage

USAGE = Usage(9, 0, 1, 0.1, 50.0, "stop")
NAMES = ("good", "bad")

Opinion = Callable[[str], str]  # of a prompt; it may raise


class Oracle:
    """An engine whose answers are those of a function."""

    context = 1000

    def __init__(self, opinion: Opinion) -> None:
        self.opinion, self.asked, self.closed = opinion, 0, False

    def stream(self, prompt: Prompt, options: Options) -> AnswerStream:
        self.answer = AnswerStream(self._pieces(prompt, options))
        return self.answer

    def _pieces(self, prompt: Prompt, options: Options) -> Generator[str | Usage, None, None]:
        assert options.temperature == 0
        assert not isinstance(prompt, str | Tokens)
        self.asked += 1
        yield from self.opinion(prompt[-1]["content"])
        yield USAGE

    def close(self) -> None:
        self.closed = True


def question(name: str = "q", *dimensions: str) -> ComparedQuestion:
    replies = [Reply((text,), (), {}, 1, 1.0, "stop", "") for text in ("GOOD", "BAD")]
    points = (Point("the sky is blue"),)
    return ComparedQuestion(
        1, name, (f"{name}?",), ("fluency", *dimensions), points, tuple(replies)
    )


def better(prompt: str) -> str:
    return "A" if prompt.index("GOOD") < prompt.index("BAD") else "B"


@pytest.fixture
def hear(tmp_path: Path) -> Callable[..., tuple[list[Verdict], Judge, Oracle]]:
    """Return a function that has questions judged, with verdicts kept in one file."""

    def hear(
        opinion: Opinion,
        *questions: ComparedQuestion,
        name: str = "oracle",
        opened: Callable[[Oracle], None] = lambda _oracle: None,
    ) -> tuple[list[Verdict], Judge, Oracle]:
        oracle = Oracle(opinion)
        opened(oracle)
        open_: Callable[[], Engine] = lambda: oracle  # type: ignore[assignment,return-value] # noqa: E731
        judge = Judge(name, open_, Verdicts(tmp_path / "verdicts.jsonl"))
        verdicts = list(judge.hear(questions or (question(),), NAMES))
        judge.close()
        return verdicts, judge, oracle

    return hear


Hear = Callable[..., tuple[list[Verdict], Judge, Oracle]]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("A", "first"),
        ("B\n", "second"),
        ("c", "tie"),
        ("**A**", "first"),
        ("Answer: B.", "second"),
        ("答案：A", "first"),
        ("A更好", "first"),
        ("(B) because it is shorter", "second"),
        ("<answer-A>", "first"),
        ("", "unclear"),
        ("Both are fine.", "unclear"),
        ("A good question!", "unclear"),
        ("AB", "unclear"),
        ("D", "unclear"),
        ("Certainly: B", "unclear"),
        ("I cannot compare them.", "refused"),
        ("对不起，我无法判断。", "refused"),
    ],
)
def test_a_reply_counts_if_it_begins_with_a_letter(reply: str, outcome: Outcome) -> None:
    assert read(reply) == outcome


def test_what_a_judge_thinks_is_no_verdict(hear: Hear) -> None:
    verdicts, _judge, _oracle = hear(lambda _prompt: "<think>\nA? B?\n</think>\n\nC")
    assert {verdict.outcome for verdict in verdicts} == {"tie"}
    assert {verdict.reply for verdict in verdicts} == {"C"}


def test_each_pair_is_judged_in_both_orders_and_each_dimension(hear: Hear) -> None:
    verdicts, _judge, oracle = hear(better, question("q", "logic"), question("r"))
    assert [(each.question, each.dimension, each.first, each.outcome) for each in verdicts] == [
        ("q", "fluency", "good", "first"),
        ("q", "logic", "good", "first"),
        ("q", "fluency", "bad", "second"),
        ("q", "logic", "bad", "second"),
        ("r", "fluency", "good", "first"),
        ("r", "fluency", "bad", "second"),
    ]
    assert oracle.closed


def test_the_judge_sees_question_answers_what_is_right_and_the_criterion_last(hear: Hear) -> None:
    prompts: list[str] = []

    def listen(prompt: str) -> str:
        prompts.append(prompt)
        return "A"

    hear(listen)
    first, turned = prompts
    seen = [first.index(text) for text in ("q?", "the sky is blue", "GOOD", "BAD", "fluent")]
    assert seen == sorted(seen)
    assert turned.index("BAD") < turned.index("GOOD")


def test_a_verdict_that_flips_with_the_order_is_a_tie(hear: Hear) -> None:
    verdicts, judge, _oracle = hear(lambda _prompt: "A")
    judged = scores.judged(verdicts, "good", "fluency")
    assert judged
    assert (judged.rate, judged.pairs) == (0.5, 1)
    assert scores.judging(verdicts, judge.name, judge.reused, (), NAMES).flipped == 1


@pytest.mark.parametrize(
    ("outcome", "turned", "point"),
    [
        ("first", "second", 1),
        ("second", "first", 0),
        ("first", "first", 0.5),
        ("second", "second", 0.5),
        ("tie", "tie", 0.5),
        ("first", "tie", 0.5),
        ("unclear", "second", None),
        ("first", "refused", None),
        ("failed", "failed", None),
    ],
)
def test_two_verdicts_make_a_point_a_tie_or_nothing(
    outcome: Outcome, turned: Outcome, point: float | None
) -> None:
    pair = [Verdict("q", "logic", *NAMES, each, "", "j", "k") for each in (outcome, turned)]
    assert scores.decide(pair[0], pair[1]) == point


def test_a_judge_that_talks_nonsense_or_refuses_is_counted_and_decides_nothing(hear: Hear) -> None:
    replies = itertools.cycle(["Bananas.", "I'm sorry, no.", "A", "B"])
    verdicts, judge, _oracle = hear(lambda _prompt: next(replies), question("q"), question("r"))
    tally = scores.judging(verdicts, judge.name, judge.reused, (), NAMES)
    assert (tally.verdicts, tally.unclear, tally.refused, tally.failed) == (4, 1, 1, 0)
    assert tally.pairs == 1
    assert [each.reply for each in verdicts] == ["Bananas.", "I'm sorry, no.", "A", "B"]


def dead(_prompt: str) -> str:
    raise EngineCrashed("The judge did not answer within 60 s.")


def test_a_judge_that_keeps_failing_is_left_alone_and_asked_again_next_time(hear: Hear) -> None:
    verdicts, judge, oracle = hear(dead, question("q", "logic", "hard"))
    assert oracle.asked == PATIENCE
    assert {each.outcome for each in verdicts} == {"failed"}
    assert verdicts[0].reply == "The judge did not answer within 60 s."
    assert verdicts[-1].reply == "Not asked: the judge had failed 3 times in a row."
    assert scores.judging(verdicts, judge.name, judge.reused, (), NAMES).failed == 6
    verdicts, _judge, oracle = hear(better, question("q", "logic", "hard"))
    assert oracle.asked == 6
    assert {each.outcome for each in verdicts} == {"first", "second"}


def test_a_judge_that_takes_too_long_is_interrupted(
    hear: Hear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoint.compare.judge.LIMIT", 0.05)
    oracles: list[Oracle] = []

    def ponder(_prompt: str) -> str:
        for _step in range(500):
            if oracles[0].answer.hung_up:
                break
            time.sleep(0.01)
        return "A"

    verdicts, judge, oracle = hear(ponder, question(), opened=oracles.append)
    assert {each.outcome for each in verdicts} == {"failed"}
    assert verdicts[0].reply == "It took more than 0 seconds."
    assert scores.judging(verdicts, judge.name, judge.reused, (), NAMES).failed == 2
    assert oracle.asked == 2
    monkeypatch.setattr("entrypoint.compare.judge.LIMIT", 60)
    assert [each.outcome for each in hear(better)[0]] == ["first", "second"]


def test_answers_too_long_for_the_judge_do_not_tire_it(hear: Hear) -> None:
    def short_sighted(prompt: str) -> str:
        if "long" in prompt:
            raise MessageTooLong("too long")
        return better(prompt)

    verdicts, _judge, _oracle = hear(short_sighted, question("long", "logic"), question("q"))
    assert [each.outcome for each in verdicts] == ["failed"] * 4 + ["first", "second"]


def test_verdicts_are_kept_word_for_word_and_used_again(hear: Hear, tmp_path: Path) -> None:
    before, _judge, _oracle = hear(better)
    kept = (tmp_path / "verdicts.jsonl").read_text().splitlines()
    assert [json.loads(line)["reply"] for line in kept] == ["A", "B"]
    after, judge, oracle = hear(dead)
    assert (after, judge.reused, oracle.asked) == (before, 2, 0)


def test_another_judge_or_another_answer_is_judged_anew(hear: Hear) -> None:
    hear(better)
    _verdicts, _judge, oracle = hear(better, name="other")
    assert oracle.asked == 2
    _verdicts, _judge, oracle = hear(better, question("changed"))
    assert oracle.asked == 2


def test_a_verdict_cut_in_half_is_asked_again_and_the_next_line_is_whole(
    hear: Hear, tmp_path: Path
) -> None:
    hear(better)
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    _verdicts, judge, oracle = hear(better)
    assert (judge.reused, oracle.asked) == (1, 1)
    _verdicts, judge, oracle = hear(better)
    assert (judge.reused, oracle.asked) == (2, 0)


def test_the_interval_of_a_win_rate_is_wide_as_long_as_the_questions_are_few() -> None:
    def verdicts(wins: int, losses: int) -> list[Verdict]:
        outcomes: list[tuple[Outcome, Outcome]] = [("first", "second")] * wins
        outcomes += [("second", "first")] * losses
        return [
            Verdict(str(number), "logic", *order, outcome, "", "j", "k")
            for number, pair in enumerate(outcomes)
            for order, outcome in zip((NAMES, NAMES[::-1]), pair, strict=True)
        ]

    mixed = scores.judged(verdicts(7, 3), "good", "logic")
    assert mixed
    assert (mixed.rate, mixed.pairs, mixed.questions) == (0.7, 10, 10)
    assert (mixed.low, mixed.high) == pytest.approx((0.40, 0.89), abs=0.005)
    assert not mixed.sure
    sure = scores.judged(verdicts(10, 0), "good", "logic")
    assert sure
    assert (sure.rate, sure.low, sure.high) == pytest.approx((1, 0.72, 1), abs=0.005)
    assert sure.sure
    other = scores.judged(verdicts(7, 3), "bad", "logic")
    assert other
    assert other.rate == pytest.approx(1 - mixed.rate)
