"""What is typed for a model, and what it cannot be; nothing of it is recorded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.models import addresses, intents
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import (
    ConfigFailure,
    DamagedModel,
    Failure,
    UnknownModel,
    UsageFailure,
)
from tests.unit.test_gguf import whole

GGUF = whole()


def files(*paths: str) -> list[ModelFile]:
    return [ModelFile(path, 1, "") for path in paths]


@pytest.mark.parametrize(
    ("there", "part", "chosen"),
    [
        (["a-Q8_0.gguf", "a-Q4_K_M.gguf", "a-q4_0.gguf"], "", ["a-q4_0.gguf"]),
        (["a-Q8_0.gguf", "a-UD-Q4_K_XL.gguf"], "ud-q4_k_xl", ["a-UD-Q4_K_XL.gguf"]),
        (["Q4_0/a-Q4_0.gguf", "Q8_0/a-Q8_0.gguf"], "Q8_0/a-Q8_0.gguf", ["Q8_0/a-Q8_0.gguf"]),
        (["weights.gguf", "mmproj-F16.gguf"], "", ["weights.gguf"]),
        (
            ["a-Q4_0-00002-of-00002.gguf", "a-Q4_0-00001-of-00002.gguf", "a-BF16.gguf"],
            "Q4_0",
            ["a-Q4_0-00001-of-00002.gguf", "a-Q4_0-00002-of-00002.gguf"],
        ),
        (
            ["model.safetensors", "config.json", "old.bin", "a/config.json", "x.md"],
            "",
            ["config.json", "model.safetensors"],
        ),
        (["pytorch_model.bin", "config.json"], "", ["config.json", "pytorch_model.bin"]),
    ],
)
def test_of_a_repository_one_model_is_chosen(
    there: list[str], part: str, chosen: list[str]
) -> None:
    assert [file.path for file in addresses.choose(files(*there), part, "it")] == chosen


@pytest.mark.parametrize(
    ("there", "part", "told"),
    [
        (["a-Q8_0.gguf", "a-Q4_0.gguf"], "Q5_K_M", "It has: Q4_0, Q8_0."),
        (["a-Q4_0.gguf", "b-Q4_0.gguf"], "Q4_0", "it has no single Q4_0."),
        (["a-Q2_K.gguf", "a-Q3_K_S.gguf"], "", "for example: it:Q2_K"),
    ],
)
def test_what_a_repository_has_is_told(there: list[str], part: str, told: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        addresses.choose(files(*there), part, "it")
    assert told in str(caught.value)


@pytest.mark.parametrize("content", [b"GGU", GGUF[:300], b""])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "my.gguf"
    path.write_bytes(content)
    with pytest.raises(DamagedModel, match=r"my\.gguf is") as caught:
        addresses.resolve(str(path))
    assert caught.value.why
    assert "again" in caught.value.next


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("soon")
    with pytest.raises(DamagedModel, match="has no weights") as caught:
        addresses.resolve(str(tmp_path))
    assert "./my.gguf" in caught.value.next


def test_a_checkpoint_that_lacks_a_part(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Tiny"]}')
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"1")
    index = '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(DamagedModel, match="incomplete: model-00002-of-00002"):
        addresses.resolve(str(tmp_path))


def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my.gguf"
    path.write_bytes(GGUF)

    def hash_and_touch(path: Path) -> str:
        os.utime(path, ns=(1, 1))
        return "0" * 64

    monkeypatch.setattr("builder.stage.receipt.sha256", hash_and_touch)
    with pytest.raises(DamagedModel, match="changes while it is read"):
        addresses.resolve(str(path))


@pytest.mark.parametrize(
    ("typed", "failure", "told"),
    [
        ("./nowhere.gguf", UnknownModel, "is neither a file nor an address"),
        ("modelscope:nobody", UnknownModel, "modelscope:OWNER/REPOSITORY:Q4_0"),
        ("https://127.0.0.1:9/a/page", UsageFailure, "is not the address of a GGUF file"),
        ("qwen3-8", UnknownModel, "Did you mean qwen3-8b?"),
    ],
)
def test_what_is_no_address(typed: str, failure: type[Failure], told: str) -> None:
    with pytest.raises(failure) as caught:
        addresses.resolve(typed)
    assert told in str(caught.value)


def test_a_model_of_the_catalogue_keeps_its_name_and_its_template() -> None:
    with pytest.raises(UsageFailure, match="--name is for a model of your own"):
        addresses.resolve("smollm2-135m", name="mine")
    assert addresses.resolve("smollm2-135m").name == "smollm2-135m"


def test_a_name_that_two_catalogues_have(tmp_path: Path) -> None:
    local = tmp_path / "local.toml"
    text = intents.INTENT.read_text(encoding="utf-8")
    begin = text.index('[models."smollm2-135m"]')
    local.write_text(text[begin : text.index("\n# ", begin)], encoding="utf-8")
    with pytest.raises(ConfigFailure, match="have a model called smollm2-135m"):
        intents.load(local=local)
