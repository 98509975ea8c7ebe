"""The tutorial's stack, built and run for real: environment, kernel, snippet, engine."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import pytest

from builder.environment import wheelhouse
from builder.models import checkpoint, convert, intents
from builder.quantizers import itrex as quantizer
from builder.settings import ROOT, Settings
from builder.stage import receipt
from entrypoint.common import catalog
from tests import tutorial

pytestmark = pytest.mark.itrex

SMALL, CHINESE = "smollm2-135m", "qwen2.5-coder-0.5b"
STEADY = ("--max-tokens", "24", "--temperature", "0")

# The tokens of one long conversation, and the most memory that it took, in bytes.
PEAK = """
import resource, sys
from contextlib import closing
from entrypoint.common import catalog
from entrypoint.arguments import models_folder
from entrypoint.engines import Options, open_engine
folder = models_folder()
with closing(open_engine(catalog.load(folder).find(sys.argv[1]), folder)) as engine:
    talk = [{"role": "user", "content": "word " * 700}]
    *_pieces, usage = engine.stream(talk, Options(temperature=0, max_tokens=4))
print(usage.prompt_tokens + 4, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
"""

# The most memory that quantizing took, in bytes.
QUANTIZING = """
import dataclasses, resource, sys
from builder import settings
from builder.quantizers import quantize
place, *names = sys.argv[1:]
quantize.quantize(dataclasses.replace(settings.load("itrex"), dist=place), names)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
"""

# pytest and the build side lie behind the environment's own packages. Of pytest's plugins only the
# one that pyproject.toml has settings for is taken.
CONFORMANCE = """
import sys
sys.path += sys.argv[1:]
import pytest
words = ["--engine", "itrex", "-m", "not child", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
sys.exit(pytest.main(["tests/engines/test_conformance.py", *words]))
"""

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
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    first = run(*task, "--prefix", tmp_path, env={"TMPDIR": str(temporary)})
    spec = tmp_path / "share/jupyter/kernels/itrex/kernel.json"
    assert first.returncode == 0, first.stderr
    assert json.loads(spec.read_text())["argv"][0] == str(stack.resolve() / "bin/python")
    assert list(temporary.iterdir()) == []
    assert "nothing changed" in run(*task, "--prefix", tmp_path).stderr

    home = {"HOME": str(tmp_path), "JUPYTER_DATA_DIR": str(tmp_path / "data")}
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
    assert {model.name for model in listed.models} == {SMALL, CHINESE}


@pytest.mark.parametrize("saved", [True, False])
def test_the_tutorials_snippet_answers(
    stack: Path, itrex: Settings, itrex_models: Path, tmp_path: Path, *, saved: bool
) -> None:
    folder = tmp_path / CHINESE  # its name tells the extension which kind of model this is
    if saved:
        folder.symlink_to(itrex_models / CHINESE)
    else:
        (source,) = (itrex.dist_dir / "models/raw" / CHINESE).glob("*.gguf")
        folder.mkdir()
        checkpoint.of_gguf(source, folder, convert.environment(itrex) / "bin/python")
    done = run(stack / "bin/python", "-c", tutorial.snippet(CHINESE), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = done.stdout.splitlines()[-1]
    # The tutorial's code samples without a seed, so the wording is another one each time.
    assert "同济大学" in answer, done.stdout
    assert sum("一" <= letter <= "鿿" for letter in answer) > 20, answer
    # What it did meanwhile: weights that are loaded are not quantized.
    assert ("Applying Weight Only Quantization" in done.stderr + done.stdout) != saved


@pytest.mark.parametrize("name", [SMALL, CHINESE])
def test_the_memory_that_is_told_is_what_an_answer_takes(
    stack: Path, itrex_models: Path, name: str
) -> None:
    where = {"PYTHONPATH": str(ROOT), "LLMDEPLOY_MODELS": str(itrex_models)}
    done = run(stack / "bin/python", "-W", "ignore", "-c", PEAK, name, env=where)
    assert done.returncode == 0, done.stderr
    tokens, peak = map(int, done.stdout.split())
    assert tokens > 700
    intent = dataclasses.replace(intents.load().find(name), context=tokens)
    told = quantizer.measure(itrex_models / name, intent).memory
    assert 0.8 * told < peak <= told


@pytest.mark.usefixtures("stack", "itrex_models")
def test_the_memory_that_is_told_is_what_quantizing_takes(itrex: Settings, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "env").symlink_to(itrex.dist_dir / "env")
    (tmp_path / "models/raw").symlink_to(itrex.dist_dir / "models/raw")
    done = run(sys.executable, "-c", QUANTIZING, tmp_path, SMALL)
    assert done.returncode == 0, done.stderr
    told = re.search(r"takes ([\d.]+) GiB of memory", done.stderr)
    assert told, done.stderr
    assert 0.7 * float(told[1]) < int(done.stdout) / 2**30 <= float(told[1]) + 0.05


def test_the_engine_keeps_the_promises_of_every_engine(stack: Path, itrex_models: Path) -> None:
    done = run(
        *(stack / "bin/python", "-c", CONFORMANCE, ROOT, sysconfig.get_path("purelib")),
        env={"LLMDEPLOY_MODELS": str(itrex_models), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " 0 passed" not in done.stdout


def test_the_program_answers_with_it(stack: Path, itrex_models: Path) -> None:
    done = subprocess.run(
        [stack / "bin/python", "-m", "entrypoint", "chat", "--model", CHINESE, *STEADY],
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
