"""What is typed after `llmdeploy`: a parser that fails as everything here does, shared options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

from entrypoint.common.catalog import thought
from entrypoint.common.errors import UsageFailure
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean

Number = TypeVar("Number", int, float)


argparse._ = _  # type: ignore[attr-defined]  # its own texts come from our catalogue too


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is a UsageFailure and options are never abbreviated."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise UsageFailure, with a suggestion if a typed word is nearly a known one."""
        typed = (word.partition("=")[0] for word in sys.argv[1:])
        raise UsageFailure(
            message,
            did_you_mean(_words(self), *typed),
            _("See what there is with: {program} --help").format(program=self.prog),
        )


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 (it has no public name)


def _words(parser: argparse.ArgumentParser) -> Iterable[str]:
    """Yield all options and commands that `parser` knows, those of its commands included."""
    for action in parser._actions:  # noqa: SLF001
        yield from (option for option in action.option_strings if len(option) > len("-x"))
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for name, command in action.choices.items():
                yield name
                yield from _words(command)


def between(kind: Callable[[str], Number], low: Number, high: Number) -> Callable[[str], Number]:
    """Return an argparse type that reads a number from `low` to `high`, both included."""

    def read(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(
                _("{text} is not a number from {low} to {high}.").format(
                    text=repr(text), low=low, high=high
                )
            )
        return value

    return read


def _thought(text: str) -> int:
    """Read how much a model may think; raise ArgumentTypeError for anything else."""
    try:
        return thought(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            _("{text} is neither on nor off nor a number of tokens.").format(text=repr(text))
        ) from None


THINK: Final = "think"  # an option of models that can be told so
# How each setting is read, on the command line and by /set.
SAMPLING: dict[str, Callable[[str], float | int]] = {
    "temperature": between(float, 0, 2),
    "top_p": between(float, 0.001, 1),
    "top_k": between(int, 0, 1_000_000),
    "min_p": between(float, 0, 1),
    "repeat_penalty": between(float, 0.01, 2),
    "max_tokens": between(int, 1, 1_000_000),
    "seed": between(int, 0, 2**32 - 2),  # one more is llama.cpp's "choose one"
    THINK: _thought,
}


def add_sampling(parser: Parser, max_tokens: int | None) -> None:
    """Add the options that say how an answer is sampled, of `max_tokens` unless set otherwise."""
    texts = {
        "temperature": _("0 always picks the likeliest token; 2 is very random"),
        "top_p": _("sample among the likeliest tokens up to this total probability"),
        "top_k": _("sample among this many of the likeliest tokens; 0: among all"),
        "min_p": _("leave out tokens below this share of the likeliest one's probability; 0: none"),
        "repeat_penalty": _("divide the scores of repeated tokens by this; 1: do not"),
        "max_tokens": _("token limit of each answer (default {default})").format(
            default=max_tokens
        ),
        "seed": _("same seed, same model, same questions: same answers"),
        THINK: _("on, off, or how many tokens a model that thinks may do so before it answers"),
    }
    for name, read in SAMPLING.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=read, metavar="N", help=texts[name])


def sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return those of `add_sampling`'s options that were set, as Options has them."""
    values = {name: getattr(arguments, name) for name in SAMPLING}
    return {name: value for name, value in values.items() if value is not None}


def models_folder() -> Path:
    """Return the folder of catalog.json: LLMDEPLOY_MODELS, or /models as in the image."""
    return Path(os.environ.get("LLMDEPLOY_MODELS") or "/models")
