"""Models that no catalogue has, by a hub's address or a file, through the hubs' real SDKs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.models import intents
from builder.settings import ROOT
from entrypoint.common.errors import ConfigFailure, DiskFull, DownloadFailure
from tests import hub as hubs
from tests.hub import REPOSITORY, REVISION, Hub
from tests.unit.test_gguf import whole

GGUF = whole()
Q4, Q8 = "Tiny-Q4_0.gguf", "more/Tiny-Q8_0.gguf"
FILES = {Q4: GGUF, Q8: GGUF + b"8", "mmproj-Tiny-F16.gguf": b"eyes", "README.md": b"# Tiny"}
HUBS = ("modelscope", "hf")
PAGES = ("models.md", "models.zh.md")
CHECKPOINT = {
    "config.json": json.dumps({"architectures": ["Tiny"]}).encode(),
    "model-00001-of-00002.safetensors": b"1",
    "model-00002-of-00002.safetensors": b"2",
    "notes.pdf": b"no part of it",
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("builder", "entrypoint", "models"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "models/local.toml").unlink(missing_ok=True)
    (tmp_path / "models/local.lock").unlink(missing_ok=True)
    shutil.copy(ROOT / "tasks.py", tmp_path)
    return tmp_path


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hubs.serve(Hub(dict(FILES))) as running:
        yield running


def fetch(checkout: Path, *words: str | Path, hub: Hub | None = None) -> tuple[int, str]:
    address = hub.url if hub else "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-m", "builder", "fetch", *words],
        cwd=checkout,
        env={
            **os.environ,
            "LLMDEPLOY_LANG": "en",
            "HOME": str(checkout / "home"),
            "MODELSCOPE_ENDPOINT": address,
            "HF_ENDPOINT": address,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def address(hub: str, part: str = "") -> str:
    return f"{hub}:{REPOSITORY}@{REVISION}{part and ':'}{part}"


@pytest.mark.parametrize(("kind", "hashes"), [("modelscope", True), ("hf", False)])
def test_an_address_is_all_that_it_takes(
    checkout: Path, hub: Hub, kind: str, *, hashes: bool
) -> None:
    hub.hashes = hashes
    code, told = fetch(checkout, address(kind, "Q8_0"), hub=hub)
    assert code == 0, told
    assert "recorded as model in models/local.toml" in told
    assert (checkout / "dist/models/raw/model" / Q8).read_bytes() == FILES[Q8]
    assert set(hub.sent) == {Q8}
    tracked = checkout / "models/models.toml", checkout / "models/models.lock"
    assert [path.read_bytes() for path in tracked] == [
        (ROOT / "models" / path.name).read_bytes() for path in tracked
    ]
    model = intents.load(tracked[0], checkout / "models/local.toml").find("model")
    assert (model.files, model.quantization) == ((Q8,), "keep")
    assert [file.size for file in intents.locked(checkout / "models/local.lock")["model"]] == [
        len(FILES[Q8])
    ]
    # From now on it has a name, and what it is called by needs no hub.
    code, told = fetch(checkout, "model")
    assert (code, "nothing changed" in told) == (0, True)


@pytest.mark.parametrize(("kind", "status"), [("modelscope", 404), ("hf", 401)])
def test_a_repository_that_the_hub_does_not_show(
    checkout: Path, hub: Hub, kind: str, status: int
) -> None:
    hub.errors["listing"] = [status] * 20
    code, told = fetch(checkout, address(kind), hub=hub)
    assert code == DownloadFailure.code
    assert f"does not list the files of {REPOSITORY}, revision {REVISION}." in told
    assert "needs your token" in told
    assert not (checkout / "models/local.toml").exists()


@pytest.mark.parametrize("kind", HUBS)
def test_a_model_larger_than_the_disk_is_told_before_it_comes(
    checkout: Path, hub: Hub, kind: str
) -> None:
    hub.sizes[Q8] = 1 << 60
    code, told = fetch(checkout, address(kind, "Q8_0"), hub=hub)
    assert code == DiskFull.code
    assert "There is no room for 1073741824.0 GiB in " in told
    assert re.search(r"(?m)^  [\d.]+ [MG]iB are free\.$", told), told
    assert not hub.sent


def test_a_checkpoint_of_a_hub_is_fetched_without_what_is_no_part_of_it(
    checkout: Path, hub: Hub
) -> None:
    hub.files = dict(CHECKPOINT)
    code, told = fetch(checkout, address("modelscope"), hub=hub)
    assert code == 0, told
    assert set(hub.sent) == {*CHECKPOINT} - {"notes.pdf"}


def test_a_file_gets_a_name_and_is_kept(checkout: Path) -> None:
    (checkout / "My Model-Q4_0.gguf").write_bytes(GGUF)
    code, told = fetch(checkout, "./My Model-Q4_0.gguf")
    assert code == 0, told
    place = checkout / "dist/models/raw/my-model-q4_0/My Model-Q4_0.gguf"
    assert place.read_bytes() == GGUF


def test_two_models_cannot_have_one_name(checkout: Path, hub: Hub) -> None:
    (checkout / "model.gguf").write_bytes(GGUF)
    assert fetch(checkout, address("hf"), hub=hub)[0] == 0
    assert set(hub.sent) == {Q4}, "the best type for a CPU"
    code, told = fetch(checkout, "./model.gguf")
    assert code == ConfigFailure.code
    assert "There is another model called model." in told


def test_the_transcript_of_the_docs_is_what_is_said(checkout: Path, hub: Hub) -> None:
    pages = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in PAGES]
    console, chinese = (
        re.findall(r"(?s)```console\n(\$ \./llmdeploy fetch .*?)```", page) for page in pages
    )
    assert console == chinese
    [_before, *typed] = re.split(r"(?m)^\$ \./llmdeploy fetch (.*)\n", "".join(console))
    assert typed
    for word, shown in zip(typed[::2], typed[1::2], strict=True):
        _code, told = fetch(checkout, word, hub=hub)
        assert re.sub(r"(?m)^    took .* s\n", "", told) == shown
