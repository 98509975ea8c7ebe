"""The tutorial's stack, built and run for real: environment, kernel, snippet, engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from builder import receipt, wheelhouse
from builder.settings import ROOT, Settings
from entrypoint import catalog

pytestmark = pytest.mark.itrex

MODEL = "smollm2-135m"

TORCH = """
import torch, torch.distributed, functorch
print(torch.__version__.partition("+")[0], torch.cuda.is_available(), torch.cuda.device_count())
square = torch.eye(8)
assert torch.equal(torch.linalg.inv(square) @ square, square)
with torch.profiler.profile():
    torch.nn.functional.scaled_dot_product_attention(square[None], square[None], square[None])
"""


def run(
    *words: str | Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    quiet = {"LLMDEPLOY_LANG": "en", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **quiet, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=1100,
    )


def test_its_packages_fit_together(stack: Path) -> None:
    done = run(*wheelhouse.PIP, "--python", stack / "bin/python", "check")
    assert done.returncode == 0, done.stdout
    assert "No broken requirements" in done.stdout


def test_torch_works_without_what_is_for_gpus(stack: Path, itrex: Settings) -> None:
    done = run(stack / "bin/python", "-W", "ignore", "-c", TORCH)
    assert done.stdout == "2.3.0 False 0\n", done.stderr
    made = receipt.read(itrex.packed_receipt)
    assert made is not None
    assert made["unpacked"] < 2_000_000_000
    assert not any(stack.glob("lib/python3*/site-packages/nvidia*"))


def test_the_kernel_is_registered_once_and_where_it_was_wanted(stack: Path, tmp_path: Path) -> None:
    task = [sys.executable, "-m", "builder", "kernel", str(stack)]
    first = run(*task, "--prefix", tmp_path)
    spec = tmp_path / "share/jupyter/kernels/itrex/kernel.json"
    assert first.returncode == 0, first.stderr
    assert json.loads(spec.read_text())["argv"][0] == str(stack.resolve() / "bin/python")
    assert "nothing changed" in run(*task, "--prefix", tmp_path).stderr

    home = {"HOME": str(tmp_path / "home"), "JUPYTER_DATA_DIR": str(tmp_path / "data")}
    assert run(*task, "--user", "--name", "tutorial", env=home).returncode == 0
    find = "from jupyter_client.kernelspec import find_kernel_specs as find; print(find())"
    listed = run(stack / "bin/python", "-c", find, env=home).stdout
    assert str(tmp_path / "data/kernels/tutorial") in listed

    other = json.loads(spec.read_text()) | {"argv": ["/elsewhere/bin/python"]}
    spec.write_text(json.dumps(other))
    refused = run(*task, "--prefix", tmp_path)
    assert refused.returncode == 2
    assert "/elsewhere/bin/python" in refused.stderr


def test_the_catalogue_tells_the_engine_and_every_file(itrex_models: Path) -> None:
    listed = catalog.load(itrex_models)
    for model in listed.models:
        assert (model.engine, model.quantization) == ("itrex", "int4_clip")
        names = {file.path for file in model.files}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert listed.find(None).name == MODEL


def test_the_program_answers_with_it(stack: Path, itrex_models: Path) -> None:
    done = subprocess.run(
        [stack / "bin/python", "-m", "entrypoint", "chat", "--max-tokens", "24"],
        input="What is the capital of France?\n",
        env={**os.environ, "PYTHONPATH": str(ROOT), "LLMDEPLOY_MODELS": str(itrex_models)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "Paris" in done.stdout
    assert "arn" not in done.stderr, "a warning"
