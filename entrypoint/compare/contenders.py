"""From the runs on the disk to what can be compared: contenders, and what all of them answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from statistics import median

from entrypoint.answers import plan as plans
from entrypoint.answers import results
from entrypoint.answers.questions import Question
from entrypoint.answers.results import Answer, Run
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _
from entrypoint.compare.report import ComparedQuestion, Contender, Cost, Reply

NAMED = 10  # of many names, so many are written
Key = tuple[str, tuple[str, ...]]  # an id and what was asked: one changed word is another question


@dataclass(frozen=True)
class Entry:
    """All answers of one model in one setting, found at `place`; no two have the same `name`.

    Where the battery repeated its questions there are several to each, with their own seeds; the
    `run` has none then.
    """

    name: str
    place: Path
    run: Run
    answers: dict[Key, tuple[Answer, ...]]

    @property
    def every(self) -> Iterator[Answer]:
        """All its answers, question by question."""
        return (answer for answers in self.answers.values() for answer in answers)


def gather(places: Iterable[Path]) -> tuple[list[Entry], list[str]]:
    """Return the contenders in the runs at `places`, and notes on what was passed over.

    Raises ConfigFailure if a run cannot be read or has no answers.
    """
    runs: list[tuple[Path, Run, dict[Key, tuple[Answer, ...]]]] = []
    notes: list[str] = []
    for place in dict.fromkeys(places):
        loaded = results.load(place)
        if not loaded.answers:
            raise ConfigFailure(
                _("{path} has no answers.").format(path=place),
                next=_("Make some with: llmdeploy battery --output FOLDER"),
            )
        if loaded.cut:
            notes.append(
                _("The last line of {path} is not whole and was left out.").format(path=place)
            )
        if loaded.repeated:
            notes.append(
                _("{path} answers these again; the first answer counts: {names}.").format(
                    path=place, names=", ".join(sorted({each.id for each in loaded.repeated}))
                )
            )
        notes += _missing(place, loaded.answers)
        runs += [(place, *each) for each in _repeated(loaded.answers)]
    names = _names([(place, run, next(iter(each.values()))[0]) for place, run, each in runs])
    entries = [Entry(name, *each) for name, each in zip(names, runs, strict=True)]
    return entries, notes


def _repeated(answers: Iterable[Answer]) -> Iterator[tuple[Run, dict[Key, tuple[Answer, ...]]]]:
    """Yield the runs of a place with their answers to each question; repetitions are one run."""
    repeats: dict[Run, list[Run]] = {}
    by_run = results.runs(answers)
    for run in by_run:
        repeats.setdefault(results.unseeded(run), []).append(run)
    for unseeded, runs in repeats.items():
        answers_by_key: dict[Key, list[Answer]] = {}
        for run in runs:
            for each in by_run[run]:
                answers_by_key.setdefault((each.id, each.questions), []).append(each)
        run = runs[0] if len(runs) == 1 else unseeded
        yield run, {key: tuple(some) for key, some in answers_by_key.items()}


def _missing(place: Path, answers: Iterable[Answer]) -> Iterator[str]:
    """Yield a note if the battery of a folder did not get all answers that it was told to get."""
    plan = plans.find(place)
    if plan is None:
        return
    keys = {(each.id, each.asks) for each in plan.questions}
    counts = Counter(each.run for each in answers if (each.id, each.questions) in keys)
    totals: Counter[str] = Counter()
    count: Counter[str] = Counter()
    for run in plan.runs:
        totals[run.model] += len(plan.questions)
        count[run.model] += counts[run]
    if count.total() == totals.total():
        return
    lacking = [
        _("{name} has {count} of {all}").format(name=name, count=count[name], all=all_)
        if count[name]
        else _("{name} has none").format(name=name)
        for name, all_ in totals.items()
        if count[name] < all_
    ]
    yield _(
        "{path} has {count} of {all} answers; {lacking}."
        " Get the others with: llmdeploy battery --resume {path}"
    ).format(
        path=plans.folder(place),
        count=count.total(),
        all=totals.total(),
        lacking=_(", ").join(lacking),
    )


def share(
    entries: Sequence[Entry], known: Sequence[Question]
) -> tuple[tuple[ComparedQuestion, ...], list[str]]:
    """Return the questions that every entry answers, checked, and notes on the others.

    What is right, and the order, is told by the `known` questions; others follow. Raises
    ConfigFailure if nothing is shared.
    """
    right = {(each.id, each.asks): each for each in known}
    answered = dict.fromkeys(key for entry in entries for key in entry.answers)
    questions = [
        key for key in (*right, *(key for key in answered if key not in right)) if key in answered
    ]
    shared = {key for key in questions if all(key in entry.answers for entry in entries)}
    notes = list(_unanswered(entries, questions))
    if not shared:
        raise ConfigFailure(
            _("The runs have no question in common."),
            _("Questions are the same if their id and every word are."),
            _("Ask all models the same ones: llmdeploy battery --questions FILE"),
        )
    unknown = [key[0] for key in questions if key in shared and key not in right]
    if unknown:
        notes.append(
            _(
                "Nothing is known about what is right for: {names}."
                " Name their list with --questions."
            ).format(names=_few(unknown))
        )
    return tuple(
        _question(
            number,
            right.get(key) or Question(key[0], turns=key[1]),
            [entry.answers[key] for entry in entries],
        )
        for number, key in _numbered(right, questions)
        if key in shared
    ), notes


def _numbered(right: Iterable[Key], asked: Iterable[Key]) -> Iterator[tuple[int, Key]]:
    """Yield the questions with their numbers in the list; those that it does not have follow it."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys((*right, *asked)), 1)}
    yield from ((numbers[key], key) for key in asked)


