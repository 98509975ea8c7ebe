"""Answers on the disk: one JSON line each, which says all about itself.

`battery` writes `answers.jsonl`, an answer at a time; `compare` reads it. docs/results.schema.json
is the format, made from the dataclasses here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import entrypoint
from entrypoint.common import machine
from entrypoint.common.catalog import ModelFile
from entrypoint.common.errors import ConfigFailure, NotWritable
from entrypoint.common.files import lock, writing
from entrypoint.common.language import _
from entrypoint.common.tomlfile import record
from entrypoint.conversation import Turn
from entrypoint.engines import Usage, find

SCHEMA = 1
LINES = "answers.jsonl"


@dataclass(frozen=True)
class Sampling:
    """Those of the engine's options that a user can set; None leaves one to the engine."""

    temperature: float
    top_p: float
    max_tokens: int | None
    seed: int | None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    think: int | None = None


@dataclass(frozen=True)
class Run:
    """All that decides an answer besides the question: answers of equal runs belong together.

    `files` are those of the model, none for one behind an `endpoint`, which is its address.
    `engine` is "import" for a transcript, of which no more than `model` is known. `options` are
    None there, too.
    """

    model: str
    engine: str
    quantization: str = ""
    endpoint: str = ""
    files: tuple[ModelFile, ...] = ()
    options: Sampling | None = None
    system: str = ""


@dataclass(frozen=True)
class Machine:
    """Where an answer was computed: decides how fast, and `parallel` the last bits of numbers.

    `kernels` is the instruction set that the engine took, `memory` the machine's, in bytes,
    `parallel` how many conversations were computed at once, `version` the program's.
    """

    cpu: str
    kernels: str
    threads: int
    memory: int
    parallel: int
    version: str


def here(engine: str, parallel: int) -> Machine:
    """Return this machine, on which an engine answers so many at once."""
    backend = find(engine)
    return Machine(
        cpu=machine.cpu().model,
        kernels=backend.kernels() if backend else "",
        threads=machine.threads(),
        memory=machine.memory().total or 0,
        parallel=parallel,
        version=entrypoint.__version__,
    )


@dataclass(frozen=True)
class RecordedTurn(Turn):
    """A turn as the results keep it, with what it cost.

    `thought` is what the model wrote before it answered; its tokens count in `usage`, which is None
    like `seconds`, the time from the question to the end of the answer, if nobody measured them.
    """

    usage: Usage | None = None
    seconds: float | None = None
    thought: str = ""


@dataclass(frozen=True)
class Answer:
    """One line: how one question of a list was answered, in one turn or in several.

    `error` tells why it was not, in which case the last turn's answer is what had come till then.
    `memory` is the most that this program and its engine had taken when the answer ended, in
    bytes; None if the model runs elsewhere. `ended` is the time, in UTC, as ISO 8601 writes it.
    """

    id: str
    turns: tuple[RecordedTurn, ...]
    run: Run
    machine: Machine | None = None
    error: str = ""
    memory: int | None = None
    ended: str = ""

    @property
    def questions(self) -> tuple[str, ...]:
        """What was asked, turn by turn."""
        return tuple(turn.question for turn in self.turns)

    @property
    def text(self) -> str:
        """The answer to the last question, which is the one that counts."""
        return self.turns[-1].answer

    @property
    def finish_reason(self) -> str:
        """Why the answer ended: "stop", "length", "error", or "" if nobody knows."""
        if self.error:
            return "error"
        usage = self.turns[-1].usage
        return usage.finish_reason if usage else ""

    @property
    def tokens(self) -> int:
        """How many tokens were written, over all turns; 0 if nobody counted."""
        return sum(turn.usage.completion_tokens for turn in self.turns if turn.usage)

    @property
    def seconds(self) -> float:
        """How long it took, over all turns; 0 if nobody measured."""
        return sum(turn.seconds or 0.0 for turn in self.turns)


@dataclass(frozen=True)
class Loaded:
    """What a file has: `answers`, without those that say again what an earlier line said.

    `cut` tells that the last line was not whole, as after a kill, and was left out.
    """

    answers: tuple[Answer, ...]
    repeated: tuple[Answer, ...] = ()
    cut: bool = False


