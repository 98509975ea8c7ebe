"""The program in the environment that was built, with the models that were quantized."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from builder.environment import tarball
from builder.settings import ROOT, Settings

Start = Callable[..., "Popen[str]"]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def starter(python: Path, known: Path) -> Start:
    """Return a function that starts `llmdeploy WORDS` with the models `known`."""

    def start(*words: str | Path, models: Path = known) -> Popen[str]:
        return Popen(
            [python, "-m", "entrypoint", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "LLMDEPLOY_MODELS": str(models)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def start(unpacked: Path, models_dir: Path) -> Start:
    """Return a function that starts `llmdeploy WORDS` and returns the process."""
    return starter(unpacked / "bin/python3", models_dir)


@pytest.fixture(scope="session")
def start_openvino(for_openvino: Settings, openvino_models_dir: Path) -> Start:
    """Return the same for the engine openvino."""
    return starter(tarball.unpacked(for_openvino) / "bin/python3", openvino_models_dir)


@pytest.fixture(scope="session")
def run(start: Start) -> Run:
    """Return a function that runs `llmdeploy WORDS` to its end."""

    def run(*words: str | Path, **where: Path) -> subprocess.CompletedProcess[str]:
        with start(*words, **where) as process:
            out, err = process.communicate(timeout=900)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    return run
