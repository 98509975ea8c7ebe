"""The mode `battery`: asks models a list of questions and keeps the answers.

Answers go to standard output as the tutorial prints them. With --output they are also kept in
`answers.jsonl`, one line each, on the disk before the next question is asked: a battery that was
killed goes on where it was. `transcript.md` shows the same answers to people.
"""

from __future__ import annotations

import itertools
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import entrypoint
from entrypoint import catalog, conversation, machine, questions
from entrypoint.arguments import Commands, add_sampling, models_folder, sampling
from entrypoint.catalog import Model
from entrypoint.conversation import Conversation
from entrypoint.engines import Engine, Options, Usage, open_engine
from entrypoint.errors import EngineCrashed
from entrypoint.language import _
from entrypoint.questions import Question
from entrypoint.results import HEADING, Answer, Machine, Run, Sampling, Store, Turn

DEFAULTS = Options(temperature=0, max_tokens=512)


class Progress:
    """A line on standard error for each answer; a live one too where no answer is on screen."""

    def __init__(self, total: int, kept: int) -> None:
        self.total, self.done, self.seconds = total - kept, 0, 0.0
        self.live = sys.stderr.isatty() and not sys.stdout.isatty()

    def piece(self, pieces: int) -> None:
        """Show that the answer grows."""
        if self.live:
            count = _("{done}/{total}  {pieces} pieces").format(
                done=self.done + 1, total=self.total, pieces=pieces
            )
            print(f"\r{count:<40}", end="", file=sys.stderr, flush=True)

    def answered(self, answer: Answer) -> None:
        """Show what the answer took and what is left."""
        self.done += 1
        self.seconds += answer.seconds
        line = _("{done}/{total}  {rate:.1f} tok/s  {left:.0f} s left").format(
            done=self.done,
            total=self.total,
            rate=usage.rate if (usage := answer.turns[-1].usage) else 0,
            left=self.seconds / self.done * (self.total - self.done),
        )
        print(f"\r{line:<40}" if self.live else line, file=sys.stderr, flush=True)


def register(commands: Commands) -> None:
    """Add the command `battery`."""
    parser = commands.add_parser(
        "battery",
        help=_("ask models a list of questions and keep the answers"),
        description=_(
            "Asks each question in a conversation of its own. Unless set otherwise, an answer has"
            " at most {tokens} tokens, and temperature 0 makes a second run give the same ones."
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
        help=_("keep the answers here; run it again to go on where it stopped"),
    )
    parser.add_argument("--system", metavar="TEXT", help=_("what the model is told beforehand"))
    add_sampling(parser, DEFAULTS)
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Ask each model every question that the output folder has no answer to yet."""
    asked = questions.load(arguments.questions)
    models = catalog.load(models_folder())
    chosen = list(dict.fromkeys(models.find(name) for name in arguments.model or [None]))
    for model in chosen:
        machine.require_memory(model, models)
    store = Store(arguments.output)
    options = sampling(arguments)
    runs = {model: _run(model, options, arguments.system) for model in chosen}
    kept = sum(bool(store.find(runs[m], q.asks)) for m, q in itertools.product(chosen, asked))
    progress = Progress(len(chosen) * len(asked), kept)
    if kept:
        _say(_("{path} has {count} of the answers already.").format(path=store.folder, count=kept))
    with closing(store):
        try:
            for model in chosen:
                if len(chosen) > 1:
                    print(f"# {model.display_name}", flush=True)
                _ask_all(model, asked, runs[model], store, progress)
        except KeyboardInterrupt:
            if store.folder:
                _say(_("Interrupted. Run the same command again to go on."))
            raise
        finally:
            store.write_transcript()


def _run(model: Model, options: Options, system: str | None) -> Run:
    return Run(
        model=model.name,
        engine=model.engine,
        quantization=model.quantization,
        files=model.files,
        options=Sampling(options.temperature, options.top_p, options.max_tokens, options.seed),
        system=system or "",
    )


def _machine() -> Machine:
    return Machine(
        cpu=machine.cpu().model,
        kernels="",
        threads=machine.threads(),
        memory=machine.memory().total,
        parallel=1,
        version=entrypoint.__version__,
    )


def _ask_all(
    model: Model, asked: Sequence[Question], run: Run, store: Store, progress: Progress
) -> None:
    """Print all answers in order; compute and keep those that the store does not have."""
    with ExitStack() as stack:
        here = _machine()
        engine: Engine | None = None  # not loaded where nothing is left to ask
        for number, question in enumerate(asked, 1):
            print(HEADING.format(number=number), flush=True)
            if kept := store.find(run, question.asks):
                for turn in kept.turns:
                    print(turn.answer, flush=True)
                continue
            if engine is None:
                engine = stack.enter_context(closing(open_engine(model, models_folder())))
            turns: list[Turn] = []
            for text in question.asks:
                turns.append(_ask(engine, Conversation(run.system, _said(turns)), text, run))
                progress.piece(len(turns))
            answer = Answer(question.id, tuple(turns), run, here, ended=_now())
            store.add(answer)
            progress.answered(answer)


def _said(turns: Sequence[Turn]) -> list[conversation.Turn]:
    return [conversation.Turn(turn.question, turn.answer) for turn in turns]


def _ask(engine: Engine, talk: Conversation, question: str, run: Run) -> Turn:
    """Compute one answer, and print it while it comes."""
    options = Options(**asdict(run.options)) if run.options else DEFAULTS
    start = time.monotonic()
    pieces: list[str] = []
    usage: Usage | None = None
    for piece in engine.stream(talk.messages(question), options):
        if isinstance(piece, Usage):
            usage = piece
        else:
            print(piece, end="", flush=True)
            pieces.append(piece)
    print(flush=True)
    if usage is None:
        raise EngineCrashed(_("The engine ended an answer without a word about why."))
    return Turn(question, "".join(pieces), usage, time.monotonic() - start)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
