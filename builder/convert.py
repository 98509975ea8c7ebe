"""Hugging Face checkpoints become GGUF, with llama.cpp's converter in an environment of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from builder import disk, receipt, report, scratch, wheelhouse
from builder.run import run
from builder.settings import ROOT, Settings
from entrypoint.errors import CommandFailed, DamagedModel, DownloadFailure
from entrypoint.language import _

LOCK = ROOT / "env" / "convert.lock"
CONVERTER = "convert_hf_to_gguf.py"


def to_gguf(settings: Settings, checkpoint: Path, target: Path) -> None:
    """Write the folder `checkpoint` as the GGUF file `target`, losing nothing.

    Takes about 0.5 GB of memory and four bytes for each number of the largest tensor. Raises
    DamagedModel, DiskFull, CommandFailed, and what making the environment raises.
    """
    kind, growth = _exact(checkpoint)
    weights = [*checkpoint.glob("*.safetensors")] or [*checkpoint.glob("*.bin")]
    disk.require(target.parent, growth * sum(path.stat().st_size for path in weights))
    home = environment(settings)
    report.say(_("converting {name} to GGUF").format(name=checkpoint.name))
    with scratch.folder(target.with_name(f".{target.name}.home")) as cache:
        run(
            [
                *(home / "bin" / "python", home / "llama.cpp" / CONVERTER, checkpoint),
                *("--outfile", target, "--outtype", kind),
            ],
            # A checkpoint may bring code for its tokenizer, which is unpacked there.
            env={"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"},
        )


def environment(settings: Settings) -> Path:
    """Return the environment of env/convert.lock with llama.cpp's converter, made if need be.

    Raises HashMismatch, DownloadFailure or DiskFull.
    """
    inputs = {
        "packages": receipt.sha256(LOCK),
        "converter": receipt.sha256(wheelhouse.RECIPE / "source.lock"),
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
    _tools, source = wheelhouse.sources(folder)
    for name in (CONVERTER, "conversion", "gguf-py"):
        (source / name).rename(home / "llama.cpp" / name)


def _exact(checkpoint: Path) -> tuple[str, int]:
    """Return the type that keeps every number of a checkpoint, and by how much that makes it grow.

    bfloat16 becomes float32: on the way to another 16-bit type the converter would make both, and
    take half as much memory again.
    """
    try:
        config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        half = "float16" in (config.get("dtype"), config.get("torch_dtype"))
    except (OSError, ValueError, AttributeError):
        raise DamagedModel(
            _("{path} has neither a GGUF file nor a checkpoint.").format(path=checkpoint),
            _("There is no config.json that can be read."),
        ) from None
    return ("f16", 1) if half else ("f32", 2)
