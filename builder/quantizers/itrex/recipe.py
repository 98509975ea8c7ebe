"""Weights for ITREX: the folder that its `save_pretrained` writes, INT4 as in the tutorial.

The checkpoint's own code runs for that, in the environment `itrex`, once its files are seen to be
the locked ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from builder.environment import tarball, wheelhouse
from builder.models import checkpoint as checkpoints
from builder.models import convert, intents
from builder.models.intents import Intent
from builder.quantizers import Order, known_among
from builder.quantizers.itrex import needs
from builder.settings import ROOT, Settings
from builder.stage import recipe, report
from builder.stage.run import run
from entrypoint.common import machine
from entrypoint.common.errors import ConfigFailure
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

QUANTIZE: Final = ROOT / "builder/inside/itrex.py"
CODE: Final = ("quantizers/itrex/recipe.py", "models/checkpoint.py", "inside/itrex.py")
# What makes a checkpoint of a GGUF file.
CONVERTING: Final = ("models/convert.py", "../entrypoint/common/gguf.py", "inside/checkpoint.py")


def known_type(name: str) -> str:
    """Return the one weight type, by whatever name; raise UsageFailure for another one."""
    known_among(NAMES, "itrex", name)
    return TYPE


def inputs(settings: Settings, intent: Intent) -> Mapping[str, str]:
    """Return what decides about the bytes besides the model's files and the type."""
    tools = {"environment": recipe.lines(wheelhouse.lock(settings)), **recipe.code(*CODE)}
    if intent.format == "gguf":
        tools |= {"converter": recipe.lines(convert.LOCK), **recipe.code(*CONVERTING)}
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
    needs.require_room(sizes, config, order.output)
    report.say(_("quantizing {name}").format(name=order.intent.name))
    run(
        [python, QUANTIZE, checkpoint, order.output],
        cwd=order.work,  # it leaves notes where it stands
        env={
            "HF_HOME": str(order.work / "home"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(machine.threads()),
        },
    )
    for path in checkpoint.iterdir():  # the tokenizer, and code that the model is loaded with
        weights = any(path.match(pattern) for pattern in (*checkpoints.WEIGHTS, "*.index.json"))
        if not weights and not (order.output / path.name).exists():
            shutil.copyfile(path, order.output / path.name)


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
