"""Runs a command that may write nothing: python forbidden.py COMMAND...

A security module of the kernel (Landlock, beside which SELinux and AppArmor stand) refuses what the
modes allow. Whatever the command starts is bound by it too.
"""

import ctypes
import os
import struct
import sys

CREATE, RESTRICT = 444, 446  # <asm-generic/unistd.h>, the same on all machines
NO_NEW_PRIVS = 38  # <linux/prctl.h>
WRITE_FILE, MAKE_DIR, MAKE_REG = 1 << 1, 1 << 7, 1 << 8  # <linux/landlock.h>

libc = ctypes.CDLL(None, use_errno=True)


def call(*words: int | bytes | None) -> int:
    """Make a system call; raise OSError if it fails."""
    result: int = libc.syscall(*words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


handled = struct.pack("Q", WRITE_FILE | MAKE_DIR | MAKE_REG)
rules = call(CREATE, handled, len(handled), 0)
if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl")
call(RESTRICT, rules, 0)
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command is a test's
