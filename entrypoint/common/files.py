"""Files that are written whole or not at all, and what the operating system refuses of them."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

from entrypoint.common.errors import ConfigFailure, DiskFull, NotUtf8, NotWritable
from entrypoint.common.language import _

# What a file system without locks says. NFS locks nothing that is not open for writing, as a
# folder never is (EBADF).
LOCKLESS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EBADF)
FULL: Final = (errno.ENOSPC, errno.EDQUOT)  # the disk is, or this user's share of it
# Why a file cannot be replaced, and perhaps still be written: it is mounted by itself, its folder
# is another user's or read-only, or its name leaves no room for that of a scratch file.
IRREPLACEABLE: Final = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def full(path: Path | str) -> DiskFull:
    """Return the failure to write `path` for want of space."""
    return DiskFull(
        _("The disk is full: {path}.").format(path=path),
        next=_("Free some space and run the same command again."),
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError from the block into DiskFull or NotWritable for `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise full(path) from None
        remedy = _("Choose a folder that this user may write; in a container, a mounted one.")
        if error.errno == errno.EACCES and _may_write(path):
            remedy = _(
                "Its mode allows it, so SELinux or AppArmor forbids it; Docker and Podman mark a "
                "folder for SELinux with :z behind its mount."
            )
        raise NotWritable(
            _("{path} cannot be written: {reason}.").format(path=path, reason=error.strerror),
            next=remedy,
        ) from None


def _may_write(path: Path) -> bool:
    """Tell whether modes alone let this user write a file, or make it; root's rights left out."""
    there, rights = path, stat.S_IWOTH
    if not path.exists():
        there, rights = path.parent, stat.S_IWOTH | stat.S_IXOTH
    try:
        status = there.stat()
    except OSError:
        return False
    if status.st_uid == os.geteuid():
        rights <<= 6
    elif status.st_gid in {os.getegid(), *os.getgroups()}:
        rights <<= 3
    return status.st_mode & rights == rights


def text(path: Path) -> str:
    """Return what a person wrote in a file; raise ConfigFailure if unreadable, NotUtf8."""
    try:
        return path.read_text(encoding="utf-8-sig")  # Notepad begins with a mark
    except FileNotFoundError:
        raise ConfigFailure(_("{path} does not exist.").format(path=path)) from None
    except OSError as error:
        raise ConfigFailure(
            _("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)
        ) from None
    except UnicodeDecodeError as error:
        raise NotUtf8(
            _("{path} is not UTF-8 (byte {offset}).").format(path=path, offset=error.start),
            next=_("Convert it first, for example with: iconv -f GB18030 -t UTF-8"),
        ) from None


def write(path: Path, content: bytes) -> None:
    """Write a file anew, in one step where it can be replaced; raise DiskFull or NotWritable.

    A symbolic link stays one and its target is written; a file keeps its mode.
    """
    target = Path(os.path.realpath(path))
    with writing(path):
        try:
            mode = target.stat().st_mode
        except FileNotFoundError:
            mode = None
        if mode is None or stat.S_ISREG(mode):
            try:
                _replace(target, content, mode)
            except OSError as error:
                if error.errno not in IRREPLACEABLE:
                    raise
            else:
                return
        target.write_bytes(content)


def lock(file: BinaryIO | int, path: Path, *, wait: bool = True) -> None:
    """Lock an open file or folder, which is at `path`, until it is closed.

    Where the file system has no locks, says so once and goes on. Raises BlockingIOError if another
    process has the lock and `wait` is false.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        _warn(path.parent)


@cache
def _warn(folder: Path) -> None:
    warning = _("{folder} has no file locks: let only one llmdeploy at a time write there.")
    print(warning.format(folder=folder), file=sys.stderr, flush=True)


def _replace(target: Path, content: bytes, mode: int | None) -> None:
    scratch = target.parent / f".{target.name}.tmp"
    try:
        scratch.write_bytes(content)
        if mode is not None:
            scratch.chmod(stat.S_IMODE(mode))
        os.replace(scratch, target)
    finally:
        with suppress(OSError):
            scratch.unlink()
