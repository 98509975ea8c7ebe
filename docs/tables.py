"""The README's tables, made from the program itself; cog puts them there and checks them.

Regenerate with: .venv/bin/cog -r -P -I docs README.md README.zh-CN.md
"""

from __future__ import annotations

import os
import sys
from argparse import _SubParsersAction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from invoke import Task

import entrypoint.__main__ as program
import tasks as task_module
from entrypoint.common.errors import EXIT_CODES
from entrypoint.common.language import _

HEADS = {
    "en": {"task": "Task", "command": "Command", "does": "What it does", "code": "Code"},
    "zh": {"task": "任务", "command": "命令", "does": "作用", "code": "退出码"},
}


def tasks(lang: str) -> None:
    """Print the table of build tasks from their docstrings."""
    rows = []
    for task in vars(task_module).values():
        if isinstance(task, Task):
            english, chinese = (task.__doc__ or "").strip().split("\n\n")
            rows.append(
                (
                    f"`./llmdeploy {task.name.replace('_', '-')}`",
                    " ".join((chinese if lang == "zh" else english).split()),
                )
            )
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
    _table(lang, "code", [(str(code), _(text)) for code, text in sorted(EXIT_CODES.items())])


def _table(lang: str, first: str, rows: list[tuple[str, str]]) -> None:
    head = HEADS[lang]
    print(f"| {head[first]} | {head['does']} |\n|---|---|")
    for left, right in rows:
        print(f"| {left} | {right} |")
