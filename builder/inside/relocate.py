"""Set the paths of an environment for the place where it is going to be; run with its Python.

    python relocate.py FOLDER PLACE

It does what conda-unpack does, but for another place than where the files lie: an environment must
be finished when it appears there. Its list of files and its function are used as they are.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> None:
    """Rewrite each file that names a prefix."""
    here, there = sys.argv[1:]
    program = Path(here, "bin", "conda-unpack")
    sys.path.insert(0, str(program.parent))
    script = runpy.run_path(str(program))
    for path, placeholder, mode in script["_prefix_records"]:
        script["update_prefix"](f"{here}/{path}", there, placeholder, mode=mode)


if __name__ == "__main__":
    main()
