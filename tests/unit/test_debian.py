"""Debian packages: locked by hash, from whoever has them, opened without Debian's tools."""

import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from builder.debian import apt, deb, lock, store
from builder.debian.lock import Package
from builder.environment import lock as locks
from builder.image import base
from builder.settings import Settings
from builder.stage import receipt
from entrypoint.common.errors import ConfigFailure, DownloadFailure, HashMismatch

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".xz": lzma.compress,
    ".zst": lambda content: zstandard.ZstdCompressor().compress(content),
}


def tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as content:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.uname = len(text), mode, 0, "root"
            content.addfile(member, io.BytesIO(text))
    return sink.getvalue()


def package(version: str = "1.0-1", suffix: str = ".xz") -> bytes:
    """Return a .deb as bytes: one program that asks for another user's rights."""
    about = f"Package: small\nVersion: {version}\nDescription: one line\n and another\n"
    parts = {
        "debian-binary": b"2.0\n",
        f"control.tar{suffix}": COMPRESSED[suffix](tar({"./control": about.encode()})),
        f"data.tar{suffix}": COMPRESSED[suffix](tar({"./usr/bin/small": b"\x7fELF"}, 0o4755)),
    }
    return deb.MAGIC + b"".join(
        f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        + content
        + b"\n" * (len(content) % 2)
        for name, content in parts.items()
    )


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Package:
    """Return the one locked package, of which this machine's apt knows nothing."""
    monkeypatch.setattr(apt, "HELPER", tmp_path / "no-helper")
    monkeypatch.setattr(apt, "mirrors", lambda: {"debian": [], "debian-security": []})
    content = tmp_path / "content"
    content.write_bytes(package())
    small = Package(
        "small",
        "1.0-1",
        ("base",),
        "debian/pool/main/s/small/small_1.0-1_amd64.deb",
        content.stat().st_size,
        receipt.sha256(content),
    )
    monkeypatch.setattr(lock, "packages", lambda _group: [small])
    return small


def mirror(folder: Path, locked: Package, content: bytes) -> str:
    file = folder / locked.path
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    return folder.as_uri()


