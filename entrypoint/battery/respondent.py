"""Who is asked: models of the catalogue or behind an endpoint, and how each of them is opened."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import entrypoint
from entrypoint import mounted
from entrypoint.answers import results
from entrypoint.answers.plan import Plan
from entrypoint.answers.results import Machine, Run, Sampling
from entrypoint.arguments import THINK, models_folder, sampling
from entrypoint.common import machine
from entrypoint.common.catalog import Model
from entrypoint.common.errors import ConfigFailure, UsageFailure
from entrypoint.common.language import _
from entrypoint.engines import Engine, Options, advised, open_engine

DEFAULTS = Options(temperature=0, max_tokens=512)
PER_CORE = 8  # answers at once: more make none faster, and each takes memory
ELSEWHERE = 4  # answers at once from an endpoint, of whose cores we know nothing
SEEDS = 2**32 - 1  # as many as --seed takes


@dataclass(frozen=True)
class Respondent:
    """One of those that are asked: what its answers are kept under, and how it is opened.

    Each of `runs`, which differ in nothing but their seeds, asks every question once.
    """

    title: str
    runs: tuple[Run, ...]
    parallel: int
    machine: Callable[[], Machine]
    open: Callable[[], Engine]

    @property
    def local(self) -> bool:
        """Whether it computes on this machine."""
        return not self.runs[0].endpoint


def options(run: Run) -> Options:
    """Return how a run's answers are sampled."""
    return Options(**asdict(run.options)) if run.options else DEFAULTS


def runs(arguments: Namespace) -> Iterator[Run]:
    """Yield what is to be asked: models of the endpoint, or of the catalogue, that were named.

    With --repeat there are as many runs of each, with seeds that follow each other.
    """
    for each in _once(arguments):
        yield from _repeated(each, arguments.repeat)


def _repeated(run: Run, times: int) -> Iterator[Run]:
    """Yield a run so many times; raise UsageFailure if all would say the same."""
    if times == 1 or run.options is None:
        yield run
        return
    if run.options.temperature == 0:
        raise UsageFailure(
            _("At temperature 0 an answer is the same each time."),
            next=_("Add a temperature to --repeat, for example: --temperature 0.7"),
        )
    first = run.options.seed or 0
    for seed in range(first, first + times):
        yield replace(run, options=replace(run.options, seed=seed % SEEDS))


def _once(arguments: Namespace) -> Iterator[Run]:
    """Yield a run of each model."""
    wishes = sampling(arguments)
    how = Run("", "", options=_sampling(DEFAULTS, wishes), system=arguments.system or "")
    if arguments.endpoint and not arguments.model:
        raise UsageFailure(
            _("Which of the endpoint's models?"), next=_("Name it with: --model NAME")
        )
    if arguments.endpoint:
        for name in dict.fromkeys(arguments.model):
            yield replace(how, model=name, engine="endpoint", endpoint=arguments.endpoint)
        return
    models = mounted.load(models_folder())
    for model in dict.fromkeys(models.find(name) for name in arguments.model or [None]):
        if THINK in wishes and not model.think:
            raise UsageFailure(
                _("{name} cannot be told to think or not.").format(name=model.name),
                next=_("Leave out: --think"),
            )
        default = _default(model, sampled=bool(wishes.get("temperature")))
        yield _of(model, replace(how, options=_sampling(default, wishes)))


def _default(model: Model, *, sampled: bool) -> Options:
    """Return how a model answers unless told otherwise.

    The likeliest token is the same each time, but makes small models repeat a sentence up to the
    limit: against that the publisher's penalty helps, which is the same each time too.
    """
    advice = advised(model, DEFAULTS)
    same = replace(DEFAULTS, repeat_penalty=advice.repeat_penalty, think=advice.think)
    return advice if sampled else same


def _of(model: Model, how: Run) -> Run:
    """Return a run of a model, sampled and with the system prompt as in `how`."""
    return replace(
        how,
        model=model.name,
        engine=model.engine,
        quantization=model.quantization,
        files=model.files,
    )


def respondents(plan: Plan) -> list[Respondent]:
    """Return who answers; raise NotEnoughMemory, or ConfigFailure if a model is another now."""
    repeats: dict[Run, list[Run]] = {}
    for each in plan.runs:
        repeats.setdefault(results.unseeded(each), []).append(each)
    return [_respondent(tuple(each), plan) for each in repeats.values()]


def _respondent(runs: tuple[Run, ...], plan: Plan) -> Respondent:
    run = runs[0]
    if run.endpoint:
        from entrypoint.engines.endpoint import Endpoint

        endpoint = Endpoint(run.endpoint, run.model)
        parallel = plan.parallel or ELSEWHERE
        where = Machine("", "", 0, 0, parallel, entrypoint.__version__)
        return Respondent(run.model, runs, parallel, lambda: where, lambda: endpoint)
    models = mounted.load(models_folder())
    model = models.find(run.model)
    if _of(model, run) != run:
        raise ConfigFailure(
            _("{name} is no longer the model that this battery began with.").format(name=run.model),
            next=_("Start the battery anew, with all its options."),
        )
    parallel = plan.parallel or _fitting(model, len(plan.questions) * len(runs))
    machine.require_memory(model, models, parallel=parallel)
    return Respondent(
        title=model.display_name,
        runs=runs,
        parallel=parallel,
        machine=lambda: results.here(model.engine, parallel),
        open=lambda: open_engine(model, models_folder(), parallel=parallel),
    )


def _fitting(model: Model, most: int) -> int:
    """Return how many answers at once cores and memory allow, of `most` that are wanted.

    Where the free memory is not known, it is one: the least that may not fit.
    """
    free = machine.memory().available or 0
    counts = range(1, min(most, PER_CORE * machine.threads()) + 1)
    return max((n for n in counts if machine.need(model, n) <= free), default=1)


def _sampling(default: Options, wishes: Mapping[str, Any]) -> Sampling:
    options = asdict(replace(default, **wishes))
    return Sampling(**{each.name: options[each.name] for each in fields(Sampling)})
