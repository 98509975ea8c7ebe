"""What each engine wants of a model: a package an engine, which `quantize` calls.

In each, `recipe` decides the bytes and is hashed; `needs` tells what they take and is not;
variant.toml describes the environment and the image, see `builder.variants`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from builder.models.intents import Intent
from builder.settings import Settings
from entrypoint.common.errors import UsageFailure
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean


@dataclass(frozen=True)
class Order:
    """One model to make: its fetched files lie in `raw`, what the engine opens goes to `output`.

    `type` is the weight type; `work` is scratch space on the disk of `output`.
    """

    intent: Intent
    type: str
    raw: Path
    output: Path
    work: Path


@dataclass(frozen=True)
class Need:
    """What a ready model takes: tokens of `context`, and bytes.

    `memory` is for one conversation of so many tokens, `memory_each` for each more at once.
    `quantization` names the type of its weights; "" where that is the one that was asked for.
    """

    context: int
    memory: int
    memory_each: int
    quantization: str = ""


class Quantizer(Protocol):
    """Turns the files of a fetched model into what an engine opens."""

    def known_type(self, name: str) -> str:
        """Return a weight type as the engine writes it; raise UsageFailure for an unknown one."""
        ...

    def inputs(self, settings: Settings, intent: Intent) -> Mapping[str, str]:
        """Return what decides about the bytes besides the model's files and the type."""
        ...

    def make(self, settings: Settings, order: Order) -> None:
        """Write what the engine opens; of its files, the first one by name is named to the engine.

        Raises StageMissing, DamagedModel, ConfigFailure, DiskFull or CommandFailed.
        """
        ...

    def measure(self, folder: Path, intent: Intent) -> Need:
        """Return the tokens of context that the engine gives, and the bytes of memory it takes."""
        ...


def known_among(types: Collection[str], engine: str, name: str) -> str:
    """Return which of an engine's weight types has this name; raise UsageFailure if none has."""
    for each in types:
        if each.casefold() == name.casefold():
            return each
    raise UsageFailure(
        _("The engine {engine} has no weight type called {name}.").format(engine=engine, name=name),
        _("Types: {names}.").format(names=", ".join(types)),
        did_you_mean(types, name.upper()),
    )


def quantizer(engine: str) -> Quantizer:
    """Return the package of an engine that `builder.variants` knows."""
    return cast("Quantizer", import_module(f"{__name__}.{engine}"))
