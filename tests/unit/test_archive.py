"""Tars that repeat byte for byte, and archives that strangers made."""

from __future__ import annotations

import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from builder.stage import archive
from entrypoint.common.errors import (
    DiskFull,
    DownloadFailure,
    Failure,
    NotWritable,
    UnsafeArchive,
    UsageFailure,
)

KINDS = (".tar", ".tar.gz", ".tar.zst")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with a program, a long name, a link and an empty folder."""
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "run").write_bytes(os.urandom(100_000))
    (root / "bin" / "run").chmod(0o700)
    (root / "bin" / "alias").symlink_to("run")
    long = root / "/".join(["n" * 90] * 3)
    long.mkdir(parents=True)
    (long / "数据.txt").write_text("text")
    (long / "数据.txt").chmod(0o660)
    (root / "empty").mkdir(0o700)
    (root / "up").symlink_to("empty/../bin")
    return root


def members(path: Path) -> dict[str, tarfile.TarInfo]:
    raw = path.read_bytes()
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        return {member.name: member for member in tar}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_comes_out_again(tree: Path, tmp_path: Path, kind: str) -> None:
    packed = tmp_path / f"packed{kind}"
    archive.write_tar(tree, packed)
    archive.extract(packed, tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*")
    }
    assert set(found) == {str(path.relative_to(tree)) for path in tree.rglob("*")}
    assert found["bin/run"].read_bytes() == (tree / "bin" / "run").read_bytes()
    assert found["bin/run"].stat().st_mode & 0o777 == 0o755
    assert found["bin/alias"].readlink() == Path("run")
    (text,) = (path for name, path in found.items() if name.endswith("数据.txt"))
    assert text.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", packed.name, "tree"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_content_gives_the_same_bytes(tree: Path, tmp_path: Path, kind: str) -> None:
    archive.write_tar(tree, tmp_path / f"one{kind}", prefix="opt/x")
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, symlinks=True, copy_function=shutil.copy)
    os.link(copy / "bin" / "run", copy / "bin" / "twin")
    shutil.copy(tree / "bin" / "run", tree / "bin" / "twin")
    (copy / "empty").chmod(0o755)
    (copy / "bin" / "run").chmod(0o711)
    os.utime(copy / "bin" / "run", (1, 1))
    os.chown(copy / "bin" / "run", 1, 1)
    archive.write_tar(tree, tmp_path / f"one{kind}", prefix="opt/x")
    archive.write_tar(copy, tmp_path / f"two{kind}", prefix="opt/x")
    assert (tmp_path / f"one{kind}").read_bytes() == (tmp_path / f"two{kind}").read_bytes()


def _with_threads(original: Any, count: int, *args: Any, **options: Any) -> Any:
    return original(*args, **{**options, "threads": count})


def test_the_number_of_threads_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    block = os.urandom(1 << 20)
    (root / "large").write_bytes(b"".join(block[i:] + block[:i] for i in range(24)))
    outcomes = set()
    original = zstandard.ZstdCompressor
    for count in (1, 2, 5):
        compressor = functools.partial(_with_threads, original, count)
        monkeypatch.setattr(zstandard, "ZstdCompressor", compressor)
        archive.write_tar(root, tmp_path / "packed.tar.zst")
        outcomes.add((tmp_path / "packed.tar.zst").read_bytes())
    assert len(outcomes) == 1


def test_the_folders_of_the_prefix_are_members(tree: Path, tmp_path: Path) -> None:
    archive.write_tar(tree, tmp_path / "packed.tar", prefix="opt/llmdeploy")
    found = members(tmp_path / "packed.tar")
    assert list(found)[:4] == [
        "opt",
        "opt/llmdeploy",
        "opt/llmdeploy/bin",
        "opt/llmdeploy/bin/alias",
    ]
    assert {found[name].mode for name in list(found)[:3]} == {0o755}
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in found.values()} == {
        (0, 0, "", "", archive.EPOCH)
    }


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def link(name: str, to: str) -> tarfile.TarInfo:
    return member(name, tarfile.SYMTYPE, linkname=to)


def forge(path: Path, *infos: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


# A path of short links through long folders, 4 KB in truth. os.path.realpath gives up on it, takes
# the rest as it is written, and so finds it harmless (CVE-2025-4517).
LONG = "d" * 247
STEPS = "abcdefghijklmnop"


def overlong() -> list[tarfile.TarInfo]:
    made, place = [], ""
    for step in STEPS:
        made.append(member(f"{place}{LONG}", tarfile.DIRTYPE, mode=0o755))
        made.append(link(f"{place}{step}", LONG))
        place += f"{LONG}/"
    top = "l" * 254
    made.append(link(f"{place}{top}", "../" * len(STEPS)))
    made.append(link("escape", f"{'/'.join(STEPS)}/{top}/../../../etc"))
    return made


UNSAFE = {
    "parent": [member("a/../../evil")],
    "inner parent": [member("a/../evil")],
    "absolute": [member("/tmp/evil")],  # noqa: S108
    "character device": [member("null", tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "block device": [member("disk", tarfile.BLKTYPE, devmajor=8)],
    "pipe": [member("pipe", tarfile.FIFOTYPE)],
    "unknown kind": [member("what", b"Z")],
    "setuid": [member("su", mode=0o4755)],
    "setgid": [member("sg", mode=0o2755)],
    "absolute link": [link("a", "/etc/passwd")],
    "escaping link": [link("d/a", "../../etc/passwd")],
    "link to the parent": [link("a", "..")],
    "link through a link": [link("p/q/r", "../.."), link("s", "p/q/r/..")],
    "link through a later link": [link("s", "p/q/r/.."), link("p/q/r", "../..")],
    "links in a circle": [link("a", "b"), link("b", "a")],
    "file through a link": [member("d", tarfile.DIRTYPE), link("a", "d"), member("a/evil")],
    "file in place of a link": [link("a", "b"), member("a")],
    "link in place of a link": [link("a", "b"), link("a", "c")],
    "link in place of a folder": [member("a", tarfile.DIRTYPE, mode=0o755), link("a", "b")],
    "hard link out": [member("a", tarfile.LNKTYPE, linkname="../../etc/passwd")],
    "absolute hard link": [member("a", tarfile.LNKTYPE, linkname="/etc/passwd")],
    "hard link to a link": [link("a", "b"), member("c", tarfile.LNKTYPE, linkname="a")],
    "hard link to nothing": [member("c", tarfile.LNKTYPE, linkname="a")],
    "file below a file": [member("a"), member("a/b")],
    "overlong name": [member("n" * 300)],
    "overlong path": overlong(),
}


@pytest.mark.parametrize("infos", UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_member_is_refused_by_name(tmp_path: Path, infos: list[tarfile.TarInfo]) -> None:
    place = tmp_path / "place"
    place.mkdir()
    forged = forge(tmp_path / "forged.tar", member("first"), *infos)
    with pytest.raises(UnsafeArchive) as caught:
        archive.extract(forged, place / "out")
    assert any(repr(info.name) in caught.value.what for info in infos)
    assert list(place.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forged.tar", "place"]


def test_harmless_links_are_kept(tmp_path: Path) -> None:
    forged = forge(
        tmp_path / "good.tar",
        member("./", tarfile.DIRTYPE, mode=0o755),
        member("./lib/a.so.1", size=10),
        link("./lib/a.so", "a.so.1"),
        link("bin", "lib/../lib"),
        link("share/lib/deep", "../../lib/a.so"),
        member("lib/twin", tarfile.LNKTYPE, linkname="./lib/a.so.1"),
        member("set", tarfile.DIRTYPE, mode=0o2755),
    )
    archive.extract(forged, tmp_path / "out")
    assert (tmp_path / "out" / "share" / "lib" / "deep").stat().st_size == 10
    assert (tmp_path / "out" / "lib" / "twin").samefile(tmp_path / "out" / "bin" / "a.so")
    assert not (tmp_path / "out" / "set").stat().st_mode & 0o2000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_told(tree: Path, tmp_path: Path, kind: str, kept: float) -> None:
    packed = tmp_path / f"packed{kind}"
    archive.write_tar(tree, packed)
    packed.write_bytes(packed.read_bytes()[: int(packed.stat().st_size * kept)])
    with pytest.raises(DownloadFailure, match="incomplete or damaged"):
        archive.extract(packed, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [packed.name, "tree"]


@pytest.mark.parametrize("damage", [b"", b"\xff" * 512])
def test_a_tar_that_ends_between_members_is_told(tmp_path: Path, damage: bytes) -> None:
    """Python's tarfile takes both a missing and a damaged header for the end of the archive."""
    packed = forge(tmp_path / "packed.tar", member("one", size=512), member("two", size=512))
    packed.write_bytes(packed.read_bytes()[:1024] + damage)
    with pytest.raises(DownloadFailure, match="incomplete or damaged"):
        archive.extract(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.zst"])
def test_a_changed_byte_is_told(tree: Path, tmp_path: Path, kind: str) -> None:
    packed = tmp_path / f"packed{kind}"
    archive.write_tar(tree, packed)
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    packed.write_bytes(content)
    with pytest.raises(DownloadFailure, match="incomplete or damaged"):
        archive.extract(packed, tmp_path / "out")


@pytest.mark.parametrize("kind", ["bz2", "xz"])
def test_what_others_compress_is_read_too(tree: Path, tmp_path: Path, kind: str) -> None:
    packed = tmp_path / f"packed.tar.{kind}"
    with tarfile.open(packed, f"w:{kind}") as tar:  # type: ignore[call-overload]
        tar.add(tree, ".")
    archive.extract(packed, tmp_path / "out")
    assert (tmp_path / "out/bin/run").read_bytes() == (tree / "bin/run").read_bytes()
    content = packed.read_bytes()
    middle = len(content) // 2
    for damaged in (content[:middle], content[:middle] + b"\xff" * 99 + content[middle + 99 :]):
        packed.write_bytes(damaged)
        with pytest.raises(DownloadFailure, match="incomplete or damaged"):
            archive.extract(packed, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("kind", ["zip", "squashfs", "7z"])
def test_a_format_that_is_not_read_is_named(tmp_path: Path, kind: str) -> None:
    beginning = next(magic for magic, name in archive.FOREIGN.items() if name == kind)
    packed = tmp_path / "packed.tar.gz"
    packed.write_bytes(beginning + bytes(1000))
    with pytest.raises(UsageFailure, match=f"is a {kind} archive, which is not supported"):
        archive.extract(packed, tmp_path / "out")


def test_what_is_not_an_archive_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.tar.gz"
    page.write_text("<html>" + "not found " * 1000)
    with pytest.raises(DownloadFailure, match="incomplete or damaged"):
        archive.extract(page, tmp_path / "out")


def header(name: str, kind: bytes, size: int) -> bytes:
    """Return a member's header, whatever its size is."""
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def pax(**facts: str) -> bytes:
    """Return a small file with such facts in its PAX header."""
    member = tarfile.TarInfo("file")
    member.pax_headers = facts
    return member.tobuf(tarfile.PAX_FORMAT)


LONG_NAME = header("x", tarfile.GNUTYPE_LONGNAME, 2) + b"x".ljust(512, b"\0")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (header("x", tarfile.XHDTYPE, 3 << 30), DownloadFailure),
        (header("x", tarfile.GNUTYPE_LONGNAME, 1 << 62), DownloadFailure),
        (header("x", tarfile.XGLTYPE, -512), DownloadFailure),
        (LONG_NAME, DownloadFailure),
        (LONG_NAME * 5000, DownloadFailure),
        (pax(mtime="1e400"), DownloadFailure),
        (pax(**{"GNU.sparse.size": str(1 << 62), "GNU.sparse.map": "0,0"}), UnsafeArchive),
        (pax(**{"GNU.sparse.size": "many"}), DownloadFailure),
        (header("x", tarfile.GNUTYPE_SPARSE, 0), UnsafeArchive),
        (header("x", tarfile.REGTYPE, 1 << 62), DownloadFailure),
    ],
)  # fmt: skip
def test_a_hostile_header_is_refused_and_takes_little_memory(
    tmp_path: Path, content: bytes, kind: type[Failure]
) -> None:
    packed = tmp_path / "packed.tar.zst"
    long = content + bytes(4 << 20)
    packed.write_bytes(zstandard.ZstdCompressor().compress(long))
    tracemalloc.start()
    with pytest.raises(kind):
        archive.extract(packed, tmp_path / "out")
    _now, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 32 << 20
    assert list(tmp_path.iterdir()) == [packed]