def load(path: Path) -> Loaded:
    """Read a run's folder, or the file itself; raise ConfigFailure naming the line that is wrong.

    Raises ConfigFailure, too, if there is no such file, or a newer program wrote it.
    """
    path = path / LINES if path.is_dir() else path
    return _parse(content(path), path)


def content(path: Path) -> bytes:
    """Return what a battery wrote into a file; raise ConfigFailure if that cannot be had."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigFailure(
            _("{path} does not exist.").format(path=path),
            next=_("Make it with: llmdeploy battery --output FOLDER"),
        ) from None
    except OSError as error:
        raise ConfigFailure(
            _("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)
        ) from None


def runs(answers: Iterable[Answer]) -> dict[Run, tuple[Answer, ...]]:
    """Return the answers of each run, both in the order in which they came."""
    by_run: dict[Run, list[Answer]] = {}
    for answer in answers:
        by_run.setdefault(answer.run, []).append(answer)
    return {run: tuple(each) for run, each in by_run.items()}


def unseeded(run: Run) -> Run:
    """Return a run without its seed: runs that differ in nothing else repeat each other."""
    return replace(run, options=replace(run.options, seed=None)) if run.options else run


class Store:
    """The answers so far; with a folder, also those of earlier times, and on the disk.

    While it is open nobody else can open the folder. Raises NotWritable, DiskFull, and what `load`
    raises.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._answers: dict[tuple[Run, tuple[str, ...]], Answer] = {}
        self._locked: BinaryIO | None = None
        if folder:
            path = folder / LINES
            with writing(path):
                folder.mkdir(parents=True, exist_ok=True)
                self._locked = path.open("a+b")
            try:
                self._open(self._locked, path)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Let others write; safe to call twice."""
        if self._locked:
            self._locked.close()

    def find(self, run: Run, questions: Sequence[str]) -> Answer | None:
        """Return the answer that the same run gave to the same questions."""
        return self._answers.get((run, tuple(questions)))

    def add(self, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns."""
        self._answers.setdefault((answer.run, answer.questions), answer)
        if self.folder:
            path = self.folder / LINES
            with writing(path), path.open("ab") as file:
                file.write(dump(answer))
                file.flush()
                os.fsync(file.fileno())

    def _open(self, file: BinaryIO, path: Path) -> None:
        try:
            lock(file, path, wait=False)
        except BlockingIOError:
            raise NotWritable(
                _("Another battery is writing {path}.").format(path=path),
                next=_("Wait for it to end, or choose another --output folder."),
            ) from None
        with writing(path):
            file.seek(0)
            content = file.read()
            for answer in _parse(content, path).answers:
                self._answers.setdefault((answer.run, answer.questions), answer)
            file.truncate(content.rfind(b"\n") + 1)  # what follows was cut off by a kill


def dump(answer: Answer) -> bytes:
    """Return the line of an answer."""
    line = {"schema": SCHEMA, **asdict(answer)}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _parse(content: bytes, path: Path) -> Loaded:
    whole = content.rfind(b"\n") + 1
    answers: dict[tuple[Run, str, tuple[str, ...]], Answer] = {}
    repeated: list[Answer] = []
    for number, line in enumerate(content[:whole].splitlines(), 1):
        answer = _answer(line, path, number)
        key = (answer.run, answer.id, answer.questions)
        if key in answers:
            repeated.append(answer)
        else:
            answers[key] = answer
    return Loaded(tuple(answers.values()), tuple(repeated), cut=whole < len(content))


def _answer(line: bytes, path: Path, number: int) -> Answer:
    where = _("{path}, line {number}").format(path=path, number=number)
    try:
        data: dict[str, Any] = json.loads(line)
        schema = data.pop("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise ConfigFailure(
                _("{path} has format {found}; this program reads format {known}.").format(
                    path=where, found=schema, known=SCHEMA
                ),
                next=_("Read it with the version of llmdeploy that wrote it, or a newer one."),
            )
        answer = record(Answer, data, where)
        if not answer.turns:
            raise ValueError  # noqa: TRY301 - an answer to nothing is as strange as no JSON
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigFailure(
            _("{where} is not an answer of this program.").format(where=where),
            next=_("Remove that line, or choose another folder."),
        ) from None
    return answer
