"""The tables of README and docs, made from the program itself; cog puts them there and checks them.

Regenerate with: .venv/bin/cog -r -P -I docs README*.md docs/*.md
"""

from __future__ import annotations

import json
import os
import sys
from argparse import _SubParsersAction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
from invoke import Task

import entrypoint.__main__ as program
import tasks as task_module
from builder import clients as stage
from builder.models import choice, intents
from builder.stage.edge import summary
from entrypoint.common import machine
from entrypoint.common.errors import EXIT_CODES
from entrypoint.common.language import _
from entrypoint.serve import metrics as figures
from entrypoint.serve import wire

HEADS = {
    "en": {"task": "Task", "command": "Command", "does": "What it does"},
    "zh": {"task": "任务", "command": "命令", "does": "作用"},
}


def tasks(lang: str) -> None:
    """Print the table of build tasks from their docstrings."""
    os.environ["LLMDEPLOY_LANG"] = lang
    rows = [
        (f"`./llmdeploy {task.name.replace('_', '-')}`", _(summary(task.body)))
        for task in vars(task_module).values()
        if isinstance(task, Task)
    ]
    _table(lang, "task", rows)


def commands(lang: str) -> None:
    """Print the table of the image's commands from the program's own help."""
    os.environ["LLMDEPLOY_LANG"] = lang
    parser = program._parser()  # noqa: SLF001
    (choices,) = (each for each in parser._actions if isinstance(each, _SubParsersAction))  # noqa: SLF001
    _table(lang, "command", [(f"`{each.dest}`", each.help) for each in choices._choices_actions])  # noqa: SLF001


def exit_codes(lang: str) -> None:
    """Print the table of exit codes."""
    os.environ["LLMDEPLOY_LANG"] = lang
    print("| 退出码 | 含义 |" if lang == "zh" else "| Code | Meaning |", "|---|---|", sep="\n")
    for code, text in sorted(EXIT_CODES.items()):
        print(f"| {code} | {_(text)} |")


SPEEDS = (12, 30, 60)  # GB/s: an old laptop, two cores of a server, four channels of one
MODEL_HEADS = {
    "en": ("Model", "Download", "Memory", "Estimated tokens a second at {speeds} GB/s", "Licence"),
    "zh": ("模型", "下载", "内存", "内存带宽为 {speeds} GB/s 时估计的每秒词元数", "许可"),
}


def models(lang: str) -> None:
    """Print which model is for which machine, estimated from models.toml and models.lock."""
    known = intents.load(local=None)
    speeds = [choice.candidates(known, 1e9 * each) for each in SPEEDS]
    heads = [each.format(speeds=" / ".join(map(str, SPEEDS))) for each in MODEL_HEADS[lang]]
    print(f"| {' | '.join(heads)} |\n|---|---|---|---|---|")
    for each in zip(*speeds, strict=True):
        first = each[0]
        unseen = "" if first.intent.seen else " °"
        rates = " / ".join(f"{one.speed:.0f}" for one in each)
        sizes = (machine.size(first.download), machine.size(first.memory))
        cells = (f"`{first.intent.name}`{unseen}", *sizes, rates, first.intent.license)
        print(f"| {' | '.join(cells)} |")


FIELD_HEADS = {"en": ("Field", "heeded", "no effect"), "zh": ("字段", "生效", "不起作用")}


def fields(lang: str) -> None:
    """Print what becomes of each field of a request, from the types that requests are read by."""
    unheeded = set(wire.UNHEEDED)
    head, heeded, unused = FIELD_HEADS[lang]
    print(f"| {head} | `/v1/chat/completions` | `/v1/completions` |\n|---|---|---|")
    kinds = (wire.ChatRequest, wire.CompletionRequest)
    names = [{each.name for each in msgspec.structs.fields(kind)} for kind in kinds]
    for name in sorted(names[0] | names[1]):
        effect = unused if name in unheeded else heeded
        cells = (effect if name in known else "-" for known in names)
        print(f"| `{name}` | {' | '.join(cells)} |")


METRIC_HEADS = {
    "en": ("Metric", "Type", "Labels", "vLLM", "OpenTelemetry"),
    "zh": ("指标", "类型", "标签", "vLLM", "OpenTelemetry"),
}
# OpenTelemetry's names for the same.
GEN_AI = {
    "llmdeploy_request_seconds": "gen_ai.server.request.duration",
    "llmdeploy_first_token_seconds": "gen_ai.server.time_to_first_token",
    "llmdeploy_token_seconds": "gen_ai.server.time_per_output_token",
    "llmdeploy_length_tokens": "gen_ai.client.token.usage",
}


def metrics(lang: str) -> None:
    """Print what /metrics has, and what others call it."""
    print(f"| {' | '.join(METRIC_HEADS[lang])} |\n|---|---|---|---|---|")
    for metric in dict.fromkeys(figures.registry._names_to_collectors.values()):  # noqa: SLF001
        family = metric.describe()[0]
        aliases = [name for name, (own, _part) in figures.VLLM.items() if own == family.name]
        cells = (
            family.name, family.type, ", ".join(metric._labelnames),  # noqa: SLF001
            ", ".join(f"`{each}`" for each in aliases) or "-",
            GEN_AI.get(family.name, "-"),
        )  # fmt: skip
        print(f"| `{cells[0]}` | {' | '.join(cells[1:])} |")


CLIENTS = {
    "en": "{day}, version {version}, `{model}`.",
    "zh": "{day}，版本 {version}，`{model}`。",
}


def clients(lang: str) -> None:
    """Print what real clients tried at a server, as `./llmdeploy clients --record` kept it."""
    os.environ["LLMDEPLOY_LANG"] = lang
    record = json.loads(stage.RECORD.read_text(encoding="utf-8"))
    print(CLIENTS[lang].format(**record), end="\n\n")
    print(stage.table([stage.Attempt(**each) for each in record["attempts"]]))


MACHINES = (2, 4, 8, 16, 32)  # GiB of memory
MIDDLE = 30  # GB/s
MACHINE_HEADS = {
    "en": ("Machine", "Model", "Download", "Memory it takes", "Tokens a second, estimated"),
    "zh": ("机器内存", "模型", "下载", "占用内存", "每秒词元数（估算）"),
}


def machines(lang: str) -> None:
    """Print the best model for machines of usual sizes, a quarter of whose memory is in use."""
    known = choice.candidates(intents.load(), 1e9 * MIDDLE)
    print(f"| {' | '.join(MACHINE_HEADS[lang])} |\n|---|---|---|---|---|")
    for size in MACHINES:
        best = choice.fitting(known, (size << 30) * 3 // 4)[0]
        unseen = "" if best.intent.seen else " °"
        sizes = (machine.size(best.download), machine.size(best.memory))
        cells = (f"{size} GB", f"`{best.intent.name}`{unseen}", *sizes, f"{best.speed:.0f}")
        print(f"| {' | '.join(cells)} |")


def _table(lang: str, first: str, rows: list[tuple[str, str]]) -> None:
    head = HEADS[lang]
    print(f"| {head[first]} | {head['does']} |\n|---|---|")
    for left, right in rows:
        print(f"| {left} | {right} |")
