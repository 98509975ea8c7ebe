"""A root of Debian packages, and how a program runs inside it as if there were no other machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from builder.debian import deb
from builder.debian.store import Deb
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed, DiskFull
from entrypoint.common.language import _

MOUNT: Final = (
    'mount --rbind /dev "$0/dev" && mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"'
)
# As root; as anybody who may make namespaces; as root of a container, who may mount nothing.
WAYS: Final[tuple[tuple[str, ...], ...]] = (
    ("unshare", "--mount", "sh", "-c", MOUNT),
    ("unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT),
    ("chroot",),
)
# Of the variables of whoever starts it, none gets in: CFLAGS would decide about bytes.
CLEAN: Final = ("/usr/bin/env", "-i", "PATH=/usr/bin:/bin", "HOME=/tmp", "LC_ALL=C.UTF-8")
# Where no /dev can be mounted, only who may make devices has the one that compilers write to.
PROBE: Final = ("/usr/bin/test", "-c", "/dev/null")


class NoRoot(CommandFailed):
    """Nothing can be run inside another root, by this user on this machine."""


def lay_out(debs: Iterable[Deb], root: Path) -> None:
    """Unpack packages below `root`; raise DownloadFailure if one is damaged.

    Their scripts do not run: what those would set up is not there.
    """
    for each in debs:
        deb.extract(each.file, root)
    for name in ("dev", "proc", "tmp"):
        (root / name).mkdir(exist_ok=True)
    with suppress(OSError):
        os.mknod(root / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))


def enter(root: Path) -> Sequence[str | Path]:
    """Return the words that a command line inside `root` begins with; raise NoRoot."""
    refusals = []
    for way in WAYS:
        try:
            run([*way, root, *CLEAN, *PROBE])
        except (CommandFailed, DiskFull) as failure:  # the kernel says so, too, of namespaces
            refusals.append(f"{way[0]}: {failure.why or failure.what}")
        else:
            return [*way, root, *CLEAN]
    raise NoRoot(_("Nothing can run inside the locked toolchain's root here."), "\n".join(refusals))
