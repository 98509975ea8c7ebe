"""How much memory and disk ITREX takes, for answering and for quantizing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from builder.models.intents import Intent
from builder.quantizers import Need
from builder.stage import disk, report
from entrypoint.common import machine
from entrypoint.common.errors import NotEnoughMemory
from entrypoint.common.language import _

F32: Final = 4  # bytes
INT4: Final = 4.5 / 8 + 4 / 32  # bytes for a weight, its share of an offset and of a scale
PROGRAM: Final = 730 << 20  # torch, ITREX, and what they load
QUANTIZER: Final = 950 << 20  # the same, with what quantizes
BATCH: Final = 256  # tokens that the engine computes at once


def measure(folder: Path, intent: Intent) -> Need:
    """Return how many tokens of context the model in `folder` takes, and the bytes of memory."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    longest = config.get("max_position_embeddings") or config.get("seq_length") or intent.context
    context = min(intent.context, longest)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    each = _cache(config, context) + _batch(config, context)
    return Need(context, weights + each + PROGRAM, each)


def _batch(config: Mapping[str, Any], context: int) -> int:
    """Return what one batch at the end of the context takes, in 32-bit numbers.

    Those are the scores of all words, made twice; three times the weights of attention; and, of
    Llama, a mask for all pairs of tokens: numbers twice, bytes twice.
    """
    words = config.get("padded_vocab_size") or config["vocab_size"]
    heads = _shape(config, "num_attention_heads", "n_head")
    mask = (2 * F32 + 2) * (context + BATCH) ** 2 if config["model_type"] == "llama" else 0
    return int(BATCH * F32 * (2 * words + 3 * context * heads) + mask)


def _cache(config: Mapping[str, Any], context: int) -> int:
    """Return the size of the keys and values of every layer, which are 32-bit numbers."""
    width = _shape(config, "hidden_size", "n_embd")
    heads = _shape(config, "num_attention_heads", "n_head")
    layers = _shape(config, "num_hidden_layers", "num_layers", "n_layer")
    groups = config.get("num_key_value_heads") or config.get("multi_query_group_num") or heads
    return int(2 * layers * groups * (width // heads) * F32 * context)


def _shape(config: Mapping[str, Any], *names: str) -> int:
    """Return a number that has another name in each family's configuration."""
    return next(int(config[name]) for name in names if name in config)


def require_room(sizes: Sequence[int], config: Mapping[str, Any], folder: Path) -> None:
    """Say what quantizing takes; raise NotEnoughMemory or DiskFull if there is less.

    `sizes` are those of the files of weights. ITREX makes 32-bit numbers of all weights first, and
    reads one file of them at a time. All but the vocabulary's two tables become INT4.
    """
    each = F32 if config.get("torch_dtype", config.get("dtype")) == "float32" else F32 // 2
    weights = sum(sizes) // each
    words = config.get("padded_vocab_size") or config["vocab_size"]
    tables = min(2 * words * _shape(config, "hidden_size", "n_embd"), weights)
    memory = F32 * weights + max(sizes) + QUANTIZER
    size = int(F32 * tables + INT4 * (weights - tables))
    available = machine.memory().available
    report.say(
        _("takes {memory} of memory and {disk} of disk").format(
            memory=machine.size(memory), disk=machine.size(size)
        )
    )
    if available is not None and available < memory:
        raise NotEnoughMemory(
            _("Quantizing for ITREX takes {need} of memory.").format(need=machine.size(memory)),
            _("{available} are free.").format(available=machine.size(available)),
            _("Use a machine with more memory, or quantize it for llama.cpp: --engine llamacpp"),
        )
    disk.require(folder, size)
