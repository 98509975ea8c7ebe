"""Receipts see everything that decides the bytes, and nothing else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import grimp
import pytest

from builder.debian.store import Deb
from builder.environment import condaenv
from builder.image import layers
from builder.image.bill import Bill
from builder.models import intents
from builder.quantizers import quantizer
from builder.settings import ROOT, Settings
from builder.stage import recipe
from entrypoint.common.catalog import Catalog, Model

# What the stages import and no recipe has: it reads, checks, measures, finds, tells or starts.
NEUTRAL = {
    "builder.image.materials",  # the page's packages are among the program's files
    "builder.models.intents",  # the lock's hashes are inputs of their own
    "builder.quantizers",
    "builder.quantizers.llamacpp",
    "builder.quantizers.itrex.needs",
    "builder.quantizers.llamacpp.needs",
    "builder.settings",
    "builder.variants",
    "builder.environment.tarball",  # its hash is an input of its own
    "builder.environment.workshop",  # its packages are inputs; what is not of them is told
    "builder.environment.engine",  # its wheel's ingredients are inputs of their own
    "builder.debian.apt",
    "builder.debian.lock",
    "builder.debian.root",
    "builder.debian.store",  # the packages' hashes are inputs of their own
    "builder.stage.disk",
    "builder.stage.download",
    "builder.stage.receipt",
    "builder.stage.recipe",
    "builder.stage.report",
    "builder.stage.run",
    "builder.stage.scratch",
}
LIBC = Deb("libc6", "2.36-9", "0" * 64, Path("libc6.deb"), locked=True)
STAGES = (
    "builder.environment.condaenv",
    "builder.image.layers",
    "builder.quantizers.ik.recipe",
    "builder.quantizers.itrex.recipe",
    "builder.quantizers.llamacpp.recipe",
    "builder.quantizers.openvino.recipe",
)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of builder/ of which the recipes are read."""
    place = tmp_path / "builder"
    shutil.copytree(ROOT / "builder", place, ignore=shutil.ignore_patterns("__pycache__"))
    common = "entrypoint/common"
    shutil.copytree(ROOT / common, tmp_path / common, ignore=shutil.ignore_patterns("*.pyc"))
    monkeypatch.setattr(recipe, "PLACE", place)
    return place


def inputs() -> dict[str, Mapping[str, str]]:
    """Return what each stage's receipts hold, of a GGUF file and of a checkpoint."""
    model = Model(
        name="tiny",
        display_name="Tiny",
        engine="llamacpp",
        quantization="Q4_0",
        context=8,
        memory=1,
        memory_each=1,
        languages=("en",),
        license="MIT",
        source="",
        revision="",
        chat_template="",
        stop=(),
        files=(),
    )
    known = intents.load()
    gguf = known.find("smollm2-135m")
    assert gguf.format == "gguf"
    chosen = Catalog("tiny", (model,))
    bill = Bill([LIBC], {"packages": []}, chosen)
    stages = {
        f"layer {each.name}": each.inputs
        for each in layers.plan(Settings(), [LIBC], "0" * 64, chosen, bill)
    }
    stages["environment"] = condaenv.inputs(Settings(), "lock")
    for engine in ("llamacpp", "ik", "openvino", "itrex"):
        settings = Settings(engine=engine)
        for intent in (gguf, replace(gguf, format="checkpoint")):
            found = quantizer(engine).inputs(settings, intent)
            stages[f"{engine} {intent.format}"] = found
    return stages