@given(st.data())
def test_whatever_is_changed_in_a_tar_it_is_unpacked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(
        pax(mtime="1700000000.5", path="数据" * 60, comment="none")
        + header("empty", tarfile.DIRTYPE, 0)
        + header("text", tarfile.REGTYPE, 5)
        + b"text\n".ljust(512, b"\0")
        + bytes(1024)
    )
    for _change in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    for start in range(0, len(content) - 511, 512):  # a wrong checksum would hide all else
        block = content[start : start + 512]
        block[148:156] = b" " * 8
        if block[257:262] == b"ustar":
            content[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    work = tmp_path_factory.mktemp("changed")
    (work / "packed.tar").write_bytes(content)
    try:
        archive.extract(work / "packed.tar", work / "out")
    except Failure:
        assert not (work / "out").exists()
    else:
        assert (work / "out").is_dir()


def test_a_folder_with_content_is_left_alone(tree: Path, tmp_path: Path) -> None:
    archive.write_tar(tree, tmp_path / "packed.tar")
    with pytest.raises(UsageFailure):
        archive.extract(tmp_path / "packed.tar", tree)
    (tmp_path / "out").mkdir()
    archive.extract(tmp_path / "packed.tar", tmp_path / "out")
    assert (tmp_path / "out" / "bin" / "alias").is_symlink()


def test_a_folder_that_cannot_be_replaced_is_told(
    tree: Path, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    mounted = small_disk(1 << 20)
    archive.write_tar(tree, tmp_path / "packed.tar")
    with pytest.raises(NotWritable, match=mounted.name):
        archive.extract(tmp_path / "packed.tar", mounted)
    assert sorted(path.name for path in tmp_path.iterdir()) == [mounted.name, "packed.tar", "tree"]


def test_an_archive_is_told_by_its_content_not_its_name(tree: Path, tmp_path: Path) -> None:
    archive.write_tar(tree, tmp_path / "packed.tar.zst")
    (tmp_path / "packed.tar.zst").rename(tmp_path / "packed.tar.gz")
    archive.extract(tmp_path / "packed.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "bin" / "run").is_file()


def test_killed_while_extracting_and_started_again(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(1000):
        (root / str(number)).write_bytes(b"x" * 1000)
    archive.write_tar(root, tmp_path / "packed.tar")
    program = "import sys; from pathlib import Path; from builder.stage.archive import extract;"
    program += "extract(Path(sys.argv[1]), Path(sys.argv[2]))"
    arguments = [str(tmp_path / "packed.tar"), str(tmp_path / "out")]
    half = tmp_path / ".out.partial" / "out" / "100"
    with subprocess.Popen([sys.executable, "-c", program, *arguments]) as process:
        while not half.exists():
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert half.exists()
    assert not (tmp_path / "out").exists()
    archive.extract(tmp_path / "packed.tar", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "packed.tar", "tree"]


def test_a_full_disk_is_told_and_nothing_stays(
    tree: Path, tmp_path: Path, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(64 << 10)
    archive.write_tar(tree, tmp_path / "packed.tar")
    with pytest.raises(DiskFull):
        archive.extract(tmp_path / "packed.tar", disk / "out")
    assert list(disk.iterdir()) == []
    (disk / "packed.tar").write_bytes(b"earlier")
    with pytest.raises(DiskFull):
        archive.write_tar(tree, disk / "packed.tar")
    assert [path.read_bytes() for path in disk.iterdir()] == [b"earlier"]
