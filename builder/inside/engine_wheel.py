"""Compile the engine's wheel; run with the Python of the toolchain's root, or of the build tools.

    python engine_wheel.py PLACE

PLACE has the recipe, the build tools and the source; its folder `wheel` gets the wheel. All that
decides the bytes, apart from the compiler, is set here and in the recipe.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

EPOCH = 1_700_000_000  # what members of the wheel say of their time


def main() -> None:
    """Raise whatever the compiler or its tools raise."""
    place = Path(sys.argv[1])
    (packages,) = (place / "tools/lib").glob("python3.*/site-packages")
    (source,) = (place / "source").iterdir()
    sys.path.append(str(packages))
    os.environ |= {
        "PATH": f"{place / 'tools/bin'}:{os.environ['PATH']}",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "CMAKE_GENERATOR": "Ninja",
        "CMAKE_BUILD_PARALLEL_LEVEL": str(len(os.sched_getaffinity(0))),
    }
    from scikit_build_core.build import build_wheel  # type: ignore[import-not-found]

    os.chdir(place / "recipe")
    settings = {
        "cmake.define.LLAMA_CPP_SOURCE": str(source / "vendor/llama.cpp"),
        "build-dir": str(place / "build"),
    }
    build_wheel(str(place / "wheel"), settings)


if __name__ == "__main__":
    main()
