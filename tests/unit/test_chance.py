import random
from itertools import pairwise

import pytest

from entrypoint.compare import chance

DRAWS = 2000


@pytest.mark.parametrize(
    ("better", "worse", "even", "likely"),
    [
        (0, 0, 5, 1.0),
        (1, 1, 0, 1.0),
        (5, 0, 0, 0.0625),
        (6, 0, 90, 0.03125),
        (0, 6, 0, 0.03125),
        (9, 1, 0, 0.021484375),
        (900, 100, 0, 0.0),
    ],
)
def test_the_sign_test_is_that_of_the_tables(
    better: int, worse: int, even: int, likely: float
) -> None:
    pairs = [(1.0, 0.5)] * better + [(0.0, 0.5)] * worse + [(0.5, 0.5)] * even
    mine, theirs = zip(*pairs, strict=True)
    assert chance.tie(mine, theirs) == pytest.approx(likely, abs=1e-9)


def test_among_equals_a_lead_is_found_as_rarely_as_promised() -> None:
    draw = random.Random(1)  # noqa: S311 (nothing secret is drawn)
    leads = sum(
        chance.tie([draw.random() for _ in range(10)], [draw.random() for _ in range(10)])
        < chance.SURE
        for _ in range(DRAWS)
    )
    assert 0 < leads / DRAWS <= chance.SURE


def test_the_fewest_questions_that_can_tell_are_the_fewest() -> None:
    few, enough = (chance.tie([1.0] * n, [0.0] * n) for n in (chance.FEWEST - 1, chance.FEWEST))
    assert enough < chance.SURE <= few


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_more_questions_make_an_interval_narrower(share: float) -> None:
    widths = [high - low for low, high in (chance.interval(share, n) for n in (1, 4, 10, 1000))]
    assert all(more < fewer for fewer, more in pairwise(widths))
    low, high = chance.interval(share, 10)
    assert 0 <= low <= share <= high <= 1


def test_four_right_answers_leave_room_for_doubt() -> None:
    assert chance.interval(1.0, 4) == pytest.approx((0.51, 1.0), abs=0.001)


def test_kappa_is_what_agreement_is_beyond_chance() -> None:
    assert chance.kappa([(1, 1), (0, 0), (0.5, 0.5)]) == 1
    assert chance.kappa([(0.5, 1), (0.5, 0), (0.5, 0.5)]) == 0  # it always says the same
    assert chance.kappa([(1, 1)] * 3) == 0
    # Cohen's own way: 20 and 15 of 50 agree, 0.7 where 0.5 would by chance.
    table = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert chance.kappa([(float(a), float(b)) for a, b in table]) == pytest.approx(0.4)
