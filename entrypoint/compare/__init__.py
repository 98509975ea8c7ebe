"""The mode `compare`: puts runs of the battery side by side and writes a report.

One noun a module: `contenders` reads the runs, `marks` what a person says, `judge` asks for
opinions, `scores` adds up, `advice` says what follows, `page` and `charts` show it. `report` has
the data that goes from one to the next.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from entrypoint import mounted
from entrypoint.answers import questions
from entrypoint.answers.questions import Question
from entrypoint.arguments import Commands, between, models_folder
from entrypoint.common import files, machine
from entrypoint.common.errors import UsageFailure
from entrypoint.common.language import _
from entrypoint.common.visible import say
from entrypoint.compare import advice, contenders, marks, page, scores
from entrypoint.compare.contenders import Entry
from entrypoint.compare.judge import OPTIONS, Judge, Verdict, Verdicts
from entrypoint.compare.report import SCHEMA, ComparedQuestion, Judging, Report
from entrypoint.engines import Engine, advised, open_engine

VERDICTS = "verdicts.jsonl"


def register(commands: Commands) -> None:
    """Add the command `compare`."""
    parser = commands.add_parser(
        "compare",
        help=_("compare runs of the battery in a report"),
        description=_(
            "Writes report.html, report.md and report.json. What can be counted is counted; what is"
            " opinion comes from a judge or from you, and is shown as such."
        ),
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help=_("a folder that the battery wrote, or its answers.jsonl"),
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help=_("folder to write the report to"),
    )
    parser.add_argument("--lang", choices=("zh", "en"), help=_("the report's language"))
    parser.add_argument(
        "--questions",
        type=questions.named,
        metavar="FILE",
        help=_(
            "the list that the runs answered, which says what is right (default: the program's own)"
        ),
    )
    parser.add_argument(
        "--judge", metavar="NAME", help=_("a model that says which of two answers is better")
    )
    parser.add_argument(
        "--judge-endpoint",
        metavar="URL",
        help=_("the judge is behind OpenAI's API; its key is in the variable LLMDEPLOY_API_KEY"),
    )
    parser.add_argument(
        "--annotate",
        type=Path,
        metavar="FILE",
        help=_("your own marks, a CSV file; it is written if it is not there"),
    )
    parser.add_argument(
        "--price",
        action="append",
        type=between(float, 0, 1e6),
        metavar="RMB",
        help=_(
            "what the machine costs an hour, for the price of a million tokens; repeat it for runs"
            " on several machines, in their order"
        ),
    )
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Compare the runs and write the report; print where it is."""
    if arguments.lang:
        os.environ["LLMDEPLOY_LANG"] = arguments.lang
    if arguments.judge_endpoint and not arguments.judge:
        raise UsageFailure(
            _("Which of the endpoint's models?"), next=_("Name it with: --judge NAME")
        )
    places = list(dict.fromkeys(arguments.runs))
    prices = _prices(arguments.price or [], places)
    entries, notes = contenders.gather(places)
    for note in notes:
        say(note)
    compared, passed_over = contenders.share(entries, _known(arguments.questions, entries))
    names = [entry.name for entry in entries]
    store = Verdicts(arguments.output / VERDICTS)
    judge = _judge(arguments, store) if arguments.judge else None
    with files.writing(arguments.output):
        arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.annotate:
        compared = _annotated(arguments.annotate, compared, names)
    verdicts, judging = _judged(judge, compared, names)
    dimensions = scores.dimensions(compared, names, verdicts)
    entrants = tuple(
        contenders.contender(each, compared, prices.get(each.place)) for each in entries
    )
    _write(
        arguments.output,
        Report(
            schema=SCHEMA,
            contenders=entrants,
            dimensions=dimensions,
            questions=compared,
            findings=advice.findings(entrants, dimensions, compared),
            judging=judging,
            notes=(
                *notes,
                *passed_over,
                *contenders.differences(entries),
                *contenders.partiality(entries, arguments.judge),
            ),
        ),
    )


def _known(path: Path | None, entries: Sequence[Entry]) -> tuple[Question, ...]:
    """Return the questions of a list; of ours, without one, those of which any was answered."""
    lists = [questions.load(each) for each in ([path] if path else questions.LISTS.values())]
    keys = {key for entry in entries for key in entry.answers}
    return tuple(
        question
        for listed in lists
        if path or any((each.id, each.asks) in keys for each in listed)
        for question in listed
    )


def _prices(typed: Sequence[float], places: Sequence[Path]) -> dict[Path, float]:
    """Return the price of each run's machine; raise UsageFailure if their number is wrong."""
    if len(typed) not in {0, 1, len(places)}:
        raise UsageFailure(
            _("There are {n} prices for {all} runs.").format(n=len(typed), all=len(places)),
            next=_("Give one --price for all, or one for each RUN, in their order."),
        )
    return dict(zip(places, [*typed] * len(places) if len(typed) == 1 else typed, strict=False))


def _annotated(
    path: Path, compared: tuple[ComparedQuestion, ...], names: Sequence[str]
) -> tuple[ComparedQuestion, ...]:
    if path.exists():
        return marks.read(path, compared, names)
    marks.write(path, compared, names)
    say(
        _(
            "Fill in the column mark of {path}, from 0 to 10, and run the same command again."
        ).format(path=path)
    )
    return compared


def _judge(arguments: Namespace, kept: Verdicts) -> Judge:
    """Return the judge that was named: a model of the catalogue, or one behind an endpoint."""
    if arguments.judge_endpoint:
        from entrypoint.engines.endpoint import Endpoint

        endpoint = Endpoint(arguments.judge_endpoint, arguments.judge)
        return Judge(f"{arguments.judge} {arguments.judge_endpoint}", lambda: endpoint, kept)
    models = mounted.load(models_folder())
    model = models.find(arguments.judge)
    machine.require_memory(model, models)

    def opened() -> Engine:
        say(_("Loading {name}...").format(name=model.display_name))
        return open_engine(model, models_folder())

    file = model.files[0]
    think = advised(model, OPTIONS).think
    return Judge(f"{model.name} {file.sha256[:16] or file.size}", opened, kept, think)


def _judged(
    judge: Judge | None, compared: Sequence[ComparedQuestion], names: Sequence[str]
) -> tuple[list[Verdict], Judging | None]:
    """Return a judge's verdicts and their tally; none without a judge."""
    if judge is None:
        return [], None
    verdicts = []
    with closing(judge):
        for verdict in judge.hear(compared, names):
            verdicts.append(verdict)
            if sys.stderr.isatty():
                progress = _("Verdicts: {n}").format(n=len(verdicts))
                print(f"\r{progress}", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return verdicts, scores.judging(verdicts, judge.name, judge.reused, compared, names)


def _write(folder: Path, report: Report) -> None:
    """Write the report in its three forms, each in one step."""
    forms = {
        "report.json": json.dumps(asdict(report), ensure_ascii=False, indent=2) + "\n",
        "report.md": page.markdown(report),
        "report.html": page.html(report),
    }
    for name, text in forms.items():
        files.write(folder / name, text.encode(errors="replace"))
    print(folder / "report.html")
