"""GGUF files beside catalog.json: models without a build, and what is no model."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from entrypoint import engines, mounted
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog, Model, ModelFile, SamplingAdvice
from entrypoint.common.errors import ConfigFailure, DamagedModel, Failure, UnknownModel
from entrypoint.engines import weights
from tests.unit.test_gguf import kind, number, text, whole

BAKED = Model(
    name="baked", display_name="Baked", engine="llamacpp", quantization="Q4_0", context=8,
    memory=1, languages=(), license="", source="", revision="", chat_template="", stop=(),
    files=(ModelFile("model.gguf", 1, "0" * 64),),
)  # fmt: skip
PAIRS = {
    "general.architecture": kind(8) + text("tiny"),
    "general.name": kind(8) + text("My model"),
    "general.license": kind(8) + text("mit"),
    "general.languages": kind(9) + kind(8) + number(1) + text("zh"),
    "general.file_type": kind(4) + kind(2),
    "general.sampling.temp": kind(6) + struct.pack("<f", 0.7),
    "tiny.context_length": kind(4) + kind(512),
    "tiny.embedding_length": kind(4) + kind(64),
    "tiny.feed_forward_length": kind(4) + kind(128),
    "tiny.attention.head_count": kind(4) + kind(4),
    "tiny.block_count": kind(4) + kind(2),
    "tokenizer.chat_template": kind(8) + text("{% if enable_thinking %}{% endif %}"),
}
TINY = whole(pairs=PAIRS)


def without(*keys: str) -> bytes:
    return whole(pairs={key: value for key, value in PAIRS.items() if key not in keys})


def part(count: int) -> bytes:
    return whole(pairs={**PAIRS, "split.count": kind(2) + struct.pack("<H", count)})


@pytest.fixture
def put(tmp_path: Path) -> Callable[[Mapping[str, bytes]], mounted.Shelf]:
    """Return a function that puts files beside a catalogue and reads the folder."""
    catalog.dump(Catalog("baked", (BAKED,)), tmp_path)

    def put(files: Mapping[str, bytes]) -> mounted.Shelf:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        return mounted.load(tmp_path)

    return put


Put = Callable[[Mapping[str, bytes]], mounted.Shelf]


def test_a_mounted_file_is_a_model_that_its_header_describes(put: Put, tmp_path: Path) -> None:
    shelf = put({"my.gguf": TINY})
    assert [model.name for model in shelf.models] == ["baked", "my"]
    assert shelf.find(None) == BAKED
    model = shelf.find("my")
    assert model.display_name == "My model"
    assert (model.engine, model.quantization, model.context) == ("llamacpp", "Q4_0", 512)
    assert (model.languages, model.license, model.think) == (("zh",), "mit", "off")
    assert model.sampling == SamplingAdvice(temperature=0.7)
    assert model.memory_each == 512 * 2 * 4 * (16 + 16) * 2, "tokens, layers, heads, numbers, bytes"
    assert model.memory > len(TINY) + model.memory_each
    assert model.files == (ModelFile(str(tmp_path / "my.gguf"), len(TINY), ""),)
    assert mounted.unknown(model)
    assert not mounted.unknown(BAKED)


def test_of_an_unknown_hash_only_the_size_is_checked(put: Put, tmp_path: Path) -> None:
    model = put({"my.gguf": TINY}).find("my")
    weights.require_content(model, tmp_path / "my")
    (tmp_path / "my.gguf").write_bytes(TINY[:-1])
    with pytest.raises(DamagedModel, match="instead of"):
        weights.require_content(model, tmp_path / "my")
    (tmp_path / "baked").mkdir()
    (tmp_path / "baked/model.gguf").write_bytes(b"x")
    with pytest.raises(DamagedModel, match="SHA-256"):
        weights.require_content(BAKED, tmp_path / "baked")


def test_a_file_in_parts_is_one_model(put: Put) -> None:
    names = [f"my-0000{n}-of-00002.gguf" for n in (1, 2)]
    model = put(dict.fromkeys(names, part(2))).find("my")
    assert [Path(file.path).name for file in model.files] == names
    assert model.memory > 2 * len(TINY)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("my.gguf", b"<html>", r"my\.gguf is not a GGUF file\."),
        ("my.gguf", TINY[:300], r"my\.gguf is truncated or damaged\."),
        ("my.gguf", without("tokenizer.chat_template"), r"(?s)how a conversation.*--chat-template"),
        ("my-00001-of-00003.gguf", part(3), r"one of 3 parts, of which 1 are here"),
        (
            "my.gguf",
            whole(pairs={**PAIRS, "tiny.embedding_length": kind(8) + text("wide")}),
            "impossible values",
        ),
        (
            "my.gguf",
            whole(pairs={**PAIRS, "general.file_type": PAIRS["general.languages"]}),
            "impossible values",
        ),
    ],
)
def test_what_is_no_model_is_told_to_who_wants_it(
    put: Put, name: str, content: bytes, told: str
) -> None:
    shelf = put({name: content})
    assert shelf.models == (BAKED,), "the others are there all the same"
    with pytest.raises((DamagedModel, ConfigFailure), match=told):
        shelf.find("my")


def test_a_folder_that_docker_made_is_told(put: Put, tmp_path: Path) -> None:
    (tmp_path / "my.gguf").mkdir()
    with pytest.raises(DamagedModel, match=r"(?s)is a folder.*-v FILE:"):
        put({}).find("my")


def test_a_name_that_the_catalogue_has_is_told(put: Put) -> None:
    shelf = put({"baked.gguf": TINY})
    with pytest.raises(ConfigFailure, match="Both the catalogue and"):
        shelf.find("baked")
    assert shelf.find(None) == BAKED


def test_what_a_header_says_does_nothing_to_a_terminal(put: Put) -> None:
    about = {**PAIRS, "general.name": kind(8) + text("My\n\x1b[31mmodel")}
    shown = put({"my.gguf": whole(pairs=about)}).find("my").display_name
    assert shown.isprintable()
    assert shown.endswith("model")


def test_without_its_engine_no_file_is_a_model(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find", lambda _name: None)
    with pytest.raises(UnknownModel):
        put({"my.gguf": TINY}).find("my")


def test_a_model_of_more_tokens_than_we_give_it_has_fewer(put: Put) -> None:
    long = {**PAIRS, "tiny.context_length": kind(4) + kind(1 << 20)}
    shelf = put({"long.gguf": whole(pairs=long), "mute.gguf": without("tiny.context_length")})
    assert shelf.find("long").context == shelf.find("mute").context == mounted.CONTEXT


def program(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entrypoint", *words],
        env={"LLMDEPLOY_MODELS": str(folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_models_and_doctor_say_that_its_hash_is_unknown(put: Put, tmp_path: Path) -> None:
    put({"my.gguf": TINY, "bad.gguf": b"<html>"})
    listed = program(tmp_path, "models")
    assert listed.returncode == 0, listed.stderr
    assert "my is a mounted file; its hash is unknown." in listed.stdout
    assert "bad.gguf is not a GGUF file." in listed.stdout
    told = program(tmp_path, "doctor").stdout.splitlines()
    [line] = [line for line in told if line.split()[1] == "my"]
    assert line.startswith("ok")
    assert "hash is unknown" in line
    report = json.loads(program(tmp_path, "doctor", "--json").stdout)
    facts = {each["name"]: each for each in report["models"]}
    assert (facts["my"]["intact"], facts["my"]["fits"], facts["my"]["problem"]) == (
        None,
        True,
        None,
    )
    assert facts["bad"]["problem"]["code"] == DamagedModel.code


def test_an_unknown_architecture_is_named() -> None:
    from entrypoint.common.errors import EngineCrashed
    from entrypoint.engines import llamaserver

    words = "load: error loading model: unknown model architecture: 'tiny'"
    named = llamaserver._named(EngineCrashed("It stopped.", words))
    assert isinstance(named, ConfigFailure)
    assert "the architecture tiny" in named.what
    other: Failure = EngineCrashed("It stopped.", "out of paper")
    assert llamaserver._named(other) is other
