"""The one place that starts processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from entrypoint.errors import CommandFailed, DiskFull
from entrypoint.language import _

TAIL = 20  # lines of a failed program's output that are worth showing


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
) -> str:
    """Run a program and return what it prints on standard output.

    `env` is added to this process's environment. With `log`, all output goes to that file and ""
    is returned. Raises CommandFailed with the last lines of output, DiskFull when those say so.
    """
    command = [str(part) for part in argv]
    environment = {**os.environ, **(env or {})}
    try:
        if log is None:
            done = subprocess.run(
                command, env=environment, cwd=cwd, capture_output=True, check=False
            )
            output, errors = _text(done.stdout), _text(done.stdout) + _text(done.stderr)
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as sink:
                done = subprocess.run(
                    command,
                    env=environment,
                    cwd=cwd,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            output, errors = "", _text(log.read_bytes())
    except FileNotFoundError:
        raise CommandFailed(
            _("The program {name} is not installed.").format(name=command[0])
        ) from None
    if done.returncode != 0:
        tail = "\n".join(errors.strip().splitlines()[-TAIL:])
        kind = DiskFull if "no space left on device" in errors.lower() else CommandFailed
        raise kind(
            _("{name} failed with exit code {code}.").format(
                name=Path(command[0]).name, code=done.returncode
            ),
            tail,
            _("The whole output is in {log}.").format(log=log) if log else "",
        )
    return output


def attach(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> int:
    """Run a program on this terminal, or on our own standard streams; return its exit code."""
    return subprocess.run(
        [str(part) for part in argv], env={**os.environ, **(env or {})}, check=False
    ).returncode


def become(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> NoReturn:
    """Let a program take this process's place: terminal, signals and exit code are then its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = [str(part) for part in argv]
    os.execvpe(command[0], command, {**os.environ, **(env or {})})  # noqa: S606 - that is the point


def _text(output: bytes) -> str:
    return output.decode("utf-8", errors="replace")
