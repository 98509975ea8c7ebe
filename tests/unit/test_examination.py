"""The doctor of the build side, as far as it needs no model: what is told beforehand."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from builder import doctor
from builder.image import daemon
from builder.models import choice, intents
from builder.settings import Settings
from entrypoint.common import machine
from entrypoint.common.errors import NoContainerEngine

GIB = 1 << 30


@pytest.fixture(autouse=True)
def nothing_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent() -> None:
        raise NoContainerEngine("No container engine answers.", "refused", "install one")

    monkeypatch.setattr(Settings, "ready_dir", tmp_path)
    monkeypatch.setattr(daemon, "connect", absent)


def examine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], available: int | None
) -> tuple[list[str], dict[str, str]]:
    """Return the lines on the machine, and those on models by name, at 12 GB/s."""
    memory = SimpleNamespace(total=8 * GIB, limit=None, available=available)
    monkeypatch.setattr(machine, "memory", lambda: memory)
    monkeypatch.setattr(choice, "bandwidth", lambda: 12e9)
    doctor.examine(Settings())
    shown = capsys.readouterr()
    assert shown.err == ""
    above, below = shown.out.split("\n\n")
    return above.splitlines(), {line.split()[0]: line for line in below.splitlines()[1:]}


def test_every_locked_model_has_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about, models = examine(monkeypatch, capsys, 6 * GIB)
    assert about[0].endswith("No container engine answers.")
    assert "8.0 GiB, 6.0 GiB free, read at 12.0 GB/s" in about[2]
    assert [*models] == [name for name in intents.load().intents if name in intents.locked()]
    assert models["qwen3.6-35b-a3b"].endswith("  no")
    assert models["minicpm4.1-8b"].endswith("about 2          too slow to talk with")
    assert models["qwen3.5-2b"].endswith("1.1 GiB   1.8 GiB   about 10         yes")


def test_what_does_not_fit_is_no_and_what_nobody_knows_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _about, small = examine(monkeypatch, capsys, 100 << 20)
    assert all(line.endswith("  no") for line in small.values())
    _about, unknown = examine(monkeypatch, capsys, None)
    assert all(line.endswith("  unknown") for line in unknown.values())
