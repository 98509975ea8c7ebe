"""The mode `battery`: asks models a list of questions, several at once, and keeps the answers.

Answers go to standard output as the tutorial prints them, in the order of the questions. With
--output they are also kept in `answers.jsonl`, one line each, on the disk as soon as they end: with
--resume a battery that was killed goes on. `transcript.md` shows the same answers to people.
"""

from __future__ import annotations

import queue
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import entrypoint
from entrypoint import mounted
from entrypoint.answers import questions, results
from entrypoint.answers.questions import Question
from entrypoint.answers.results import Answer, Machine, RecordedTurn, Run, Sampling, Store
from entrypoint.arguments import (
    THINK,
    Commands,
    add_sampling,
    between,
    models_folder,
    sampling,
)
from entrypoint.battery import plan as plans
from entrypoint.battery import transcript
from entrypoint.battery.plan import Plan
from entrypoint.battery.progress import Page, Progress
from entrypoint.battery.transcript import HEADING
from entrypoint.common import machine
from entrypoint.common.catalog import Model
from entrypoint.common.errors import (
    BrokenAnswer,
    ConfigFailure,
    EndpointFailure,
    EngineCrashed,
    Failure,
    MessageTooLong,
    UsageFailure,
)
from entrypoint.common.language import _
from entrypoint.common.visible import say, visible
from entrypoint.conversation import Conversation
from entrypoint.engines import (
    Engine,
    HungUp,
    Options,
    Usage,
    advised,
    find,
    open_engine,
    thinking,
)

DEFAULTS = Options(temperature=0, max_tokens=512)
PER_CORE = 8  # answers at once: more make none faster, and each takes memory
ELSEWHERE = 4  # answers at once from an endpoint, of whose cores we know nothing

# The number of a question, and a piece of its answer, or the answer itself, or why there is none.
Event: TypeAlias = tuple[int, str | Answer | BaseException]
# The number of a question, and its answer, or what became of it.
Outcome: TypeAlias = tuple[int, Answer | BrokenAnswer]


@dataclass(frozen=True)
class Respondent:
    """One of those that are asked: what its answers are kept under, and how it is opened."""

    title: str
    run: Run
    parallel: int
    machine: Callable[[], Machine]
    open: Callable[[], Engine]

    @property
    def options(self) -> Options:
        """How its answers are sampled."""
        return Options(**asdict(self.run.options)) if self.run.options else DEFAULTS


