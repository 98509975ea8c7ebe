"""What so few questions tell: how far a share may lie from the truth, and whether a lead is one.

Questions are what is drawn by chance. Points of one question hang together, so a question counts
once however many points it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb, sqrt

SURE = 0.05  # a result that equals have more rarely than this is no chance
NORMAL = 1.96  # standard deviations that hold 95 % of a normal distribution
TRUSTED = 0.4  # the kappa from which on a judge is better than none
FEWEST = 6  # questions that tell two models apart: of 5, all 5 still are chance


def interval(share: float, questions: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that so many questions gave (Wilson's).

    A bootstrap would say of four right answers that the truth is 100 % to 100 %.
    """
    square = NORMAL**2 / questions
    middle = (share + square / 2) / (1 + square)
    wide = sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - wide), min(1.0, middle + wide)


def tie(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Return how likely equals are to differ so much, question by question (a sign test).

    Both sequences have one value for each question, in the same order.
    """
    pairs = list(zip(mine, theirs, strict=True))
    better, worse = (sum(a > b for a, b in each) for each in (pairs, [p[::-1] for p in pairs]))
    tail = sum(comb(better + worse, n) for n in range(max(better, worse), better + worse + 1))
    return min(1.0, float(2 * tail / 2 ** (better + worse)))


def kappa(pairs: Sequence[tuple[float, float]]) -> float:
    """Return Cohen's kappa of two that decided the same things: 0 is chance, 1 full agreement.

    One who always says the same agrees by chance only.
    """
    agreement = sum(a == b for a, b in pairs) / len(pairs)
    one, other = (Counter(each) for each in zip(*pairs, strict=True))
    expected = sum(one[value] * other[value] for value in one) / len(pairs) ** 2
    return (agreement - expected) / (1 - expected) if expected < 1 else 0.0


def needed(questions: int) -> int:
    """Return on how many of so many questions, all of them decided, a model must do better."""
    return next(
        better
        for better in range(questions + 1)
        if 2 * better > questions
        and tie([1.0] * better + [0.0] * (questions - better), [0.5] * questions) < SURE
    )
