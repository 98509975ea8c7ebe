"""Tar archives: written so that their bytes repeat, opened as if a stranger had made them."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import zstandard

from builder.stage import disk, scratch
from entrypoint.common.errors import DownloadFailure, NotWritable, UnsafeArchive, UsageFailure
from entrypoint.common.language import _

EPOCH: Final = 1_700_000_000  # every member's time; zip files know none before 1980
LEVEL: Final = 10  # of zstd: beyond it the time doubles for the next few percent
ZSTD: Final = b"\x28\xb5\x2f\xfd"
READERS: Final[dict[bytes, Callable[[IO[bytes]], AbstractContextManager[Any]]]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zX": lzma.LZMAFile,
}
# What others pack into, and tarfile does not read.
FOREIGN: Final = {b"PK\x03\x04": "zip", b"hsqs": "squashfs", b"7z\xbc\xaf": "7z"}
# What says more about the next member, and is held in memory.
HEADERS: Final = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
LONGEST_HEADER: Final = 1 << 20  # bytes
LONGEST_CHAIN: Final = 40  # symbolic links in one path, the kernel's own limit
CHUNK: Final = 1 << 20
DAMAGE: Final = (
    lzma.LZMAError,
    tarfile.TarError,
    zstandard.ZstdError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,
)
# The second lock on the door, where there is one: Debian 12's Python 3.11.2 has no filters yet.
FILTER: Final[dict[str, Any]] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
# What the kernel says to a file below a file, or to a name that no file system takes.
NONSENSE: Final = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


def write_tar(source: Path, target: Path, *, prefix: str = "") -> None:
    """Write the folder `source` as `target`, whose bytes depend on names, content and x bits only.

    The suffix .tar, .tar.gz or .tar.zst decides the compression. Members lie below `prefix`, whose
    folders are members too. Raises DiskFull; a failure leaves an earlier `target` alone.
    """
    draft = target.with_name(f".{target.name}.tmp")
    try:
        with disk.guard(target), draft.open("wb") as raw, ExitStack() as stack:
            sink = stack.enter_context(_compressed(raw, target.suffix))
            tar = stack.enter_context(
                tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT)
            )
            folders = PurePosixPath(prefix)
            for folder in (*reversed(folders.parents), folders):
                if folder.name:
                    tar.addfile(_folder(str(folder)))
            for path in _walk(source):
                _add(tar, path, str(folders / path.relative_to(source)))
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def extract(archive: Path, dest: Path, *, finish: Callable[[Path], None] | None = None) -> None:
    """Unpack a tar of any usual compression as the folder `dest`, which is whole or not there.

    `finish` is called with the unpacked folder before it becomes `dest`, and may still change it.
    Raises UsageFailure if `dest` has content already or the archive is of another format,
    UnsafeArchive naming a member that could reach out of `dest`, DownloadFailure if the archive is
    incomplete or damaged, DiskFull.
    """
    dest = dest.resolve()
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        raise UsageFailure(
            _("{path} already exists and is not an empty folder.").format(path=dest),
            next=_("Name a folder that does not exist yet."),
        )
    with disk.guard(dest), scratch.folder(dest.with_name(f".{dest.name}.partial")) as work:
        content = work / dest.name
        content.mkdir()
        try:
            with archive.open("rb") as raw:
                _require_tar(raw, archive)
                _unpack(raw, content)
        except (*DAMAGE, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's own word; that of gzip and bzip2 on damage has no number
            raise DownloadFailure(
                _("The archive {path} is incomplete or damaged.").format(path=archive),
                str(error),
                _("Fetch it again."),
            ) from None
        if finish is not None:
            finish(content)
        _move(content, dest)


def _compressed(raw: IO[bytes], suffix: str) -> AbstractContextManager[Any]:
    if suffix == ".zst":
        # Worker threads cut the input into jobs of a fixed size, so their number changes no byte.
        return zstandard.ZstdCompressor(LEVEL, threads=-1, write_checksum=True).stream_writer(
            raw, closefd=False
        )
    if suffix == ".gz":
        return gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0)
    return nullcontext(raw)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all that lies below a folder: parents first, in the order of their names."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """Add one file, folder or link. A file with two names is stored twice.

    Whether two names share a file depends on how a folder was made, not on what is in it.
    """
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        # Only where everybody may write, and so nobody may remove what is another's: /tmp.
        tar.addfile(_folder(name, 0o1777 if status.st_mode & stat.S_ISVTX else 0o755))
        return
    member = tarfile.TarInfo(name)
    member.mtime = EPOCH
    if stat.S_ISLNK(status.st_mode):
        member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, str(path.readlink())
        tar.addfile(member)
        return
    member.mode = 0o755 if status.st_mode & 0o111 else 0o644
    member.size = status.st_size
    with path.open("rb") as content:
        tar.addfile(member, content)


def _folder(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime = tarfile.DIRTYPE, mode, EPOCH
    return member


class _Member(tarfile.TarInfo):
    """A header; where it is damaged or missing, TarFile would take that for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the empty block that ends every tar
            raise tarfile.ReadError(str(error)) from None
        if member.type in HEADERS and not 0 <= member.size <= LONGEST_HEADER:
            raise tarfile.ReadError(_("A header has {size} bytes.").format(size=member.size))
        return member


