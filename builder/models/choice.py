"""Which model for which machine: what each takes and how fast it would answer, before it is there.

All of it is estimated from models.toml and models.lock: nothing has to be fetched to know it.
What is ready here is known better, and taken before anything is measured or fetched.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.models import intents
from builder.models.intents import Intent, Models
from builder.models.probe import Probe
from builder.stage import report
from entrypoint.common import catalog, footprint, machine
from entrypoint.common.errors import DownloadFailure, NotEnoughMemory
from entrypoint.common.language import _

LEAST: Final = 8.0  # tokens a second: about as fast as people read
# Bytes that each thread reads in turns to find the bandwidth: no cache holds them. A turn takes
# milliseconds, so that even on a busy machine some fall between what other programs do.
SAMPLE, TURN = 128 << 20, 32 << 20
TRIAL: Final = 0.5  # seconds of turns, of which the fastest counts
RAW, READY = 32, 9  # 16 bits a weight become 4.5 where a checkpoint is quantized
# Bytes of a number in the tensor that reads words, which is Q6_K in files of Q4_0, too.
EMBEDDING: Final = 0.82
MENTIONED: Final = 3  # models that a message names


@dataclass(frozen=True)
class Candidate:
    """A model, its `download` and the `memory` it takes in bytes, and the tokens a second.

    Of a model whose shape is not known, `memory` is that of its weights alone.
    """

    intent: Intent
    download: int
    memory: int
    speed: float

    def fits(self, available: int) -> bool:
        """Tell whether it runs in so many bytes of memory, and fast enough to talk with."""
        return self.memory <= available and self.speed >= LEAST


def candidates(known: Models, bandwidth: float) -> list[Candidate]:
    """Return the locked models, better ones first, with a memory that reads `bandwidth` bytes/s.

    Each token reads the weights once: that bounds its speed, and on a CPU nearly is it.
    """
    locked = intents.locked()
    return [
        _candidate(intent, sum(file.size for file in locked[name]), bandwidth)
        for name, intent in known.intents.items()
        if name in locked
    ]


def fitting(all_: Iterable[Candidate], available: int) -> list[Candidate]:
    """Return those that one can chat with on a machine with so many bytes of memory free."""
    return [each for each in all_ if each.intent.task == "chat" and each.fits(available)]


def ready(
    folder: Path, known: Models, available: int | None, baked: Collection[str] = ()
) -> list[str]:
    """Return the names of the models in `folder` that one can chat with, the one to take first.

    That is one that fits, then one that is in the image (`baked`), then the better one.
    """
    if not (folder / "catalog.json").exists():
        return []
    rank = {name: place for place, name in enumerate(known.intents)}
    models = [
        model
        for model in catalog.load(folder).models
        if model.task == "chat" and model.name in rank and (folder / model.name).is_dir()
    ]
    room = machine.UNLIMITED if available is None else available
    models.sort(key=lambda each: (each.memory > room, each.name not in baked, rank[each.name]))
    return [model.name for model in models]


def best(known: Models, available: int | None) -> str:
    """Return the best model that fits this machine and that a source has; say why that one.

    Where the system does not tell its free memory, it is the default one. Raises NotEnoughMemory
    if none fits, DownloadFailure if none of these can be had.
    """
    if available is None:
        return known.default
    locked, probe = intents.locked(), Probe()
    everything = candidates(known, bandwidth())
    fit = fitting(everything, available)
    if not fit:
        raise _too_small(everything, available)
    for each in fit:
        if source := probe.source(each.intent, locked[each.intent.name]):
            report.say(
                _(
                    "{name}: the best that can be fetched for {available} of free memory; "
                    "about {speed:.0f} tokens a second, {size} to download (source: {source})"
                ).format(
                    name=each.intent.name,
                    available=machine.size(available),
                    source=source,
                    speed=each.speed,
                    size=machine.size(each.download),
                )
            )
            return each.intent.name
    raise DownloadFailure(
        _("No source has a model that fits this machine."),
        _("Asked for: {names}.").format(names=", ".join(each.intent.name for each in fit)),
        _("Check the network, or run a file of yours: ./llmdeploy up FILE"),
    )


def require(known: Models, name: str, available: int | None) -> None:
    """Raise NotEnoughMemory, with what would fit, if this machine cannot hold the model `name`.

    Of a model whose shape is not known, the weights alone count: what a conversation takes besides
    is known once the model is made, and the program looks at that.
    """
    everything = {each.intent.name: each for each in candidates(known, bandwidth=0)}
    model = everything.get(name)
    if model is None or available is None or model.memory <= available:
        return
    taken = (
        _("It takes {size} with a conversation of {n} tokens, and {available} are free.")
        if model.intent.shape
        else _("Its weights alone take {size}, and {available} are free.")
    )
    fit = [
        each.intent.name
        for each in everything.values()
        if each.intent.task == "chat" and each.memory <= available
    ]
    raise NotEnoughMemory(
        _("{name} does not fit into this machine's memory.").format(name=name),
        taken.format(
            size=machine.size(model.memory),
            n=model.intent.context,
            available=machine.size(available),
        ),
        _("These fit: {names}.").format(names=", ".join(fit[:MENTIONED]))
        if fit
        else _("See what each takes with: ./llmdeploy doctor"),
    )


def bandwidth() -> float:
    """Measure how many bytes a second all cores together can read from memory, within a second."""
    count = machine.threads()
    areas = [ctypes.create_string_buffer(b"\1" * SAMPLE, SAMPLE) for _each in range(count)]
    search = ctypes.CDLL(None).memchr  # called without Python's lock, and as fast as memory is
    search.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    best, end = 0.0, time.monotonic() + TRIAL
    with ThreadPoolExecutor(count) as pool:
        for start in itertools.cycle(range(0, SAMPLE, TURN)):
            places = [ctypes.byref(area, start) for area in areas]
            begun = time.monotonic()
            if best and begun > end:
                break
            list(pool.map(search, places, itertools.repeat(0), itertools.repeat(TURN)))
            best = max(best, count * TURN / (time.monotonic() - begun))
    return best


def _too_small(everything: Iterable[Candidate], available: int) -> NotEnoughMemory:
    least = min(
        (each for each in everything if each.intent.task == "chat"), key=lambda each: each.memory
    )
    return NotEnoughMemory(
        _("No model of the catalogue fits this machine."),
        _("{available} of memory are free; the smallest, {name}, takes {memory}.").format(
            available=machine.size(available),
            name=least.intent.name,
            memory=machine.size(least.memory),
        ),
        _("See what each takes with: ./llmdeploy doctor"),
    )


def _candidate(intent: Intent, size: int, bandwidth: float) -> Candidate:
    weights = size * READY // RAW if intent.format == "checkpoint" else size
    return Candidate(
        intent,
        download=size,
        memory=weights + _besides(intent),
        speed=bandwidth / (weights * intent.active),
    )


def _besides(intent: Intent) -> int:
    """Return the bytes that llama.cpp takes besides the weights, with one conversation."""
    if (shape := intent.shape) is None:
        return 0
    kept = 2 * shape.layers * shape.groups * shape.head * footprint.F16
    twice = shape.words * shape.width * EMBEDDING if shape.tied else 0
    return int(
        kept * intent.context
        + shape.state
        + twice
        + footprint.working(
            intent.context, width=shape.width, hidden=shape.hidden, words=shape.words
        )
    )
