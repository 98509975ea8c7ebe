"""What the tests of the engines ask, and how they read the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from entrypoint.engines import Engine, Message, Options, Usage

SMALL = "smollm2-135m"
GREEDY = Options(temperature=0, max_tokens=24, seed=1)

Open = Callable[..., Engine]


def ask(text: str, *earlier: str) -> list[Message]:
    """Return a conversation: `earlier` is question, answer, question, answer..."""
    said = [*earlier, text]
    return [
        {"role": "assistant" if n % 2 else "user", "content": each} for n, each in enumerate(said)
    ]


def split(pieces: Iterable[str | Usage]) -> tuple[str, Usage]:
    *texts, usage = pieces
    assert isinstance(usage, Usage)
    assert all(isinstance(text, str) and text for text in texts)
    return "".join(map(str, texts)), usage


def answer(engine: Engine, messages: Sequence[Message], options: Options = GREEDY) -> str:
    return split(engine.stream(messages, options))[0]


def pid(engine: Engine) -> int:
    """Return the number of the process that an engine computes in: a child of ours, or this one."""
    child = getattr(engine, "_child", None)
    return child.pid if child else os.getpid()
