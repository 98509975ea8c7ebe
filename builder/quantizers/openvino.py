"""Weights for OpenVINO: what llama.cpp gets, rewritten by the very library that will open it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from builder.environment import tarball, wheelhouse
from builder.models import gguf, intents
from builder.models.intents import Intent
from builder.quantizers import Need, Order, llamacpp
from builder.settings import ROOT, Settings
from builder.stage import disk, receipt, report
from builder.stage.run import run
from entrypoint.common.errors import ConfigFailure, UsageFailure
from entrypoint.common.language import _

SCRIPT: Final = ROOT / "builder/inside/openvino_ir.py"
MODEL: Final = "openvino_model.bin"
TOKENIZER: Final = "tokenizer/openvino_tokenizer.xml"
PROGRAM: Final = 210 << 20  # the library, a prompt and an answer
VOCABULARY: Final = 14  # bytes that it takes for each of the tokenizer's files
TYPES: Final = ("Q4_0", "Q4_1", "Q8_0", "F16")  # the types that the library reads
SHAPES: Final = ("llama", "qwen2", "qwen3")  # the architectures too


def known_type(name: str) -> str:
    """Return a weight type as llama.cpp writes it; raise UsageFailure if OpenVINO reads no such."""
    if name == intents.KEEP:
        return TYPES[0]
    if name.upper() in TYPES:
        return name.upper()
    near = difflib.get_close_matches(name.upper(), TYPES, n=1)
    raise UsageFailure(
        _("The engine openvino has no weight type called {name}.").format(name=name),
        _("Types: {names}.").format(names=", ".join(TYPES)),
        _("Did you mean {name}?").format(name=near[0]) if near else "",
    )


def inputs(settings: Settings, intent: Intent) -> Mapping[str, str]:
    """Return what decides about the bytes besides the model's files and the type."""
    return {
        **llamacpp.inputs(settings, intent),
        "library": receipt.sha256(wheelhouse.lock(settings)),
        "script": receipt.sha256(SCRIPT),
    }


def make(settings: Settings, order: Order) -> None:
    """Write OpenVINO's own format, and its tokenizer into a folder of its own."""
    python = tarball.unpacked(settings) / "bin" / "python"
    made = order.work / "gguf"
    made.mkdir()
    llamacpp.make(settings, replace(order, made=made))
    weights = made / llamacpp.WEIGHTS
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
    disk.require(order.made, weights.stat().st_size)
    report.say(_("rewriting {name} for OpenVINO").format(name=weights.name))
    context = header.get("context_length", order.intent.context)
    run([python, "-P", SCRIPT, weights, str(context), order.made])


def measure(folder: Path, intent: Intent) -> Need:
    """Return how many tokens of context the model in `folder` takes, and the bytes of memory."""
    [trained] = re.findall(r'<context_length value="(\d+)"', _read(folder / TOKENIZER))
    context = min(intent.context, int(trained))
    cache = int(_cached(_read((folder / MODEL).with_suffix(".xml"))) * context)
    weights = (folder / MODEL).stat().st_size
    words = sum(path.stat().st_size for path in (folder / TOKENIZER).parent.glob("*.bin"))
    # The file is mapped; what counts is the copy that the kernels of this CPU make of it.
    return Need(context, weights + cache + PROGRAM + VOCABULARY * words, cache)


def _cached(model: str) -> float:
    """Return the bytes that the cache has for a token: 8-bit numbers, and how they are scaled.

    A scale and a zero, in 32 bits each, belong to a token's values of one head; or, of the keys,
    to one channel of a block of 32 tokens.
    """
    found = re.findall(r'variable_id="[^"]*?(key|value)present[^"]*".*?"\?,(\d+),\?,(\d+)"', model)
    return sum(
        int(heads) * (int(size) * 1.25 if kind == "key" else int(size) + 8)
        for kind, heads, size in found
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
