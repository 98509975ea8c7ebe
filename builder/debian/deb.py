"""Debian packages, opened without Debian's tools, which not every machine has."""

from __future__ import annotations

import io
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import zstandard

from builder.stage import archive
from entrypoint.common.errors import DownloadFailure
from entrypoint.common.language import _

MAGIC: Final = b"!<arch>\n"
HEADER: Final = 60  # bytes before each of ar's members
# What is locked by its hash, or signed, is not a stranger's; links from / are what Debian writes.
TRUSTED: Final[dict[str, Any]] = (
    {"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}
)


def extract(deb: Path, root: Path) -> list[str]:
    """Unpack a package below `root`; return its files' paths. Raises DownloadFailure if damaged.

    Owners are the caller, and nothing runs with another user's rights.
    """
    names = []
    with _tar(deb, "data.tar") as content:
        for member in content:
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            member.mode &= 0o1777
            content.extract(member, root, **TRUSTED)
            if not member.isdir():
                names.append(os.path.normpath(member.name))
    return names


def control(deb: Path) -> str:
    """Return what a package says of itself; raise DownloadFailure if it is damaged."""
    with _tar(deb, "control.tar") as content:
        for member in content:
            if os.path.normpath(member.name) == "control" and (file := content.extractfile(member)):
                return file.read().decode()
    raise _damaged(deb)


def fields(deb: Path) -> dict[str, str]:
    """Return the one-line fields of a package, such as Package and Version, by name."""
    return dict(re.findall(r"^(\S+): (.*)$", control(deb), re.MULTILINE))


@contextmanager
def _tar(deb: Path, kind: str) -> Iterator[tarfile.TarFile]:
    try:
        name, content = next(each for each in _members(deb) if each[0].startswith(kind))
        if name.endswith(".zst"):
            content = zstandard.ZstdDecompressor().stream_reader(content).read()
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            yield tar
    except (StopIteration, *archive.DAMAGE):
        raise _damaged(deb) from None


def _members(deb: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the members of an ar archive, which is what a .deb is: names and contents."""
    with deb.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError
        while header := stream.read(HEADER):
            size = int(header[48:58])
            content = stream.read(size)
            if len(content) < size:
                raise EOFError
            yield header[:16].decode().rstrip(" /"), content
            stream.seek(size % 2, os.SEEK_CUR)


def _damaged(deb: Path) -> DownloadFailure:
    return DownloadFailure(
        _("The Debian package {name} is damaged.").format(name=deb.name),
        next=_("Delete {path} and run the same task again.").format(path=deb),
    )