class _Judge:
    """Decides on the members of one archive by their names alone.

    tarfile's own filter asks the file system where a link leads, which Python before 3.11.13 gets
    wrong for very long paths (CVE-2025-4517). Nothing is ever written through a link, so a link
    can do no harm before `finish` has followed it in here.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.links: dict[str, str] = {}

    def check(self, member: tarfile.TarInfo) -> None:
        """Raise UnsafeArchive if this member alone, or together with earlier ones, is unsafe."""
        path = PurePosixPath(member.name)
        name = str(path)
        if path.is_absolute() or member.linkname.startswith("/"):
            raise _unsafe(member.name, _("It names an absolute path."))
        if ".." in path.parts:
            raise _unsafe(member.name, _("It names a path outside of its folder."))
        if any(str(part) in self.links for part in (path, *path.parents)):
            raise _unsafe(member.name, _("It would be written through a link."))
        if member.isreg():
            _require_plain(member)
            self.files.add(name)
        elif member.issym():
            self.links[name] = member.linkname
        elif member.islnk():
            if str(PurePosixPath(member.linkname)) not in self.files:
                raise _unsafe(member.name, _("It links to what is not a file of the archive."))
            self.files.add(name)
        elif not member.isdir():
            raise _unsafe(member.name, _("It is a device or a pipe."))

    def finish(self) -> None:
        """Raise UnsafeArchive if a symbolic link leads out, on its own or through others."""
        for name in self.links:
            if self._escapes(name):
                raise _unsafe(name, _("It is a link that leads out of its folder."))

    def _escapes(self, link: str) -> bool:
        place = list(PurePosixPath(link).parent.parts)
        ahead = list(reversed(self.links[link].split("/")))
        chain = 1
        while ahead:
            step = ahead.pop()
            if step == "..":
                if not place:
                    return True
                place.pop()
            elif step not in ("", "."):
                place.append(step)
                onward = self.links.get("/".join(place))
                if onward is not None:
                    place.pop()
                    ahead.extend(reversed(onward.split("/")))
                    chain += 1
            if chain > LONGEST_CHAIN:
                return True
        return False


def _require_plain(member: tarfile.TarInfo) -> None:
    if member.issparse():
        raise _unsafe(member.name, _("It is a file with holes, of any size."))
    if member.mode & (stat.S_ISUID | stat.S_ISGID):
        raise _unsafe(member.name, _("It would run with the rights of another user."))


def _unpack(raw: IO[bytes], folder: Path) -> None:
    """Write the members below an empty folder, and read the archive to its very end."""
    judge = _Judge()
    with (
        _decompressed(raw) as stream,
        tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as tar,
    ):
        for member in tar:
            judge.check(member)
            try:
                _write(tar, member, folder)
            except OSError as error:
                if error.errno not in NONSENSE:
                    raise
                raise _unsafe(member.name, str(error.strerror)) from None
        while stream.read(CHUNK):  # the checksum comes last
            pass
    judge.finish()


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write one member. The caller owns it, and nobody else may change it."""
    path = folder / member.name
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where a link cannot be made, tarfile would try a copy and then leave it out, silently.
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        path.hardlink_to(folder / member.linkname)
    else:
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
        member.mode = 0o755 if member.isdir() else member.mode & 0o755 | 0o600
        tar.extract(member, folder, **FILTER)


def _require_tar(raw: IO[bytes], archive: Path) -> None:
    """Raise UsageFailure for a known format that is none of ours."""
    kind = FOREIGN.get(raw.read(len(ZSTD)))
    raw.seek(0)
    if kind:
        raise UsageFailure(
            _("{path} is a {format} archive, which is not supported.").format(
                path=archive, format=kind
            ),
            _("These are: tar, tar.gz, tar.bz2, tar.xz, tar.zst."),
            _("Pack it again, with conda-pack for example: --format tar.gz"),
        )


def _decompressed(raw: IO[bytes]) -> AbstractContextManager[Any]:
    magic = raw.read(len(ZSTD))
    raw.seek(0)
    if magic.startswith(ZSTD):
        return zstandard.ZstdDecompressor().stream_reader(
            raw, read_across_frames=True, closefd=False
        )
    for beginning, reader in READERS.items():
        if magic.startswith(beginning):
            return reader(raw)
    return nullcontext(raw)


def _move(content: Path, dest: Path) -> None:
    try:
        content.rename(dest)
    except OSError as error:
        raise NotWritable(
            _("{path} cannot be put in place: {reason}.").format(path=dest, reason=error.strerror),
            next=_("Name a folder that does not exist yet, below one that is yours."),
        ) from None


def _unsafe(member: str, why: str) -> UnsafeArchive:
    return UnsafeArchive(
        _("The archive has an unsafe member: {name}.").format(name=repr(member)),
        why,
        _("Nothing was unpacked. Do not trust where this archive came from."),
    )
