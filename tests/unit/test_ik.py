"""What of the engine ik can be known without compiling it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from builder import variants
from builder.environment import engine
from builder.quantizers import ik
from builder.settings import ROOT
from entrypoint import engines
from entrypoint.common.catalog import Model, ModelFile
from entrypoint.common.errors import (
    MessageTooLong,
    NotSupported,
    NotWritable,
    UnsupportedCpu,
    UsageFailure,
)
from entrypoint.common.machine import Cpu
from entrypoint.engines import Line, Options
from entrypoint.engines.ik import Ik, command, cpu
from tests.unit.test_gguf import kind, text, whole

RECIPE = (ROOT / "env/ik/CMakeLists.txt").read_text(encoding="utf-8")
ZEN_1 = cpu.AVX2 | {"sse4a", "clzero"}
ICE_LAKE = cpu.AVX2 | cpu.AVX512 - {"avx512_bf16"}
ZEN_4 = cpu.AVX2 | cpu.AVX512 | {"avx512_vbmi2"}


@pytest.mark.parametrize(
    ("flags", "level"), [(ZEN_1, "avx2"), (ICE_LAKE, "avx2"), (ZEN_4, "avx512")]
)
def test_the_library_is_the_fastest_that_the_cpu_can_run(flags: frozenset[str], level: str) -> None:
    assert cpu.chosen(Cpu("a CPU", flags)) == level


@pytest.mark.parametrize("lacking", ["avx2", "fma"])
def test_a_cpu_without_a_library_is_refused_by_what_it_lacks(lacking: str) -> None:
    with pytest.raises(UnsupportedCpu, match="Atom") as caught:
        cpu.chosen(Cpu("Atom", ZEN_4 - {lacking}))
    assert f": {lacking}." in caught.value.why
    assert "llamacpp" in caught.value.next


def test_a_kernel_that_tells_nothing_of_the_cpu_is_refused_too() -> None:
    with pytest.raises(UnsupportedCpu, match="unknown"):
        cpu.chosen(Cpu("", frozenset()))


def test_each_level_is_compiled_into_a_folder_of_its_name() -> None:
    folders = re.findall(r'LIBRARY_OUTPUT_DIRECTORY "\$\{CMAKE_BINARY_DIR\}/bin/(\w+)"', RECIPE)
    assert set(folders) == set(cpu.LEVELS)


def test_attention_has_kernels_for_the_sizes_that_are_compiled() -> None:
    sizes = re.findall(r"iqk/fa/iqk_fa_(\d+)_\1\.cpp", RECIPE)
    assert {int(size) for size in sizes} == engines.ik.HEADS


def model(tmp_path: Path, heads: int) -> Model:
    """Return a model whose heads are 512 / `heads` numbers wide, its header written to a file."""
    pairs = {
        "general.architecture": kind(8) + text("tiny"),
        "tiny.embedding_length": kind(4) + kind(512),
        "tiny.attention.head_count": kind(4) + kind(heads),
    }
    content = whole(pairs=pairs)
    (tmp_path / "model.gguf").write_bytes(content)
    return Model(
        name="tiny", display_name="Tiny", engine="ik", quantization="Q4_0", context=512,
        memory=1, memory_each=1, languages=("en",), license="MIT", source="", revision="",
        chat_template="", stop=(), files=(ModelFile("model.gguf", len(content), ""),),
    )  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an empty wheel of the engine, which is found."""
    package = tmp_path / "site" / engines.ik.PACKAGE
    package.mkdir(parents=True)
    monkeypatch.syspath_prepend(package.parent)
    return package


@pytest.mark.parametrize(("heads", "kernels"), [(8, "on"), (4, "on"), (2, "off")])
def test_attention_without_a_kernel_of_its_own_takes_the_plain_way(
    tmp_path: Path, installed: Path, heads: int, kernels: str
) -> None:
    address = Path("/tmp/engine.sock")  # noqa: S108 - only a name
    argv = command(model(tmp_path, heads), tmp_path, address, context=512, parallel=2)
    assert argv[0] == str(installed / "llama-server")
    assert argv[argv.index("--flash-attn") + 1] == kernels
    assert argv[argv.index("--ctx-size") + 1] == "1024"
    assert argv[argv.index("--host") + 1] == str(address)


def test_a_socket_whose_name_is_too_long_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotWritable, match="too long"):
        command(model(tmp_path, 8), tmp_path, tmp_path / ("x" * 107), context=1, parallel=1)


def test_its_server_is_read_as_llama_cpps() -> None:
    server = object.__new__(Ik)

    def event(reason: str | None) -> dict[str, Any]:
        numbers = {"usage": {"prompt_tokens": 9}, "timings": {"prompt_n": 4}}
        return {**numbers, "choices": [{"finish_reason": reason}]}

    assert server._told(event("stop"))["timings"]["cache_n"] == 5
    assert "usage" not in server._told(event(None))
    with pytest.raises(MessageTooLong, match=r"have 300 tokens.* has 256"):
        raise server._refusal({"message": "context 256 < 300", "type": "server_error"})
    with pytest.raises(NotSupported, match="no such"):
        raise server._refusal({"message": "no such", "type": "server_error"})


@pytest.mark.parametrize(
    ("options", "name"), [(Options(think=10), "think"), (Options(echo=True), "echo")]
)
def test_what_its_server_cannot_do_is_refused(options: Options, name: str) -> None:
    with pytest.raises(NotSupported, match=name) as caught:
        next(object.__new__(Ik)._pieces("Hi", options, Line()))
    assert caught.value.option == name


def test_weights_are_of_a_type_whose_rows_are_interleaved() -> None:
    assert ik.known_type("q4_0") == ik.known_type("keep") == "Q4_0"
    with pytest.raises(UsageFailure, match="Q4_K_M") as caught:
        ik.known_type("Q4_K_M")
    assert "Q4_0, Q8_0" in caught.value.why


def test_its_recipe_is_its_folder_and_what_compiles_every_engine() -> None:
    ours, others = engine.ingredients("ik"), engine.ingredients("llamacpp")
    assert {"CMakeLists.txt", "absent.cpp", "source.lock"} <= ours.keys()
    assert {"source.in", "upstream.toml", "wheel.lock"} & ours.keys() == set()
    for shared in ("build.lock", "toolchain", "inside/engine_wheel.py"):
        assert ours[shared] == others[shared]
    assert variants.find("ik").package == engines.ik.PACKAGE
