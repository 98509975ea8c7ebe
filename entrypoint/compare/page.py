"""The report for people: one HTML file without script or address, and the same as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrypoint.common import machine
from entrypoint.common.language import _, language
from entrypoint.common.visible import visible
from entrypoint.compare import advice, chance, charts
from entrypoint.compare.judge import CRITERIA
from entrypoint.compare.report import Contender, Finding, Judging, Reply, Report, Score

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent
PROOFS = 20  # numbers named beside a sentence; report.json has all
CHARTED = 20  # questions: of more, a bar each shows nothing, and a phone folds their list
PATTERNS = 6  # how many fills the style sheet tells apart; names stand beside them anyway


def html(report: Report) -> str:
    """Return the page."""
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            _told(report),
            css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
            charts=_charts(report),
            fill=lambda place: place % PATTERNS,
        )
    )


def markdown(report: Report) -> str:
    """Return the text."""
    return _environment().get_template("report.md.jinja").render(_told(report))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["_"] = _
    environment.filters |= {"visible": visible, "fenced": fenced, "literal": literal}
    return environment


def _told(report: Report) -> dict[str, object]:
    """Return what both templates write, besides their own texts."""
    names = {name for each in report.questions for name in each.dimensions}
    advised = any(each.kind == "advice" for each in report.findings)
    return {
        "report": report,
        "title": " / ".join(each.name for each in report.contenders),
        "titled": (titled := _titles()),
        "sections": [each for each in titled.items() if each[0] != "advice" or advised],
        "many": len(report.questions) > CHARTED,
        "summary": _("Questions compared: {n}").format(n=len(report.questions)),
        "tells": _tells(len(report.questions)),
        "method": tuple(_method(report)),
        "trust": trust(report.judging) if report.judging else "",
        "ended": _ended,
        "proofs": PROOFS,
        "further": _further,
        "lang": {"zh": "zh-CN", "en": "en"}[language()],
        "costs": _costs(report.contenders),
        "shown": [
            (row, each)
            for row, each in enumerate(report.dimensions)
            if each.name in names or any(score != Score() for score in each.scores)
        ],
        "opinions": tuple(CRITERIA),
        "told": advice.told,
        "anchor": anchor,
        "sources": {
            "person": _("by hand"),
            "counted": _("counted"),
            "judge": _("a judge's opinion"),
        },
        "titles": {each.name: each.title for each in report.dimensions},
    }


def _titles() -> dict[str, str]:
    """Return the headings of the page, by the ids of its sections."""
    return {
        "advice": _("Which to use when"),
        "models": _("The models"),
        "dimensions": _("Dimensions"),
        "speed": _("Speed and cost"),
        "charts": _("Charts"),
        "questions": _("Questions and answers"),
        "method": _("How this was measured"),
    }


def _tells(questions: int) -> str:
    """Say what so many questions can tell of two models."""
    if questions < chance.FEWEST:
        return _(
            "So few questions tell no two models apart: any lead may be chance."
            " It takes at least {n}."
        ).format(n=chance.FEWEST)
    return _(
        "Of {all} questions, a model is ahead beyond chance only if it does better on at least"
        " {better} of those on which the two differ, or on all of {n}."
    ).format(all=questions, better=chance.needed(questions), n=chance.FEWEST)


def _method(report: Report) -> list[str]:
    """Return how each kind of number came about."""
    notes = [
        _(
            "Counted points are found by programs: what a right answer says, programs that run,"
            " language, repetition, answers that are whole."
        ),
        _(
            "Sentences are written from the numbers by fixed rules. A lead counts from {lead:.0%}"
            " on, and only if equals would show it in less than {sure:.0%} of comparisons (a sign"
            " test over questions)."
        ).format(lead=advice.LEAD, sure=chance.SURE),
        _(
            "In brackets stands the 95 % interval of each share, with questions taken as drawn by"
            " chance. Open points count for nothing: no program can tell whether they are met."
        ),
        _("Speed is that of the machines and settings of the runs."),
    ]
    if any(reply.marks for question in report.questions for reply in question.replies):
        notes.append(
            _(
                "Marks by hand take precedence over counted points. Only those count that every"
                " model has for the same question and dimension."
            )
        )
    if (judging := report.judging) is None:
        notes.append(
            _("No judge was asked: what is only a matter of opinion is not judged. See --judge.")
        )
    else:
        notes.append(
            _(
                "The judge was {judge}. Verdicts: {verdicts}, of which {reused} from earlier;"
                " unclear {unclear}, refused {refused}, failed {failed}: these count for nothing."
                " Pairs decided: {pairs}; in {flipped} of them the verdict flipped with the order,"
                " which makes a tie."
            ).format(**asdict(judging))
        )
    return notes


def trust(judging: Judging) -> str:
    """Say how far a judge agrees with what was counted, and what that is worth."""
    if judging.kappa is None or judging.agreement is None or judging.first is None:
        return _(
            "Nothing was counted that the judge could be measured by: its verdicts are unproven."
        )
    text = _(
        "The judge beside the counted points, on {measured} pairs: agreement {agreement:.0%},"
        " Cohen's kappa {kappa:.2f}. Of its verdicts for one of two answers, {first:.0%} were for"
        " the one that it was shown first."
    ).format(**asdict(judging))
    if judging.kappa >= chance.TRUSTED:
        return text
    return f"{text} {_('With a kappa below 0.4 a judge is no better than none.')}"


def _further(finding: Finding) -> str:
    """Say how many numbers a sentence stands on besides those that are named."""
    more = len(finding.evidence) - PROOFS
    return _(" and {n} more").format(n=more) if more > 0 else ""


def _ended(reply: Reply) -> str:
    """Write what an answer took and why it ended, as far as it is known."""
    reasons = {
        "stop": _("ended by the model"),
        "length": _("cut off at the limit of tokens"),
        "error": _("broken off"),
    }
    parts = (
        _("{n} tokens").format(n=reply.tokens) if reply.tokens else "",
        _("{seconds:.1f} s").format(seconds=reply.seconds) if reply.seconds else "",
        reasons.get(reply.finish_reason, ""),
    )
    return _(", ").join(part for part in parts if part)


def anchor(path: str) -> str:
    """Return the id of the element that shows the number at a JSON pointer."""
    return path.strip("/").replace("/", "-")


def fenced(text: str) -> str:
    """Return `text` as a Markdown code block that no line of it can close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{visible(text)}\n{fence}"


