"""Environments that somebody packed before: fetched, checked, and put where they are wanted.

They are tars that conda-pack wrote, with bin/conda-unpack, which tells where paths are to be set.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from builder import archive, condaenv, disk, download, receipt, report, scratch
from builder.run import run
from builder.settings import Settings
from entrypoint.errors import CommandFailed, HashMismatch, UsageFailure
from entrypoint.language import _

MARK = ".llmdeploy.json"  # in a restored environment: of what it was made, and for which place

# What conda-unpack does, but for the place where the environment is going to be: an environment
# must be finished when it appears there. Its list of files and its function are used as they are.
RELOCATE = """
import runpy, sys
here, there = sys.argv[1:]
sys.path.insert(0, here + "/bin")
script = runpy.run_path(here + "/bin/conda-unpack")
for path, placeholder, mode in script["_prefix_records"]:
    script["update_prefix"](here + "/" + path, there, placeholder, mode=mode)
"""

# These need libraries of the environment, which a Python that merely starts does not.
TRY = "import ctypes, ssl, zlib"


def restore(
    settings: Settings, *, urls: Sequence[str], file: Path | None, sha256: str | None
) -> None:
    """Make the engine's packed environment of one packed elsewhere: a file, or one of `urls`.

    Raises UsageFailure if that is none that an image can be made of, HashMismatch,
    DownloadFailure, UnsafeArchive, CommandFailed or DiskFull.
    """
    expected = _expected(urls, file, sha256)
    variant, target, record = settings.variant, settings.packed, settings.packed_receipt
    with (
        report.step(_("Environment {name}").format(name=variant.environment)),
        scratch.folder(target.with_name(f".{variant.environment}")) as work,
        disk.guard(target),
    ):
        inputs = {"tarball": _checked(file, expected) if file else str(expected)}
        if receipt.current(record, inputs):
            report.say(_("nothing changed"))
            return
        packed = file or _fetch(settings, urls, str(expected))
        report.say(_("unpacking"))
        archive.extract(packed, work / "restored")
        _inspect(work / "restored", packed)
        if variant.compiled and not any(
            work.glob(f"restored/lib/python3*/site-packages/{condaenv.ENGINE}")
        ):
            raise UsageFailure(
                _("{path} is an environment without the inference engine.").format(path=packed),
                _("No image could be made of it."),
                _("To restore it as it is: ./llmdeploy unpack-env FILE --dest DIR"),
            )
        archive.write_tar(work / "restored", work / target.name)
        report.say(_("trying it in another place"))
        condaenv.verify(variant, work / target.name, work / "elsewhere")
        os.replace(work / target.name, target)
        facts = _facts(work / "restored")
        receipt.write(record, inputs, [target], source="tarball", **facts)


def unpack(file: Path, dest: Path, *, sha256: str | None = None) -> None:
    """Restore a packed environment as `dest`, ready for use; one that is there is left alone.

    Raises UsageFailure if `dest` has other content or `file` no environment, HashMismatch,
    UnsafeArchive, DownloadFailure if `file` is damaged, CommandFailed or DiskFull.
    """
    dest = dest.resolve()
    inputs = {"tarball": _checked(file, _expected((), file, sha256)), "place": str(dest)}
    if receipt.current(dest / MARK, inputs):
        report.say(_("{path} is restored already").format(path=dest))
        return

    def finish(folder: Path) -> None:
        _inspect(folder, file)
        relocate(folder, dest)
        _run_in(folder, TRY)
        receipt.write(folder / MARK, inputs, [])

    archive.extract(file, dest, finish=finish)


def relocate(folder: Path, place: Path) -> None:
    """Set an unpacked environment's paths for the `place` where it is going to be."""
    _run_in(folder, RELOCATE, folder, place)


def _expected(urls: Sequence[str], file: Path | None, sha256: str | None) -> str | None:
    """Return the hash as we write it; raise UsageFailure if the options do not fit together."""
    if bool(urls) == bool(file):
        raise UsageFailure(_("Name a packed environment: either --file FILE or --url URL."))
    if urls and not sha256:
        raise UsageFailure(
            _("With --url the option --sha256 is needed."),
            _("Nothing is opened that came over the network and was not checked."),
            _("Ask whoever packed the environment for its SHA-256."),
        )
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise UsageFailure(
            _("--sha256 cannot be {value}.").format(value=repr(sha256)),
            _("A SHA-256 has 64 hexadecimal digits."),
        )
    return sha256.lower() if sha256 else None


def _checked(file: Path, expected: str | None) -> str:
    """Return the SHA-256 of `file`; raise HashMismatch if another one is expected."""
    if not file.is_file():
        raise UsageFailure(_("There is no file {path}.").format(path=file))
    found = receipt.sha256(file)
    if expected not in (None, found):
        raise HashMismatch(
            _("{path} is not the expected file.").format(path=file),
            _("Its SHA-256 is {found} instead of {expected}.").format(
                found=found, expected=expected
            ),
            _("Fetch it again, or check the hash."),
        )
    return found


def _fetch(settings: Settings, urls: Sequence[str], sha256: str) -> Path:
    target = settings.cache_dir / "environments" / sha256 / "environment.tar"
    with download.display() as show:
        name = urls[0].rpartition("/")[2]
        download.download(urls, target, sha256=sha256, size=None, progress=show(name))
    return target


def _inspect(prefix: Path, packed: Path) -> None:
    needed = ("bin/python", "bin/conda-unpack", "conda-meta")
    missing = [name for name in needed if not (prefix / name).exists()]
    if missing:
        raise UsageFailure(
            _("{path} is not an environment packed by conda-pack.").format(path=packed),
            _("It lacks {names}.").format(names=", ".join(missing)),
            _("Pack it with: conda-pack --prefix DIR --output FILE.tar.gz"),
        )


def _run_in(prefix: Path, code: str, *arguments: Path) -> None:
    """Run some code with an environment's own Python; raise CommandFailed if that fails."""
    try:
        run([prefix / "bin" / "python", "-I", "-B", "-c", code, *arguments])
    except OSError as error:
        raise CommandFailed(
            _("The environment's Python cannot be started on this machine."), str(error)
        ) from None


def _facts(prefix: Path) -> dict[str, Any]:
    packages = sorted(_packages(prefix), key=lambda package: (package["kind"], package["name"]))
    versions = {package["name"]: package["version"] for package in packages}
    return {
        "packages": packages,
        "python": versions.get("python"),
        "unpacked": sum(path.lstat().st_size for path in prefix.rglob("*") if path.is_file()),
    }


def _packages(prefix: Path) -> Iterator[dict[str, Any]]:
    """Yield what is installed. The hash of a wheel is lost, that of its list of files is not."""
    for path in (prefix / "conda-meta").glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        known = {key: record.get(key) for key in ("name", "version", "build", "sha256")}
        yield {"kind": "conda", **known}
    for path in prefix.glob("lib/python3*/site-packages/*.dist-info"):
        found = metadata.Distribution.at(path)
        if (found.read_text("INSTALLER") or "").strip() != "conda":
            name = path.name.partition("-")[0]
            listing = receipt.sha256(path / "RECORD")
            yield {"kind": "wheel", "name": name, "version": found.version, "record": listing}
