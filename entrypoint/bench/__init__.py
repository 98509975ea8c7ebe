"""The mode `bench`: how fast a model answers on this machine, alone and several at once.

It needs no network and ends within three minutes: what is not answered by then is broken off, and
the tokens that came are counted. The table, or with --json what --join reads, goes to standard
output.
"""

from __future__ import annotations

import itertools
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from entrypoint import mounted
from entrypoint.answers import questions, results
from entrypoint.arguments import Commands, between, models_folder
from entrypoint.bench import figures
from entrypoint.bench.figures import Benchmark, Pace, Sample
from entrypoint.common import machine
from entrypoint.common.catalog import Model
from entrypoint.common.errors import UsageFailure
from entrypoint.common.language import _
from entrypoint.common.visible import say
from entrypoint.engines import Engine, Options, Usage, open_engine

AT_ONCE = (1, 2, 4, 8)
SECONDS = 170  # with the start of a container and its end, three minutes
LEAST = 1.0  # seconds for each number of answers at once, however long loading took
TOKENS = 64  # of an answer, at most


def register(commands: Commands) -> None:
    """Add the command `bench`."""
    parser = commands.add_parser(
        "bench",
        help=_("measure how fast a model answers here"),
        description=_(
            "Asks questions one by one, and 2, 4 and 8 at once, each answered with at most"
            " {tokens} tokens, for three minutes in all. Tokens a second are those of all answers"
            " together, with the time that their prompts take."
        ).format(tokens=TOKENS),
    )
    parser.add_argument("--model", metavar="NAME", help=_("which model (default: the catalogue's)"))
    parser.add_argument(
        "--seconds",
        type=between(int, 4, 86_400),
        default=SECONDS,
        metavar="N",
        help=_("how long it takes, loading included (default {default})").format(default=SECONDS),
    )
    parser.add_argument(
        "--price",
        type=between(float, 0, 1e6),
        metavar="RMB",
        help=_("price of an hour of this machine, to work out that of a million tokens"),
    )
    parser.add_argument("--json", action="store_true", help=_("print JSON, for programs"))
    parser.add_argument(
        "--join",
        type=Path,
        nargs="+",
        metavar="FILE",
        help=_("measure nothing: put what --json printed on several machines into one table"),
    )
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Measure, or join what was measured, and print it."""
    if arguments.join:
        if arguments.model or arguments.json or arguments.price is not None:
            raise UsageFailure(_("Use --join alone."))
        print(figures.joined([figures.load(path) for path in arguments.join]))
        return
    models = mounted.load(models_folder())
    model = models.find(arguments.model)
    machine.require_memory(model, models)
    benchmark = _measured(model, arguments.seconds, arguments.price)
    print(figures.dump(benchmark) if arguments.json else figures.table(benchmark))


def _measured(model: Model, seconds: float, price: float | None) -> Benchmark:
    """Return the figures of a model, found in so many seconds."""
    begun = time.monotonic()
    counts = _fitting(model)
    say(_("Loading {name}...").format(name=model.display_name))
    with closing(open_engine(model, models_folder(), parallel=counts[-1])) as engine:
        numbers = itertools.count(1)
        _ask(engine, next(numbers), seconds, tokens=2)  # the weights are hashed beside the first
        paces = []
        for number, count in enumerate(counts):
            left = begun + seconds - time.monotonic()
            say(_("Answers at once: {n}").format(n=count))
            share = max(LEAST, left / (len(counts) - number))
            paces.append(_pace(engine, count, share, numbers))
        return Benchmark(
            machine=results.here(model.engine, counts[-1]),
            model=model.name,
            quantization=model.quantization,
            engine=model.engine,
            memory=machine.peak(),
            paces=tuple(paces),
            price=price,
        )


def _fitting(model: Model) -> list[int]:
    """Return how many answers at once the memory has room for."""
    free = machine.memory().available or 0
    fitting = [count for count in AT_ONCE if count == 1 or machine.need(model, count) <= free]
    if len(fitting) < len(AT_ONCE):
        say(_("There is memory for {n} answers at once.").format(n=fitting[-1]))
    return fitting


def _pace(engine: Engine, count: int, seconds: float, numbers: Iterator[int]) -> Pace:
    """Let `count` askers ask one question after the other until the time is over."""
    from concurrent.futures import ThreadPoolExecutor

    begun = time.monotonic()

    def asker() -> list[Sample]:
        samples = []
        while (left := begun + seconds - time.monotonic()) > 0:
            samples.append(_ask(engine, next(numbers), left))
        return samples

    with ThreadPoolExecutor(count) as workers:
        asking = [workers.submit(asker) for _asker in range(count)]
        samples = [sample for each in asking for sample in each.result()]
    return figures.pace(count, samples, time.monotonic() - begun)


def _ask(engine: Engine, number: int, seconds: float, tokens: int = TOKENS) -> Sample:
    """Ask a question that begins as none before, and hang up when the time is over."""
    question_list = questions.load(questions.TUTORIAL)
    text = f"{number}. {question_list[number % len(question_list)].asks[0]}"
    begun = time.monotonic()
    first, count = None, 0
    options = Options(temperature=0, max_tokens=tokens)
    with closing(engine.stream([{"role": "user", "content": text}], options)) as answer:
        clock = threading.Timer(seconds, answer.hang_up)
        clock.start()
        try:
            for piece in answer:
                if isinstance(piece, Usage):
                    count = piece.completion_tokens
                else:  # of an answer that is broken off, the pieces are counted
                    count += 1
                    first = first or time.monotonic() - begun
        finally:
            clock.cancel()
    return Sample(count, first)
