"""Weights for ik_llama.cpp: one GGUF file, its rows interleaved as the kernels want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from builder.models import intents
from builder.models.intents import Intent
from builder.quantizers import Order, ggufs, known_among
from builder.quantizers.llamacpp import needs
from builder.quantizers.llamacpp.needs import WEIGHTS
from builder.settings import Settings
from builder.stage import disk, recipe, report
from entrypoint.common import gguf
from entrypoint.common.language import _

# The types that rows are interleaved of, and what llama-quantize calls them then. A row of the
# embedding is read alone, so that tensor stays as it is.
INTERLEAVED: Final[Mapping[str, str]] = {"Q4_0": "Q4_0_R8", "Q8_0": "Q8_0_R8"}
OPTIONS: Final = ("--allow-requantize", "--pure")
CODE: Final = ("quantizers/ik/recipe.py",)


def known_type(name: str) -> str:
    """Return a weight type as llama.cpp writes it; raise UsageFailure if none such is made."""
    return "Q4_0" if name == intents.KEEP else known_among(INTERLEAVED, "ik", name)


def inputs(settings: Settings, intent: Intent) -> Mapping[str, str]:  # noqa: ARG001 - a Quantizer
    """Return what decides about the bytes besides the model's files and the type."""
    return {**ggufs.inputs("ik", intent), **recipe.code(*CODE)}


def make(settings: Settings, order: Order) -> None:
    """Write the weights; see `builder.quantizers.Quantizer`."""
    source = ggufs.source(settings, order)
    header = gguf.read(source)
    ggufs.require_template(order.intent, header)
    disk.require(order.output, needs.size(header, order.type))
    report.say(_("quantizing {name}").format(name=source.name))
    target, interleaved = order.output / WEIGHTS, INTERLEAVED[order.type]
    ggufs.rewrite(ggufs.program(settings, "ik"), OPTIONS, source, target, interleaved)