def register(commands: Commands) -> None:
    """Add the command `battery`."""
    parser = commands.add_parser(
        "battery",
        help=_("ask models a list of questions and keep the answers"),
        description=_(
            "Asks each question in a conversation of its own. Unless set otherwise, an answer has"
            " at most {tokens} tokens and temperature 0, with the repeat penalty that the model's"
            " publisher advises; at another temperature, all that he advises holds. Answers that"
            " are computed at once may differ from one time to the next; with --parallel 1 they"
            " are the same."
        ).format(tokens=DEFAULTS.max_tokens),
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help=_("which model; repeat it for several (default: the catalogue's)"),
    )
    parser.add_argument(
        "--questions",
        type=Path,
        default=questions.TUTORIAL,
        metavar="FILE",
        help=_("a TOML file with your own questions (default: the tutorial's ten)"),
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help=_("folder to keep the answers in"),
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FOLDER",
        help=_("continue the battery in this folder; no other option is needed"),
    )
    parser.add_argument("--system", metavar="TEXT", help=_("the system prompt"))
    parser.add_argument(
        "--parallel",
        type=between(int, 1, 256),
        metavar="N",
        help=_("how many answers at once (default: as cores and memory allow)"),
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help=_("ask a model behind OpenAI's API; its key is in the variable LLMDEPLOY_API_KEY"),
    )
    parser.add_argument(
        "--import",
        dest="printed",
        type=Path,
        metavar="FILE",
        help=_("ask nobody: take the answers from a printed transcript, and keep them"),
    )
    parser.add_argument(
        "--model-name", metavar="NAME", help=_("name of the model that gave these answers")
    )
    add_sampling(parser, DEFAULTS.max_tokens)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Ask each model every question that the output folder has no answer to yet."""
    if arguments.resume:
        _require_alone(arguments)
        plan = plans.load(arguments.resume)
    else:
        asked = questions.load(arguments.questions)
        if arguments.printed or arguments.model_name:
            _import(arguments, asked)
            return
        plan = Plan(tuple(_runs(arguments)), asked, arguments.parallel)
    respondents = [_respondent(each, plan) for each in plan.runs]
    folder = arguments.resume or arguments.output
    with _store(folder) as store:
        if arguments.output:
            plans.save(plan, folder)
        try:
            _ask_all(respondents, plan.questions, store)
        except (KeyboardInterrupt, Failure):
            if folder:
                say(_("Go on with: llmdeploy battery --resume {path}").format(path=folder))
            raise


def _require_alone(arguments: Namespace) -> None:
    """Refuse what would change a battery that has begun."""
    others = ("model", "output", "system", "parallel", "endpoint", "printed", "model_name")
    told = any(getattr(arguments, name) for name in others)
    if told or arguments.questions != questions.TUTORIAL or sampling(arguments):
        raise UsageFailure(
            _("A battery goes on as it began."), next=_("Leave out all options but --resume.")
        )


@contextmanager
def _store(folder: Path | None) -> Iterator[Store]:
    """Open the answers so far; write the transcript of what was kept, however the end comes."""
    with closing(Store(folder)) as store:
        try:
            yield store
        finally:
            if folder:
                transcript.write(folder, results.load(folder).answers)


def _import(arguments: Namespace, asked: Sequence[Question]) -> None:
    """Keep the answers of a transcript."""
    if not (arguments.printed and arguments.model_name and arguments.output):
        raise UsageFailure(_("Use --import, --model-name and --output together."))
    found = transcript.read(arguments.printed, asked)
    run = Run(arguments.model_name, "import")
    for question, _text in found:
        if question.turns:
            raise UsageFailure(
                _("{name} has several turns, which a transcript cannot show.").format(
                    name=question.id
                )
            )
    with _store(arguments.output) as store:
        for question, text in found:
            if not store.find(run, question.asks):
                store.add(
                    Answer(question.id, (RecordedTurn(question.text, text),), run, ended=_now())
                )
    say(
        _("{path}: answers to {count} of {all} questions.").format(
            path=arguments.printed, count=len(found), all=len(asked)
        )
    )


def _runs(arguments: Namespace) -> Iterator[Run]:
    """Yield what is to be asked: models of the endpoint, or of the catalogue, that were named."""
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
    """Return a run of a model, sampled and told beforehand as in `how`."""
    return replace(
        how,
        model=model.name,
        engine=model.engine,
        quantization=model.quantization,
        files=model.files,
    )


def _respondent(run: Run, plan: Plan) -> Respondent:
    """Return who answers; raise NotEnoughMemory, or ConfigFailure if the model is another now."""
    if run.endpoint:
        from entrypoint.engines.endpoint import Endpoint

        endpoint = Endpoint(run.endpoint, run.model)
        parallel = plan.parallel or ELSEWHERE
        where = Machine("", "", 0, 0, parallel, entrypoint.__version__)
        return Respondent(run.model, run, parallel, lambda: where, lambda: endpoint)
    models = mounted.load(models_folder())
    model = models.find(run.model)
    if _of(model, run) != run:
        raise ConfigFailure(
            _("{name} is no longer the model that this battery began with.").format(name=run.model),
            next=_("Start the battery anew, with all its options."),
        )
    parallel = plan.parallel or _fitting(model, len(plan.questions))
    machine.require_memory(model, models, parallel=parallel)
    return Respondent(
        title=model.display_name,
        run=run,
        parallel=parallel,
        machine=lambda: _here(model.engine, parallel),
        open=lambda: open_engine(model, models_folder(), parallel=parallel),
    )


def _here(engine: str, parallel: int) -> Machine:
    backend = find(engine)
    return Machine(
        cpu=machine.cpu().model,
        kernels=backend.kernels() if backend else "",
        threads=machine.threads(),
        memory=machine.memory().total or 0,
        parallel=parallel,
        version=entrypoint.__version__,
    )


def _fitting(model: Model, most: int) -> int:
    """Return how many answers at once cores and memory allow, of `most` that are wanted.

    Where the free memory is not known, it is one: the least that may not fit.
    """
    free = machine.memory().available or 0
    counts = range(1, min(most, PER_CORE * machine.threads()) + 1)
    return max((n for n in counts if machine.need(model, n) <= free), default=1)


def _ask_all(respondents: Sequence[Respondent], asked: Sequence[Question], store: Store) -> None:
    """Print all answers of all respondents; compute and keep those that the store does not have.

    Raises EndpointFailure in the end if some broke off; these are not kept.
    """
    kept = [
        {
            number: answer
            for number, question in enumerate(asked)
            if (answer := store.find(each.run, question.asks))
        }
        for each in respondents
    ]
    count, wanted = sum(map(len, kept)), len(respondents) * len(asked)
    if count == wanted:
        say(_("{path} has all {count} answers.").format(path=store.folder, count=count))
    elif count:
        say(_("{path} has {count} of the answers already.").format(path=store.folder, count=count))
    broken = 0
    progress = Progress(wanted - count, respondents[0].options.max_tokens)
    for respondent, known in zip(respondents, kept, strict=True):
        if len(respondents) > 1:
            print(visible(f"# {respondent.title}"), flush=True)
        page = Page(progress)
        for number, answer in known.items():
            page.add(number, _printed(number, answer))
        missing = {n: question for n, question in enumerate(asked) if n not in known}
        if not missing:  # then the model is not even loaded
            continue
        broken += _compute(respondent, missing, page, progress, store)
    if broken:
        raise EndpointFailure(
            _("Answers that broke off: {n} of {all}.").format(n=broken, all=wanted)
        )


def _compute(
    respondent: Respondent,
    missing: Mapping[int, Question],
    page: Page,
    progress: Progress,
    store: Store,
) -> int:
    """Print and keep a respondent's answers to questions; return how many broke off."""
    broken = 0
    with closing(respondent.open()) as engine:
        progress.begin()
        for number, outcome in _answers(engine, respondent, missing, progress):
            heading = HEADING.format(number=number + 1)
            if isinstance(outcome, BrokenAnswer):
                broken += 1
                progress.answered(0)
                page.add(number, heading)
                say(f"{heading}{outcome}")
                continue
            store.add(outcome)
            progress.answered(outcome.tokens)
            page.add(number, _printed(number, outcome))
            if outcome.error:
                say(heading + outcome.error)
        progress.pause()
    return broken


