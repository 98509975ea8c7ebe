"""Which of its libraries the engine takes on this CPU.

ik_llama.cpp chooses its kernels when it is compiled, so env/ik/ compiles them once for each level
that matters, and the library is chosen here, from the flags that the kernel tells of the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from entrypoint.common import machine
from entrypoint.common.errors import UnsupportedCpu
from entrypoint.common.language import _

# What env/ik/CMakeLists.txt has each level compiled for: x86-64-v3, and v4 with two extensions.
AVX2: Final = frozenset({"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
AVX512: Final = frozenset(
    {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16"}
)
# The folders of the libraries, the fastest first.
LEVELS: Final[Mapping[str, frozenset[str]]] = {"avx512": AVX2 | AVX512, "avx2": AVX2}


def chosen(cpu: machine.Cpu) -> str:
    """Return the level of the library for a CPU; raise UnsupportedCpu if it has none."""
    for level, flags in LEVELS.items():
        if flags <= cpu.flags:
            return level
    raise UnsupportedCpu(
        _("The engine has no kernels for this CPU: {model}.").format(
            model=cpu.model or _("unknown")
        ),
        _("It lacks: {flags}.").format(flags=", ".join(sorted(AVX2 - cpu.flags))),
        _("Use an image with the engine llamacpp, which takes every processor of the family."),
    )
