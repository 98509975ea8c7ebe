"""Runs a strange program inside a process that can compute and print, and nothing else.

`sandbox` starts this file by its path, as `python -I`, so it may import the standard
library only. It needs no privileges: a process may always take rights away from itself. First
limits (setrlimit), then a filter of system calls (seccomp) with which modules can still be
imported, then one without files. What is not allowed fails as for lack of permission.
"""

from __future__ import annotations

import ast
import ctypes
import importlib
import io
import json
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, NoReturn

CLOSED_NOT = 97  # the exit code that says: there is no safe place here


class Abi(NamedTuple):
    """What a filter knows of an architecture: its mark in <linux/audit.h>, and system calls.

    `compute` are allowed to the end, `load` only until all modules are imported.
    """

    mark: int
    compute: tuple[int, ...]
    load: tuple[int, ...]


ABIS = {
    "x86_64": Abi(  # <asm/unistd_64.h>
        0xC000003E,
        (
            *(0, 1, 3, 5, 8),  # read, write, close, fstat, lseek: what is open, input and output
            *(9, 10, 11, 12, 25, 28),  # mmap, mprotect, munmap, brk, mremap, madvise
            *(13, 14, 15, 131),  # rt_sigaction, rt_sigprocmask, rt_sigreturn, sigaltstack
            *(24, 35, 202, 204, 219, 230),  # sched_yield, nanosleep, futex, ..., clock_nanosleep
            *(39, 60, 186, 231),  # getpid, exit, gettid, exit_group
            *(96, 201, 228, 229, 318),  # gettimeofday, time, clock_gettime, ..., getrandom
        ),
        (
            *(2, 257, 4, 6, 262, 332),  # open, openat, stat, lstat, newfstatat, statx
            *(16, 17, 21, 32, 72, 79, 89, 217, 267, 269, 439),  # ioctl, pread64, ..., faccessat2
            *(157, 302),  # prctl, prlimit64
        ),
    ),
    "aarch64": Abi(  # <asm-generic/unistd.h>, which lacks what others do as well: open, stat, time
        0xC00000B7,
        (
            *(63, 64, 57, 80, 62),
            *(222, 226, 215, 214, 216, 233),
            *(134, 135, 139, 132),
            *(124, 101, 98, 123, 128, 115),
            *(172, 93, 178, 94),
            *(169, 113, 114, 278),
        ),
        (
            *(56, 79, 291),  # openat, newfstatat, statx
            *(29, 67, 23, 25, 17, 61, 78, 48, 439),  # ioctl, pread64, dup, ..., faccessat2
            *(167, 261),  # prctl, prlimit64
        ),
    ),
}

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38  # <linux/prctl.h>
SECCOMP_MODE_FILTER = 2
# <linux/seccomp.h>
KILL, REFUSE, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # <linux/bpf_common.h>: ld abs, jeq, ret


def main() -> None:
    """Read {program, input, seed, seconds, memory, output, shut} from standard input and run it.

    `shut` is the descriptor that is told when nothing is left open: what ends this process after
    that is the program's doing, whatever it says.
    """
    order = json.load(sys.stdin)
    _limit(order["seconds"], order["memory"], order["output"])
    abi = ABIS.get(platform.machine())
    if abi is None:
        _give_up(f"its filter does not know {platform.machine()}")
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    _filter(instructions(abi.mark, (*abi.compute, *abi.load)))
    program = compile(order["program"], "program.py", "exec")
    for name in ("random", "traceback", *imports(order["program"])):
        if name.partition(".")[0] in sys.stdlib_module_names:
            with suppress(Exception):
                importlib.import_module(name)
    _filter(instructions(abi.mark, abi.compute))
    sys.modules["random"].seed(order["seed"])
    sys.stdin = io.StringIO(order["input"])
    os.write(order["shut"], b"shut")
    os.close(order["shut"])
    exec(program, {"__name__": "__main__"})  # noqa: S102 - what all this is for


def imports(program: str) -> Iterator[str]:
    """Yield what a program that can be parsed may import, by its whole name."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def instructions(mark: int, calls: Iterable[int]) -> list[tuple[int, int, int, int]]:
    """Return a filter that refuses all system calls but these, and kills another architecture's.

    Each is one of the kernel's `sock_filter`: operation, jump if true, jump if false, operand.
    """
    code = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, mark), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    for number in calls:
        code += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    return [*code, (RETURN, 0, 0, REFUSE)]


def _limit(seconds: int, memory: int, output: int) -> None:
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: output,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def _filter(code: Sequence[tuple[int, int, int, int]]) -> None:
    """Put a filter over all system calls for the rest of this process's life."""
    buffer = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
    head = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(buffer)))
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(head))


def _prctl(option: int, *values: int) -> None:
    padded = [*values, 0, 0, 0][:4]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, *map(ctypes.c_ulong, padded)) != 0:
        _give_up(os.strerror(ctypes.get_errno()))


def _give_up(why: str) -> NoReturn:
    print(why, file=sys.stderr, flush=True)
    os._exit(CLOSED_NOT)


if __name__ == "__main__":
    main()
