"""Runs a command without file locks, as on a network file system: python lockless.py COMMAND...

A filter of system calls (seccomp) lets the kernel itself refuse every flock, here with the word
that `ERROR` names, by default ENOSYS. Whatever the command starts has it too.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

FLOCK = {"x86_64": 73, "aarch64": 32}  # <asm/unistd.h>
NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2  # <linux/prctl.h>, <linux/seccomp.h>
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # <linux/bpf_common.h>

word = getattr(errno, os.environ.get("ERROR", "ENOSYS"))
code = [
    (LOAD, 0, 0, 0),
    (EQUAL, 0, 1, FLOCK[platform.machine()]),
    (RETURN, 0, 0, ERRNO | word),
    (RETURN, 0, 0, ALLOW),
]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
head = ctypes.create_string_buffer(struct.pack("HP", len(code), ctypes.addressof(program)))
libc = ctypes.CDLL(None, use_errno=True)
for words in ((NO_NEW_PRIVS, 1, 0, 0, 0), (SECCOMP, FILTER, ctypes.addressof(head), 0, 0)):
    if libc.prctl(words[0], *map(ctypes.c_ulong, words[1:])) != 0:
        raise OSError(ctypes.get_errno(), "no filter of system calls")
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - so that it is this very process