@pytest.mark.parametrize("suffix", COMPRESSED)
def test_a_package_is_unpacked_without_owners_and_rights(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / "small.deb"
    file.write_bytes(package(suffix=suffix))
    assert deb.extract(file, tmp_path / "root") == ["usr/bin/small"]
    status = (tmp_path / "root/usr/bin/small").stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (os.getuid(), 0o755)
    assert deb.fields(file) == {
        "Package": "small",
        "Version": "1.0-1",
        "Description": "one line",
    }


@pytest.mark.parametrize("content", [b"", b"<html>", package()[:-40], package()[:100]])
def test_a_damaged_package_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "small.deb"
    file.write_bytes(content)
    with pytest.raises(DownloadFailure, match=r"small\.deb is damaged"):
        deb.extract(file, tmp_path / "root")


def test_any_mirror_delivers_and_what_is_kept_is_not_asked_for_again(
    locked: Package, tmp_path: Path
) -> None:
    address = mirror(tmp_path / "mirror", locked, package())
    settings = Settings(cache=str(tmp_path / "cache"), mirrors=(address,))
    (delivered,) = store.debs(settings, "base")
    assert (delivered.sha256, delivered.locked) == (locked.sha256, True)
    assert store.debs(Settings(cache=settings.cache), "base") == [delivered]
    assert sorted(path.name for path in (tmp_path / "cache/debian").iterdir()) == [
        locked.sha256[:16]
    ]


@pytest.mark.parametrize("content", [b"<html>", package("1.0-2"), package()[:-1], b""])
def test_other_bytes_of_a_mirror_are_passed_over(
    content: bytes, locked: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = mirror(tmp_path / "wrong", locked, content)
    right = mirror(tmp_path / "right", locked, package())
    settings = Settings(cache=str(tmp_path / "cache"), mirrors=(wrong, right))
    (delivered,) = store.debs(settings, "base")
    assert delivered.sha256 == receipt.sha256(delivered.file) == locked.sha256
    assert wrong in capsys.readouterr().err


def test_where_nobody_delivers_the_setting_is_named(locked: Package, tmp_path: Path) -> None:
    settings = Settings(cache=str(tmp_path / "cache"), mirrors=((tmp_path / "none").as_uri(),))
    with pytest.raises(DownloadFailure, match=f"{locked.name} {locked.version}") as failure:
        store.debs(settings, "base")
    assert "mirrors = " in failure.value.next
    assert [path.name for path in (tmp_path / "cache/debian").iterdir()] == []


@pytest.fixture
def replaced(locked: Package, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Return the locked package on a day when Debian has a newer one only."""

    def download_today(lost: list[Package], folder: Path) -> None:
        assert lost == [locked]
        (folder / "small_1.0-2_amd64.deb").write_bytes(package("1.0-2"))

    monkeypatch.setattr(store, "_download_today", download_today)
    return locked


def test_todays_version_stands_in_and_is_named(
    replaced: Package, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(cache=str(tmp_path / "cache"))
    for _again in range(2):
        (stand_in,) = store.debs(settings, "base")
        assert (stand_in.version, stand_in.locked) == ("1.0-2", False)
        assert stand_in.sha256 != replaced.sha256
        assert "Not the locked Debian packages" in (said := capsys.readouterr().err)
        assert "small 1.0-2" in said


def test_whoever_insists_on_the_locked_bytes_gets_no_other(
    replaced: Package, tmp_path: Path
) -> None:
    with pytest.raises(HashMismatch, match=f"{replaced.name} 1.0-2"):
        store.debs(Settings(cache=str(tmp_path / "cache"), locked=True), "base")


def test_a_kept_package_that_was_changed_is_not_taken_for_the_locked(
    locked: Package, tmp_path: Path
) -> None:
    address = mirror(tmp_path / "mirror", locked, package())
    settings = Settings(cache=str(tmp_path / "cache"), mirrors=(address,), locked=True)
    (delivered,) = store.debs(settings, "base")
    delivered.file.write_bytes(package("6.6-6"))
    with pytest.raises(HashMismatch, match=r"small 6\.6-6"):
        store.debs(settings, "base")


@pytest.mark.parametrize("architecture", lock.ARCHITECTURES.values())
def test_the_locks_have_what_the_intent_asks_for(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "architecture", lambda: architecture)
    intent = lock.intent()
    for group, names in intent.alone.items():
        assert [package.name for package in lock.packages(group)] == sorted(names)
    for group, names in intent.whole.items():
        packages = {package.name: package for package in lock.packages(group)}
        assert set(names) < set(packages)
        assert {"libc6", "zlib1g"} < set(packages), "what they depend on comes along"
        for package in packages.values():
            assert package.path.startswith(("debian/pool/", "debian-security/pool/"))
            assert package.path.endswith((f"_{architecture}.deb", "_all.deb"))
            assert len(package.sha256) == 64


def test_a_mistyped_intent_is_refused(tmp_path: Path) -> None:
    (tmp_path / lock.INTENT).write_text('suit = "bookworm"\n')
    with pytest.raises(ConfigFailure, match=r"'suit' in debian\.in"):
        lock.intent(tmp_path)


@pytest.mark.parametrize(
    ("version", "upstream"),
    [("3.11.2-6+deb12u9", "3.11.2"), ("1:1.2.13.dfsg-1", "1.2.13.dfsg"), ("12.4+deb12u15", "")],
)
def test_the_upstream_version_is_without_debians_counts(version: str, upstream: str) -> None:
    assert Package("a", version, (), "", 0, "").upstream == upstream


def test_what_debian_has_replaced_is_named_by_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / lock.INTENT).write_text((lock.ENV / lock.INTENT).read_text())
    fixed, gone = (
        Package(name, "1.0-1", ("base",), f"debian/pool/{name}.deb", 1, "0" * 64)
        for name in ("fixed", "gone")
    )
    for architecture in lock.ARCHITECTURES.values():
        lock.file(architecture, tmp_path).write_text(lock.dump([gone, fixed]))

    @contextmanager
    def suite(name: str, architecture: str) -> Iterator[apt.Suite]:
        assert name == "bookworm"
        if architecture == "arm64":
            raise apt.NoMirror("no mirror of Debian")
        yield apt.Suite(name, architecture, tmp_path)

    monkeypatch.setattr(apt, "suite", suite)
    monkeypatch.setattr(apt.Suite, "resolve", lambda *_: [replace(fixed, version="1.0-2")])
    locks.tell_replaced(tmp_path)
    assert [line.strip() for line in capsys.readouterr().err.splitlines()] == [
        "debian-amd64.lock has fixed 1.0-1, and Debian has 1.0-2",
        "debian-amd64.lock has gone 1.0-1, and Debian has none",
        "cannot tell which packages of debian-arm64.lock have been replaced: no mirror of Debian",
    ]


APT = """#!/bin/sh
case "$*" in
    *--no-release-info*) printf '%s\\n' '$(ORIGIN)|http://127.0.0.1/debian/|bookworm' ;;
    *) cat {known} ;;
esac
"""


@pytest.mark.parametrize(
    ("known", "mirrors"),
    [
        (
            (
                "Debian|http://127.0.0.1/debian/|trixie\n"
                "Debian|http://127.0.0.1/debian/|trixie-updates\n"
                "Debian|http://127.0.0.1/safe/|trixie-security\n"
                "Somebody|http://127.0.0.1/else/|trixie\n"
            ),
            {
                "debian": ["http://127.0.0.1/debian"],
                "debian-security": ["http://127.0.0.1/safe"],
            },
        ),
        ("Ubuntu|http://127.0.0.1/ubuntu/|noble\n", {"debian": [], "debian-security": []}),
        ("", {"debian": ["http://127.0.0.1/debian"], "debian-security": []}),
    ],
    ids=["Debian 13", "Ubuntu", "before the first update"],
)
def test_the_mirrors_are_those_that_this_machines_apt_takes_debian_from(
    known: str, mirrors: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "known").write_text(known)
    program = tmp_path / "apt-get"
    program.write_text(APT.format(known=tmp_path / "known"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert apt.mirrors() == mirrors


@pytest.mark.parametrize("release", ["bookworm", "trixie", "noble"])
@pytest.mark.parametrize("own", [False, True])
def test_the_base_is_of_this_machines_own_packages_where_its_own_compiler_was_taken(
    release: str, own: bool, locked: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(_names: object, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "small_2.0-1_amd64.deb").write_bytes(package("2.0-1"))

    about = {"ID": "some", "VERSION_CODENAME": release}
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: about)
    monkeypatch.setattr(base, "download", download)
    address = mirror(tmp_path / "mirror", locked, package())
    settings = Settings(cache=str(tmp_path / "cache"), mirrors=(address,))
    (found,) = base.packages(settings, [{"kind": "wheel", "locked": not own}, {"kind": "wheel"}])
    assert found.locked == (release == "bookworm" or not own)
    assert found.version == ("1.0-1" if found.locked else "2.0-1")
