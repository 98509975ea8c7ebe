"""What the choice of an engine decides: names, folders, and the commands in messages."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder import settings as configuration
from builder import variants
from builder.quantizers import quantizer
from builder.settings import ROOT, Settings
from builder.variants import Variant
from entrypoint import engines
from entrypoint.common.errors import UsageFailure

OTHER = Variant("other", "elsewhere", packing=1, bounds=(1, 1))


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(variants, "VARIANTS", {**variants.VARIANTS, "other": OTHER})
    return Settings(engine="other")


def test_the_default_engine_needs_no_word_anywhere() -> None:
    chosen = Settings()
    assert chosen.image_name == "llmdeploy"
    assert chosen.packed == ROOT / "dist/env/runtime.tar.zst"
    assert chosen.ready_dir == ROOT / "dist/models/ready"
    assert chosen.task("build-image") == "build-image"


def test_another_engine_has_places_of_its_own(other: Settings) -> None:
    default = Settings()
    assert other.image_name == "llmdeploy:other"
    assert other.packed == ROOT / "dist/env/elsewhere.tar.zst"
    assert other.task("quantize small") == "quantize small --engine other"
    for place in ("packed", "packed_receipt", "ready_dir", "image_dir", "image_name"):
        assert getattr(other, place) != getattr(default, place)


def test_the_command_line_decides_over_the_file(other: Settings, tmp_path: Path) -> None:
    written = tmp_path / "llmdeploy.toml"
    written.write_text('engine = "other"\nimage = "mine"\n')
    assert configuration.load(path=written) == replace(other, image="mine")
    assert configuration.load("llamacpp", written) == Settings(image="mine")


@pytest.mark.parametrize("find", [variants.find, configuration.load])
def test_an_unknown_engine_is_refused_with_a_suggestion(find: object) -> None:
    with pytest.raises(UsageFailure) as caught:
        find("lamacpp")  # type: ignore[operator]
    assert caught.value.next == "Did you mean llamacpp?"


def test_an_unknown_environment_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageFailure) as caught:
        variants.of_environment("runtme")
    assert caught.value.next == "Did you mean runtime?"


def test_every_variant_has_a_lock_a_quantizer_and_an_engine() -> None:
    for variant in variants.VARIANTS.values():
        assert engines.find(variant.engine)
        assert callable(quantizer(variant.engine).measure)
        assert (ROOT / "env" / f"{variant.environment}.lock").exists()
        assert variants.of_environment(variant.environment) == variant


@pytest.mark.parametrize("name", ["parrot", "no.name"])
def test_a_folder_without_a_module_is_no_engine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parrot/__pycache__").mkdir(parents=True)  # what removing an engine can leave
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(tmp_path)])
    assert engines.find(name) is None


def test_what_fails_inside_of_an_engine_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parrot").mkdir()
    (tmp_path / "parrot/__init__.py").write_text("import jsn\n")
    monkeypatch.setattr(engines, "__path__", [*engines.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="jsn"):
        engines.find("parrot")
