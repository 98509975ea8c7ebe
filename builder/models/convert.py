"""Hugging Face checkpoints become GGUF, with llama.cpp's converter in an environment of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from builder.environment import wheelhouse
from builder.models import checkpoint as checkpoints
from builder.settings import ROOT, Settings
from builder.stage import disk, receipt, report, scratch
from builder.stage.run import run
from builder.variants import DEFAULT
from entrypoint.common.errors import CommandFailed, ConfigFailure, DownloadFailure
from entrypoint.common.language import _

LOCK = ROOT / "env" / "convert.lock"
CONVERTER = "convert_hf_to_gguf.py"
SCRIPT = ROOT / "builder/inside/converter.py"
# Some of the more than a hundred architectures that it converts.
SOME: Final = (
    "ChatGLMModel",
    "Gemma3ForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "QWenLMHeadModel",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)


def to_gguf(settings: Settings, checkpoint: Path, target: Path) -> None:
    """Write the folder `checkpoint` as the GGUF file `target`, losing nothing.

    Takes about 0.5 GB of memory and four bytes for each number of the largest tensor. Raises
    DamagedModel, ConfigFailure for an architecture that the converter does not know, DiskFull,
    CommandFailed, and what making the environment raises.
    """
    architecture, config = checkpoints.configuration(checkpoint)
    kind, growth = _exact(config)
    sizes = [path.stat().st_size for path in checkpoints.weights(checkpoint)]
    disk.require(target.parent, growth * sum(sizes))
    home = environment(settings)
    report.say(_("converting {name} to GGUF").format(name=checkpoint.name))
    with scratch.folder(target.with_name(f".{target.name}.home")) as cache:
        try:
            run(
                [
                    *(home / "bin" / "python", SCRIPT, home / "llama.cpp" / CONVERTER, checkpoint),
                    *("--outfile", target, "--outtype", kind),
                ],
                # A checkpoint may bring code for its tokenizer, which is unpacked there.
                env={"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"},
            )
        except CommandFailed as failure:
            if f"Model {architecture} is not supported" not in failure.why:
                raise
            raise ConfigFailure(
                _("llama.cpp cannot convert models of the architecture {name}.").format(
                    name=architecture
                ),
                _("It converts many, among them: {names}.").format(names=", ".join(SOME)),
            ) from None


def environment(settings: Settings) -> Path:
    """Return the environment of env/convert.lock with llama.cpp's converter, made if need be.

    Raises HashMismatch, DownloadFailure or DiskFull.
    """
    inputs = {
        "packages": receipt.sha256(LOCK),
        "converter": receipt.sha256(wheelhouse.RECIPES / DEFAULT / "source.lock"),
        "python": f"{sys.base_prefix} {sys.version}",
    }
    place = settings.cache_dir / "convert" / receipt.digest(inputs)[:16]
    with scratch.folder(place.with_name(f".{place.name}")) as folder:
        if not place.is_dir():
            report.say(_("making the environment that converts checkpoints, once"))
            _make(folder)
            (folder / "home").rename(place)
    return place


def _make(folder: Path) -> None:
    """Make the environment as `folder`/home."""
    home = folder / "home"
    run([sys.executable, "-m", "venv", "--without-pip", home])
    python = home / "bin" / "python"
    try:
        wheelhouse.pip(python, "install", *wheelhouse.LOCKED, "--requirement", LOCK)
    except CommandFailed as failure:
        raise DownloadFailure(
            _("pip cannot install the packages that convert a checkpoint."),
            failure.why,
            _("Where torch's CPU build is published: {path}").format(path=LOCK.with_suffix(".in")),
        ) from None
    (home / "llama.cpp").mkdir()
    _tools, source = wheelhouse.sources(folder, DEFAULT)
    for name in (CONVERTER, "conversion", "gguf-py"):
        (source / name).rename(home / "llama.cpp" / name)


def _exact(config: Mapping[str, Any]) -> tuple[str, int]:
    """Return the type that keeps every number of a checkpoint, and by how much that makes it grow.

    bfloat16 becomes float32: on the way to another 16-bit type the converter would make both, and
    take half as much memory again.
    """
    half = "float16" in (config.get("dtype"), config.get("torch_dtype"))
    return ("f16", 1) if half else ("f32", 2)
