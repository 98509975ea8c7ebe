"""Disk space: asked for before the work, and named when it ends during it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrypoint.common import files, machine
from entrypoint.common.errors import DiskFull
from entrypoint.common.language import _


def is_full(output: str) -> bool:
    """Tell whether what a program printed says that the disk is full."""
    return any(os.strerror(number).lower() in output.lower() for number in files.FULL)


def require(folder: Path, size: int) -> None:
    """Raise DiskFull if `folder` has no room for `size` more bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DiskFull(
            _("There is no room for {size} in {folder}.").format(
                size=machine.size(size), folder=folder
            ),
            _("{free} are free.").format(free=machine.size(free)),
            _("Free some space and run the same task again."),
        )


@contextmanager
def guard(target: Path) -> Iterator[None]:
    """Turn the operating system's word that the disk is full into DiskFull, naming `target`."""
    try:
        yield
    except OSError as error:
        if error.errno not in files.FULL:
            raise
        raise files.full(target) from None
