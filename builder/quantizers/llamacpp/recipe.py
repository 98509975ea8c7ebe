"""Weights for llama.cpp: one GGUF file, its tensors all of one type, written tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
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

BUFFER: Final = 256  # MiB that llama-quantize may take for the rows of one tensor

# Types that every tensor of a model gets, and ggml's number for each.
PURE: Final = {
    "F32": 0,
    "F16": 1,
    "BF16": 30,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 6,
    "Q5_1": 7,
    "Q8_0": 8,
    "Q6_K": 14,
    "IQ4_NL": 20,
}
# llama.cpp's mixtures of types, and the number that the metadata has for each.
MIXED: Final = {
    "Q2_K": 10,
    "Q3_K_S": 11,
    "Q3_K_M": 12,
    "Q3_K_L": 13,
    "Q4_K_S": 14,
    "Q4_K_M": 15,
    "Q5_K_S": 16,
    "Q5_K_M": 17,
}
TYPES: Final = PURE | MIXED
CODE: Final = ("quantizers/llamacpp/recipe.py",)


def known_type(name: str) -> str:
    """Return a weight type as llama.cpp writes it, or "keep"; raise UsageFailure for others."""
    return name if name == intents.KEEP else known_among(TYPES, "llamacpp", name)


def inputs(settings: Settings, intent: Intent) -> Mapping[str, str]:  # noqa: ARG001 - a Quantizer
    """Return what decides about the bytes besides the model's files and the type."""
    return {**ggufs.inputs("llamacpp", intent), **recipe.code(*CODE)}


def make(settings: Settings, order: Order) -> None:
    """Write the weights; see `builder.quantizers.Quantizer`."""
    source = ggufs.source(settings, order)
    header = gguf.read(source)
    ggufs.require_template(order.intent, header)
    if header.metadata.get("split.count", 1) > 1:
        report.say(_("joining its parts"))
        _convert(settings, source, order.output / WEIGHTS, order.type)
    elif _has_type(header, order.type):
        ggufs.require_known(ggufs.program(settings, "llamacpp"), source)
        report.say(_("already has that type"))
        ggufs.link(source, order.output / WEIGHTS)
    else:
        disk.require(order.output, needs.size(header, order.type))
        _convert(settings, source, order.output / WEIGHTS, order.type)


def _has_type(header: gguf.Header, type: str) -> bool:
    """Tell whether nothing is left to do. Vectors stay floats in every type."""
    if type == intents.KEEP:
        return True
    if type in MIXED:
        return header.metadata.get("general.file_type") == MIXED[type]
    return all(tensor.type == PURE[type] for tensor in header.tensors if len(tensor.shape) > 1)


def _convert(settings: Settings, source: Path, target: Path, type: str) -> None:
    """Write `source` as `target` with weights of `type`, some rows in memory at a time."""
    report.say(_("quantizing {name}").format(name=source.name))
    ftype = ggufs.COPY if type == intents.KEEP else type
    ggufs.rewrite(ggufs.program(settings, "llamacpp"), options(type), source, target, ftype)


def options(type: str) -> list[str]:
    """Return how llama-quantize is told to make weights of `type`."""
    pure = ["--pure"] if type in PURE else []
    return ["--allow-requantize", *pure, "--max-buffer-size", str(BUFFER)]