def literal(text: str) -> str:
    """Return `text` on one line, with every mark escaped that means something to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", " ".join(visible(text).split()))


def _costs(contenders: Sequence[Contender]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the table of speed and cost: each row's title, and anchor and text of its cells."""
    forms: dict[str, tuple[str, Callable[[Any], str]]] = {
        "first_token": (_("first token, s"), "{:.2f}".format),
        "rate": (_("tokens a second, one answer"), "{:.1f}".format),
        "throughput": (_("tokens a second, whole run"), "{:.1f}".format),
        "tokens": (_("tokens written"), "{:,}".format),
        "characters": (_("characters an answer"), "{:,}".format),
        "memory": (_("memory"), machine.size),
        "price": (_("RMB for a million tokens"), "{:.2f}".format),
    }
    rows = []
    if len({contender.machine for contender in contenders}) > 1:
        where = [
            (anchor(advice.pointer("contenders", n, "machine")), each.machine or "-")
            for n, each in enumerate(contenders)
        ]
        rows.append((_("the machine"), where))
    for figure, (title, form) in forms.items():
        values = [getattr(contender.cost, figure) for contender in contenders]
        if any(value is not None for value in values):
            cells = [
                (
                    anchor(advice.pointer("contenders", n, "cost", figure)),
                    "-" if value is None else form(value),
                )
                for n, value in enumerate(values)
            ]
            rows.append((title, cells))
    return rows


def _charts(report: Report) -> list[tuple[str, Markup]]:
    """Return the titles and drawings of the charts that have something to show."""
    from markupsafe import Markup

    places = range(len(report.contenders))
    compared = [each for each in report.dimensions if each.source]
    judged = [each for each in report.dimensions if any(score.judge for score in each.scores)]
    plans: list[tuple[str, list[str], list[list[float | None]], str]] = [
        (
            _("Scores by dimension"),
            [each.title for each in compared],
            [[each.scores[n].share(each.source) for each in compared] for n in places],
            "{:.0%}",
        ),
        (
            _("Pairs won before the judge"),
            [each.title for each in judged],
            [[each.scores[n].share("judge") for each in judged] for n in places],
            "{:.0%}",
        ),
        (
            _("Tokens a second"),
            [""],
            [[contender.cost.rate] for contender in report.contenders],
            "{:.1f}",
        ),
        (
            _("Seconds to the first token"),
            [""],
            [[contender.cost.first_token] for contender in report.contenders],
            "{:.2f}",
        ),
        (
            _("Length of answers in characters"),
            [str(question.number) for question in report.questions],
            [[len("".join(each.replies[n].turns)) for each in report.questions] for n in places],
            "{:,}",
        ),
    ]
    return [
        # Its parts are numbers, our own texts and names that the XML writer escapes.
        (title, Markup(charts.bars(title, labels, series, form)))  # noqa: S704
        for title, labels, series, form in plans
        if len(labels) <= CHARTED
        if any(value is not None for values in series for value in values)
    ]
