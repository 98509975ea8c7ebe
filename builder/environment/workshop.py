"""Where C and C++ are compiled: in the locked toolchain's root, else by this machine's compiler."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.debian import lock, root, store
from builder.debian.root import NoRoot
from builder.settings import Settings
from builder.stage import receipt, report
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed, DownloadFailure, HashMismatch
from entrypoint.common.language import _

TOOLCHAIN: Final = "toolchain"  # its group of packages
C: Final = "gcc-12"  # its programs, which have no shorter names without Debian's scripts
CXX: Final = "g++-12"


@dataclass(frozen=True)
class Workshop:
    """A folder `home` to work in, which programs see as `inside`.

    `enter` are the words that a command line begins with, none outside of the toolchain's root.
    `cc` is the C compiler's name there, `compiler` the full name of the C++ one. `locked` tells
    whether all that is used has the locked bytes.
    """

    enter: Sequence[str | Path]
    home: Path
    inside: Path
    cc: str
    compiler: str
    locked: bool


def packages() -> dict[str, str]:
    """Return the locked hashes of all that the root consists of, by name."""
    return {each.name: each.sha256 for each in lock.packages(TOOLCHAIN)}


def ingredients() -> dict[str, str]:
    """Return the hash of what decides the bytes of whatever is compiled."""
    return {TOOLCHAIN: receipt.digest(packages())}


def full_name() -> str:
    """Return the locked C++ compiler with its version."""
    (compiler,) = (each for each in lock.packages(TOOLCHAIN) if each.name == CXX)
    return f"{compiler.name} {compiler.version}"


def furnish(settings: Settings, place: Path) -> Workshop:
    """Lay out the toolchain's root at `place`; else take this machine's own compiler, and say so.

    Raises HashMismatch if the settings insist on the locked one, CommandFailed if there is none.
    """
    home = place / "work"
    try:
        debs = store.debs(settings, TOOLCHAIN)
        root.lay_out(debs, place)
        enter = root.enter(place)
    except (DownloadFailure, NoRoot) as failure:
        if settings.locked:
            raise HashMismatch(
                _("The locked compiler cannot be used here."),
                f"{failure.what} {failure.why}".strip(),
            ) from None
        report.say(
            _("{what} Taking this machine's own compiler instead.").format(what=failure.what)
        )
        own = _require_own()
        home.mkdir(parents=True, exist_ok=True)
        return Workshop((), home, home, "gcc", own, locked=False)
    (name,) = (f"{each.name} {each.version}" for each in debs if each.name == CXX)
    home.mkdir()
    inside = Path("/") / home.relative_to(place)
    return Workshop(enter, home, inside, C, name, all(each.locked for each in debs))


def _require_own() -> str:
    """Return the full name of this machine's C++ compiler, installed now if need be."""
    if not shutil.which("g++"):
        _install()
    return run(["g++", "--version"]).splitlines()[0]


def _install() -> None:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        report.say(_("installing {names}").format(names="g++"))
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update"], env=quiet)
        run(["apt-get", "install", "-y", "--no-install-recommends", "g++"], env=quiet)
    if not shutil.which("g++"):
        raise CommandFailed(
            _("Something has to be compiled once, and there is no C++ compiler."),
            next=_("Install g++ with this system's package manager and run the same task again."),
        )
