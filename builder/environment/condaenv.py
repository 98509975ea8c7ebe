"""`build-env`: conda packages, wheels and the engine become one packed, relocatable environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import conda_pack  # type: ignore[import-untyped]

from builder.environment import conda, cputorch, debianpython, engine, trim, wheelhouse, workshop
from builder.settings import ROOT, Settings
from builder.stage import archive, disk, receipt, recipe, report, scratch
from builder.stage.run import run
from builder.variants import Variant
from entrypoint.common.errors import CommandFailed, DownloadFailure, UsageFailure
from entrypoint.common.language import _

Origin = Literal["lock", "debian"]
Source = Literal["auto", "lock", "debian"]

LOCK = ROOT / "env" / "conda-linux-64.lock"
CODE = (
    "stage/archive.py", "environment/conda.py", "environment/condaenv.py",
    "environment/cputorch.py", "environment/debianpython.py", "environment/trim.py",
    "environment/wheelhouse.py",
)  # fmt: skip

# What conda-meta keeps of a package; the rest names this machine's folders and the channel.
KEPT = (
    "name", "version", "build", "build_number", "subdir", "fn",
    "sha256", "md5", "size", "license", "depends", "constrains",
)  # fmt: skip

# What pip writes down of a command: its hash, which depends on the folder that line 1 names.
SCRIPT = re.compile(r"^((?:\.\./)+bin/[^,]+),sha256=[^,]+,\d+$", re.MULTILINE)

IMPORT_ALL = ROOT / "builder/inside/import_all.py"


def build(settings: Settings, source: Source) -> None:
    """Pack the environment of the engine, with a receipt, unless it is there and current.

    "lock" links the locked conda packages, "debian" Debian's locked Python, "auto" the former if
    its channel can be reached. Raises DownloadFailure, HashMismatch, DiskFull or CommandFailed.
    """
    origins: tuple[Origin, ...] = ("lock", "debian") if source == "auto" else (source,)
    variant, target, record = settings.variant, settings.packed, settings.packed_receipt
    with (
        report.step(_("Environment {name}").format(name=variant.environment)),
        scratch.folder(target.with_name(f".{variant.environment}")) as work,
        disk.guard(target),
    ):
        if any(receipt.current(record, inputs(settings, each)) for each in origins):
            report.say(_("nothing changed"))
            return
        if source == "auto" and is_restored(record):
            report.say(
                _("keeping the restored environment; to replace it: --source lock or debian")
            )
            return
        disk.require(work, variant.packing)
        origin = _link(settings, origins, work / "prefix")
        python = work / "prefix" / "bin" / "python"
        require_python(variant, python)
        wheels = wheelhouse.locked(settings, python)
        if variant.compiled:
            built = [engine.wheel(settings, variant.engine)]
        else:
            built = wheelhouse.of_sources(settings, variant.environment)
        report.say(_("installing the wheels"))
        wheelhouse.install(settings, python, wheels, built)
        own = () if cputorch.strip(settings, _packages(work / "prefix")) else ("torch",)
        report.say(_("packing"))
        _pack(work / "prefix", work / "packed", variant.environment)
        archive.write_tar(work / "packed", work / target.name)
        report.say(_("trying it in another place"))
        verify(variant, work / target.name, work / "elsewhere")
        os.replace(work / target.name, target)
        facts = _facts(work / "packed", [*wheels.iterdir(), *built], own)
        receipt.write(record, inputs(settings, origin), [target], source=origin, **facts)


def inputs(settings: Settings, origin: Origin) -> dict[str, str]:
    """Return the hashes of all that decides the environment's bytes."""
    name = settings.variant.environment
    return {
        **recipe.code(*CODE),
        "wheels": recipe.lines(wheelhouse.lock(settings)),
        "trim": receipt.digest(trim.filters(name)),
        "stand-in for CUDA": receipt.sha256(cputorch.ANSWERS),
        **(engine.ingredients(settings.engine) if settings.variant.compiled else {}),
        **(workshop.ingredients() if settings.variant.torch else {}),
        "python": recipe.lines(LOCK) if origin == "lock" else debianpython.key(name),
        **({"torch": settings.torch_cpu} if settings.torch_cpu else {}),
    }


def verify(variant: Variant, tarball: Path, place: Path) -> None:
    """Unpack an environment at `place` and run what it is for; raise CommandFailed if it fails."""
    archive.extract(tarball, place)
    python = place / "bin" / "python"
    run([python, place / "bin" / "conda-unpack"])
    packages = _packages(place)
    wheels = [path.name.partition("-")[0] for path in packages.glob("*.dist-info")]
    run([python, "-I", IMPORT_ALL, *wheels])
    if variant.compiled:
        run([packages / variant.package / "llama-server", "--version"])


def require_python(variant: Variant, python: Path) -> None:
    """Raise UsageFailure if the wheels of `variant` are for another version of Python."""
    version = run([python, "-c", "import sys; print('{}.{}'.format(*sys.version_info))"]).strip()
    if variant.python not in ("", version):
        raise UsageFailure(
            _("The environment {name} needs Python {wanted}, and would have {found}.").format(
                name=variant.environment, wanted=variant.python, found=version
            ),
            next=_("Lock such a Python in env/debian.in and env/environment.yml."),
        )


