"""Runs a program that a model wrote, where it can harm nothing and reach nobody.

The program gets a Python of its own (`cage`) that takes all rights away from itself: no
files, no network, no other processes, no environment, little time and memory. That works as any
user and in the hardened container; where it does not, nothing is run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import BinaryIO

from entrypoint.common.language import _
from entrypoint.compare import cage

SECONDS = 3  # of computing
PATIENCE = 15  # seconds in all: on a busy machine computing takes longer
MEMORY = 256 << 20  # bytes of address space, Python's own included
OUTPUT = 64 << 10  # bytes of each output
ERROR = 300  # characters of an error


@dataclass(frozen=True)
class Outcome:
    """What became of a program: what it printed, and why it failed ("" if it ended well).

    `ran` is False if this machine has no way to lock it in; nothing was run then. `ended` is False
    if it was still running at a limit of time.
    """

    output: str
    error: str = ""
    ran: bool = True
    ended: bool = True


def run(program: str, *, typed: str = "", seed: int = 0) -> Outcome:
    """Run a Python program, with `typed` on its standard input and `random` seeded by `seed`."""
    with _memory("output") as output, _memory("errors") as errors, _memory("shut") as shut:
        order = {
            "program": program,
            "input": typed,
            "seed": seed,
            "seconds": SECONDS,
            "memory": MEMORY,
            "output": OUTPUT,
            "shut": shut.fileno(),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-B", "-X", "utf8", cage.__file__],
                input=json.dumps(order).encode(),
                stdout=output,
                stderr=errors,
                pass_fds=[shut.fileno()],
                cwd="/",
                env={},
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(_read(output), _("It did not end."), ended=False)
        error = _last(errors)
        if done.returncode == cage.CLOSED_NOT and not _read(shut):  # else it is the program's
            return Outcome("", error, ran=False)
        if done.returncode == -signal.SIGKILL:  # the kernel's, at the limit of time
            return Outcome(_read(output), _("It did not end."), ended=False)
        if done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            return Outcome(_read(output), _("It ended by {signal}.").format(signal=name))
        return Outcome(_read(output), error if done.returncode else "")


def _memory(name: str) -> BinaryIO:
    """Return a file that exists in memory only: the limit of a file's size bounds it."""
    return os.fdopen(os.memfd_create(name), "r+b")


def _last(errors: BinaryIO) -> str:
    """Return the last line of what a program complained of, which says why, in short."""
    lines = _read(errors).splitlines()
    line = lines[-1] if lines else ""
    return line if len(line) <= ERROR else line[:ERROR] + "…"


def _read(file: BinaryIO) -> str:
    file.seek(0)
    return file.read(OUTPUT).decode(errors="replace")