def changed(builder: Path, file: str, old: str, new: str) -> set[str]:
    """Return the stages whose inputs are others once `old` in a file became `new`."""
    before, text = inputs(), (builder / file).read_text(encoding="utf-8")
    assert old in text
    (builder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    after = inputs()
    return {stage for stage in before if before[stage] != after[stage]}


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        (
            "quantizers/llamacpp/recipe.py",
            '"--allow-requantize"',
            '"--leave-output-tensor"',
            {"llamacpp gguf", "llamacpp checkpoint", "openvino gguf", "openvino checkpoint"},
        ),
        ("quantizers/ik/recipe.py", '"--pure"', '"--impure"', {"ik gguf", "ik checkpoint"}),
        (
            "inside/converter.py",
            '"layer_norm_epsilon"',
            '"rms_norm_epsilon"',
            {"llamacpp checkpoint", "ik checkpoint", "openvino checkpoint"},
        ),
        (
            "models/convert.py",
            '"--outtype"',
            '"--output-type"',
            {"llamacpp checkpoint", "ik checkpoint", "openvino checkpoint", "itrex gguf"},
        ),
        (
            "inside/openvino_ir.py",
            "compress_to_fp16=False",
            "compress_to_fp16=True",
            {"openvino gguf", "openvino checkpoint"},
        ),
        ("../entrypoint/common/gguf.py", '"replace"', '"ignore"', {"itrex gguf"}),
        ("inside/itrex.py", "bits=4", "bits=8", {"itrex gguf", "itrex checkpoint"}),
        ("inside/checkpoint.py", "torch.float16", "torch.float32", {"itrex gguf"}),
        ("inside/relocate.py", "mode=mode", 'mode="text"', {"layer env"}),
        ("environment/wheelhouse.py", '"--no-compile"', '"--compile"', {"environment"}),
        (
            "inside/engine_wheel.py",
            "1_700_000_000",
            "1_800_000_000",
            {  # OpenVINO's weights are made of what llama-quantize makes
                *("environment", "llamacpp gguf", "llamacpp checkpoint"),
                *("ik gguf", "ik checkpoint", "openvino gguf", "openvino checkpoint"),
            },
        ),
        ("debian/deb.py", "0o1777", "0o7777", {"layer base"}),
        ("image/base.py", '"usr/games"', '"usr/sbin"', {"layer base"}),
        (
            "stage/archive.py",
            "compresslevel=6",
            "compresslevel=5",
            {
                *("environment", "layer base", "layer env", "layer model-tiny"),
                *("layer data", "layer code"),
            },
        ),
    ],
)
def test_what_decides_the_bytes_changes_the_receipt(
    builder: Path, file: str, old: str, new: str, stages: set[str]
) -> None:
    assert changed(builder, file, old, new) == stages


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("image/layers.py", '"""The layers of the image', '"""The strata of the image'),
        ("image/layers.py", "import dataclasses\n", "# A comment.\nimport dataclasses\n"),
        ("image/layers.py", '_("writing the layer {name}")', '_("layer {name}")'),
        ("quantizers/itrex/needs.py", "PROGRAM: Final = 730", "PROGRAM: Final = 731"),
        ("quantizers/llamacpp/needs.py", '"Q4_0": 4.5', '"Q4_0": 4.6'),
        ("quantizers/llamacpp/recipe.py", '_("already has that type")', '_("nothing to do")'),
        ("quantizers/openvino/needs.py", "VOCABULARY: Final = 14", "VOCABULARY: Final = 15"),
        ("quantizers/openvino/recipe.py", "def make(settings: Settings,", "def make(settings,"),
        ("environment/condaenv.py", 'report.say(_("packing"))', 'report.say(_("packing it"))'),
        (
            "models/convert.py",
            "from builder.stage.run import run\n",
            "from builder.run import run\n",
        ),
    ],
)
def test_what_changes_no_byte_changes_no_receipt(
    builder: Path, file: str, old: str, new: str
) -> None:
    assert changed(builder, file, old, new) == set()


def test_whatever_a_stage_imports_is_in_a_recipe_or_known_to_decide_nothing(
    builder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    assert str(ROOT) in sys.path
    graph = grimp.build_graph("builder", cache_dir=None)
    imported = set().union(*(graph.find_upstream_modules(stage) for stage in STAGES), STAGES)
    hashed = {
        "builder." + name.removesuffix(".py").replace("/", ".")
        for each in inputs().values()
        for name in each
        if (builder / name).is_file()
    }
    assert imported - hashed - NEUTRAL == set(), "name these in a recipe, or say why not"
    assert NEUTRAL - imported == set(), "no stage imports these any more"
