"""Folders for half-done work: one process at a time, empty at the start, gone at the end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from entrypoint.common import files


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder at `path`; a second process that wants the same one waits.

    What a killed process left there is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        for remnant in path.iterdir():
            _remove(remnant)
        yield path
    finally:
        shutil.rmtree(path)
        os.close(lock)


@contextmanager
def kept(path: Path) -> Iterator[Path]:
    """Yield the folder at `path` with what is in it, for work that goes on where it ended.

    A second process that wants the same one waits. Who has finished the work removes the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        yield path
    finally:
        os.close(lock)


def _lock(path: Path) -> int:
    """Make and lock a folder; the kernel drops the lock of a dead process, no file stays behind."""
    while True:
        path.mkdir(exist_ok=True)
        lock = os.open(path, os.O_DIRECTORY)
        files.lock(lock, path)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        os.close(lock)  # the one that we waited for has removed it


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
