"""The library that stands in for CUDA: compiled by the locked toolchain, whatever the host has."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import pytest

from builder.debian import root
from builder.environment import cputorch, workshop
from builder.settings import Settings
from builder.stage import receipt
from builder.stage.run import run

pytestmark = pytest.mark.slow  # each root takes seconds to unpack

NO_DEVICE = 100
ENTERING = ("unshare", "sh", "mount", "chroot")  # all that is taken from this machine
KERNELS = "void kernel(void) {}\n"
CPU = "void kernel(void); void *needed(void) { return kernel; }\n"


@pytest.fixture(scope="module")
def torch(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return packages with a small torch: a library for CPUs that needs the one with kernels."""
    packages = tmp_path_factory.mktemp("packages")
    libraries, about = packages / "torch/lib", packages / "torch-2.3.0.dist-info"
    for folder in (libraries, about):
        folder.mkdir(parents=True)
    (about / "METADATA").write_text("Name: torch\nRequires-Dist: nvidia-cudnn-cu12\n")
    (about / "RECORD").write_text("torch/lib/libtorch_cuda.so,sha256=x,1\n")
    shop = workshop.furnish(settings, tmp_path_factory.mktemp("toolchain"))
    assert shop.locked
    (shop.home / "kernels.c").write_text(KERNELS)
    (shop.home / "cpu.c").write_text(CPU)
    compile_ = [*shop.enter, shop.cc, "-shared", "-fPIC", "-Wl,-rpath,$ORIGIN"]
    kernels = shop.inside / "libtorch_cuda.so"
    run([*compile_, "-o", kernels, shop.inside / "kernels.c", "-Wl,-soname,libtorch_cuda.so"])
    run([*compile_, "-o", shop.inside / "libtorch_cpu.so", shop.inside / "cpu.c", kernels])
    for name in ("libtorch_cuda.so", "libtorch_cpu.so"):
        (shop.home / name).rename(libraries / name)
    return packages


@pytest.fixture
def packages(torch: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(torch, tmp_path / "packages"))


def strip_without_compilers(settings: Settings, packages: Path, programs: Path) -> bool:
    """Strip torch with nothing of this machine in reach but what enters a root."""
    programs.mkdir()
    for name in ENTERING:
        (programs / name).symlink_to(str(shutil.which(name)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs))
        return cputorch.strip(settings, packages)


def test_it_answers_in_place_of_what_was_taken_out_and_its_bytes_repeat(
    settings: Settings, torch: Path, packages: Path, tmp_path: Path
) -> None:
    another = Path(shutil.copytree(torch, tmp_path / "elsewhere"))
    assert strip_without_compilers(settings, packages, tmp_path / "bin")
    assert strip_without_compilers(settings, another, tmp_path / "bin2")
    standin = packages / "torch/lib" / cputorch.STANDIN
    assert receipt.sha256(standin) == receipt.sha256(another / "torch/lib" / cputorch.STANDIN)
    ctypes.CDLL(str(packages / "torch/lib/libtorch_cpu.so"), mode=os.RTLD_NOW)
    count = ctypes.c_int(1)
    assert ctypes.CDLL(str(standin)).cudaGetDeviceCount(ctypes.byref(count)) == NO_DEVICE
    assert count.value == 0
    assert (packages / "torch/lib/libtorch_cuda.so").resolve() == standin
    assert sorted(path.name for path in standin.parent.iterdir()) == sorted(
        ["libtorch_cpu.so", cputorch.STANDIN, *cputorch.NEEDED]
    )
    assert "nvidia" not in (packages / "torch-2.3.0.dist-info/METADATA").read_text()


def test_that_this_machines_compiler_made_it_is_told(
    settings: Settings,
    packages: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(root, "WAYS", (("false",),))
    assert not cputorch.strip(settings, packages)
    assert "Taking this machine's own compiler instead" in capsys.readouterr().err
