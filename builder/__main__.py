"""`python -m builder TASK`: Invoke with our exit codes and "did you mean"."""

from __future__ import annotations

import difflib
import sys
from importlib.metadata import version

from entrypoint.errors import Failure, UsageFailure
from entrypoint.language import _
from invoke import Collection, Program
from invoke.exceptions import ParseError
from invoke.parser import ParserContext


class Builder(Program):  # type: ignore[misc]  # invoke ships no complete types
    """Invoke's program; a mistyped task or option gets a suggestion."""

    def parse_tasks(self) -> None:
        try:
            super().parse_tasks()
        except ParseError as error:
            raise unknown_word(error, self.collection, self.core.unparsed) from None


def unknown_word(error: ParseError, tasks: Collection, words: list[str]) -> UsageFailure:
    """Turn invoke's parse error into ours, with the nearest task or option."""
    known: list[str] = list(tasks.task_names)
    context: ParserContext | None = error.context
    if context is not None:
        known += [f"--{name}" for name in context.flag_names() if len(name) > 2]
    near = [
        match for word in words for match in difflib.get_close_matches(word, known, n=1)
        if word not in known
    ]
    return UsageFailure(
        str(error),
        _("Did you mean {name}?").format(name=near[0]) if near else "",
        _("List all tasks with: ./llmdeploy --list"),
    )
