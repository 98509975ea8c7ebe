"""Which model for which machine: what each takes, and how fast it would answer, told beforehand.

All of it is estimated from models.toml and models.lock: nothing has to be fetched to know it.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from builder.models import intents
from builder.models.intents import Intent, Models
from entrypoint.common import machine

PROGRAM: Final = 350 << 20  # what an engine takes besides weights and conversation
LEAST: Final = 8.0  # tokens a second: about as fast as people read
SAMPLE: Final = 128 << 20  # bytes that each thread reads to find the bandwidth: no cache holds them
PASSES: Final = 3  # of which the fastest counts, as other programs read too


@dataclass(frozen=True)
class Candidate:
    """A model, its `download` and the `memory` it takes in bytes, and the tokens a second."""

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


def bandwidth() -> float:
    """Measure how many bytes a second all cores together read from memory, in under a second."""
    count = machine.threads()
    areas = [ctypes.create_string_buffer(b"\1" * SAMPLE, SAMPLE) for _each in range(count)]
    search = ctypes.CDLL(None).memchr  # called without Python's lock, and as fast as memory is
    search.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    best = 0.0
    with ThreadPoolExecutor(count) as pool:
        for _each in range(PASSES):
            begun = time.monotonic()
            list(pool.map(lambda area: search(area, 0, SAMPLE), areas))
            best = max(best, count * SAMPLE / (time.monotonic() - begun))
    return best


def _candidate(intent: Intent, size: int, bandwidth: float) -> Candidate:
    memory = size + intent.cache * intent.context + PROGRAM
    if intent.format == "checkpoint":  # 16 bits a weight become 4.5
        size_ready = size * 9 // 32
        return Candidate(intent, size, memory - size + size_ready, bandwidth / size_ready)
    return Candidate(intent, size, memory, bandwidth / (size * intent.active))
