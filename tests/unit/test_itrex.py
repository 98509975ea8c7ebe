"""What is told about ITREX before anything of it is loaded."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import variants
from builder.environment import condaenv
from builder.models.checkpoint import _require_code, weights
from builder.quantizers import itrex
from builder.settings import ROOT
from builder.stage import receipt
from entrypoint.common import machine
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import (
    ConfigFailure,
    DamagedModel,
    DiskFull,
    HashMismatch,
    NotEnoughMemory,
    StageMissing,
    UsageFailure,
)
from entrypoint.common.machine import Memory
from entrypoint.engines.itrex import BATCH, PYTHON, TORCH, _Text, require_stack

GIB = 2**30
CHATGLM3 = {
    "architectures": ["ChatGLMModel"],
    "hidden_size": 4096,
    "padded_vocab_size": 65024,
    "torch_dtype": "float16",
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return the folder of a checkpoint with a configuration and one file of weights."""
    (tmp_path / "config.json").write_text(json.dumps(CHATGLM3))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    return tmp_path


@pytest.mark.parametrize("name", ["Q4_0", "int4_fullrange", "INT4_CLIP"])
def test_there_is_one_weight_type_under_several_names(name: str) -> None:
    assert itrex.known_type(name) == "int4_clip"


def test_another_weight_type_is_refused() -> None:
    with pytest.raises(UsageFailure, match="Q8_0"):
        itrex.known_type("Q8_0")


def test_a_known_architecture_is_taken_and_another_one_is_told_from_those(checkpoint: Path) -> None:
    assert itrex.recipe._config(checkpoint)["hidden_size"] == 4096
    (checkpoint / "config.json").write_text('{"architectures": ["OPTForCausalLM"]}')
    with pytest.raises(ConfigFailure, match="OPTForCausalLM") as caught:
        itrex.recipe._config(checkpoint)
    assert "QWenLMHeadModel" in caught.value.why


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"architectures": []}'])
def test_a_checkpoint_without_its_configuration_is_damaged(checkpoint: Path, text: str) -> None:
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(DamagedModel):
        itrex.recipe._config(checkpoint)


def test_missing_weights_are_named(checkpoint: Path) -> None:
    assert [path.name for path in weights(checkpoint)] == ["model.safetensors"]
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DamagedModel, match="model-00002-of-00002"):
        weights(checkpoint)
    for path in checkpoint.glob("model*"):
        path.unlink()
    with pytest.raises(DamagedModel, match="safetensors"):
        weights(checkpoint)


def test_code_that_is_not_the_locked_one_does_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "modeling.py").write_text("print('hello')\n")
    right = "7ef6bb4ba6b1e2e9a3fac67b1ea1ef0e1cb4ae1b6d7c1ccdd0bb7cd3cd0f8e02"
    with pytest.raises(HashMismatch, match=r"modeling\.py"):
        _require_code(tmp_path, ModelFile("modeling.py", 15, right))
    found = receipt.sha256(tmp_path / "modeling.py")
    _require_code(tmp_path, ModelFile("modeling.py", 15, found))
    assert f"{found} modeling.py" in capsys.readouterr().err


SIZES = [12_487_168_064 // 7] * 7  # of ChatGLM3-6B's files


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def free(amount: int) -> None:
        monkeypatch.setattr(machine, "memory", lambda: Memory(amount, None, amount))

    return free


def test_16_gb_are_too_little_to_quantize_6b_and_that_is_told_before(
    tmp_path: Path, free: Callable[[int], None]
) -> None:
    free(16 * GIB)
    with pytest.raises(NotEnoughMemory, match=r"takes 25\.\d GiB") as caught:
        itrex.needs.require_room(SIZES, CHATGLM3, tmp_path)
    assert caught.value.why == "16.0 GiB are free."
    assert "llamacpp" in caught.value.next


def test_what_it_takes_is_told_and_a_small_disk_refused(
    tmp_path: Path,
    free: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def room(amount: int) -> None:
        usage = type("Usage", (), {"free": amount})
        monkeypatch.setattr("builder.stage.disk.shutil.disk_usage", lambda _folder: usage)

    free(32 * GIB)
    room(6 * GIB)
    itrex.needs.require_room(SIZES, CHATGLM3, tmp_path)
    assert "GiB of memory and 5.6 GiB of disk" in capsys.readouterr().err
    room(5 * GIB)
    with pytest.raises(DiskFull):
        itrex.needs.require_room(SIZES, CHATGLM3, tmp_path)


def test_wheels_for_another_python_are_refused() -> None:
    other = variants.Variant("x", "x", packing=0, bounds=(0, 0), python="3.1")
    with pytest.raises(UsageFailure, match=r"needs Python 3\.1, and would have 3\."):
        condaenv.require_python(other, Path(sys.executable))
    condaenv.require_python(variants.find("llamacpp"), Path(sys.executable))


@pytest.mark.parametrize(
    ("version", "installed", "told"),
    [
        ((3, 12, 1), {}, r"Python 3\.11 only, and this is 3\.12\.1"),
        ((3, 11, 7), {}, "not installed"),
        ((3, 11, 7), {"torch": "2.2.0"}, r"torch 2\.3\.0 only, and this is 2\.2\.0"),
        ((3, 11, 7), {"torch": "2.13.0+cpu"}, r"this is 2\.13\.0"),
    ],
)
def test_a_stack_that_does_not_fit_is_told_before_its_import_fails(
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, ...],
    installed: dict[str, str],
    told: str,
) -> None:
    def found(name: str) -> str:
        if not installed:
            raise importlib.metadata.PackageNotFoundError
        return installed.get(name, "1.4.2")

    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(importlib.metadata, "version", found)
    with pytest.raises(StageMissing, match=told):
        require_stack()


def test_both_sides_know_the_same_python_torch_and_batch() -> None:
    variant = variants.find("itrex")
    assert variant.python == ".".join(map(str, PYTHON))
    assert variant.torch == TORCH
    assert itrex.needs.BATCH == BATCH  # what its memory is reckoned with


@pytest.mark.parametrize("build", ["2.3.0", "2.3.0+cpu", "2.3.0+cu121"])
def test_every_build_of_the_right_torch_fits(monkeypatch: pytest.MonkeyPatch, build: str) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: build)
    require_stack()


def pieces(text: bytes, *stop: str) -> list[str]:
    """Return the pieces of a text whose tokens are its bytes."""
    made = _Text(lambda ids: bytes(ids).decode(errors="replace"), stop)
    seen = []
    for byte in text:
        seen.append(made.push(byte))
        if made.ended:
            break
    return [piece for piece in [*seen, made.rest()] if piece]


def test_a_character_of_several_tokens_comes_whole() -> None:
    assert pieces("a同济".encode()) == ["a", "同", "济"]


@pytest.mark.parametrize(
    ("stop", "text"), [("3", "12"), ("234", "1"), ("456", "12345"), ("x", "12345"), ("12345", "")]
)
def test_nothing_comes_from_a_stop_word_on(stop: str, text: str) -> None:
    assert "".join(pieces(b"12345", stop)) == text


def test_the_environments_lock_has_nothing_for_gpus() -> None:
    lock = (ROOT / "env" / "itrex.lock").read_text()
    assert "torch==2.3.0" in lock
    assert "nvidia" not in lock
    assert "triton" not in lock
