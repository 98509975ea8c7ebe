"""A checkpoint in Hugging Face format, made of what a GGUF file has.

That is for engines that read nothing else, where a model can be had as GGUF only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from builder import gguf
from builder.gguf import Header
from builder.run import run
from entrypoint.errors import ConfigFailure
from entrypoint.language import _

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
save_file(halves, target / "model.safetensors", metadata={"format": "pt"})
config.architectures, config.dtype = [type(model).__name__], torch.float16
config.save_pretrained(target)
"""


def of_gguf(source: Path, target: Path, python: Path) -> None:
    """Write the GGUF file `source` into the folder `target`, with the Python of `convert`.

    Raises ConfigFailure if its tokenizer is none of those in SPLITS, CommandFailed.
    """
    header = gguf.read(source)
    if header.metadata.get("tokenizer.ggml.pre") not in SPLITS:
        raise ConfigFailure(
            _("{path} has a tokenizer that cannot be written as a checkpoint's.").format(
                path=source
            ),
            _("It is one of: {names}.").format(names=", ".join(SPLITS)),
            _("Name a checkpoint in models.toml instead: its own repository has one."),
        )
    run([python, "-c", SAVE, source, target])
    write_tokenizer(header, target)


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


def _dump(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
