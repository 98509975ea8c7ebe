"""Which of its kernels the engine takes on this CPU, in its own words.

The engine has one library per instruction set and scores them when it starts. It is asked, because
a scoring of our own would be wrong one day.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from entrypoint import machine
from entrypoint.errors import UnsupportedCpu
from entrypoint.language import _

INFO = "4"  # the least verbosity at which the engine tells which library it loads


def chosen(server: Path) -> str:
    """Return the instruction set that llama-server takes, such as "zen4" or "haswell".

    Raises UnsupportedCpu if it takes none, or cannot even start.
    """
    try:
        done = subprocess.run(
            [server, "--verbosity", INFO, "--list-devices"],  # in this order,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        said = done.stdout
    except OSError as error:  # made for another kind of processor
        said = str(error)
    found = re.search(r"libggml-cpu-(\w+)\.so", said)
    if found is None:
        raise UnsupportedCpu(
            _("The engine has no kernels for this CPU: {model}.").format(
                model=machine.cpu().model or _("unknown")
            ),
            said.strip(),
            _("It takes a processor of the x86-64 family."),
        )
    return found[1]
