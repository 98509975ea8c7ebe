"""`doctor`: what this machine can give, and what each model would take of it.

What is ready here has its memory from the catalogue, and its speed from the program, which answers
for some seconds. All else is estimated from models.toml and models.lock; nothing is fetched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from builder import up
from builder.image import daemon
from builder.models import choice, intents
from builder.models.choice import Candidate
from builder.settings import ROOT, Settings
from builder.stage import report
from builder.stage.run import run
from entrypoint.common import catalog, machine, table
from entrypoint.common.errors import EnginePermission, Failure, NoContainerEngine, StageMissing
from entrypoint.common.language import _

SECONDS = 8  # that a model has to load and to answer, alone and beside others


@dataclass(frozen=True)
class Prospect:
    """A model of the table: whether it is `ready` here, and whether its speed was `measured`."""

    candidate: Candidate
    ready: bool = False
    measured: bool = False


def examine(settings: Settings) -> None:
    """Print what the machine has, and below it every model, better ones first."""
    memory, rate = machine.memory(), choice.bandwidth()
    rows = list(_rows(settings, rate, memory.available))
    print(table.columns(_machine(memory, rate)))
    print()
    print(table.columns(_models(rows, memory.available)))


def _machine(memory: machine.Memory, rate: float) -> list[tuple[str, str]]:
    try:
        engine = _("version {version} answers").format(
            version=daemon.connect().version()["Version"]
        )
    except (NoContainerEngine, EnginePermission) as failure:
        engine = failure.what
    return [
        (_("container engine"), engine),
        (_("threads"), f"{machine.threads()} ({machine.cpu().model or _('unknown')})"),
        (
            _("memory"),
            _("{total}, {available} free, read at {rate:.1f} GB/s").format(
                total=machine.size(memory.total),
                available=machine.size(memory.available),
                rate=rate / 1e9,
            ),
        ),
        (_("disk"), _("{size} free").format(size=machine.size(shutil.disk_usage(ROOT).free))),
    ]


def _rows(settings: Settings, rate: float, available: int | None) -> Iterator[Prospect]:
    """Yield the models, those that are ready as they are known here."""
    known = _ready(settings)
    room = machine.UNLIMITED if available is None else available
    for each in choice.candidates(intents.load(), rate):
        model = known.get(each.intent.name)
        if model is None:
            yield Prospect(each)
            continue
        here = replace(each, memory=model.memory)
        speed = _measured(settings, model) if model.task == "chat" and model.memory <= room else 0
        yield Prospect(replace(here, speed=speed or here.speed), ready=True, measured=speed > 0)


def _ready(settings: Settings) -> dict[str, catalog.Model]:
    """Return the models that quantize has made for this engine."""
    if not (settings.ready_dir / "catalog.json").exists():
        return {}
    models = catalog.load(settings.ready_dir).models
    return {model.name: model for model in models if (settings.ready_dir / model.name).is_dir()}


def _measured(settings: Settings, model: catalog.Model) -> float:
    """Return how many tokens a second one answer gets here; 0 if it cannot be tried."""
    try:
        program = up.on_host(settings)
        with report.step(_("Measuring {name}").format(name=model.name)):
            words = ("bench", "--model", model.name, "--seconds", str(SECONDS), "--json")
            figures = json.loads(run([*program.argv, *words], env=program.env))
    except StageMissing:
        return 0.0
    except Failure as failure:
        report.say(failure.what)
        return 0.0
    return float(figures["paces"][0]["rate"])


def _models(rows: Sequence[Prospect], available: int | None) -> list[tuple[str, ...]]:
    head = (_("name"), _("download"), _("memory"), _("tokens a second"), _("fits here"))
    return [head, *(_cells(row, available) for row in rows)]


def _cells(row: Prospect, available: int | None) -> tuple[str, ...]:
    each = row.candidate
    speed = _("{n:.0f}, measured") if row.measured else _("about {n:.0f}")
    return (
        each.intent.name,
        _("is ready") if row.ready else machine.size(each.download),
        machine.size(each.memory),
        speed.format(n=each.speed),
        _fits(each, available),
    )


def _fits(candidate: Candidate, available: int | None) -> str:
    if available is None:
        return _("unknown")
    if candidate.memory > available:
        return _("no")
    return _("yes") if candidate.fits(available) else _("too slow to talk with")
