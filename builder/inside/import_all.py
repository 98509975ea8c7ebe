"""Import all that an environment has; run with its Python.

    python import_all.py DISTRIBUTION...

These are the modules of the wheels, whose distributions must all be found, every extension module,
and what people ask for by name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
import sysconfig
from pathlib import Path

NAMED = ("bz2", "ctypes", "curses", "hashlib", "lzma", "sqlite3", "ssl", "uuid", "zlib")
# Named by pyarrow and xxhash, which do not have them, and by ipykernel's for where Matplotlib is.
ABSENT = ("__dummy__", "_xxhash", "matplotlib_inline")


def main() -> None:
    """Raise whatever the first import that fails raises."""
    for name in sys.argv[1:]:
        importlib.metadata.distribution(name)
    packages = importlib.metadata.packages_distributions()
    wheels = [name for name in packages if name.isidentifier()]
    native = [
        file.name.partition(".")[0]
        for file in (Path(sysconfig.get_path("stdlib")) / "lib-dynload").glob("*.so")
    ]
    for name in sorted({*wheels, *native, *NAMED}.difference(ABSENT)):
        importlib.import_module(name)


if __name__ == "__main__":
    main()
