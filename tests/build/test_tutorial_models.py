"""ChatGLM3 and Qwen, tiny: from a hub of their own, through every stage, on both engines."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import correlation
from typing import Any, TypeAlias

import pytest

from builder.models import convert, intents
from builder.quantizers import ggufs
from builder.settings import ROOT, Settings
from builder.stage import receipt
from entrypoint.common import catalog
from entrypoint.engines import Message, Options
from entrypoint.engines.llamacpp import LlamaCpp
from tests import hub as hubs
from tests import tutorial
from tests.hub import REPOSITORY, REVISION, Hub

pytestmark = pytest.mark.itrex

Done: TypeAlias = "subprocess.CompletedProcess[str]"

NAMES = ("chatglm3-6b", "qwen-7b-chat")
TEXT = "Hello, 同济大学! The key is under the mat, said 12 lighthouse keepers."

# What PyTorch says: the tokens of a text, and for each of its beginnings the next token's scores.
SCORES = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text, *lengths = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
inner = getattr(tokenizer, "tokenizer", tokenizer)
tokens = list(inner.encode(text))
model = AutoModelForCausalLM.from_pretrained(
    folder, trust_remote_code=True, torch_dtype=torch.float32).eval()
with torch.inference_mode():
    found = model(input_ids=torch.tensor([tokens]), return_dict=True).logits[0]
print(json.dumps({"tokens": tokens,
                  "scores": [found[int(length) - 1].tolist() for length in lengths]}))
"""
LENGTHS = (2, 9, 17)

# What the engine itrex makes of a conversation.
TALK: list[Message] = [
    {"role": "user", "content": "Hello, 同济大学!"},
    {"role": "assistant", "content": "Good morning.\nHow are you?"},
    {"role": "user", "content": "Fine, 12 keepers."},
]
TOKENS = """
import json, sys
from contextlib import closing
from entrypoint.common import catalog
from entrypoint.arguments import models_folder
from entrypoint.engines import open_engine
_checkpoint, talk = sys.argv[1:]
with closing(open_engine(catalog.load(models_folder()).find(None), models_folder())) as engine:
    print(json.dumps(engine._tokens(json.loads(talk))))
"""

LAST = """
import sys
from contextlib import closing
from entrypoint.common import catalog
from entrypoint.arguments import models_folder
from entrypoint.engines import Options, open_engine
with closing(open_engine(catalog.load(models_folder()).find(None), models_folder())) as engine:
    engine._sample = lambda scores, *_: len(scores) - 1
    *pieces, usage = engine.stream("12", Options(max_tokens=2))
    print(usage.completion_tokens, "".join(pieces))
"""


