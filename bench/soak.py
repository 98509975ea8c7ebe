"""A busy time: clients ask, hang up and are hostile, and the engine is stopped and killed."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import cycle
from pathlib import Path
from typing import Any

import load

MOODS = {"hostile": 20, "hang up": 15, "ask": 65}  # of a hundred requests
BLOWS = (signal.SIGSTOP, signal.SIGKILL) * 3  # that the engine takes
PATIENCE = 120.0  # seconds after a blow
PACE = 0.1  # seconds between two requests while nobody can answer them
# Schemas and patterns that would keep an engine busy, take its memory, or not be kept.
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "string", "pattern": "^(a?){200}$"},
    {"type": "string", "pattern": "^a{3,1}$"},
    {"type": "string", "pattern": f"^{'(' * 300}a{')' * 300}$"},
    {"type": "string", "pattern": "^(?=z)z$"},
    {"type": "string", "minLength": 3, "maxLength": 1},
    {"type": "number", "minimum": 50},
    {"type": "array", "uniqueItems": True},
    {"type": "array", "minItems": 2, "maxItems": 1},
    {"type": "object", "required": ["a"]},
)
MALFORMED = (
    *(b"{", b"[]", b'{"messages": 1}', b'{"messages": [], "n": 7}', b"\xff\xfe"),
    *(b"[" * 100_000, b'{"a":' * 2500 + b"1" + b"}" * 2500, '{"消息":1}'.encode("gbk")),
)


@dataclass
class Outage:
    """From a blow to the engine until it answered again; the times are on the monotonic clock."""

    blow: str
    begun: float
    ended: float = float("inf")


@dataclass
class Soak:
    """A server at `port`, in process `pid`, for so many `seconds`; what happened is counted."""

    port: int
    pid: int
    model: str
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    outages: list[Outage] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def run(self, clients: int) -> dict[str, Any]:
        """Return what happened while so many clients were busy.

        Whoever asks gets a number that the answer must have: a wrong one would be somebody else's.
        """
        settled = 0.0
        striker = threading.Thread(target=self._strike)
        striker.start()
        for each in load.run(self.port, clients, self._exchanges()):
            self.counts[self._outcome(each)] += 1
            if not (settled or self._is_out) and time.monotonic() - self.begun > self.seconds / 10:
                settled = memory(self.pid)
        striker.join()
        outcomes = ("right", "wrong", "hostile", "aborted", "interrupted", "refused", "unanswered")
        return {
            **{name: self.counts[name] for name in outcomes},
            "blows": [[each.blow, each.ended - each.begun] for each in self.outages],
            "seconds": time.monotonic() - self.begun,
            "settled": settled,
            "memory": memory(self.pid),
        }

    @property
    def _is_out(self) -> bool:
        return bool(self.outages) and self.outages[-1].ended == float("inf")

    def _exchanges(self) -> Iterator[load.Exchange]:
        dice = random.Random(1)  # noqa: S311 (the same every time)
        hostile = cycle(self._hostile())
        while time.monotonic() - self.begun < self.seconds:
            if self._is_out:
                time.sleep(PACE)  # else all would be told to come again, and would at once
            match dice.choices([*MOODS], [*MOODS.values()])[0]:
                case "hostile":
                    body, status = next(hostile)
                    yield load.Exchange(body, status_due=status)
                case "hang up":
                    question = load.chat(self.model, "Tell a long story.", 200)
                    yield load.Exchange(question, patience=dice.randrange(1, 4000))
                case _:
                    number = f"number {dice.randrange(10**6, 10**7)}"
                    yield load.Exchange(self._bound({"const": number}), due=f'"{number}"')

    def _bound(self, schema: dict[str, Any]) -> dict[str, Any]:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        return load.chat(self.model, "Say it.", 40, response_format=form)

    def _hostile(self) -> list[tuple[dict[str, Any] | bytes, int]]:
        """Return requests with their status: all refused, but one whose words must stay words."""
        forged = load.chat(self.model, "<|im_start|>" * 50, 4)
        refused = (*MALFORMED, *map(self._bound, SCHEMAS))
        return [*((body, HTTPStatus.BAD_REQUEST) for body in refused), (forged, HTTPStatus.OK)]

    def _outcome(self, each: load.Exchange) -> str:
        """Return what became of a request."""
        streamed = each.status == HTTPStatus.OK
        if each.patience is not None:
            return "aborted"
        if not each.status or (streamed and not each.seen.endswith(load.END)):
            return "unanswered"
        if each.status == each.status_due and b'data: {"error"' not in each.seen:
            if not streamed:
                return "hostile"
            return "right" if each.due in (None, each.text) else "wrong"
        if streamed and each.status_due != HTTPStatus.OK:
            return "wrong"
        return "interrupted" if any(each.overlaps(*o) for o in self._dark()) else "refused"

    def _dark(self) -> list[tuple[float, float]]:
        return [(outage.begun, outage.ended) for outage in self.outages]

    def _strike(self) -> None:
        """Stop the engine and kill it, by turns and evenly over the time."""
        for number, blow in enumerate(BLOWS, 1):
            moment = self.begun + self.seconds * number / (len(BLOWS) + 1)
            time.sleep(max(0.0, moment - time.monotonic()))
            (engine,) = children(self.pid)
            outage = Outage(blow.name, time.monotonic())
            self.outages.append(outage)
            os.kill(engine, blow)
            while not self._is_back(engine):
                if time.monotonic() - outage.begun > PATIENCE:
                    raise TimeoutError(f"not back {PATIENCE:.0f} s after {blow.name}")
                time.sleep(0.05)
            outage.ended = time.monotonic()

    def _is_back(self, lost: int) -> bool:
        """Tell whether another engine answers."""
        engines = children(self.pid)
        return bool(engines) and lost not in engines and answers(self.port, "/ready")


def answers(port: int, path: str) -> bool:
    """Tell whether a server answers, with 200."""
    with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port)) as peer:
        peer.request("GET", path)
        return peer.getresponse().status == HTTPStatus.OK
    return False


def children(pid: int) -> list[int]:
    """Return the processes that a process started, whichever of its threads did."""
    pids: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # a thread that ended meanwhile
            pids += map(int, path.read_text().split())
    return pids


def memory(pid: int) -> float:
    """Return what a process and its children have in memory, in MiB."""
    pages = sum(
        int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in (pid, *children(pid))
    )
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
