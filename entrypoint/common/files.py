"""What the operating system refuses when a file is written, as failures that users understand."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrypoint.common.errors import DiskFull, NotWritable
from entrypoint.common.language import _


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError from the block into DiskFull or NotWritable for `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                _("The disk is full: {path}.").format(path=path),
                next=_("Free some space and run the same command again."),
            ) from None
        raise NotWritable(
            _("{path} cannot be written: {reason}.").format(path=path, reason=error.strerror),
            next=_("Choose a folder that this user may write; in a container, a mounted one."),
        ) from None


def write(path: Path, content: bytes) -> None:
    """Write a file anew, in one step; raise DiskFull or NotWritable."""
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        with writing(path):
            scratch.write_bytes(content)
            os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
