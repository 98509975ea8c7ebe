"""What the bench measured, as a Markdown table and a list of promises held or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

Runs = Mapping[str, Sequence[float]]  # the figures of one engine: name -> one value per round


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure's name in `Runs`, its title, and how to write a value."""

    figure: str
    title: str
    form: str


@dataclass(frozen=True)
class Promise:
    """A bound: `value` must be at least `low` and at most `high`."""

    title: str
    value: float
    low: float = float("-inf")
    high: float = float("inf")

    @property
    def held(self) -> bool:
        """Whether the value is within its bounds."""
        return self.low <= self.value <= self.high


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of ours / theirs, round by round.

    Both of a round are measured one after the other, so what else the machine did cancels out.
    """
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


def excess(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of ours - theirs, round by round."""
    return median(mine - other for mine, other in zip(ours, theirs, strict=True))


def table(rows: Iterable[Row], ours: Runs, peers: Mapping[str, Runs]) -> str:
    """Return a Markdown table: our ratio to each peer first, then the medians.

    A peer that has no value for a figure gets a dash.
    """
    heads = [
        "",
        *(_("ours : {peer}").format(peer=peer) for peer in peers),
        "llmdeploy",
        *peers,
    ]
    lines = [
        [
            row.title,
            *(_ratio(ours, runs, row.figure) for runs in peers.values()),
            *(_median(runs, row) for runs in (ours, *peers.values())),
        ]
        for row in rows
    ]
    return markdown(heads, lines)


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns but the first are aligned to the right."""
    rule = ["---", *("---:" for _head in heads[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *lines))


def verdicts(promises: Iterable[Promise]) -> str:
    """Return one Markdown list item per promise: held or not, value, bound."""
    return "\n".join(
        _("* {verdict}: {title}: {value:.2f} ({bound})").format(
            verdict=_("held") if each.held else _("NOT HELD"),
            title=each.title,
            value=each.value,
            bound=_bound(each),
        )
        for each in promises
    )


def require(promises: Iterable[Promise]) -> None:
    """Raise CommandFailed, naming them, if promises are not held."""
    if broken := [each.title for each in promises if not each.held]:
        raise CommandFailed(
            _("Not all promises are held: {titles}.").format(titles=", ".join(broken)),
            next=_("Measure again when nothing else runs; if it stays, a change made it slower."),
        )


def _bound(promise: Promise) -> str:
    if promise.low > float("-inf"):
        return _("at least {bound:g}").format(bound=promise.low)
    return _("at most {bound:g}").format(bound=promise.high)


def _ratio(ours: Runs, theirs: Runs, figure: str) -> str:
    return f"{ratio(ours[figure], theirs[figure]):.2f}" if figure in theirs else "-"


def _median(runs: Runs, row: Row) -> str:
    return row.form.format(median(runs[row.figure])) if row.figure in runs else "-"
