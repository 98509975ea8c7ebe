"""Weights for OpenVINO: what llama.cpp gets, rewritten by the very library that will open it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from builder.environment import tarball, wheelhouse
from builder.models import intents
from builder.models.intents import Intent
from builder.quantizers import Order, known_among, llamacpp
from builder.settings import ROOT, Settings
from builder.stage import disk, recipe, report
from builder.stage.run import run
from entrypoint.common import gguf
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

SCRIPT: Final = ROOT / "builder/inside/openvino_ir.py"
CODE: Final = ("quantizers/openvino/recipe.py", "inside/openvino_ir.py")
TYPES: Final = ("Q4_0", "Q4_1", "Q8_0", "F16")  # the types that the library reads
SHAPES: Final = ("llama", "qwen2", "qwen3")  # the architectures too


def known_type(name: str) -> str:
    """Return a weight type as llama.cpp writes it; raise UsageFailure if OpenVINO reads no such."""
    return TYPES[0] if name == intents.KEEP else known_among(TYPES, "openvino", name)


def inputs(settings: Settings, intent: Intent) -> Mapping[str, str]:
    """Return what decides about the bytes besides the model's files and the type."""
    return {
        **llamacpp.inputs(settings, intent),
        "library": recipe.lines(wheelhouse.lock(settings)),
        **recipe.code(*CODE),
    }


def make(settings: Settings, order: Order) -> None:
    """Write OpenVINO's own format, and its tokenizer into a folder of its own."""
    python = tarball.unpacked(settings) / "bin" / "python"
    folder = order.work / "gguf"
    folder.mkdir()
    llamacpp.make(settings, replace(order, output=folder))
    weights = folder / llamacpp.WEIGHTS
    header = gguf.read(weights)
    shape = header.metadata["general.architecture"]
    if shape not in SHAPES:
        raise ConfigFailure(
            _("OpenVINO cannot read {name}: its architecture is {shape}.").format(
                name=order.intent.name, shape=shape
            ),
            _("It reads: {names}.").format(names=", ".join(SHAPES)),
            _("Use the default engine: ./llmdeploy quantize {name}").format(name=order.intent.name),
        )
    disk.require(order.output, weights.stat().st_size)
    report.say(_("rewriting {name} for OpenVINO").format(name=weights.name))
    context = header.get("context_length", order.intent.context)
    run([python, "-P", SCRIPT, weights, str(context), order.output])
