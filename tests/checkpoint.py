"""A checkpoint in Hugging Face format, as large as a test needs it."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Qwen2.5-1.5B: 3.1 GB in bfloat16, of which the vocabulary is 0.5.
WIDTH, HIDDEN, LAYERS, HEADS, GROUPS, WORDS = 1536, 8960, 28, 12, 2, 151_936


def write_random(folder: Path) -> None:
    """Write a model with the shapes of Qwen2.5-1.5B and random weights, a file of 3.1 GB."""
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "dtype": "bfloat16",
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS,
        "vocab_size": WORDS,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    table: dict[str, Any] = {}
    end = 0
    for name, shape in _shapes():
        start, end = end, end + 2 * math.prod(shape)
        table[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(table).encode()
    noise = _noise()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, end, len(noise)):
            stream.write(noise[: end - start])


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (WORDS, WIDTH)
    yield "model.norm.weight", (WIDTH,)
    narrow = WIDTH // HEADS * GROUPS
    for layer in range(LAYERS):
        for name, shape in {
            "input_layernorm.weight": (WIDTH,),
            "post_attention_layernorm.weight": (WIDTH,),
            "self_attn.q_proj.weight": (WIDTH, WIDTH),
            "self_attn.q_proj.bias": (WIDTH,),
            "self_attn.k_proj.weight": (narrow, WIDTH),
            "self_attn.k_proj.bias": (narrow,),
            "self_attn.v_proj.weight": (narrow, WIDTH),
            "self_attn.v_proj.bias": (narrow,),
            "self_attn.o_proj.weight": (WIDTH, WIDTH),
            "mlp.gate_proj.weight": (HIDDEN, WIDTH),
            "mlp.up_proj.weight": (HIDDEN, WIDTH),
            "mlp.down_proj.weight": (WIDTH, HIDDEN),
        }.items():
            yield f"model.layers.{layer}.{name}", shape


def _noise() -> bytes:
    """Return 4 MiB of bfloat16 numbers between 0.008 and 0.03 with either sign."""
    noise = bytearray(random.Random(1).randbytes(4 << 20))  # noqa: S311 - no secret
    noise[1::2] = bytes(0x3C | byte & 0x80 for byte in noise[1::2])
    return bytes(noise)