def is_restored(path: Path) -> bool:
    """Tell whether the environment came from a tarball that somebody chose, and still stands."""
    record = receipt.read(path)
    return bool(
        record and record["source"] == "tarball" and receipt.current(path, record["inputs"])
    )


def _link(settings: Settings, origins: tuple[Origin, ...], prefix: Path) -> Origin:
    """Make a conda prefix with Python from the first of `origins` that delivers; return which."""
    cache = settings.cache_dir / "conda"
    if "lock" in origins:
        try:
            report.say(
                _("linking the locked packages of {channel}").format(channel=settings.channel)
            )
            conda.link(conda.load(LOCK, settings.channel), prefix, cache)
        except DownloadFailure as failure:
            if "debian" not in origins:
                raise
            shutil.rmtree(prefix, ignore_errors=True)
            report.say(_("{what} Taking Debian's locked Python instead.").format(what=failure.what))
        else:
            return "lock"
    conda.link(conda.solve(["python"], debianpython.channel(settings)), prefix, cache)
    return "debian"


@contextmanager
def _temporary_files(folder: Path) -> Iterator[None]:
    """Let temporary files be made in `folder`.

    conda-pack's has the whole environment, for which /tmp may be too small, and stays when the
    work is interrupted.
    """
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _pack(prefix: Path, target: Path, name: str) -> None:
    """Let conda-pack lay out what the environment `name` keeps of `prefix`; make it repeat."""
    try:
        environment = conda_pack.CondaEnv.from_prefix(str(prefix))
        for kind, pattern in trim.filters(name):
            environment = getattr(environment, kind)(pattern)
        for file in environment:
            if file.file_mode == "unknown" and not _names(Path(file.source), prefix):
                file.file_mode = None  # else conda-unpack would read and write it in vain
        # Not straight into a folder: conda-pack 0.9.2 then takes a full disk for success.
        with _temporary_files(target.parent):
            tarball = Path(environment.pack(output=f"{target}.tar"))
    except conda_pack.CondaPackException as error:
        raise CommandFailed(_("conda-pack refuses the environment."), str(error)) from None
    archive.extract(tarball, target)
    tarball.unlink()
    for path in (prefix / "conda-meta").glob("*.json"):
        record = json.loads(path.read_text())
        texts = Path(record["extracted_package_dir"], "info", "licenses")
        if texts.is_dir():
            shutil.copytree(texts, target / "share" / "licenses" / record["name"])
    for path in (target / "conda-meta").glob("*.json"):
        fields = {key: value for key, value in json.loads(path.read_text()).items() if key in KEPT}
        path.write_text(json.dumps({**fields, "files": []}, indent=1, sort_keys=True) + "\n")
    for path in _packages(target).glob("*.dist-info/RECORD"):
        path.write_text(SCRIPT.sub(r"\1,,", path.read_text()))
    # The image is read-only: bytecode is made now, valid whatever the time of its source. Where
    # it lies in the image is written into it; Python corrects that elsewhere.
    run(
        [
            *(target / "bin" / "python", "-m", "compileall", "-q", "-f"),
            *("-j0", "--invalidation-mode", "unchecked-hash", "-s", target, "-p", "/opt/llmdeploy"),
            _packages(target).parent,
        ],
        # The order of frozen sets is written into bytecode; the rest is what a person may have set.
        env={"PYTHONHASHSEED": "0", "PYTHONPATH": "", "PYTHONOPTIMIZE": ""},
    )


def _names(file: Path, prefix: Path) -> bool:
    return file.is_file() and str(prefix).encode() in file.read_bytes()


def _packages(prefix: Path) -> Path:
    (folder,) = prefix.glob("lib*/python3.*/site-packages")
    return folder


def _facts(packed: Path, wheels: list[Path], own: Collection[str]) -> Mapping[str, Any]:
    """Return what the receipt tells beyond hashes: every package, and the size in bytes.

    The wheels with the names `own` have something that this machine's own compiler made.
    """
    records = [json.loads(path.read_text()) for path in (packed / "conda-meta").glob("*.json")]
    packages = [
        {"kind": "conda", **{key: record[key] for key in ("name", "version", "build", "sha256")}}
        for record in records
    ] + [
        {
            "kind": "wheel",
            "name": name,
            "version": version,
            "sha256": receipt.sha256(wheel),
            **({key: made[key] for key in ("compiler", "locked")} if made else {}),
            **({"locked": False} if name in own else {}),
        }
        for wheel in wheels
        if wheel.suffix == ".whl"
        for name, version in [wheel.name.split("-")[:2]]
        for made in [receipt.read(wheel.with_name("receipt.json"))]
    ]
    packages += debianpython.parts(packed)
    versions = {package["name"]: package["version"] for package in packages}
    return {
        "packages": sorted(packages, key=lambda package: (package["kind"], package["name"])),
        "python": versions["python"],
        "unpacked": sum(path.lstat().st_size for path in packed.rglob("*") if path.is_file()),
    }