def _unanswered(entries: Sequence[Entry], asked: Iterable[Key]) -> Iterator[str]:
    """Yield a note for each group of contenders that left the same questions unanswered."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for key in asked:
        names = tuple(entry.name for entry in entries if key not in entry.answers)
        if names:
            groups.setdefault(names, []).append(key[0])
    for names, ids in groups.items():
        yield _("Not compared, because {names} did not answer: {questions}.").format(
            names=", ".join(names), questions=_few(ids)
        )


def _few(names: Sequence[str]) -> str:
    """Write some names in full, of many the first ones."""
    more = len(names) - NAMED
    listed = ", ".join(names[:NAMED])
    return listed if more <= 0 else _("{names} and {n} more").format(names=listed, n=more)


def contender(
    entry: Entry, questions: Sequence[ComparedQuestion], price: float | None
) -> Contender:
    """Return what the report says of an entry; `price` is in RMB for an hour of its machine."""
    answers = [answer for each in questions for answer in entry.answers[each.id, each.turns]]
    where = _where(answers[0])
    return Contender(entry.name, entry.run.model, where, _facts(entry), _cost(answers, price))


def differences(entries: Sequence[Entry]) -> list[str]:
    """Return notes on what makes a comparison less than fair."""
    machines = {
        (each.machine.cpu, each.machine.threads, each.machine.parallel)
        for entry in entries
        for each in entry.every
        if each.machine
    }
    notes = {
        _("The models were asked with different options."): len(
            {(entry.run.options, entry.run.system) for entry in entries}
        ),
        _(
            "The answers were not computed on one machine in one way: compare the speeds of one"
            " model, or on one machine."
        ): len(machines),
    }
    return [note for note, ways in notes.items() if ways > 1]


def partiality(entries: Sequence[Entry], judge: str | None) -> list[str]:
    """Return a note if the judge is one of those that it judges."""
    if judge in {entry.run.model for entry in entries}:
        return [_("The judge is one of the models compared, and may favour its own answers.")]
    return []


def _question(
    number: int, asked: Question, answers: Sequence[Sequence[Answer]]
) -> ComparedQuestion:
    return ComparedQuestion(
        number=number,
        id=asked.id,
        turns=asked.asks,
        dimensions=("fluency", *(each for each in asked.dimensions if each != "fluency")),
        points=asked.points,
        replies=tuple(
            replace(_reply(asked, first), again=tuple(_reply(asked, each) for each in again))
            for first, *again in answers
        ),
    )


def _reply(asked: Question, answer: Answer) -> Reply:
    from entrypoint.compare.checks import check  # which can run programs

    return Reply(
        turns=tuple(turn.answer for turn in answer.turns),
        checks=check(asked, answer),
        marks={},
        tokens=answer.tokens,
        seconds=answer.seconds,
        finish_reason=answer.finish_reason,
        error=answer.error,
    )


def _names(found: Sequence[tuple[Path, Run, Answer]]) -> list[str]:
    """Name each run by its model, and by as much else as tells it from others of that model."""
    names = [run.model for _place, run, _answer in found]
    traits = [_traits(*each) for each in found]
    for trait in dict.fromkeys(trait for each in traits for trait in each):
        doubled = {name for name in names if names.count(name) > 1}
        for name in doubled:
            same = [n for n, each in enumerate(names) if each == name]
            if len({traits[n].get(trait, "") for n in same}) > 1:
                for n in same:
                    names[n] = ", ".join(part for part in (name, traits[n].get(trait, "")) if part)
    return names


def _where(answer: Answer) -> str:
    """Name the machine that an answer was computed on, "" if it is not known."""
    where = answer.machine
    if where is None or not where.cpu:
        return ""
    return _("{cpu}, {n} threads").format(cpu=where.cpu, n=where.threads)


def _traits(place: Path, run: Run, answer: Answer) -> dict[str, str]:
    """Return what can tell two runs of one model apart, what says most to people first."""
    options = asdict(run.options) if run.options else {}
    return {
        "quantization": run.quantization,
        "engine": run.engine,
        "endpoint": run.endpoint,
        **{
            name: "" if value in (None, ()) else f"{name} {value}"
            for name, value in options.items()
        },
        "system": run.system,
        "files": run.files[0].sha256[:8] if run.files else "",
        "machine": _where(answer),
        "place": str(place),
    }


def _facts(entry: Entry) -> tuple[tuple[str, str], ...]:
    run, every = entry.run, [*entry.every]
    last = every[-1]
    seeds = {each.run.options.seed for each in every if each.run.options}
    options = asdict(run.options) if run.options else {}
    properties = {
        _("model"): run.model,
        _("engine"): " ".join(part for part in (run.engine, run.endpoint) if part),
        _("weights"): run.quantization,
        _("SHA-256"): " ".join(file.sha256[:16] for file in run.files),
        _("options"): ", ".join(
            f"{key} {value}" for key, value in options.items() if value not in (None, ())
        ),
        _("seeds"): ", ".join(map(str, sorted(filter(None, seeds)))) if len(seeds) > 1 else "",
        _("system prompt"): run.system,
        _("answers"): str(entry.place),
    }
    if last.machine:
        properties |= {
            _("processor"): last.machine.cpu,
            _("kernels"): last.machine.kernels,
            _("threads"): str(last.machine.threads),
            _("at once"): str(last.machine.parallel),
        }
    return tuple((name, value) for name, value in properties.items() if value)


def _cost(answers: Sequence[Answer], price: float | None) -> Cost:
    usages = [turn.usage for answer in answers for turn in answer.turns if turn.usage]
    tokens = sum(answer.tokens for answer in answers)
    busy = _busy(answers)
    throughput = tokens / busy if tokens and busy else None
    return Cost(
        tokens=tokens if usages else None,
        characters=round(
            sum(len(turn.answer) for each in answers for turn in each.turns) / len(answers)
        ),
        first_token=median(each.first_token for each in usages) if usages else None,
        rate=median(each.rate for each in usages) if usages else None,
        throughput=throughput,
        memory=max((each.memory for each in answers if each.memory), default=None),
        price=price / 3600 / throughput * 1e6 if price is not None and throughput else None,
    )


def _busy(answers: Sequence[Answer]) -> float:
    """Return for how many seconds at least one of the answers was being computed."""
    spans = sorted(
        (end - answer.seconds, end)
        for answer in answers
        if answer.ended and (end := datetime.fromisoformat(answer.ended).timestamp())
    )
    total, until = 0.0, float("-inf")
    for begin, end in spans:
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total
