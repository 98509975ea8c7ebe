"""Weights for llama.cpp: one GGUF file, its tensors all of one type, written tensor by tensor."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from builder.environment import engine
from builder.models import checkpoint as checkpoints
from builder.models import convert, intents
from builder.models.intents import Intent
from builder.quantizers import Order
from builder.quantizers.llamacpp import needs
from builder.quantizers.llamacpp.needs import WEIGHTS
from builder.settings import Settings
from builder.stage import disk, receipt, recipe, report, scratch
from builder.stage.run import run
from entrypoint.common import gguf
from entrypoint.common.errors import (
    CommandFailed,
    ConfigFailure,
    DamagedModel,
    DiskFull,
    UsageFailure,
)
from entrypoint.common.language import _
from entrypoint.common.suggestions import did_you_mean

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
COPY: Final = "COPY"  # llama-quantize's word for leaving the weights as they are
UNKNOWN: Final = re.compile(r"unknown model architecture: '([^']*)'")
# Some of the more than a hundred architectures that it opens, as files name them.
SOME: Final = (
    *("chatglm", "deepseek2", "gemma3", "gemma4", "glm4", "llama", "minicpm", "phi3", "qwen2"),
    *("qwen3", "qwen35", "qwen3moe"),
)
# What besides this module makes the file: for a checkpoint its converter, too.
CODE: Final = ("quantizers/llamacpp/recipe.py",)
CONVERTING: Final = ("models/checkpoint.py", "models/convert.py", "inside/converter.py")


def known_type(name: str) -> str:
    """Return a weight type as llama.cpp writes it, or "keep"; raise UsageFailure for others."""
    if name == intents.KEEP:
        return name
    if name.upper() in TYPES:
        return name.upper()
    raise UsageFailure(
        _("There is no weight type called {name}.").format(name=name),
        _("Types: {names}.").format(names=", ".join(TYPES)),
        did_you_mean(TYPES, name.upper()),
    )


def inputs(settings: Settings, intent: Intent) -> Mapping[str, str]:  # noqa: ARG001 - a Quantizer
    """Return what decides about the bytes besides the model's files and the type."""
    tools = {"engine": receipt.digest(engine.ingredients()), **recipe.code(*CODE)}
    if intent.format == "checkpoint":
        tools |= {"converter": recipe.lines(convert.LOCK), **recipe.code(*CONVERTING)}
    return tools


def make(settings: Settings, order: Order) -> None:
    """Write the weights; see `builder.quantizers.Quantizer`."""
    source = _gguf(settings, order)
    header = gguf.read(source)
    _require_template(order.intent, header)
    if header.metadata.get("split.count", 1) > 1:
        report.say(_("joining its parts"))
        _convert(settings, source, order.made / WEIGHTS, order.type)
    elif _has_type(header, order.type):
        _require_known(settings, source)
        report.say(_("already has that type"))
        _link(source, order.made / WEIGHTS)
    else:
        disk.require(order.made, needs.size(header, order.type))
        _convert(settings, source, order.made / WEIGHTS, order.type)


def _gguf(settings: Settings, order: Order) -> Path:
    """Return the model as one GGUF file of whatever type, made now if it is a checkpoint."""
    if order.intent.format == "gguf":
        first, *more = intents.locked()[order.intent.name]
        if more and not all(gguf.SHARD.search(each.path) for each in (first, *more)):
            raise ConfigFailure(
                _("{name} has several files where one GGUF file belongs.").format(
                    name=order.intent.name
                ),
                next=_("Name one in models.toml, and fetch again: files = [...]"),
            )
        return order.raw / first.path
    checkpoint = order.work / order.intent.name
    checkpoint.mkdir()
    checkpoints.of_fetched(order.intent, order.raw, checkpoint)
    convert.to_gguf(settings, checkpoint, order.work / "converted.gguf")
    return order.work / "converted.gguf"


def _require_template(intent: Intent, header: gguf.Header) -> None:
    if not intent.chat_template and "tokenizer.chat_template" not in header.metadata:
        raise ConfigFailure(
            _("{name} does not say how a conversation is written.").format(name=intent.name),
            _("Neither its files nor models.toml have a chat template."),
            _("Set chat_template in models.toml, or give --chat-template: Jinja, or chatml."),
        )


def _has_type(header: gguf.Header, type: str) -> bool:
    """Tell whether nothing is left to do. Vectors stay floats in every type."""
    if type == intents.KEEP:
        return True
    if type in MIXED:
        return header.metadata.get("general.file_type") == MIXED[type]
    return all(tensor.type == PURE[type] for tensor in header.tensors if len(tensor.shape) > 1)


def _link(source: Path, target: Path) -> None:
    """Give `target` the content of `source`, without a second copy where the disk can do that."""
    try:
        os.link(source, target)
    except OSError:
        disk.require(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)


def _convert(settings: Settings, source: Path, target: Path, type: str) -> None:
    """Write `source` as `target` with weights of `type`, some rows in memory at a time."""
    report.say(_("quantizing {name}").format(name=source.name))
    written = COPY if type == intents.KEEP else type
    threads = str(len(os.sched_getaffinity(0)))
    try:
        run([_program(settings), *options(type), source, target, written, threads])
    except CommandFailed as failure:
        raise _named(failure, source, target) from None


def options(type: str) -> list[str]:
    """Return how llama-quantize is told to make weights of `type`."""
    pure = ["--pure"] if type in PURE else []
    return ["--allow-requantize", *pure, "--max-buffer-size", str(BUFFER)]


def _require_known(settings: Settings, source: Path) -> None:
    """Raise ConfigFailure for an architecture that llama.cpp has not, DamagedModel for no model."""
    try:
        run([_program(settings), "--dry-run", source, COPY])
    except CommandFailed as failure:
        raise _named(failure, source, source) from None


def _named(failure: CommandFailed, source: Path, target: Path) -> Exception:
    """Return what llama-quantize's last words mean."""
    if unknown := UNKNOWN.search(failure.why):
        return ConfigFailure(
            _("llama.cpp cannot open models of the architecture {name}.").format(name=unknown[1]),
            _("It opens many, among them: {names}.").format(names=", ".join(SOME)),
        )
    if "iostream error" in failure.why:
        return DiskFull(
            _("The disk became full while writing {path}.").format(path=target),
            next=_("Free some space and run the same task again."),
        )
    if any(sign in failure.why for sign in ("corrupted", "invalid data", "failed to read")):
        return DamagedModel(
            _("{path} is damaged.").format(path=source),
            failure.why.splitlines()[-2],
            _("Delete it, fetch it again and quantize it: ./llmdeploy fetch MODEL"),
        )
    return failure


def _program(settings: Settings) -> Path:
    """Return llama-quantize, unpacked from the engine's wheel."""
    wheel = engine.wheel(settings)
    place = wheel.with_suffix("")
    with scratch.folder(place.with_name(".unpacked")) as work:
        if not place.is_dir():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work / "all")
            for path in (work / "all" / "llmdeploy_llamacpp").iterdir():
                path.chmod(0o755)  # zipfile forgets that
            (work / "all").rename(place)
    return place / "llmdeploy_llamacpp" / "llama-quantize"
