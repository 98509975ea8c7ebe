"""Weights for ITREX: the folder that its `save_pretrained` writes, INT4 as in the tutorial.

The checkpoint's own code runs for that, in the environment `itrex`, once its files are seen to be
the locked ones.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from builder.environment import tarball
from builder.models import checkpoint as checkpoints
from builder.models import convert, intents
from builder.models.intents import Intent
from builder.quantizers import Need, Order
from builder.settings import ROOT, Settings
from builder.stage import disk, receipt, report
from builder.stage.run import run
from entrypoint.common import machine
from entrypoint.common.errors import ConfigFailure, NotEnoughMemory, UsageFailure
from entrypoint.common.language import _

# What ITREX makes of the tutorial's "int4_fullrange"; models.toml has llama.cpp's name for the
# like: 4 bits, a scale for each 32 weights, no offset.
TYPE: Final = "int4_clip"
NAMES: Final = (TYPE, "int4_fullrange", "Q4_0", intents.KEEP)
ARCHITECTURES: Final = (
    "ChatGLMModel",
    "ChatGLMForConditionalGeneration",
    "LlamaForCausalLM",
    "QWenLMHeadModel",
    "Qwen2ForCausalLM",
)
F32: Final = 4  # bytes
INT4: Final = 4.5 / 8 + 4 / 32  # bytes for a weight, its share of an offset and of a scale
PROGRAM: Final = 730 << 20  # torch, ITREX, and what they load
QUANTIZER: Final = 950 << 20  # the same, with what quantizes
BATCH: Final = 256  # tokens that the engine computes at once

QUANTIZE: Final = """
import sys
from intel_extension_for_transformers.transformers import AutoModelForCausalLM, RtnConfig
source, target = sys.argv[1:]
config = RtnConfig(bits=4, compute_dtype="int8", weight_dtype="int4_fullrange")
config.post_init_cpu()
model = AutoModelForCausalLM.from_pretrained(
    source, quantization_config=config, use_neural_speed=False, trust_remote_code=True
)
model.config._name_or_path = ""
model.save_pretrained(target)
"""


def known_type(name: str) -> str:
    """Return the one weight type, by whatever name; raise UsageFailure for another one."""
    if name.casefold() in (each.casefold() for each in NAMES):
        return TYPE
    raise UsageFailure(
        _("There is no weight type called {name}.").format(name=name),
        _("Types: {names}.").format(names=", ".join(NAMES)),
    )


def inputs(settings: Settings, intent: Intent) -> Mapping[str, str]:
    """Return what decides about the bytes besides the model's files and the type."""
    tools = {
        "environment": receipt.sha256(ROOT / "env" / f"{settings.variant.environment}.lock"),
        "code": receipt.sha256(Path(__file__)),
    }
    if intent.format == "gguf":
        tools["converter"] = receipt.sha256(convert.LOCK)
    return tools


def make(settings: Settings, order: Order) -> None:
    """Write the folder; see `builder.quantizers.Quantizer`.

    Raises NotEnoughMemory before anything is loaded, HashMismatch if the checkpoint's code is not
    the locked one, and ConfigFailure for an architecture that ITREX is not known to run.
    """
    python = tarball.unpacked(settings) / "bin" / "python"
    checkpoint = _checkpoint(settings, order)
    config = _config(checkpoint)
    sizes = [path.stat().st_size for path in checkpoints.weights(checkpoint)]
    _require_room(sizes, config, order.made)
    report.say(_("quantizing {name}").format(name=order.intent.name))
    run(
        [python, "-c", QUANTIZE, checkpoint, order.made],
        cwd=order.work,  # it leaves notes where it stands
        env={
            "HF_HOME": str(order.work / "home"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(machine.threads()),
        },
    )
    for path in checkpoint.iterdir():  # the tokenizer, and code that the model is loaded with
        weights = any(path.match(pattern) for pattern in (*checkpoints.WEIGHTS, "*.index.json"))
        if not weights and not (order.made / path.name).exists():
            shutil.copyfile(path, order.made / path.name)


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


def _checkpoint(settings: Settings, order: Order) -> Path:
    """Return a folder with the locked files and nothing else; a GGUF file becomes a checkpoint.

    Its name is neutral: ITREX looks for names of models in paths.
    """
    place = order.work / "checkpoint"
    place.mkdir()
    if order.intent.format == "gguf":
        python = convert.environment(settings) / "bin" / "python"
        file = intents.locked()[order.intent.name][0]
        checkpoints.of_gguf(order.raw / file.path, place, python)
    else:
        checkpoints.of_fetched(order.intent, order.raw, place)
    return place


def _config(checkpoint: Path) -> Mapping[str, Any]:
    """Return config.json; raise DamagedModel without it, ConfigFailure for a wrong model."""
    architecture, config = checkpoints.configuration(checkpoint)
    if architecture not in ARCHITECTURES:
        raise ConfigFailure(
            _("ITREX is not known to run models of the architecture {name}.").format(
                name=architecture
            ),
            _("It is one of: {names}.").format(names=", ".join(ARCHITECTURES)),
            _("Quantize it for llama.cpp: --engine llamacpp"),
        )
    return config


def _require_room(sizes: Sequence[int], config: Mapping[str, Any], made: Path) -> None:
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
    disk.require(made, size)
