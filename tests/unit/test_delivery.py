"""Which results of the stages a mirror is asked for, and which are recorded and published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder import delivery, substitute
from builder.environment import condaenv
from builder.models import intents
from builder.quantizers import quantize
from builder.settings import Settings
from builder.stage import receipt
from entrypoint.common.errors import LockDrift, StageMissing

MODEL = "smollm2-135m"
Asked = list[Path]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(substitute, "LOCK", tmp_path / "built.lock")
    return Settings(dist=str(tmp_path), cache=str(tmp_path / "cache"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Return which receipts the mirrors, which have nothing, were asked for."""
    records: Asked = []

    def deliver(_settings: Settings, record: Path, _inputs: object) -> bool:
        records.append(record)
        return False

    monkeypatch.setattr(substitute, "deliver", deliver)
    return records


def pack(settings: Settings, inputs: dict[str, str], *, locked: bool = True, source: str) -> None:
    settings.packed.parent.mkdir(exist_ok=True)
    settings.packed.write_bytes(b"packed")
    packages = [{"kind": "wheel", "name": "engine", "locked": locked}]
    receipt.write(
        settings.packed_receipt, inputs, [settings.packed], source=source, packages=packages
    )


def make_ready(settings: Settings) -> Path:
    folder = settings.ready_dir / MODEL
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"weights")
    inputs = quantize.inputs(settings, intents.load().find(MODEL), "Q4_0")
    receipt.write(folder / "receipt.json", inputs, [folder / "model.gguf"], source="wheel")
    return folder / "receipt.json"


def current(settings: Settings) -> dict[str, str]:
    return condaenv.inputs(settings, "debian")


def test_mirrors_are_asked_for_what_is_missing_or_out_of_date(
    settings: Settings, asked: Asked
) -> None:
    delivery.environment(settings)
    pack(settings, {"recipe": "yesterday"}, source="debian")
    delivery.environment(settings)
    assert set(asked) == {settings.packed_receipt}
    assert len(asked) == 2 * len(delivery.ORIGINS)
    asked.clear()
    assert delivery.weights(settings, [MODEL]) == [MODEL]
    assert asked == [settings.ready_dir / MODEL / "receipt.json"]


def test_nobody_is_asked_for_what_is_current_or_was_restored_by_a_person(
    settings: Settings, asked: Asked
) -> None:
    pack(settings, current(settings), source="debian")
    delivery.environment(settings)
    pack(settings, {"tarball": "0" * 64}, source="tarball")
    delivery.environment(settings)
    make_ready(settings)
    assert delivery.weights(settings, [MODEL]) == []
    assert asked == []


def test_what_is_recorded_can_be_published(settings: Settings, tmp_path: Path) -> None:
    pack(settings, current(settings), source="debian")
    ready = make_ready(settings)
    delivery.record(settings)
    for path in (settings.packed_receipt, ready):
        read = receipt.read(path)
        assert read
        known = substitute.locked(read["inputs"])
        assert known
        substitute.publish(path, tmp_path / "mirror")
        assert (tmp_path / "mirror/sha256" / known.sha256).read_bytes() == (
            substitute.statement(path)
        )


@pytest.mark.parametrize(
    "build",
    [
        lambda _settings: None,
        lambda settings: pack(settings, {"recipe": "yesterday"}, source="debian"),
        lambda settings: pack(settings, current(settings), locked=False, source="debian"),
    ],
    ids=["nothing", "out of date", "not as locked"],
)
def test_what_is_not_as_locked_is_not_recorded(
    build: Callable[[Settings], None], settings: Settings
) -> None:
    build(settings)
    make_ready(settings)
    with pytest.raises(StageMissing, match="Nothing here was built"):
        delivery.record(settings)
    assert not substitute.LOCK.exists()


def test_what_nobody_could_check_is_not_published(settings: Settings, tmp_path: Path) -> None:
    pack(settings, current(settings), source="debian")
    delivery.record(settings)
    make_ready(settings)
    with pytest.raises(LockDrift, match=f"models/ready/{MODEL}") as caught:
        delivery.publish(settings, [MODEL], tmp_path / "mirror")
    assert "lock --built" in caught.value.next
    assert not (tmp_path / "mirror").exists()


def test_the_lock_knows_what_the_recipes_of_today_make() -> None:
    """A recipe that changed is asked of no mirror until its result is recorded again."""
    here, known = Settings(), intents.load()
    rows = substitute._known()
    names = [Path(row.name).name for row in rows if row.name.startswith("models/")]
    works = [delivery._environment(here), *(delivery._weights(here, known.find(n)) for n in names)]
    today = {receipt.digest(dict(inputs)) for _record, possible in works for inputs in possible}
    assert rows
    assert {row.recipe for row in rows} <= today, "record them: ./llmdeploy lock --built"
