"""What was measured, as a table for people and as JSON, which can be joined over machines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from entrypoint.answers.results import Machine
from entrypoint.common import machine
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _
from entrypoint.common.table import columns
from entrypoint.common.tomlfile import record
from entrypoint.common.visible import visible

SCHEMA = 1
NOTHING = "-"  # where nothing came in time


@dataclass(frozen=True)
class Sample:
    """One answer: its tokens, and the seconds to the first one; None if none came."""

    tokens: int
    first: float | None


@dataclass(frozen=True)
class Pace:
    """How fast `at_once` answers come at once.

    `rate` is in tokens a second, of all together; `first` and `first_p99` in seconds from a
    question to the first token, None if none came; `answers` is how many were asked for.
    """

    at_once: int
    answers: int
    rate: float
    first: float | None
    first_p99: float | None


@dataclass(frozen=True)
class Benchmark:
    """What one machine does with one model.

    `memory` is the most that the program and its engine took, in bytes; `price` what an hour of
    the machine costs, in RMB.
    """

    machine: Machine
    model: str
    quantization: str
    engine: str
    memory: int
    paces: tuple[Pace, ...]
    price: float | None = None

    def cost(self, pace: Pace) -> float | None:
        """Return the RMB for a million tokens; None if the price is not known, or no token came."""
        if self.price is None or not pace.rate:
            return None
        return self.price / 3600 / pace.rate * 1e6


def pace(at_once: int, samples: Sequence[Sample], seconds: float) -> Pace:
    """Return what samples of so many seconds say together."""
    from statistics import median

    firsts = sorted(sample.first for sample in samples if sample.first is not None)
    return Pace(
        at_once=at_once,
        answers=len(samples),
        rate=sum(sample.tokens for sample in samples) / seconds,
        first=median(firsts) if firsts else None,
        first_p99=firsts[math.ceil(0.99 * len(firsts)) - 1] if firsts else None,
    )


def dump(benchmark: Benchmark) -> str:
    """Return it as JSON."""
    costs = [benchmark.cost(pace) for pace in benchmark.paces]
    data = {"schema": SCHEMA, **asdict(benchmark), "rmb_per_million_tokens": costs}
    return json.dumps(data, ensure_ascii=False, indent=2)


def load(path: Path) -> Benchmark:
    """Read what `dump` returned; raise ConfigFailure if it is something else."""
    try:
        data = json.loads(path.read_bytes())
        if data.pop("schema") != SCHEMA:
            raise ValueError  # noqa: TRY301 - as strange as no JSON
        del data["rmb_per_million_tokens"]
        benchmark = record(Benchmark, data, str(path))
        if not benchmark.paces:
            raise ValueError  # noqa: TRY301 - what measured nothing was not printed by us
    except OSError as error:
        raise ConfigFailure(
            _("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigFailure(
            _("{path} is not what bench of this version prints.").format(path=path),
            next=_("Make it with: llmdeploy bench --json > FILE"),
        ) from None
    return benchmark


def table(benchmark: Benchmark) -> str:
    """Return the figures of one machine."""
    head = [
        _("at once"),
        _("answers asked for"),
        _("tokens/s"),
        _("first token, s"),
        _("its p99, s"),
    ]
    rows = [
        [
            str(pace.at_once),
            str(pace.answers),
            f"{pace.rate:.1f}",
            _written(pace.first, 3),
            _written(pace.first_p99, 3),
            *([] if benchmark.price is None else [_written(benchmark.cost(pace), 2)]),
        ]
        for pace in benchmark.paces
    ]
    if benchmark.price is not None:
        head.append(_("RMB per million tokens"))
    about = _("{machine}; {model}; memory {memory}").format(
        machine=_machine(benchmark), model=_model(benchmark), memory=machine.size(benchmark.memory)
    )
    return f"{about}\n\n{columns([head, *rows])}"


def joined(all_: Sequence[Benchmark]) -> str:
    """Return one table of several machines and models, the fastest of each model first."""
    counts = sorted({pace.at_once for benchmark in all_ for pace in benchmark.paces})
    head = [
        _("model"),
        _("processor"),
        *(_("tokens/s, {n} at once").format(n=count) for count in counts),
        _("first token, s"),
        _("memory"),
        _("RMB per million tokens"),
    ]
    rows = []
    for benchmark in sorted(all_, key=lambda each: (_model(each), -_best(each).rate)):
        rates = {pace.at_once: f"{pace.rate:.1f}" for pace in benchmark.paces}
        rows.append(
            [
                _model(benchmark),
                _machine(benchmark),
                *(rates.get(count, NOTHING) for count in counts),
                _written(benchmark.paces[0].first, 3),
                machine.size(benchmark.memory),
                _written(benchmark.cost(_best(benchmark)), 2),
            ]
        )
    return columns([head, *rows])


def _best(benchmark: Benchmark) -> Pace:
    return max(benchmark.paces, key=lambda pace: pace.rate)


def _model(benchmark: Benchmark) -> str:
    return visible(f"{benchmark.model} {benchmark.quantization} ({benchmark.engine})")


def _machine(benchmark: Benchmark) -> str:
    where = benchmark.machine
    text = _("{cpu}, {kernels}, threads: {threads}").format(
        cpu=where.cpu, kernels=where.kernels, threads=where.threads
    )
    return visible(text)


def _written(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"