@dataclass
class Checkout:
    """A copy of this repository whose models come from a hub on loopback, made by `hub`."""

    root: Path
    hub: Hub
    name: str

    @property
    def raw(self) -> Path:
        return self.root / "dist/models/raw" / self.name

    def task(self, *words: str) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "builder", *words],
            cwd=self.root,
            env={**os.environ, "LLMDEPLOY_LANG": "en", "MODELSCOPE_ENDPOINT": self.hub.url,
                 "HF_ENDPOINT": "http://127.0.0.1:9"},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def checkout(
    request: pytest.FixtureRequest,
    stack: Path,
    models_dir: Path,
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Checkout]:
    """Return a repository that knows the tutorial's models from a hub, where they are tiny."""
    root, name = tmp_path_factory.mktemp("repository"), request.param
    for folder in ("builder", "entrypoint", "env", "models"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tasks.py", root)
    intents = root / "models/models.toml"
    text = re.sub(r"(?m)^repository = .*", f'repository = "{REPOSITORY}"', intents.read_text())
    intents.write_text(re.sub(r"(?m)^revision = .*", f'revision = "{REVISION}"', text))
    (root / "models/models.lock").write_text("")
    (root / "dist").mkdir()
    (root / "dist/env").symlink_to(settings.dist_dir / "env")
    place = root / "published"
    place.mkdir()
    (qwen,) = (models_dir.parent / "raw/qwen2.5-coder-0.5b").glob("*.gguf")
    tutorial.write(name, place, stack / "bin/python", qwen)
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    files["README.md"] = b"not wanted"
    with hubs.serve(Hub(files)) as hub:
        made = Checkout(root, hub, name)
        for words in (("lock", "--models", name), ("fetch", name)):
            done = made.task(*words)
            assert done.returncode == 0, done.stderr
        yield made
    shutil.rmtree(root)


def test_its_files_come_from_modelscope_at_the_hash_that_the_hub_lists(checkout: Checkout) -> None:
    wanted = intents.load(checkout.root / "models/models.toml").find(checkout.name)
    names = {path for path in checkout.hub.files if wanted.wants(path)}
    assert {path.name for path in checkout.raw.iterdir()} == {*names, "receipt.json"}
    assert "README.md" not in names
    for name in names:
        assert (checkout.raw / name).read_bytes() == checkout.hub.files[name]
    fetched = receipt.read(checkout.raw / "receipt.json")
    assert fetched is not None
    assert fetched["source"] == "modelscope"


@pytest.mark.parametrize("engine", ["llamacpp", "itrex"])
def test_it_is_quantized_and_answers(
    checkout: Checkout, stack: Path, unpacked: Path, engine: str
) -> None:
    done = checkout.task("quantize", checkout.name, "--engine", engine)
    assert done.returncode == 0, done.stderr
    for path in checkout.raw.glob("*.py"):
        assert f"code of the checkpoint: {receipt.sha256(path)} {path.name}" in done.stderr
    ready = checkout.root / "dist/models" / ("ready" if engine == "llamacpp" else "ready-itrex")
    assert sorted(path.name for path in ready.iterdir()) == sorted(["catalog.json", checkout.name])
    model = catalog.load(ready).find(checkout.name)
    assert (model.engine, model.context) == (engine, 8192)
    place = unpacked if engine == "llamacpp" else stack
    said = subprocess.run(
        [place / "bin/python3", "-m", "entrypoint", "chat", "--max-tokens", "12"],
        input="你好！\nAnd again?\n",
        env={**os.environ, "LLMDEPLOY_LANG": "en", "PYTHONPATH": str(ROOT),
             "LLMDEPLOY_MODELS": str(ready)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert len(said.stdout.split()) >= 2
    assert "Traceback" not in said.stderr


def test_a_token_without_text_is_never_chosen(checkout: Checkout, stack: Path) -> None:
    done = checkout.task("quantize", checkout.name, "--engine", "itrex")
    assert done.returncode == 0, done.stderr
    ready = checkout.root / "dist/models/ready-itrex"
    where = {"PYTHONPATH": str(ROOT), "LLMDEPLOY_MODELS": str(ready)}
    python, checkpoint = stack / "bin/python", checkout.root / "published"
    printed = tutorial.run(python, LAST, checkpoint, **where)
    assert printed.split()[0] in {"1", "2"}


def test_the_tutorials_code_answers_with_what_was_saved(
    checkout: Checkout, stack: Path, tmp_path: Path
) -> None:
    done = checkout.task("quantize", checkout.name, "--engine", "itrex")
    assert done.returncode == 0, done.stderr
    made = checkout.root / "dist/models/ready-itrex" / checkout.name
    (tmp_path / checkout.name).symlink_to(made)
    answered = subprocess.run(
        [stack / "bin/python", "-W", "ignore", "-c", tutorial.snippet(checkout.name)],
        cwd=tmp_path,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1",
             "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.rstrip("\n").rpartition("\n")[2] not in {"", "None"}


def test_both_engines_read_a_conversation_alike(
    checkout: Checkout, stack: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for engine, folder in (("llamacpp", "ready"), ("itrex", "ready-itrex")):
        done = checkout.task("quantize", checkout.name, "--engine", engine)
        assert done.returncode == 0, done.stderr
        made[engine] = checkout.root / "dist/models" / folder
    where = {"PYTHONPATH": str(ROOT), "LLMDEPLOY_MODELS": str(made["itrex"])}
    python, checkpoint = stack / "bin/python", checkout.root / "published"
    printed = tutorial.run(python, TOKENS, checkpoint, json.dumps(TALK), **where)
    monkeypatch.syspath_prepend(str(ggufs.program(settings, "llamacpp").parent.parent))
    model = catalog.load(made["llamacpp"]).find(checkout.name)
    with closing(LlamaCpp(model, made["llamacpp"] / model.name)) as server:
        body = {"content": server._templated(TALK, Options()), "add_special": True}
        with server._send("POST", "/tokenize", body) as response:
            assert json.load(response)["tokens"] == json.loads(printed.splitlines()[-1])


def test_the_converted_model_gives_the_scores_of_pytorch(
    checkout: Checkout,
    stack: Path,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lengths = [str(length) for length in LENGTHS]
    python = stack / "bin/python"
    printed = tutorial.run(python, SCORES, checkout.root / "published", TEXT, *lengths)
    wanted = json.loads(printed.splitlines()[-1])  # Qwen's code prints what it lacks
    convert.to_gguf(settings, checkout.raw, tmp_path / "model.gguf")
    found = scores(settings, tmp_path, wanted["tokens"], monkeypatch)
    assert found["tokens"] == wanted["tokens"]
    for length, right, ours in zip(LENGTHS, wanted["scores"], found["scores"], strict=True):
        pairs = [(right[token], score) for token, score in ours.items()]
        assert len(pairs) > 0.9 * len(right)
        assert correlation(*zip(*pairs, strict=True)) > 0.99, length
        assert right.index(max(right)) == max(ours, key=ours.__getitem__)


def scores(
    settings: Settings, folder: Path, tokens: Sequence[int], patch: pytest.MonkeyPatch
) -> Mapping[str, Any]:
    """Return what llama.cpp says of TEXT: its tokens, and what it gives for beginnings of `tokens`.

    The scores are logarithms of probabilities: they differ from PyTorch's by one number for all.
    """
    patch.syspath_prepend(str(ggufs.program(settings, "llamacpp").parent.parent))
    weights = folder / "model.gguf"
    file = catalog.ModelFile("model.gguf", weights.stat().st_size, receipt.sha256(weights))
    model = dataclasses.replace(BARE, files=(file,))
    with closing(LlamaCpp(model, folder)) as engine:
        with engine._send("POST", "/tokenize", {"content": TEXT}) as response:
            found = {"tokens": json.load(response)["tokens"], "scores": []}
        with engine._send("POST", "/tokenize", {"content": "a"}) as response:
            *_before, letter = json.load(response)["tokens"]
        for length in LENGTHS:
            body = {"prompt": tokens[:length], "n_predict": 1, "n_probs": 200_000}
            # There are none for an end, nor for a part of a character, which may be the likeliest:
            # let it choose a letter. The scores are those before that.
            body |= {"temperature": 0, "ignore_eos": True, "logit_bias": [[letter, 100]]}
            with engine._send("POST", "/completion", body) as response:
                (first,) = json.load(response)["completion_probabilities"]
            found["scores"].append({each["id"]: each["logprob"] for each in first["top_logprobs"]})
    return found


BARE = catalog.Model(
    name="bare", display_name="Bare", engine="llamacpp", quantization="F32", context=256,
    memory=0, languages=(), license="", source="", revision="", chat_template="chatml", stop=(),
    files=(),
)  # fmt: skip


@pytest.mark.parametrize("engine", ["llamacpp", "itrex"])
def test_code_that_was_changed_does_not_run(
    checkout: Checkout, engine: str, tmp_path: Path
) -> None:
    code = next(checkout.raw.glob("tokenization_*.py"))
    right, record = code.read_bytes(), checkout.raw / "receipt.json"
    kept, ran = record.read_bytes(), tmp_path / "ran"
    ready = checkout.root / "dist/models" / ("ready" if engine == "llamacpp" else "ready-itrex")
    shutil.rmtree(ready, ignore_errors=True)
    code.unlink()  # the hub's own file has the same inode
    try:
        code.write_bytes(right + f"open({str(ran)!r}, 'w')\n".encode())
        changed = checkout.task("quantize", checkout.name, "--engine", engine)
        assert changed.returncode == 13, changed.stderr
        # Whoever can write there can write the receipt too.
        outputs = json.loads(kept)["outputs"]
        entry = receipt._entry(code)
        record.write_text(
            json.dumps({**json.loads(kept), "outputs": {**outputs, code.name: entry}})
        )
        forged = checkout.task("quantize", checkout.name, "--engine", engine)
        assert forged.returncode == 5, forged.stderr
        assert f"{code} is not the expected file" in forged.stderr
    finally:
        code.write_bytes(right)
        record.write_bytes(kept)
    # What nobody locked has no part in it.
    (checkout.raw / "chat_template.jinja").write_text("{{ 'smuggled in' }}")
    assert checkout.task("quantize", checkout.name, "--engine", engine).returncode == 0
    (checkout.raw / "chat_template.jinja").unlink()
    assert b"smuggled" not in b"".join(
        path.read_bytes() for path in (ready / checkout.name).iterdir()
    )
    assert not ran.exists()
