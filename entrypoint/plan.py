"""What a battery was told to ask, kept beside its answers: all that `--resume` needs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from entrypoint import disk
from entrypoint.errors import ConfigFailure
from entrypoint.language import _
from entrypoint.questions import Question
from entrypoint.results import Run
from entrypoint.tomlfile import record

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


def save(plan: Plan, folder: Path) -> None:
    """Keep a plan in `folder`, in the place of an earlier one; raise NotWritable or DiskFull."""
    content = json.dumps({"schema": SCHEMA, **asdict(plan)}, ensure_ascii=False, indent=1)
    disk.write(folder / NAME, f"{content}\n".encode())


def load(folder: Path) -> Plan:
    """Return the plan that was kept last; raise ConfigFailure if there is none to be read."""
    path = folder / NAME
    try:
        data = json.loads(path.read_bytes())
        if data.pop("schema") != SCHEMA:
            raise ValueError  # noqa: TRY301 - as strange as no JSON
        return record(Plan, data, str(path))
    except FileNotFoundError:
        raise ConfigFailure(
            _("{path} does not exist.").format(path=path),
            next=_("Make it with: llmdeploy battery --output FOLDER"),
        ) from None
    except OSError as error:
        raise ConfigFailure(
            _("{path} cannot be read: {reason}.").format(path=path, reason=error.strerror)
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigFailure(
            _("{path} is not of this version of the program.").format(path=path),
            next=_("Start the battery anew, with all its options."),
        ) from None
