"""Checkpoints in Hugging Face format: of what was fetched, or made of what a GGUF file has.

The latter is for engines that read nothing else, where a model can be had as GGUF only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from builder.models import intents
from builder.models.intents import Intent
from builder.settings import ROOT
from builder.stage import receipt, report
from builder.stage.run import run
from entrypoint.common import gguf
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import ConfigFailure, DamagedModel, HashMismatch
from entrypoint.common.gguf import Header
from entrypoint.common.language import _

WEIGHTS: Final = ("*.safetensors", "*.bin")
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

SAVE: Final = ROOT / "builder/inside/checkpoint.py"


def of_fetched(intent: Intent, raw: Path, target: Path) -> None:
    """Give the new folder `target` the locked files of a model, and nothing else of `raw`.

    Code among them, which runs when the checkpoint is read, is listed by hash. Raises HashMismatch
    if some is not the locked one.
    """
    for file in intents.locked()[intent.name]:
        if not intent.wants(file.path):
            continue
        if file.path.endswith(".py"):
            _require_code(raw, file)
        (target / file.path).parent.mkdir(parents=True, exist_ok=True)
        (target / file.path).symlink_to((raw / file.path).resolve())


def configuration(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """Return a checkpoint's architecture and its config.json; raise DamagedModel without that."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (architecture,) = config["architectures"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise DamagedModel(
            _("{path} has neither a GGUF file nor a checkpoint.").format(path=folder),
            _("There is no config.json that can be read."),
        ) from None
    return str(architecture), config


def weights(folder: Path) -> list[Path]:
    """Return a checkpoint's files of weights.

    Raises DamagedModel if there is none, or not all that its index names.
    """
    for index in folder.glob("*.index.json"):
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(name for name in names if not (folder / name).exists()):
            raise _incomplete(", ".join(missing))
    kinds = ([*folder.glob(pattern)] for pattern in WEIGHTS)
    files = next(filter(None, kinds), None)
    if files is None:
        raise _incomplete(WEIGHTS[0])
    return files


def _incomplete(names: str) -> DamagedModel:
    return DamagedModel(
        _("The checkpoint is incomplete: {names}.").format(names=names),
        next=_("Name these files in models.toml, and fetch the model again."),
    )


def _require_code(raw: Path, file: ModelFile) -> None:
    """Raise HashMismatch unless code that came with a checkpoint is the locked one; list it."""
    if receipt.sha256(raw / file.path) != file.sha256:
        raise HashMismatch(
            _("{path} is not the expected file.").format(path=raw / file.path),
            _("It is code of the checkpoint, which would run now."),
        )
    report.say(_("code of the checkpoint: {sha256} {path}").format(**vars(file)))


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
    run([python, SAVE, source, target])
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
