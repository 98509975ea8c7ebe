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
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from entrypoint.answers import plan as plans
from entrypoint.answers import questions, results
from entrypoint.answers.plan import Plan
from entrypoint.answers.questions import Question
from entrypoint.answers.results import Answer, RecordedTurn, Run, Store
from entrypoint.arguments import Commands, add_sampling, between, sampling
from entrypoint.battery import transcript
from entrypoint.battery.progress import Page, Progress
from entrypoint.battery.respondent import DEFAULTS, Respondent, options, respondents, runs
from entrypoint.battery.transcript import HEADING
from entrypoint.common import machine
from entrypoint.common.errors import (
    BrokenAnswer,
    EndpointFailure,
    EngineCrashed,
    Failure,
    MessageTooLong,
    UsageFailure,
)
from entrypoint.common.language import _
from entrypoint.common.visible import say
from entrypoint.conversation import Conversation
from entrypoint.engines import Engine, HungUp, Usage, thinking

REPEATS = 100  # at most
# What one answer is: a run's, to a question.
Task: TypeAlias = tuple[Run, Question]
# A piece of an answer, as it is printed; or the whole answer; or why there is none.
Event: TypeAlias = str | Answer | BrokenAnswer


def register(commands: Commands) -> None:
    """Add the command `battery`."""
    parser = commands.add_parser(
        "battery",
        help=_("ask models a list of questions and keep the answers"),
        description=_(
            "Asks each question in a conversation of its own. Unless set otherwise, an answer has"
            " at most {tokens} tokens and temperature 0, with the repeat penalty that the model's"
            " publisher advises; at another temperature, all of that advice applies. Answers that"
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
        type=questions.named,
        default=questions.TUTORIAL,
        metavar="FILE",
        help=_(
            "your own questions, a TOML file; or an exam, .csv or .jsonl; or forty, a larger list"
            " (default: the tutorial's ten)"
        ),
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
        "--repeat",
        type=between(int, 1, REPEATS),
        default=1,
        metavar="N",
        help=_("ask each question this many times, each time with the next seed"),
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
        help=_("ask no model: import the answers from a printed transcript"),
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
        question_list = questions.load(arguments.questions)
        if arguments.printed or arguments.model_name:
            _import(arguments, question_list)
            return
        plan = Plan(tuple(runs(arguments)), question_list, arguments.parallel)
    all_ = respondents(plan)
    folder = arguments.resume or arguments.output
    with _store(folder) as store:
        if arguments.output:
            plans.save(plan, folder)
        try:
            _ask_all(all_, plan.questions, store)
        except (KeyboardInterrupt, Failure):
            if folder:
                say(_("Go on with: llmdeploy battery --resume {path}").format(path=folder))
            raise


def _require_alone(arguments: Namespace) -> None:
    """Refuse what would change a battery that has begun."""
    others = ("model", "output", "system", "parallel", "endpoint", "printed", "model_name")
    has_options = any(getattr(arguments, name) for name in others) or arguments.repeat > 1
    if has_options or arguments.questions != questions.TUTORIAL or sampling(arguments):
        raise UsageFailure(
            _("A battery is resumed with the settings that it began with."),
            next=_("Leave out all options but --resume."),
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


def _import(arguments: Namespace, question_list: Sequence[Question]) -> None:
    """Keep the answers of a transcript."""
    if not (arguments.printed and arguments.model_name and arguments.output):
        raise UsageFailure(_("Use --import, --model-name and --output together."))
    pairs = transcript.read(arguments.printed, question_list)
    run = Run(arguments.model_name, "import")
    for question, _text in pairs:
        if question.turns:
            raise UsageFailure(
                _("{name} has several turns, which a transcript cannot show.").format(
                    name=question.id
                )
            )
    with _store(arguments.output) as store:
        for question, text in pairs:
            if not store.find(run, question.asks):
                store.add(
                    Answer(question.id, (RecordedTurn(question.asks[0], text),), run, ended=_now())
                )
    say(
        _("{path}: answers to {count} of {all} questions.").format(
            path=arguments.printed, count=len(pairs), all=len(question_list)
        )
    )


def _ask_all(respondents: Sequence[Respondent], listed: Sequence[Question], store: Store) -> None:
    """Print all answers of all respondents; compute and keep those that the store does not have.

    Raises EndpointFailure in the end if some broke off; these are not kept.
    """
    tasks = [
        [(run, each) for run in respondent.runs for each in listed] for respondent in respondents
    ]
    answers = [
        {
            number: answer
            for number, (run, question) in enumerate(each)
            if (answer := store.find(run, question.asks))
        }
        for each in tasks
    ]
    count, total = sum(map(len, answers)), sum(map(len, tasks))
    if count == total:
        say(_("{path} has all {count} answers.").format(path=store.folder, count=count))
    elif count:
        say(_("{path} has {count} of the answers already.").format(path=store.folder, count=count))
    broken = 0
    progress = Progress(total - count)
    for respondent, every, known in zip(respondents, tasks, answers, strict=True):
        page = Page(progress, _headings(respondent, len(listed), alone=len(respondents) == 1))
        for number, answer in known.items():
            page.add(number, _printed(answer))
        missing = {n: task for n, task in enumerate(every) if n not in known}
        if not missing:  # then the model is not even loaded
            continue
        broken += _compute(respondent, missing, page, progress, store)
    if broken:
        raise EndpointFailure(
            _("Answers that broke off: {n} of {all}.").format(n=broken, all=total)
        )


def _headings(respondent: Respondent, questions: int, *, alone: bool) -> list[str]:
    """Return the heading of each answer, below the model's name and seed where one is needed."""
    headings = []
    for run in respondent.runs:
        repeated = len(respondent.runs) > 1 and run.options
        seed = _(", seed {n}").format(n=run.options.seed) if repeated and run.options else ""
        title = "" if alone and not seed else f"# {respondent.title}{seed}\n"
        headings += [HEADING.format(number=n + 1) for n in range(questions)]
        headings[-questions] = title + headings[-questions]
    return headings


def _compute(
    respondent: Respondent,
    missing: Mapping[int, Task],
    page: Page,
    progress: Progress,
    store: Store,
) -> int:
    """Print and keep a respondent's answers; return how many broke off."""
    broken = 0
    streams = respondent.parallel == 1
    with closing(respondent.open()) as engine:
        progress.begin(alone=streams)
        for number, event in _events(engine, respondent, missing):
            if isinstance(event, str):
                progress.piece()
                if streams:
                    page.grow(number, event)
                continue
            heading = page.heading(number)
            if isinstance(event, BrokenAnswer):
                broken += 1
                page.add(number, None)
                say(f"{heading}{event}")
                progress.answered(0)
                continue
            store.add(event)
            page.add(number, _printed(event))
            if event.error:
                say(heading + event.error)
            progress.answered(event.tokens)
        progress.pause()
    return broken


def _events(
    engine: Engine, respondent: Respondent, tasks: Mapping[int, Task]
) -> Iterator[tuple[int, Event]]:
    """Yield the numbers of tasks and what comes of them: pieces of an answer, then its end."""
    from concurrent.futures import ThreadPoolExecutor

    events: queue.SimpleQueue[tuple[int, Event | BaseException]] = queue.SimpleQueue()
    stopped = threading.Event()
    where = respondent.machine()

    def answer(number: int, run: Run, question: Question) -> None:
        try:
            turns, error = _talk(engine, question, run, tell(number))
            answer = Answer(question.id, turns, run, where, error)
            memory = machine.peak() if respondent.local else None
            events.put((number, replace(answer, memory=memory, ended=_now())))
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
        for number, task in tasks.items():
            workers.submit(answer, number, *task)
        running = len(tasks)
        while running:
            number, event = events.get()
            if isinstance(event, BaseException) and not isinstance(event, BrokenAnswer):
                raise event
            running -= not isinstance(event, str)
            yield number, event
    finally:
        stopped.set()
        workers.shutdown(wait=False, cancel_futures=True)


def _talk(
    engine: Engine, question: Question, run: Run, tell: Callable[[str], None]
) -> tuple[tuple[RecordedTurn, ...], str]:
    """Ask a question, turn by turn; return the turns, and why they end early if they do.

    Tells of each piece what is printed of it: nothing, if it is of a thought.
    """
    talk = Conversation(run.system)
    turns: list[RecordedTurn] = []
    for text in question.asks:
        begun = time.monotonic()
        texts = {"thought": "", "answer": ""}
        usage: Usage | None = None
        if turns:
            tell("\n")
        try:
            with closing(engine.stream(talk.messages(text), options(run))) as stream:
                for part in thinking.apart(stream):
                    if isinstance(part, Usage):
                        usage = part
                    else:
                        kind, piece = part
                        texts[kind] += piece
                        tell(piece if kind == "answer" else "")
        except MessageTooLong as failure:
            return (*turns, RecordedTurn(text, "")), failure.what
        if usage is None:
            raise EngineCrashed(_("The engine ended an answer without giving a reason."))
        seconds = time.monotonic() - begun
        turns.append(RecordedTurn(text, texts["answer"], usage, seconds, texts["thought"]))
        talk.turns.append(turns[-1])
    return tuple(turns), ""


def _printed(answer: Answer) -> str:
    return "\n".join(turn.answer for turn in answer.turns)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