def _answers(
    engine: Engine, respondent: Respondent, asked: Mapping[int, Question], progress: Progress
) -> Iterator[Outcome]:
    """Yield the numbers of questions and their answers, as they end."""
    from concurrent.futures import ThreadPoolExecutor

    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    stopped = threading.Event()
    where, local = respondent.machine(), not respondent.run.endpoint

    def answer(number: int, question: Question) -> None:
        try:
            turns, error = _talk(engine, question, respondent, tell(number))
            found = Answer(question.id, turns, respondent.run, where, error)
            memory = machine.peak() if local else None
            events.put((number, replace(found, memory=memory, ended=_now())))
        except BaseException as failure:  # noqa: BLE001 - the other thread raises it
            events.put((number, failure))

    def tell(number: int) -> Callable[[str], None]:
        def piece(text: str) -> None:
            if stopped.is_set():
                raise HungUp
            events.put((number, text))

        return piece

    workers = ThreadPoolExecutor(respondent.parallel)
    try:
        for number, question in asked.items():
            workers.submit(answer, number, question)
        left = len(asked)
        while left:
            number, event = events.get()
            if isinstance(event, str):
                progress.piece()
                continue
            if isinstance(event, BaseException) and not isinstance(event, BrokenAnswer):
                raise event
            left -= 1
            yield number, event
    finally:
        stopped.set()
        workers.shutdown(wait=False, cancel_futures=True)


def _talk(
    engine: Engine, question: Question, respondent: Respondent, tell: Callable[[str], None]
) -> tuple[tuple[RecordedTurn, ...], str]:
    """Ask a question, turn by turn; return the turns, and why they end early if they do."""
    talk = Conversation(respondent.run.system)
    turns: list[RecordedTurn] = []
    for text in question.asks:
        begun = time.monotonic()
        pieces: list[str] = []
        usage: Usage | None = None
        try:
            with closing(engine.stream(talk.messages(text), respondent.options)) as stream:
                for piece in stream:
                    if isinstance(piece, Usage):
                        usage = piece
                    else:
                        pieces.append(piece)
                        tell(piece)
        except MessageTooLong as failure:
            return (*turns, RecordedTurn(text, "")), failure.what
        if usage is None:
            raise EngineCrashed(_("The engine ended an answer without a word about why."))
        thought, said = thinking.split(pieces)
        turns.append(RecordedTurn(text, said, usage, time.monotonic() - begun, thought))
        talk.turns.append(turns[-1])
    return tuple(turns), ""


def _printed(number: int, answer: Answer) -> str:
    return "\n".join((HEADING.format(number=number + 1), *(turn.answer for turn in answer.turns)))


def _sampling(default: Options, wishes: Mapping[str, Any]) -> Sampling:
    options = asdict(replace(default, **wishes))
    return Sampling(**{each.name: options[each.name] for each in fields(Sampling)})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
