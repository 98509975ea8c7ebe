"""Folders for half-done work: one process at a time, empty at the start, gone at the end."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder at `path`; a second process that wants the same one waits.

    What a killed process left there is removed first. The kernel drops the lock of a dead process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove(path)
        path.mkdir()
        try:
            yield path
        finally:
            _remove(path)


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
