"""Set the paths of an environment for the place where it is going to be; run with its Python.

    python relocate.py FOLDER PLACE

It does what conda-unpack does, but for another place than where the files lie: an environment must
be finished when it appears there. Its list of files and its function are used as they are.
"""

from __future__ import annotations

import os
import runpy
import shlex
import sys
from pathlib import Path

LONGEST = 127  # bytes of a first line, "#!" included, that every kernel reads


def main() -> None:
    """Rewrite each file that names a prefix."""
    here, there = sys.argv[1:]
    program = Path(here, "bin", "conda-unpack")
    sys.path.insert(0, str(program.parent))
    script = runpy.run_path(str(program))
    for path, placeholder, mode in script["_prefix_records"]:
        try:
            script["update_prefix"](f"{here}/{path}", there, placeholder, mode=mode)
        except ValueError:  # negative padding
            sys.exit(f"{path} has no room for a path longer than {len(placeholder)} bytes.")
        mend(Path(here, path), there)


def mend(path: Path, there: str) -> None:
    """Let a script start whose first line, with `there` in it, the kernel does not understand.

    The kernel ends the name of the interpreter at a space, and the line at a length. The shell
    then starts it; Python takes the shell's words for a text that nobody reads.
    """
    content = path.read_bytes()
    line, _newline, rest = content.partition(b"\n")
    if not line.startswith(b"#!" + os.fsencode(there)):
        return
    if len(line) <= LONGEST and b" " not in os.fsencode(there):
        return
    words = os.fsdecode(line.removeprefix(b"#!")).removeprefix(there)
    program, _space, options = words.partition(" ")
    command = f"{shlex.quote(there + program)} {options}".rstrip()
    if "python" in program:
        start = f"""#!/bin/sh\n'''exec' {command} "$0" "$@"\n' '''\n"""
    else:
        start = f"#!/usr/bin/env {program.rpartition('/')[2]}\n"
    path.write_bytes(os.fsencode(start) + rest)


if __name__ == "__main__":
    main()
