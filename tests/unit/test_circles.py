"""Which texts go round in circles for sure, so that an answer is stopped: no useful one."""

import tomllib
from pathlib import Path

import pytest

from entrypoint.answers import circles

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
READ = [
    answer["text"]
    for name in ("labels", "third", "fourth", "fifth")
    for answer in tomllib.loads((HERE / f"{name}.toml").read_text(encoding="utf-8"))["answers"]
]
USEFUL = [text for text in READ if circles.share(text) <= circles.MOST]
ROUND = [text for text in READ if circles.share(text) > circles.MOST]
ZEROS = "[" + ", ".join(["[" + ", ".join("0" * 10) + "]"] * 10) + "]"
SUMS = "\n".join(f"{a} × {b} = {a * b}" for a in range(1, 10) for b in range(1, 10))
TABLE = "| 月份 | 收入 | 支出 |\n|---|---|---|\n" + "".join(
    f"| {month} 月 | 1000 元 | 800 元 |\n" for month in range(1, 25)
)


def stopped(text: str) -> int | None:
    """Return after how many characters a text that comes one by one is stopped."""
    watch = circles.Watch()
    return next((n for n, each in enumerate(text, 1) if watch.stuck(each)), None)


def test_no_answer_that_a_person_labelled_is_stopped_unless_most_of_it_is_old() -> None:
    assert len(USEFUL) > 350
    assert [text for text in USEFUL if stopped(text)] == []


def test_of_the_others_those_are_stopped_that_had_the_time_to_go_round() -> None:
    """They were cut at 400 tokens, which is too early to be sure of most of them."""
    assert sum(bool(stopped(text)) for text in ROUND) >= 5


@pytest.mark.parametrize(
    "text",
    [
        ZEROS,
        SUMS,
        TABLE,
        *(path.read_text("utf-8") for path in sorted(ROOT.glob("docs/launch/*.md"))),
    ],
)
def test_tables_sums_and_pages_go_on(text: str) -> None:
    assert stopped(text) is None


@pytest.mark.parametrize("path", sorted((ROOT / "entrypoint/answers").glob("*.py")))
def test_programs_go_on(path: Path) -> None:
    assert stopped(path.read_text("utf-8")) is None


def test_a_program_that_is_written_twice_goes_on() -> None:
    program = (ROOT / "entrypoint/answers/exams.py").read_text("utf-8")
    assert stopped(f"{program}\nOr once more, without comments:\n{program}") is None


@pytest.mark.parametrize(
    "passage", ["哈", "我看见一棵树，树上有一只鸟。", "To be sure, one goes on. " * 8]
)
def test_an_endless_circle_ends_soon_after_its_third_turn(passage: str) -> None:
    end = stopped(passage * 1000)
    assert end is not None
    assert end < 3 * len(passage) + 600


def test_pieces_of_any_length_are_read_alike() -> None:
    watch, text = circles.Watch(), "我看见一棵树，树上有一只鸟。" * 60
    assert watch.stuck(text)
    assert stopped(text)
