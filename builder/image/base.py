"""The image's bottom layer: the C and C++ libraries of this machine's own Debian or Ubuntu.

The release must be this machine's, because the engine was compiled against its C library. apt
fetches the packages from wherever this machine is set up to find them and checks the signatures;
they are kept, so a base changes only when the kept packages are deleted.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from builder.settings import Settings
from builder.stage import scratch
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

# What a self-contained Python and engine lean on, and the licence texts of gcc's libraries.
PACKAGES = (
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

# `dpkg-deb --extract` insists on the files' owners, which root in a user namespace cannot give.
EXTRACT = 'dpkg-deb --fsys-tarfile "$0" | tar --extract --no-same-owner --directory "$1"'

USER = 10001
ACCOUNTS = {
    "etc/passwd": "root:x:0:0::/root:/nonexistent\nllmdeploy:x:{id}:{id}::/tmp:/nonexistent\n",
    "etc/group": "root:x:0:\nllmdeploy:x:{id}:\n",
}


def packages(settings: Settings) -> list[Path]:
    """Return the base's .deb files, downloaded once; raise CommandFailed where apt cannot."""
    release = platform.freedesktop_os_release()
    name = f"{release['ID']}-{release.get('VERSION_ID', 'rolling')}-{platform.machine()}"
    target = settings.cache_dir / "base" / name
    if not target.is_dir():
        download(PACKAGES, target)
    return sorted(target.glob("*.deb"))


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


def describe(package: Path) -> dict[str, str]:
    """Return a package's name and version."""
    name, version = run(
        ["dpkg-deb", "--show", "--showformat=${Package}\n${Version}", package]
    ).splitlines()
    return {"name": name, "version": version}


def unpack(debs: Sequence[Path], root: Path) -> None:
    """Fill the folder `root` with what the image needs of the packages."""
    status = root / "var/lib/dpkg/status.d"
    for deb in debs:
        run(["sh", "-c", EXTRACT, deb, root])
        # Where vulnerability scanners look for packages in images without a package manager.
        status.mkdir(parents=True, exist_ok=True)
        (status / deb.name.split("_")[0]).write_text(run(["dpkg-deb", "--field", deb]))
    for pattern in UNNEEDED:
        for path in root.glob(pattern):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, text in ACCOUNTS.items():
        (root / name).write_text(text.format(id=USER))
