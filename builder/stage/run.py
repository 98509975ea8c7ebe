"""The one place that starts processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn, cast

from builder.stage import disk
from entrypoint.common.errors import CommandFailed, DiskFull
from entrypoint.common.language import _

PIPE = 1 << 16
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
        kind = DiskFull if disk.is_full(errors) else CommandFailed
        raise kind(
            _("{name} failed with exit code {code}.").format(
                name=Path(command[0]).name, code=done.returncode
            ),
            tail,
            _("The whole output is in {log}.").format(log=log) if log else "",
        )
    return output


@dataclass(frozen=True)
class Seen:
    """What `watch` saw.

    `first` is in seconds from the start to the first byte on standard output; `memory` is the
    peak, in MiB, of the largest among the program and those that it waited for.
    """

    first: float
    memory: float
    output: str


def watch(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, typed: str = ""
) -> Seen:
    """Run a program with `typed` on its standard input, and time it.

    Raises CommandFailed if it fails or prints nothing.
    """
    command = [str(part) for part in argv]
    with tempfile.TemporaryFile() as typing, tempfile.TemporaryFile() as errors:
        typing.write(typed.encode())
        typing.seek(0)
        start = time.monotonic()
        process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdin=typing,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
        )
        with cast("IO[bytes]", process.stdout) as stream:
            output = stream.read(1)
            first = time.monotonic() - start
            while more := stream.read(PIPE):
                output += more
        _pid, status, usage = os.wait4(process.pid, 0)  # Popen would not tell the memory
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0 or not output:
            errors.seek(0)
            raise CommandFailed(
                _("{name} failed with exit code {code}.").format(
                    name=Path(command[0]).name, code=process.returncode
                ),
                "\n".join(_text(errors.read()).strip().splitlines()[-TAIL:]),
            )
    return Seen(first, usage.ru_maxrss / 1024, _text(output))


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
