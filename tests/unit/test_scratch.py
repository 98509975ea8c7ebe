"""Scratch folders: empty at the start, gone at the end, one process at a time."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.stage import scratch

KEEP = """
import sys, time
from pathlib import Path
from builder.stage import scratch
with scratch.folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("done")
    print("working", flush=True)
    time.sleep(60)
"""


def test_the_folder_is_gone_after_success_and_after_failure(tmp_path: Path) -> None:
    place = tmp_path / "new" / "work"
    with scratch.folder(place) as folder:
        assert not list(folder.iterdir())
    assert not place.exists()
    with pytest.raises(ZeroDivisionError), scratch.folder(place):
        _ = 1 / 0
    assert not place.exists()


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    place = tmp_path / "work"
    with subprocess.Popen([sys.executable, "-c", KEEP, place], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"working\n"
        process.send_signal(signal.SIGKILL)
    assert (place / "half").exists()
    with scratch.folder(place) as folder:
        assert not list(folder.iterdir())


def test_a_second_user_waits_for_the_first(tmp_path: Path) -> None:
    place = tmp_path / "work"
    order = []

    def second() -> None:
        with scratch.folder(place):
            order.append("second")

    with scratch.folder(place):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(timeout=0.2)
        assert waiting.is_alive()
        order.append("first")
    waiting.join(timeout=10)
    assert order == ["first", "second"]
