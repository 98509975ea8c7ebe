"""torch for a CPU, made of the wheel for GPUs, which is the only one that every index has.

PyTorch's own CPU build is preferred where an index has it. Elsewhere what a CPU never uses is
taken out of the installed wheel: 1.0 GB of its own kernels and 2.9 GB of packages from NVIDIA. One
small library answers in their place, since torch's other libraries cannot be loaded without.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from builder.environment import workshop
from builder.environment.workshop import Workshop
from builder.settings import ROOT, Settings
from builder.stage import scratch
from builder.stage.run import run

ANSWERS: Final = ROOT / "env" / "torch" / "nocuda.c"
STANDIN: Final = "libnocuda.so"
# Of the wheel's own libraries, those that are for GPUs. libc10_cuda.so, small, stays: torch asks
# it for the number of devices.
GPU: Final = ("libtorch_cuda*.so", "libcusparseLt*", "libcaffe2_nvrtc.so")
# What the rest names as needed, and finds beside itself.
NEEDED: Final = (
    "libtorch_cuda.so", "libcudart.so.12", "libcudnn.so.8", "libcupti.so.12", "libnvToolsExt.so.1",
)  # fmt: skip
NVIDIA: Final = re.compile(r"@lib(cu|nv)\w+\.so")
LEFT_OUT: Final = re.compile(r"^Requires-Dist: (nvidia-|triton)[^\n]*\n", re.MULTILINE)


def strip(settings: Settings, packages: Path) -> bool:
    """Take out of torch below `packages` what a CPU never uses; PyTorch's CPU build stays as it is.

    Tells whether the bytes are those of the recipe: of this machine's own compiler they are not.
    Raises CommandFailed, or HashMismatch if the settings insist on the locked compiler.
    """
    libraries = packages / "torch" / "lib"
    gpu = sorted(path for pattern in GPU for path in libraries.glob(pattern))
    if not gpu:
        return True
    rest = [path for path in libraries.glob("lib*.so") if path not in gpu]
    with scratch.folder(libraries / ".standin") as work:
        shop = workshop.furnish(settings, work / "root")
        kernels = libraries / "libtorch_cuda.so"
        for path in (*rest, kernels):
            os.link(path, shop.home / path.name)
        _compile(shop, _missing(shop, [path.name for path in rest], kernels.name))
        (shop.home / STANDIN).rename(libraries / STANDIN)
    for path in gpu:
        path.unlink()
    for name in NEEDED:
        (libraries / name).symlink_to(STANDIN)
    (about,) = packages.glob("torch-*.dist-info")
    metadata = about / "METADATA"
    metadata.write_text(LEFT_OUT.sub("", metadata.read_text(encoding="utf-8")), encoding="utf-8")
    _amend(about / "RECORD", packages)
    return shop.locked


def _missing(shop: Workshop, libraries: Iterable[str], kernels: str) -> list[str]:
    """Return the names that `libraries` take from NVIDIA's libraries and from torch's `kernels`."""
    undefined: set[str] = set()
    own: set[str] = set()
    for library in libraries:
        undefined |= _symbols(shop, library, "--undefined-only")
        own |= _symbols(shop, library, "--defined-only")
    elsewhere = _symbols(shop, kernels, "--defined-only") - own
    return sorted(
        {name.partition("@")[0] for name in undefined if NVIDIA.search(name) or name in elsewhere}
    )


def _symbols(shop: Workshop, library: str, which: str) -> set[str]:
    listed = run([*shop.enter, "nm", "--dynamic", which, shop.inside / library])
    return {line.split()[-1] for line in listed.splitlines()}


def _compile(shop: Workshop, missing: Iterable[str]) -> None:
    """Make the stand-in with all names in `missing`; those in nocuda.c have a meaning."""
    names = "".join(f"ABSENT({name})\n" for name in missing)
    shutil.copy(ANSWERS, shop.home)
    (shop.home / "absent.c").write_text(
        "static void absent(void) { __builtin_trap(); }\n"
        '#define ABSENT(name) void name(void) __attribute__((weak, alias("absent")));\n' + names,
        encoding="utf-8",
    )
    # Without a build id, and without the scratch folder's name, the bytes repeat.
    options = ("-O2", "-shared", "-fPIC", "-Wl,--build-id=none", "-Wl,-s")
    sources = (shop.inside / "absent.c", shop.inside / ANSWERS.name)
    run([*shop.enter, shop.cc, *options, "-o", shop.inside / STANDIN, *sources, "-lstdc++"])


def _amend(record: Path, packages: Path) -> None:
    """Let pip's list of torch's files tell what is there now; what was changed loses its hash."""
    lines = record.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if (packages / line.partition(",")[0]).exists()]
    metadata = f"{record.parent.name}/METADATA"
    kept = [f"{metadata},," if line.startswith(metadata) else line for line in kept]
    additions = [f"torch/lib/{name},," for name in (STANDIN, *NEEDED)]
    record.write_text(
        "".join(f"{line}\n" for line in sorted({*kept, *additions})), encoding="utf-8"
    )
