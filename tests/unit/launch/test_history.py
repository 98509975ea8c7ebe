"""What a launch leaves behind when it fails, or is interrupted, wherever that happens."""

from pathlib import Path

import pytest

from builder.launch import history
from entrypoint.common.errors import NotReady, Refused


class Machine:
    """A platform that runs what the folder says; `mishap` happens in its step of that name."""

    def __init__(self) -> None:
        self.runs: str | None = None
        self.mishap: tuple[str, BaseException] | None = None

    def check(self) -> None:
        self._go("check")

    def up(self, folder: Path) -> None:
        self.runs = (folder / "file").read_text()
        self._go("up")

    def wait(self) -> None:
        self._go("wait")

    def down(self, _folder: Path) -> None:
        self.runs = None

    def _go(self, step: str) -> None:
        if self.mishap and self.mishap[0] == step:
            mishap, self.mishap = self.mishap[1], None
            raise mishap


def test_what_cannot_begin_changes_nothing_and_undoes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine, place = Machine(), tmp_path / "launch/chat"
    machine.mishap = "check", Refused("no cluster")
    with pytest.raises(Refused, match="no cluster"):
        history.change(place, {"file": "first"}, machine)
    assert not place.exists()
    assert "undoing" not in capsys.readouterr().err


FAILURES = [NotReady("too late"), KeyboardInterrupt(), OSError("no space")]


@pytest.mark.parametrize("step", ["up", "wait"])
@pytest.mark.parametrize("failure", FAILURES, ids=lambda each: type(each).__name__)
def test_a_first_launch_leaves_nothing_and_an_update_what_was_before(
    tmp_path: Path, step: str, failure: BaseException
) -> None:
    machine, place = Machine(), tmp_path / "launch/chat"
    machine.mishap = step, failure
    with pytest.raises(type(failure)):
        history.change(place, {"file": "first"}, machine)
    assert machine.runs is None
    assert not place.exists()

    history.change(place, {"file": "first"}, machine)
    machine.mishap = step, failure
    with pytest.raises(type(failure)):
        history.change(place, {"file": "second"}, machine)
    assert machine.runs == (place / "file").read_text() == "first"
    history.change(place, {"file": "second"}, machine)
    assert machine.runs == "second"
    assert place.stat().st_mode & 0o077 == 0, "there may be keys in it"
