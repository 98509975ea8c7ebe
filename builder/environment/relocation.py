"""Sets an environment's paths for the place where it is going to be."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from builder.settings import ROOT
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

PROGRAM: Final = ROOT / "builder/inside/relocate.py"


def relocate(folder: Path, place: Path) -> None:
    """Set an unpacked environment's paths for the `place` where it is going to be.

    Raises CommandFailed, also where its Python is for another kind of machine.
    """
    run_in(folder, PROGRAM, folder, place)


def run_in(prefix: Path, *words: str | Path) -> None:
    """Run an environment's own Python, apart from this one's; raise CommandFailed if it fails."""
    try:
        run([prefix / "bin" / "python", "-I", "-B", *words])
    except OSError as error:
        raise CommandFailed(
            _("The environment's Python cannot be started on this machine."), str(error)
        ) from None
