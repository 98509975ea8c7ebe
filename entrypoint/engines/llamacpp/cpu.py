"""Which of its kernels the engine takes on this CPU, in its own words.

The engine has one library per instruction set and scores them when it starts. It is asked, because
a scoring of our own would be wrong one day.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from entrypoint.common import machine
from entrypoint.common.errors import UnsupportedCpu
from entrypoint.common.language import _

TRIES = 5
INFO = "4"  # the least verbosity at which the engine tells which library it loads


def chosen(server: Path) -> str:
    """Return the instruction set that llama-server takes, such as "zen4" or "haswell".

    Raises UnsupportedCpu if it takes none, or cannot even start.
    """
    for _try in range(TRIES):  # a thread writes its log, and it may end before that has begun
        answer = _asked(server)
        if library := re.search(r"libggml-cpu-(\w+)\.so", answer):
            return library[1]
    raise UnsupportedCpu(
        _("The engine has no kernels for this CPU: {model}.").format(
            model=machine.cpu().model or _("unknown")
        ),
        answer.strip(),
        _("An x86-64 processor is needed."),
    )


def _asked(server: Path) -> str:
    """Return what llama-server tells about itself."""
    try:
        done = subprocess.run(
            [server, "--verbosity", INFO, "--list-devices"],  # in this order,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:  # made for another kind of processor
        return str(error)
    return done.stdout
