"""The image's bottom layer: the C and C++ libraries of the locked Debian packages."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.debian import deb, lock, store
from builder.debian.store import Deb
from builder.settings import Settings
from builder.stage import receipt, report, scratch
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

# For a machine whose own compiler compiles against another C library.
OWN = (
    "base-files",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "?reverse-depends(?exact-name(libgcc-s1))",
)

# Converters between old character sets, files for debuggers and package tools, folders for people.
UNNEEDED = (
    "usr/lib/*/gconv",
    "usr/share/doc/*/[!c]*",
    "usr/share/doc/*/changelog*",
    "usr/share/base-files",
    "usr/share/dict",
    "usr/share/gcc",
    "usr/share/gdb",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/man",
    "usr/share/misc",
    "usr/games",
    "usr/include",
    "usr/src",
    "etc/update-motd.d",
    "var/backups",
)

USER = 10001
ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/root:/nonexistent\nllmdeploy:x:{id}:{id}::/tmp:/nonexistent\n",
    "etc/group": "root:x:0:\nllmdeploy:x:{id}:\n",
}


def packages(settings: Settings, contents: Iterable[Mapping[str, Any]]) -> list[Deb]:
    """Return the base's packages, fetched once; raise DownloadFailure or CommandFailed.

    They are the locked ones, unless one of the environment's `contents`, as its receipt lists
    them, was compiled by this machine's own compiler against the C library of another release.
    """
    release = platform.freedesktop_os_release()
    if release.get("VERSION_CODENAME") == lock.intent().suite or all(
        each.get("locked", True) for each in contents if each["kind"] == "wheel"
    ):
        return store.debs(settings, "base")
    report.say(_("The base is not of the locked Debian packages, but of this machine's own."))
    name = f"{release['ID']}-{release.get('VERSION_ID', 'rolling')}-{platform.machine()}"
    target = settings.cache_dir / "base" / name
    if not target.is_dir():
        download(OWN, target)
    return [_own(file) for file in sorted(target.glob("*.deb"))]


def download(names: Sequence[str], folder: Path) -> None:
    """Download Debian packages as the new `folder`; raise CommandFailed where apt cannot."""
    if not shutil.which("apt-get"):
        raise CommandFailed(
            _("The base of the image is made of Debian packages, and there is no apt here."),
            next=_('Name a base image in llmdeploy.toml: base = "debian@sha256:..."'),
        )
    with scratch.folder(folder.with_name(f".{folder.name}")) as work:
        debs = work / "debs"
        debs.mkdir()
        try:
            run(["apt-get", "download", "-qq", *names], cwd=debs)
        except CommandFailed:  # no lists, or lists so old that the mirror has moved on
            (work / "lists/partial").mkdir(parents=True)
            ours = ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work}"]
            run(["apt-get", "update", "-qq", *ours])
            run(["apt-get", "download", "-qq", *ours, *names], cwd=debs)
        debs.rename(folder)


def _own(file: Path) -> Deb:
    about = deb.fields(file)
    return Deb(about["Package"], about["Version"], receipt.sha256(file), file, locked=False)


def unpack(debs: Sequence[Deb], root: Path) -> None:
    """Fill the folder `root` with what the image needs of the packages."""
    status = root / "var/lib/dpkg/status.d"
    for each in debs:
        deb.extract(each.file, root)
        # Where vulnerability scanners look for packages in images without a package manager.
        status.mkdir(parents=True, exist_ok=True)
        (status / each.name).write_text(deb.control(each.file))
    for pattern in UNNEEDED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, text in ACCOUNTS.items():
        (root / name).write_text(text.format(id=USER))
