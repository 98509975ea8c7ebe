"""A root of unpacked packages, and running in it: nothing of the machine but its kernel is seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from builder.debian import deb
from builder.debian.store import Deb
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

# $0 is the root.
MOUNT: Final = 'mount --rbind /dev "$0/dev" && mount --rbind /proc "$0/proc" && '
ENTER: Final = 'umask 022; exec chroot "$0" "$@"'
# Namespaces of a user's own, which most kernels allow; or of root's; or, in a container that has
# no right to either, a root without /proc and with a file for /dev/null.
WAYS: Final = (
    ("unshare", "--map-root-user", "--mount", "sh", "-c", MOUNT + ENTER),
    ("unshare", "--mount", "sh", "-c", MOUNT + ENTER),
    ("sh", "-c", ENTER),
)


def fill(root: Path, debs: Iterable[Deb]) -> None:
    """Unpack packages below the new folder `root`; raise DownloadFailure if one is damaged."""
    for folder in ("dev", "proc", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "dev/null").touch()
    for each in debs:
        deb.extract(each.file, root)


@cache
def way() -> Sequence[str] | None:
    """Return the command that, before a root and words, runs these in it; None if nothing may."""
    with TemporaryDirectory() as folder:
        for name in ("dev", "proc"):
            Path(folder, name).mkdir()
        for words in WAYS:
            try:
                # A mere look whether it is allowed: there is no program in this root.
                run([*words, folder, "/nothing"])
            except CommandFailed as failure:
                if "/nothing" in failure.why:
                    return words
    return None


def run_in(
    root: Path,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str = "/",
    log: Path | None = None,
) -> str:
    """Run a program in `root`, as a root that has `env` and nothing else; raise CommandFailed."""
    entering = way()
    if entering is None:
        raise CommandFailed(_("This machine lets nobody make a root of packages its own."))
    settings = [f"{key}={value}" for key, value in env.items()]
    # Not the directory of the caller, which the root does not have.
    inside = ["/usr/bin/env", "-i", "-C", cwd, *settings, *argv]
    return run([*entering, root, *inside], log=log)
