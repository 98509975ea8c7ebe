"""The C++ compiler of this machine, for what is not compiled in the locked toolchain's root."""

from __future__ import annotations

import os
import shutil

from builder.stage import report
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _


def require() -> str:
    """Return the C++ compiler's full name, installed now if need be; raise CommandFailed."""
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
            _("The engine has to be compiled once, and there is no C++ compiler."),
            next=_("Install g++ with this system's package manager and run the same task again."),
        )
