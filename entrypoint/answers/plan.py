"""What a battery was told to ask, kept beside its answers: all that `--resume` needs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from entrypoint.answers.questions import Question
from entrypoint.answers.results import Run, content
from entrypoint.common import files
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _
from entrypoint.common.tomlfile import record

SCHEMA = 1
NAME = "battery.json"


@dataclass(frozen=True)
class Plan:
    """Each of `runs` answers each of the questions.

    `parallel` is how many answers at once; None leaves it to cores and memory.
    """

    runs: tuple[Run, ...]
    questions: tuple[Question, ...]
    parallel: int | None = None


def folder(place: Path) -> Path:
    """Return the folder of answers that are named by it or by their file."""
    return place if place.is_dir() else place.parent


def find(place: Path) -> Plan | None:
    """Return the plan beside answers, None without one that this version can read."""
    try:
        return load(folder(place))
    except ConfigFailure:  # answers may have been imported, or stand alone
        return None


def save(plan: Plan, folder: Path) -> None:
    """Keep a plan in `folder`, in the place of an earlier one; raise NotWritable or DiskFull."""
    text = json.dumps({"schema": SCHEMA, **asdict(plan)}, ensure_ascii=False, indent=1)
    files.write(folder / NAME, f"{text}\n".encode())


def load(folder: Path) -> Plan:
    """Return the plan that was kept last; raise ConfigFailure if there is none to be read."""
    path = folder / NAME
    text = content(path)
    try:
        data = json.loads(text)
        if data.pop("schema") != SCHEMA:
            raise ValueError  # noqa: TRY301 - as strange as no JSON
        return record(Plan, data, str(path))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfigFailure(
            _("{path} is not of this version of the program.").format(path=path),
            next=_("Start the battery anew, with all its options."),
        ) from None
