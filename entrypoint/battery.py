"""The mode `battery`: asks models a list of questions and keeps the answers.

Answers go to standard output as the tutorial prints them. With --output they are also kept in
`answers.jsonl`, one line each, on the disk before the next question is asked: a battery that was
killed goes on where it was. `transcript.md` shows the same answers to people.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import entrypoint
from entrypoint import catalog, disk, machine, questions
from entrypoint.arguments import Commands, add_sampling, models_folder, sampling, shown
from entrypoint.catalog import Model
from entrypoint.engines import Engine, Message, Options, Usage, open_engine
from entrypoint.errors import ConfigFailure, EngineCrashed
from entrypoint.language import _
from entrypoint.questions import Question

HEADING = "问题{number}："  # the tutorial's, whatever the user's language
LINES = "answers.jsonl"
DEFAULTS = Options(temperature=0, max_tokens=512)


@dataclass(frozen=True)
class Setting:
    """All that decides an answer besides the model and the question."""

    options: Options
    system: str | None

    def conversation(self, question: Question) -> list[Message]:
        """Return the messages that ask `question`."""
        asked: Message = {"role": "user", "content": question.text}
        return [{"role": "system", "content": self.system}, asked] if self.system else [asked]


@dataclass(frozen=True)
class Answer:
    """One line of answers.jsonl; `seconds` from question to end, `sha256` of the model's file."""

    id: str
    question: str
    answer: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token: float
    rate: float
    seconds: float
    model: str
    sha256: str
    engine: str
    version: str
    options: dict[str, Any]


class Store:
    """The answers so far; with a folder, also those of earlier runs, and on the disk."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.answers: list[Answer] = []
        if folder:
            path = folder / LINES
            with disk.writing(path):
                folder.mkdir(parents=True, exist_ok=True)
                with path.open("a+b") as file:
                    file.seek(0)
                    content = file.read()
                    whole = content.rfind(b"\n") + 1  # what follows was cut off by a kill
                    file.truncate(whole)
            lines = content[:whole].splitlines()
            self.answers = [_parse(line, path, n) for n, line in enumerate(lines, 1)]
            self.write_transcript()

    def find(self, model: Model, question: Question, setting: Setting) -> Answer | None:
        """Return the answer of the same model file to the same question in the same setting."""
        wanted = (model.files[0].sha256, question.text, _flat(setting))
        found = (
            each for each in self.answers if (each.sha256, each.question, each.options) == wanted
        )
        return next(found, None)

    def add(self, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        self.answers.append(answer)
        if self.folder:
            path = self.folder / LINES
            line = json.dumps(asdict(answer), ensure_ascii=False).encode() + b"\n"
            with disk.writing(path), path.open("ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

    def write_transcript(self) -> None:
        """Write transcript.md anew, in one step."""
        if self.folder:
            path = self.folder / "transcript.md"
            scratch = path.with_suffix(".tmp")
            with disk.writing(path):
                scratch.write_text(transcript(self.answers), encoding="utf-8")
                os.replace(scratch, path)


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
            rate=answer.rate,
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
    setting = Setting(sampling(arguments), arguments.system)
    store = Store(arguments.output)
    kept = sum(bool(store.find(*each, setting)) for each in itertools.product(chosen, asked))
    progress = Progress(len(chosen) * len(asked), kept)
    if kept:
        _say(_("{path} has {count} of the answers already.").format(path=store.folder, count=kept))
    try:
        for model in chosen:
            if len(chosen) > 1:
                print(f"# {model.display_name}", flush=True)
            _ask_all(model, asked, setting, store, progress)
    except KeyboardInterrupt:
        if store.folder:
            _say(_("Interrupted. Run the same command again to go on."))
        raise
    finally:
        store.write_transcript()


def _ask_all(
    model: Model, asked: Sequence[Question], setting: Setting, store: Store, progress: Progress
) -> None:
    """Print all answers in order; compute and keep those that the store does not have."""
    with ExitStack() as stack:
        engine: Engine | None = None  # not loaded where nothing is left to ask
        for number, question in enumerate(asked, 1):
            print(HEADING.format(number=number), flush=True)
            if kept := store.find(model, question, setting):
                print(kept.answer, flush=True)
                continue
            if engine is None:
                engine = stack.enter_context(closing(open_engine(model, models_folder())))
            answer = _ask(engine, model, question, setting, progress)
            store.add(answer)
            progress.answered(answer)


def _ask(
    engine: Engine, model: Model, question: Question, setting: Setting, progress: Progress
) -> Answer:
    """Compute one answer, and print it while it comes."""
    start = time.monotonic()
    pieces: list[str] = []
    usage: Usage | None = None
    for piece in engine.stream(setting.conversation(question), setting.options):
        if isinstance(piece, Usage):
            usage = piece
        else:
            print(piece, end="", flush=True)
            pieces.append(piece)
            progress.piece(len(pieces))
    print(flush=True)
    if usage is None:
        raise EngineCrashed(_("The engine ended an answer without a word about why."))
    return Answer(
        id=question.id,
        question=question.text,
        answer="".join(pieces),
        **asdict(usage),
        seconds=time.monotonic() - start,
        model=model.name,
        sha256=model.files[0].sha256,
        engine=model.engine,
        version=entrypoint.__version__,
        options=_flat(setting),
    )


def transcript(answers: Sequence[Answer]) -> str:
    """Return the answers as Markdown: a chapter for each model and setting, in order."""
    chapters: dict[str, list[Answer]] = {}
    for answer in answers:
        chapters.setdefault(_chapter(answer), []).append(answer)
    return "\n".join(
        title + "".join(_section(number, answer) for number, answer in enumerate(chapter, 1))
        for title, chapter in chapters.items()
    )


def _chapter(answer: Answer) -> str:
    options = ", ".join(f"{name} {value}" for name, value in answer.options.items())
    return f"# {answer.model}\n\n`{answer.sha256}`, {answer.engine}, {options}\n"


def _section(number: int, answer: Answer) -> str:
    cost = _("{tokens} tokens in {seconds:.1f} s, {rate:.1f} tok/s, ended by {reason}").format(
        tokens=answer.completion_tokens,
        seconds=answer.seconds,
        rate=answer.rate,
        reason=answer.finish_reason,
    )
    # Quoted, so that an answer's own headings and open code blocks stay inside it.
    quoted = "\n".join(f"> {line}".rstrip() for line in answer.answer.splitlines())
    return f"\n## {HEADING.format(number=number)}{answer.question}\n\n{quoted}\n\n{cost}\n"


def _parse(line: bytes, path: Path, number: int) -> Answer:
    try:
        return Answer(**json.loads(line))
    except (ValueError, TypeError):
        raise ConfigFailure(
            _("{path}, line {number} is not an answer of this program.").format(
                path=path, number=number
            ),
            next=_("Remove that line, or choose another --output folder."),
        ) from None


def _flat(setting: Setting) -> dict[str, Any]:
    return {**shown(setting.options), "system": setting.system}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
