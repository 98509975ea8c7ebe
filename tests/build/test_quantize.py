"""Models quantized for real, converted for real, killed, damaged, and in little memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import pytest

from builder.environment import engine
from builder.models import checkpoint, convert, intents
from builder.quantizers import ggufs, quantize
from builder.settings import ROOT, Settings
from builder.stage import disk, receipt
from entrypoint.common import catalog, footprint, gguf
from entrypoint.common.errors import ConfigFailure, DiskFull, StageMissing
from entrypoint.engines import Options, Usage
from entrypoint.engines.llamacpp import LlamaCpp
from tests.checkpoint import write_random

Done: TypeAlias = "subprocess.CompletedProcess[str]"

SMALL, DEFAULT = "smollm2-135m", "qwen2.5-coder-0.5b"
Q4_0, Q8_0 = 2, 8
LIMIT = 1_500_000_000


@dataclass
class Checkout:
    """A copy of this repository with one model of its own, `tiny`; caches are shared."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "dist/models/raw/tiny"

    @property
    def ready(self) -> Path:
        return self.root / "dist/models/ready"

    @property
    def weights(self) -> Path:
        return self.ready / "tiny/model.gguf"

    def describe(self, form: str = "gguf") -> None:
        """Write the recipe and the receipt of what was put into the raw folder."""
        files = sorted(path for path in self.raw.iterdir() if path.name != "receipt.json")
        (self.root / "models/models.toml").write_text(
            'default = "tiny"\n[models.tiny]\ndisplay_name = "Tiny"\nlicense = "MIT"\n'
            f'languages = ["en"]\nfiles = ["*"]\nformat = "{form}"\ncontext = 2048\n'
            'quantization = "Q4_0"\n[[models.tiny.sources]]\nkind = "dir"\npath = "/models"\n'
        )
        hashes = {path.name: receipt.sha256(path) for path in files}
        (self.root / "models/models.lock").write_text(
            "".join(
                f"{hashes[path.name]} {path.stat().st_size} tiny {path.name}\n" for path in files
            )
        )
        receipt.write(self.raw / "receipt.json", hashes, files, source="dir")

    def start(self, *words: str, before: str = "") -> subprocess.Popen[str]:
        """Start the task; `before` is a line of shell that runs first, in the same process."""
        return subprocess.Popen(
            [
                *("sh", "-c", f'{before or ":"}; exec "$@"', "sh"),
                *(sys.executable, "-m", "builder", "quantize", "tiny", *words),
            ],
            cwd=self.root,
            env={**os.environ, "LLMDEPLOY_LANG": "en"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def quantize(self, *words: str, before: str = "") -> Done:
        with self.start(*words, before=before) as process:
            out, err = process.communicate(timeout=900)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def is_clean(self) -> bool:
        """Tell whether nothing half-done was left behind."""
        return sorted(path.name for path in self.ready.iterdir()) == ["catalog.json", "tiny"]


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    for name in ("builder", "entrypoint", "env"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tasks.py", tmp_path)
    (tmp_path / "models").mkdir()
    made = Checkout(tmp_path)
    made.raw.mkdir(parents=True)
    yield made
    shutil.rmtree(tmp_path / "dist")  # pytest would keep gigabytes


@pytest.fixture
def small(settings: Settings, models_dir: Path) -> Path:
    """Return the fetched file of the small model."""
    assert models_dir.is_dir()
    (file,) = (settings.dist_dir / "models/raw" / SMALL).glob("*.gguf")
    return file


@pytest.fixture
def elsewhere(settings: Settings, models_dir: Path, tmp_path: Path) -> Settings:
    """Return settings with the real fetched models and nothing made of them."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/raw").symlink_to(models_dir.parent / "raw")
    return replace(settings, dist=str(tmp_path))


@pytest.fixture
def ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], str]:
    """Return a function that asks the default model of a folder with the real engine."""
    monkeypatch.syspath_prepend(str(ggufs.program(settings, "llamacpp").parent.parent))

    def ask(folder: Path, question: str) -> str:
        model = catalog.load(folder).find(None)
        engine = LlamaCpp(model, folder / model.name, context=1024)
        try:
            answer = engine.stream(
                [{"role": "user", "content": question}], Options(temperature=0, max_tokens=24)
            )
            return "".join(piece for piece in answer if isinstance(piece, str))
        finally:
            engine.close()

    return ask


@pytest.fixture
def memory_group() -> Iterator[Callable[[int], Path]]:
    """Return a function that makes a memory cgroup of so many bytes; it goes with the test."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    first = Path("/sys/fs/cgroup/memory")
    name = f"llmdeploy-test-{os.getpid()}"
    group, limit = (
        (first / name, "memory.limit_in_bytes")
        if first.is_dir()
        else (first.parent / name, "memory.max")
    )

    def make(size: int) -> Path:
        subprocess.run([*as_root, "mkdir", group], check=True)
        subprocess.run(
            [*as_root, "tee", group / limit], input=f"{size}", text=True, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        return group

    yield make
    subprocess.run([*as_root, "rmdir", group], check=True)


def types(weights: Path) -> set[int]:
    """Return the types of everything that is not a vector."""
    return {tensor.type for tensor in gguf.read(weights).tensors if len(tensor.shape) > 1}


@pytest.mark.parametrize(("name", "size"), [(SMALL, 77_571_136), (DEFAULT, 360_662_912)])
def test_every_tensor_of_a_published_mixture_becomes_q4_0(
    models_dir: Path, name: str, size: int
) -> None:
    weights = models_dir / name / "model.gguf"
    assert types(weights) == {Q4_0}
    assert weights.stat().st_size == pytest.approx(size, rel=0.001)


def test_the_catalogue_says_what_is_there(settings: Settings, models_dir: Path) -> None:
    listed = catalog.load(models_dir)
    assert listed.default == DEFAULT
    for name in (SMALL, DEFAULT):
        model, intent = listed.find(name), intents.load().find(name)
        weights = models_dir / name / "model.gguf"
        (file,) = model.files
        assert (file.size, file.sha256) == (weights.stat().st_size, receipt.sha256(weights))
        assert (model.engine, model.quantization, model.context) == ("llamacpp", "Q4_0", 8192)
        assert (model.license, model.languages) == (intent.license, intent.languages)
        delivered = receipt.read(settings.dist_dir / "models/raw" / name / "receipt.json")
        assert delivered is not None
        assert model.source.startswith(f"{delivered['source']}:")


def test_a_second_run_does_nothing(
    settings: Settings, models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = models_dir / SMALL / "model.gguf"
    before = weights.stat()
    quantize.quantize(settings, [SMALL])
    assert "nothing changed" in capsys.readouterr().err
    assert weights.stat().st_ino == before.st_ino


def test_two_runs_give_the_same_bytes(elsewhere: Settings, models_dir: Path) -> None:
    quantize.quantize(elsewhere, [SMALL])
    ours = (elsewhere.ready_dir / SMALL / "model.gguf").read_bytes()
    assert ours == (models_dir / SMALL / "model.gguf").read_bytes()


def test_what_has_the_type_already_is_not_written_again(elsewhere: Settings) -> None:
    quantize.quantize(elsewhere, [DEFAULT], type="Q4_K_M")
    (published,) = (elsewhere.dist_dir / "models/raw" / DEFAULT).glob("*.gguf")
    assert (elsewhere.ready_dir / DEFAULT / "model.gguf").samefile(published)
    assert catalog.load(elsewhere.ready_dir).find(DEFAULT).quantization == "Q4_K_M"


def test_another_type_takes_the_place_of_the_first(
    elsewhere: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize.quantize(elsewhere, [SMALL])
    quantize.quantize(elsewhere, [SMALL], type="q8_0")
    assert types(elsewhere.ready_dir / SMALL / "model.gguf") == {Q8_0}
    listed = catalog.load(elsewhere.ready_dir)
    assert (listed.default, listed.find(None).quantization) == (SMALL, "Q8_0")
    assert "nothing changed" not in capsys.readouterr().err


def test_a_ready_model_that_was_changed_is_left_out_of_the_catalogue(
    elsewhere: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize.quantize(elsewhere, [SMALL])
    quantize.quantize(elsewhere, [DEFAULT], type="Q4_K_M")
    with (elsewhere.ready_dir / SMALL / "model.gguf").open("ab") as weights:
        weights.write(b"more")
    quantize.quantize(elsewhere, [DEFAULT], type="Q4_K_M")
    assert "./llmdeploy quantize smollm2-135m" in capsys.readouterr().err
    assert [model.name for model in catalog.load(elsewhere.ready_dir).models] == [DEFAULT]


def test_killed_and_started_again_it_gives_the_same_bytes(
    checkout: Checkout, small: Path, models_dir: Path
) -> None:
    os.link(small, checkout.raw / small.name)
    checkout.describe()
    half = checkout.ready / ".tiny.partial/made/model.gguf"
    with checkout.start() as process:
        while not half.exists() or half.stat().st_size < 1_000_000:
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    assert half.exists()
    assert not checkout.weights.exists()
    done = checkout.quantize()
    assert done.returncode == 0, done.stderr
    assert checkout.weights.read_bytes() == (models_dir / SMALL / "model.gguf").read_bytes()
    assert checkout.is_clean()


def test_what_was_not_fetched_is_asked_for(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(StageMissing) as caught:
        quantize.quantize(replace(settings, dist=str(tmp_path)), [SMALL])
    assert "./llmdeploy fetch smollm2-135m" in caught.value.next


def test_a_fetched_file_that_was_changed_is_refused(checkout: Checkout, small: Path) -> None:
    shutil.copy(small, checkout.raw)
    checkout.describe()
    os.truncate(checkout.raw / small.name, 1_000_000)
    done = checkout.quantize()
    assert done.returncode == 13
    assert "./llmdeploy fetch tiny" in done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda _whole: b"<html>Please log in</html>", "is not a GGUF file"),
        (lambda whole: whole[:1000], "is truncated or damaged"),
        (lambda whole: whole[:-1000], "is not within the file bounds"),
        (lambda whole: whole[:50_000_000] + b"\xff" * 4096 + whole[50_004_096:], "invalid data"),
    ],
    ids=["page", "header", "end", "middle"],
)
def test_a_damaged_file_that_was_locked_so_is_named(
    checkout: Checkout, small: Path, content: Callable[[bytes], bytes], says: str
) -> None:
    (checkout.raw / "model.gguf").write_bytes(content(small.read_bytes()))
    checkout.describe()
    done = checkout.quantize()
    assert done.returncode == 13, done.stderr
    assert says in done.stderr
    assert "raw/tiny/model.gguf" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(checkout.ready.iterdir()) == []


def test_a_full_disk_is_told_before_and_leaves_nothing(
    elsewhere: Settings, small_disk: Callable[[int], Path]
) -> None:
    elsewhere.ready_dir.symlink_to(small_disk(50_000_000))
    with pytest.raises(DiskFull) as caught:
        quantize.quantize(elsewhere, [SMALL])
    assert "are free" in caught.value.why
    assert list(elsewhere.ready_dir.iterdir()) == []


def test_a_disk_that_becomes_full_is_told_and_leaves_nothing(
    elsewhere: Settings, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere.ready_dir.symlink_to(small_disk(50_000_000))
    monkeypatch.setattr(disk, "require", lambda _folder, _size: None)
    with pytest.raises(DiskFull):
        quantize.quantize(elsewhere, [SMALL])
    assert list(elsewhere.ready_dir.iterdir()) == []


SPLIT = """
import sys
sys.path.insert(0, sys.argv[1])
import gguf
reader = gguf.GGUFReader(sys.argv[2])
writer = gguf.GGUFWriter(sys.argv[3], "llama", split_max_tensors=100)
for field in reader.fields.values():
    if not field.name.startswith("GGUF.") and field.name != "general.architecture":
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
for tensor in reader.tensors:
    writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
"""


def test_a_file_in_parts_is_joined(settings: Settings, checkout: Checkout, small: Path) -> None:
    home = convert.environment(settings)
    words = (home / "llama.cpp/gguf-py", small, checkout.raw / "tiny.gguf")
    subprocess.run([home / "bin/python", "-c", SPLIT, *words], check=True)
    assert sorted(path.name for path in checkout.raw.iterdir()) == [
        f"tiny-0000{number}-of-00003.gguf" for number in (1, 2, 3)
    ]
    checkout.describe("gguf")
    done = checkout.quantize()
    assert done.returncode == 0, done.stderr
    assert types(checkout.weights) == {Q4_0}
    joined, whole = gguf.read(checkout.weights), gguf.read(small)
    assert {tensor.name for tensor in joined.tensors} == {tensor.name for tensor in whole.tensors}
    assert checkout.is_clean()


def test_a_file_without_a_template_needs_one(checkout: Checkout, small: Path) -> None:
    nameless = small.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.what_template", 1)
    (checkout.raw / "tiny.gguf").write_bytes(nameless)
    checkout.describe("gguf")
    done = checkout.quantize()
    assert done.returncode == ConfigFailure.code
    assert "tiny does not say how a conversation is written." in done.stderr
    assert "--chat-template" in done.stderr
    intents = checkout.root / "models/models.toml"
    told = intents.read_text().replace(
        "context = 2048\n", 'context = 2048\nchat_template = "chatml"\n'
    )
    intents.write_text(told)
    done = checkout.quantize()
    assert done.returncode == 0, done.stderr
    assert catalog.load(checkout.ready).find(None).chat_template == "chatml"


SHARDS = """
import sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
assert model.config.tie_word_embeddings
model.save_pretrained(sys.argv[1], max_shard_size="100MB")
"""


def test_a_checkpoint_in_parts_is_converted_quantized_and_answers(
    settings: Settings, checkout: Checkout, small: Path, ask: Callable[[Path, str], str]
) -> None:
    python = convert.environment(settings) / "bin/python"
    checkpoint.of_gguf(small, checkout.raw, python)
    subprocess.run([python, "-c", SHARDS, checkout.raw], check=True)
    (checkout.raw / "model.safetensors").unlink(missing_ok=True)
    assert len(list(checkout.raw.glob("model-*.safetensors"))) > 1
    checkout.describe("checkpoint")
    done = checkout.quantize()
    assert done.returncode == 0, done.stderr
    assert types(checkout.weights) == {Q4_0}
    assert checkout.is_clean()
    made, published = gguf.read(checkout.weights).metadata, gguf.read(small).metadata
    for key in ("model", "pre", "tokens", "merges"):
        assert made[f"tokenizer.ggml.{key}"] == published[f"tokenizer.ggml.{key}"]
    assert "Paris" in ask(checkout.ready, "What is the capital of France?")


def test_a_checkpoint_without_its_config_is_damaged(checkout: Checkout) -> None:
    (checkout.raw / "model.safetensors").write_bytes(b"")
    checkout.describe("checkpoint")
    done = checkout.quantize()
    assert done.returncode == 13
    assert "config.json" in done.stderr


def test_an_unknown_architecture_and_missing_weights_are_told(checkout: Checkout) -> None:
    config = {"architectures": ["NoSuchModel"], "model_type": "llama"}
    (checkout.raw / "config.json").write_text(json.dumps(config))
    (checkout.raw / "model.safetensors").write_bytes(b"")
    checkout.describe("checkpoint")
    unknown = checkout.quantize()
    assert unknown.returncode == 4, unknown.stderr
    assert "NoSuchModel" in unknown.stderr
    assert "QWenLMHeadModel" in unknown.stderr
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (checkout.raw / "model.safetensors.index.json").write_text(json.dumps(index))
    checkout.describe("checkpoint")
    missing = checkout.quantize()
    assert missing.returncode == 13, missing.stderr
    assert "incomplete: model-00002-of-00002" in missing.stderr
    assert list(checkout.ready.iterdir()) == []


def test_the_architectures_that_are_named_are_converted(settings: Settings) -> None:
    home = convert.environment(settings)
    script = home / "llama.cpp" / convert.CONVERTER
    listing = [str(home / "bin/python"), str(script), "--print-supported-models", "."]
    done = subprocess.run(listing, capture_output=True, text=True, check=True)
    assert set(convert.SOME) <= set((done.stdout + done.stderr).replace("-", " ").split())


def test_a_checkpoint_of_3_gb_passes_in_memory_of_half_its_size(
    checkout: Checkout,
    settings: Settings,
    models_dir: Path,
    memory_group: Callable[[int], Path],
) -> None:
    convert.environment(settings)
    engine.wheel(settings, "llamacpp")
    checkpoint.write_tokenizer(gguf.read(models_dir / DEFAULT / "model.gguf"), checkout.raw)
    write_random(checkout.raw)
    assert (checkout.raw / "model.safetensors").stat().st_size > 3_000_000_000
    checkout.describe("checkpoint")
    group = memory_group(LIMIT)
    done = checkout.quantize(before=f"echo $$ > {group}/cgroup.procs")
    assert done.returncode == 0, done.stderr
    assert types(checkout.weights) == {Q4_0}


@pytest.mark.parametrize("name", [SMALL, DEFAULT])
def test_the_memory_in_the_catalogue_is_what_the_engine_takes(
    settings: Settings, models_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.syspath_prepend(str(ggufs.program(settings, "llamacpp").parent.parent))
    model = catalog.load(models_dir).find(name)
    engine = LlamaCpp(model, models_dir / name)
    try:
        # More than one batch: the engine has then touched all that it ever needs.
        question = "Count on: " + " ".join(str(number) for number in range(200))
        *_pieces, usage = engine.stream(
            [{"role": "user", "content": question}], Options(temperature=0, max_tokens=16)
        )
        assert isinstance(usage, Usage)
        assert usage.prompt_tokens > footprint.BATCH
        status = Path(f"/proc/{engine._child.pid}/status").read_text()
    finally:
        engine.close()
    (peak,) = (int(line.split()[1]) << 10 for line in status.splitlines() if "VmHWM" in line)
    assert 0.92 * model.memory < peak <= model.memory
