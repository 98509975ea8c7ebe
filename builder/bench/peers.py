"""The engines that the bench measures beside ours: made once from locked sources, and kept."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.environment import wheelhouse
from builder.settings import ROOT, Settings
from builder.stage import receipt, report, scratch
from builder.stage.run import run
from builder.variants import DEFAULT
from entrypoint.common.language import _

LOCK = ROOT / "env" / "bench.lock"
PROGRAMS = ("llama-bench", "llama-imatrix", "llama-perplexity")
# llama.cpp's defaults for this very machine, less what would need a network or other libraries.
FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
)  # fmt: skip


def native(settings: Settings, cpu: str) -> Path:
    """Return a folder with llama.cpp's own PROGRAMS, built for this CPU by its flags alone.

    Raises CommandFailed, HashMismatch or DownloadFailure.
    """
    locks = {
        path.name: receipt.sha256(path)
        for path in sorted((wheelhouse.RECIPES / DEFAULT).glob("*.lock"))
    }
    inputs = {**locks, "programs": " ".join(PROGRAMS), "flags": " ".join(FLAGS), "cpu": cpu}
    place = _place(settings, "llamacpp", inputs)
    with scratch.folder(place.with_name(f".{place.name}")) as folder:
        if not receipt.current(place / "receipt.json", inputs):
            log = place.with_suffix(".log")
            report.say(
                _("building llama.cpp for this CPU, about 6 minutes, once; log: {log}").format(
                    log=log
                )
            )
            _compile(folder, log)
            programs = folder / "build" / "bin"
            receipt.write(programs / "receipt.json", inputs, [programs / name for name in PROGRAMS])
            _put(programs, place)
    return place


def openvino(settings: Settings) -> Path:
    """Return the Python of an environment with OpenVINO GenAI from env/bench.lock.

    Raises HashMismatch, DownloadFailure or CommandFailed.
    """
    inputs = {"lock": receipt.sha256(LOCK), "python": sys.version}
    place = _place(settings, "openvino", inputs)
    if not receipt.current(place / "receipt.json", inputs):
        report.say(_("installing OpenVINO GenAI, once"))
        wheelhouse.venv(place, LOCK)
        receipt.write(place / "receipt.json", inputs, [])
    return place / "bin" / "python"


def converted(settings: Settings, model: Path, convert: Sequence[str | Path]) -> Path:
    """Return a folder with `model` in OpenVINO's format; `convert` makes it of model.gguf there.

    OpenVINO reads the GGUF itself, slowly: a user would convert once too. Raises CommandFailed.
    """
    inputs = {"lock": receipt.sha256(LOCK), "model": receipt.sha256(model)}
    place = _place(settings, "openvino-model", inputs)
    with scratch.folder(place.with_name(f".{place.name}")) as folder:
        if not receipt.current(place / "receipt.json", inputs):
            report.say(_("converting the model for OpenVINO, once"))
            content = folder / "model"
            content.mkdir()
            (content / "model.gguf").symlink_to(model.resolve())
            run([*convert, content])
            (content / "model.gguf").unlink()
            receipt.write(content / "receipt.json", inputs, sorted(content.glob("openvino_*")))
            _put(content, place)
    return place


def _compile(folder: Path, log: Path) -> None:
    python, source = wheelhouse.sources(folder, DEFAULT)
    tools = {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    build = folder / "build"
    run(["cmake", "-G", "Ninja", "-S", source, "-B", build, *FLAGS], env=tools, log=log)
    run(["cmake", "--build", build, "--target", *PROGRAMS], env=tools, log=log)


def _place(settings: Settings, name: str, inputs: Mapping[str, str]) -> Path:
    return settings.cache_dir / "bench" / f"{name}-{receipt.digest(dict(inputs))[:16]}"


def _put(source: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    source.rename(place)
