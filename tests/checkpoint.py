"""Checkpoints in Hugging Face format, made of what GGUF files have."""

from __future__ import annotations

import json
import math
import random
import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from builder import gguf
from builder.gguf import Header

CONTROL: Final = 3  # the type that GGUF has for a token such as <|im_end|>
BYTES: Final = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
# What happens to a text before its words are looked up: as the publishers' tokenizer.json have it.
SPLITS: Final = {
    "smollm": [{"type": "Digits", "individual_digits": True}, {**BYTES, "use_regex": True}],
    "qwen2": [
        {
            "type": "Split",
            "behavior": "Isolated",
            "invert": False,
            "pattern": {
                "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            },
        },
        {**BYTES, "use_regex": False},
    ],
}
CLASSES: Final = {"smollm": "GPT2Tokenizer", "qwen2": "Qwen2Tokenizer"}

# Qwen2.5-1.5B: 3.1 GB in bfloat16, of which the vocabulary is 0.5.
WIDTH, HIDDEN, LAYERS, HEADS, GROUPS, WORDS = 1536, 8960, 28, 12, 2, 151_936

SAVE: Final = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
source, target = map(Path, sys.argv[1:])
config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(config)
tensors = load_gguf_checkpoint(str(source), return_tensors=True, model_to_load=model)["tensors"]
halves = {name: data.to(torch.float16) for name, data in tensors.items()}
save_file(halves, target / "model.safetensors")
config.architectures, config.dtype = [type(model).__name__], torch.float16
config.save_pretrained(target)
"""


def of_gguf(source: Path, target: Path, python: Path) -> None:
    """Make a checkpoint of a GGUF file with the interpreter of the environment `convert`."""
    subprocess.run([python, "-c", SAVE, source, target], check=True, timeout=600)
    write_tokenizer(gguf.read(source), target)


def write_tokenizer(header: Header, folder: Path) -> None:
    """Write the tokenizer and the chat template of a GGUF file as its publisher did."""
    words = header.metadata["tokenizer.ggml.tokens"]
    kinds = header.metadata["tokenizer.ggml.token_type"]
    split = header.metadata["tokenizer.ggml.pre"]
    special = [number for number, kind in enumerate(kinds) if kind == CONTROL]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": words[number], "special": True, "normalized": False}
            | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
            for number in special
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": SPLITS[split]},
        "post_processor": None,
        "decoder": {**BYTES, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {word: number for number, word in enumerate(words)},
            "merges": header.metadata["tokenizer.ggml.merges"],
        },
    }
    config = {
        "tokenizer_class": CLASSES[split],
        "chat_template": header.metadata["tokenizer.chat_template"],
        "eos_token": words[header.metadata["tokenizer.ggml.eos_token_id"]],
    }
    _dump(folder / "tokenizer.json", tokenizer)
    _dump(folder / "tokenizer_config.json", config)


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
    _dump(folder / "config.json", config)
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


def _dump(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
