"""A GGUF file put beside catalog.json, as `docker run -v` does, with the real engine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from builder.settings import ROOT
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog
from entrypoint.common.errors import ConfigFailure
from tests.unit.test_mounted import TINY

NAME = "smollm2-135m"


@pytest.fixture
def models(models_dir: Path, tmp_path: Path) -> Path:
    """Return a folder with a catalogue whose model is gone, and that model's file beside it."""
    small = catalog.load(models_dir).find(NAME)
    catalog.dump(Catalog(NAME, (small,)), tmp_path)
    (tmp_path / "my.gguf").symlink_to(models_dir / NAME / "model.gguf")
    return tmp_path


def chat(unpacked: Path, models: Path, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [unpacked / "bin/python3", "-m", "entrypoint", "chat", "--model", name],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LLMDEPLOY_MODELS": str(models),
            "LLMDEPLOY_LANG": "en",
        },
        input="Say hello.\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_file_beside_the_catalogue_answers_without_a_build(unpacked: Path, models: Path) -> None:
    done = chat(unpacked, models, "my")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_file_that_the_engine_cannot_open_is_one_message(unpacked: Path, models: Path) -> None:
    (models / "odd.gguf").write_bytes(TINY)
    done = chat(unpacked, models, "odd")
    assert done.returncode == ConfigFailure.code
    assert "cannot open models of the architecture tiny." in done.stderr
    assert "Traceback" not in done.stderr
