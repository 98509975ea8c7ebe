"""What the server of the engine ik does only because it is told so each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from entrypoint.common import catalog
from entrypoint.engines import Engine, Options, open_engine
from tests.conversations import GREEDY, SMALL, answer, ask, split

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine(ik_found: Path) -> Iterator[Engine]:
    model = catalog.load(ik_found).find(SMALL)
    with closing(open_engine(model, ik_found)) as engine:
        yield engine


def test_how_one_answer_is_chosen_does_not_hold_for_the_next(engine: Engine) -> None:
    question = ask("Name three colours.")
    nearly = Options(temperature=0.01, seed=1, max_tokens=24)
    assert answer(engine, question, GREEDY) == answer(engine, question, nearly)


def test_all_that_was_said_is_punished_and_not_the_last_word_alone(engine: Engine) -> None:
    text = "one two one two one two one"
    punished = replace(GREEDY, repeat_penalty=1.9)
    assert split(engine.stream(text, GREEDY))[0].count("two") > 4
    assert split(engine.stream(text, punished))[0].count("two") < 3
