"""`quantize --engine openvino`, with the real environment."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from builder.quantizers import openvino, quantize
from builder.settings import Settings
from builder.stage import receipt
from entrypoint.common import catalog
from entrypoint.common.errors import StageMissing, UsageFailure

SMALL = "smollm2-135m"


@pytest.fixture
def elsewhere(for_openvino: Settings, openvino_models_dir: Path, tmp_path: Path) -> Settings:
    """Return settings of another dist folder, with the same environment and fetched files."""
    del openvino_models_dir  # its model has been fetched
    raw = Path("models/raw", SMALL)
    shutil.copytree(for_openvino.dist_dir / raw, tmp_path / raw)
    (tmp_path / "env").mkdir()
    for path in (for_openvino.packed, for_openvino.packed_receipt):
        shutil.copy2(path, tmp_path / "env")
    return dataclasses.replace(for_openvino, dist=str(tmp_path))


def test_the_same_model_gives_the_same_bytes(
    elsewhere: Settings, openvino_models_dir: Path
) -> None:
    quantize.quantize(elsewhere, [SMALL])
    made, other = (
        receipt.read(folder / SMALL / "receipt.json") or {}
        for folder in (elsewhere.ready_dir, openvino_models_dir)
    )
    hashes = [
        {name: entry["sha256"] for name, entry in each["outputs"].items()} for each in (made, other)
    ]
    assert hashes[0] == hashes[1]
    assert not list(elsewhere.ready_dir.glob(".*"))


def test_the_catalogue_names_the_engine_and_the_weights_first(openvino_models_dir: Path) -> None:
    for model in catalog.load(openvino_models_dir).models:
        assert (model.engine, model.quantization, model.context) == ("openvino", "Q4_0", 8192)
        assert model.files[0].path == "openvino_model.bin"
        assert model.memory > model.files[0].size + model.memory_each


def test_a_second_time_nothing_is_done(for_openvino: Settings, openvino_models_dir: Path) -> None:
    made = (openvino_models_dir / SMALL / "receipt.json").stat()
    quantize.quantize(for_openvino, [SMALL])
    assert (openvino_models_dir / SMALL / "receipt.json").stat() == made


def test_without_its_environment_the_task_that_makes_it_is_named(elsewhere: Settings) -> None:
    elsewhere.packed.unlink()
    with pytest.raises(StageMissing) as caught:
        quantize.quantize(elsewhere, [SMALL])
    assert "build-env openvino" in caught.value.next
    assert not (elsewhere.ready_dir / SMALL).exists()


def test_a_type_that_the_library_does_not_read_is_refused(for_openvino: Settings) -> None:
    with pytest.raises(UsageFailure) as caught:
        quantize.quantize(for_openvino, [SMALL], type="Q4_K_M")
    assert "Q4_0" in caught.value.why


def test_the_key_value_cache_is_counted_from_the_model(openvino_models_dir: Path) -> None:
    text = (openvino_models_dir / "qwen2.5-coder-0.5b/openvino_model.xml").read_text()
    assert openvino.needs._cached(text) == 24 * 2 * (80 + 72)
    known = json.loads((openvino_models_dir / "catalog.json").read_text())
    assert {model["memory_each"] for model in known["models"]} == {
        24 * 304 * 8192,
        30 * 3 * 152 * 8192,
    }
