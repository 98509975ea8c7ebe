"""`bench --serve`: our server beside llama.cpp's own, and whether it stands a long busy time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from builder import up
from builder.bench import engines, figures
from builder.bench.figures import Promise, Row
from builder.settings import Settings
from builder.stage import report
from builder.stage.run import run
from entrypoint.common.language import _

LEVELS = (1, 4, 16)  # clients
BACK = 15  # seconds
# What bench/serve.py is given to do; `soak` is in seconds.
PLAN: dict[str, Any] = {
    "model": None,
    "levels": LEVELS,
    "rounds": 5,
    "tokens": 64,
    "parallel": 16,
    "context": 512,
    "clients": 16,
    "soak": 600,
}

Found = Mapping[str, Any]


def run_all(settings: Settings) -> None:
    """Print the figures and each promise; raise CommandFailed if one is not held."""
    program = up.on_host(settings)
    with report.step(_("Our server beside llama.cpp's, then {minutes} busy minutes").format(
        minutes=PLAN["soak"] // 60
    )):  # fmt: skip
        script = engines.SCRIPTS / "serve.py"
        measures = json.loads(run([program.python, script, json.dumps(PLAN)], env=program.env))
    bounds = promises(measures)
    print("\n\n".join((table(measures), soak(measures["soak"]), figures.verdicts(bounds))))
    figures.require(bounds)


def promises(measures: Found) -> list[Promise]:
    """Return what must hold of all that bench/serve.py found."""
    ours, native = (measures["servers"][name] for name in ("llmdeploy", engines.NATIVE))
    busy = measures["soak"]
    return [
        *(
            Promise(
                _("tokens per second with {clients} at once, ours : llama.cpp's server").format(
                    clients=clients
                ),
                figures.ratio(ours[f"rate-{clients}"], native[f"rate-{clients}"]),
                low=0.95,
            )
            for clients in LEVELS
        ),
        Promise(
            _("added latency per token, ms"),
            figures.excess(ours["token-1"], native["token-1"]),
            high=1,
        ),
        Promise(
            _("memory after the busy time : after its first tenth"),
            busy["memory"] / busy["settled"],
            high=1.05,
        ),
        Promise(_("wrong answers in the busy time"), busy["wrong"], high=0),
        Promise(
            _("refused or unanswered requests in the busy time"),
            busy["refused"] + busy["unanswered"],
            high=0,
        ),
        Promise(
            _("seconds until the engine answers again after it was stopped or killed"),
            max(seconds for _blow, seconds in busy["blows"]),
            high=BACK,
        ),
    ]


def table(measures: Found) -> str:
    """Return the figures of both servers at each level as a Markdown table."""
    rows = [
        Row(f"{figure}-{clients}", title.format(clients=clients), form)
        for clients in LEVELS
        for figure, title, form in (
            ("rate", _("{clients} at once: tokens/s"), "{:.1f}"),
            ("requests", _("{clients} at once: requests/s"), "{:.2f}"),
            ("first", _("{clients} at once: first token, median s"), "{:.3f}"),
            ("first99", _("{clients} at once: first token, p99 s"), "{:.3f}"),
        )
    ]
    rows.append(Row("memory", _("memory, MiB"), "{:.0f}"))
    servers = measures["servers"]
    return figures.table(rows, servers["llmdeploy"], {engines.NATIVE: servers[engines.NATIVE]})


def soak(busy: Found) -> str:
    """Return in a sentence what happened in the busy time."""
    values = {**busy, "clients": PLAN["clients"], "minutes": busy["seconds"] / 60}
    values["back"] = ", ".join(f"{blow} {seconds:.1f} s" for blow, seconds in busy["blows"])
    return _(
        "{minutes:.0f} minutes with {clients} clients: {right} right answers, {aborted} hung up,"
        " {hostile} hostile and refused, {interrupted} asked to retry while the engine was"
        " loaded, {wrong} wrong, {refused} refused, {unanswered} not answered; the engine was back"
        " after {back}; {settled:.0f} MiB after a tenth of it, {memory:.0f} MiB at its end."
    ).format(**values)
