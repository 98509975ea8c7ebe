"""What mirrors can deliver in place of the stages, and what a folder has that is such a mirror."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, get_args

from builder import substitute, variants
from builder.debian import lock, store
from builder.environment import condaenv, wheelhouse
from builder.environment.condaenv import Origin
from builder.models import intents
from builder.models.intents import Intent
from builder.quantizers import quantize, quantizer
from builder.settings import ROOT, Settings
from builder.stage import receipt, report
from entrypoint.common.errors import LockDrift, StageMissing
from entrypoint.common.language import _

ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)
WHEELS: Final = "wheels"  # in a mirror: what ./llmdeploy needs itself
Work = tuple[Path, Collection[Mapping[str, str]]]  # a receipt, and the inputs that are today's


def environment(settings: Settings) -> None:
    """Let a mirror deliver the packed environment, unless it is current or somebody restored it."""
    record, possible = _environment(settings)
    if not (_is_current(record, possible) or condaenv.is_restored(record)):
        _deliver(settings, (record, possible))


def weights(settings: Settings, names: Sequence[str]) -> Sequence[str]:
    """Let a mirror deliver ready models; return the names of those that have to be made here."""
    known = intents.load()
    works = {name: _weights(settings, known.find(name)) for name in names}
    return [
        name
        for name, work in works.items()
        if not _is_current(*work) and not _deliver(settings, work)
    ]


def record(settings: Settings) -> None:
    """Write into env/built.lock what has been built here by today's recipes, of all engines.

    Left out is what is not of the locked bytes. Raises StageMissing if there is nothing.
    """
    works = [
        work for engine in variants.VARIANTS for work in _built(replace(settings, engine=engine))
    ]
    if not works:
        raise StageMissing(
            _("Nothing here was built from the current recipes."),
            next=_("Build it first: ./llmdeploy build-image MODEL"),
        )
    substitute.record(settings, works)


def publish(settings: Settings, names: Sequence[str], mirror: Path) -> None:
    """Fill the folder `mirror` with what another machine needs for the image of these models.

    Raises LockDrift if env/built.lock does not have it, so that nobody could check it,
    DownloadFailure, DiskFull.
    """
    known = intents.load()
    works = [_environment(settings), *(_weights(settings, known.find(name)) for name in names)]
    for path, __ in works:
        built = receipt.read(path)
        if built is None or substitute.locked(built["inputs"]) is None:
            raise LockDrift(
                _("env/built.lock does not have {name} as it was built here.").format(
                    name=substitute.title(settings, path)
                ),
                _("The other machine could not tell whether these are the right bytes."),
                _("Record it, and copy env/built.lock too: ./llmdeploy lock --built"),
            )
    for path, __ in works:
        substitute.publish(path, mirror)
    wheels = ("--dest", mirror / WHEELS, "--requirement", ROOT / "env/host.lock")
    wheelhouse.pip(Path(sys.executable), "download", *wheelhouse.LOCKED, *wheels)
    paths = {package.sha256: package.path for package in lock.packages("base")}
    for deb in store.debs(settings, "base"):
        if deb.locked:
            target = mirror / paths[deb.sha256]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(deb.file, target)


def _built(settings: Settings) -> Iterator[Work]:
    """Yield what one engine has of today's recipes; nothing if its environment is not as locked."""
    record, possible = _environment(settings)
    if not _is_current(record, possible):
        return
    if not all(each.get("locked", True) for each in (receipt.read(record) or {})["packages"]):
        report.say(
            _("{name} is left out: its bytes are not the locked ones").format(
                name=substitute.title(settings, record)
            )
        )
        return
    yield record, possible
    known = intents.load().intents
    for path in sorted(settings.ready_dir.glob("*/receipt.json")):
        if path.parent.name in known:
            work = _weights(settings, known[path.parent.name])
            if _is_current(*work):
                yield work


def _environment(settings: Settings) -> Work:
    return settings.packed_receipt, [condaenv.inputs(settings, each) for each in ORIGINS]


def _weights(settings: Settings, intent: Intent) -> Work:
    weight_type = quantizer(settings.engine).known_type(intent.quantization)
    record = settings.ready_dir / intent.name / "receipt.json"
    return record, [quantize.inputs(settings, intent, weight_type)]


def _deliver(settings: Settings, work: Work) -> bool:
    record, possible = work
    return any(substitute.deliver(settings, record, inputs) for inputs in possible)


def _is_current(record: Path, possible: Collection[Mapping[str, str]]) -> bool:
    return any(receipt.current(record, inputs) for inputs in possible)
