"""What a comparison found: plain data that report.json holds, and the page and the text show.

The three sources of a score stay apart. Points are counted by programs, opinions are a judge's,
marks are a person's; the best that every contender has is what contenders are compared by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from entrypoint.answers.questions import Point
from entrypoint.compare import chance

if TYPE_CHECKING:
    from entrypoint.compare.checks import Check

SCHEMA = 1
EVEN = 0.5  # the win rate of one as good as the others

Source: TypeAlias = Literal["person", "counted", "judge"]
Sort: TypeAlias = Literal["strength", "weakness", "advice"]


@dataclass(frozen=True)
class Counted:
    """Points: `passed` of `total` checks, and how many stay `open` and count for nothing.

    From `low` to `high` is the 95 % interval of their share over questions. `shares` has one of
    each question, of the points that are counted for all contenders. Where the battery repeated its
    questions, `repeats` has the share of each repetition, and the other figures are of all of them.
    """

    passed: int
    total: int
    open: int
    low: float
    high: float
    shares: tuple[float, ...]
    repeats: tuple[float, ...] = ()


@dataclass(frozen=True)
class Judged:
    """A judge's opinion: the share of pairs won, a tie counting half, and its 95 % interval.

    The `pairs` are of so many `questions`.
    """

    rate: float
    low: float
    high: float
    pairs: int
    questions: int

    @property
    def sure(self) -> bool:
        """Whether so many questions tell this opinion from chance."""
        return self.questions >= chance.FEWEST and not self.low <= EVEN <= self.high


@dataclass(frozen=True)
class Marked:
    """A person's opinion: the mean of marks from 0 to 10, and each one's tenth in `shares`."""

    mean: float
    marks: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Score:
    """One contender in one dimension; None where a source says nothing."""

    counted: Counted | None = None
    judge: Judged | None = None
    person: Marked | None = None

    def share(self, source: Source | None) -> float | None:
        """Return what `source` says, from 0 to 1."""
        if source == "person" and self.person:
            return self.person.mean / 10
        if source == "counted" and self.counted:
            return self.counted.passed / self.counted.total
        if source == "judge" and self.judge:
            return self.judge.rate
        return None

    def shares(self, source: Source) -> tuple[float, ...]:
        """Return what `source` says of each question that all contenders can be compared by."""
        known = {"person": self.person, "counted": self.counted}.get(source)
        return known.shares if known else ()


@dataclass(frozen=True)
class Dimension:
    """One of the tutorial's five, the form, or all; `scores` are in the contenders' order."""

    name: str
    title: str
    scores: tuple[Score, ...]

    @property
    def source(self) -> Source | None:
        """The source that contenders are compared by: a person's word before counted points."""
        known: Sequence[Source] = ("person", "counted", "judge")
        return next(
            (each for each in known if all(s.share(each) is not None for s in self.scores)), None
        )


@dataclass(frozen=True)
class Cost:
    """What a contender's answers to the compared questions took; None where nobody measured.

    `tokens` are those of all answers, `characters` those of a mean one. `first_token` is a median
    in seconds, `rate` the median of one answer's tokens a second, `throughput` that of all while
    any was computed, `memory` the most that was taken, in bytes, `price` the RMB for a million
    tokens of answers.
    """

    tokens: int | None
    characters: int
    first_token: float | None
    rate: float | None
    throughput: float | None
    memory: int | None
    price: float | None


@dataclass(frozen=True)
class Contender:
    """One model in one setting; `name` is unique in the report, `facts` are for people.

    `machine` is where it answered, "" if that is not known.
    """

    name: str
    model: str
    machine: str
    facts: tuple[tuple[str, str], ...]
    cost: Cost


@dataclass(frozen=True)
class Reply:
    """What one contender answered, turn by turn; `error` tells why it broke off, if it did.

    `again` is what it answered with other seeds, where the battery repeated its questions.
    """

    turns: tuple[str, ...]
    checks: tuple[Check, ...]
    marks: dict[str, float]  # dimension -> a person's mark, 0 to 10
    tokens: int
    seconds: float
    finish_reason: str
    error: str
    again: tuple[Reply, ...] = ()

    @property
    def every(self) -> tuple[Reply, ...]:
        """It and those with other seeds."""
        return (self, *self.again)


@dataclass(frozen=True)
class ComparedQuestion:
    """A question that all contenders answered, turn by turn; `replies` are in their order.

    `number` is its place in the list of questions, from 1.
    """

    number: int
    id: str
    turns: tuple[str, ...]
    dimensions: tuple[str, ...]
    points: tuple[Point, ...]
    replies: tuple[Reply, ...]


@dataclass(frozen=True)
class Evidence:
    """A number that a sentence stands on: `path` is its JSON pointer in report.json."""

    path: str
    text: str


@dataclass(frozen=True)
class Finding:
    """A sentence of the report and the numbers that it was written from."""

    kind: Sort
    contender: str
    text: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Judging:
    """Who judged, and what became of the verdicts.

    `unclear`, `refused` and `failed` verdicts decide nothing. `pairs` were decided, of which
    `flipped` had their verdict turned with the order and count as ties. `measured` are the pairs
    that points were counted for: in the share `agreement` of them the judge says what the points
    say, and `kappa` (Cohen's) is what of that is no chance. Of the verdicts for one of two answers
    `first` is the share of those for the one shown first. None where nothing can be measured.
    """

    judge: str
    verdicts: int
    reused: int
    unclear: int
    refused: int
    failed: int
    pairs: int
    flipped: int
    measured: int
    agreement: float | None
    kappa: float | None
    first: float | None


@dataclass(frozen=True)
class Report:
    """The whole comparison."""

    schema: int
    contenders: tuple[Contender, ...]
    dimensions: tuple[Dimension, ...]
    questions: tuple[ComparedQuestion, ...]
    findings: tuple[Finding, ...]
    judging: Judging | None
    notes: tuple[str, ...]
