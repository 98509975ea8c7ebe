"""The mode `doctor`: what stands between this machine and an answer.

What it says goes to standard output. If the default model cannot run, the first problem is this
program's failure, and so its exit code.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import entrypoint
from entrypoint import engines, mounted
from entrypoint.arguments import Commands, models_folder
from entrypoint.common import machine, table
from entrypoint.common.catalog import Catalog, Model
from entrypoint.common.errors import Failure
from entrypoint.common.language import _
from entrypoint.engines import Backend, weights


@dataclass(frozen=True)
class Diagnosis:
    """One line of the report: `facts` for programs, `text` for people, `problem` if any."""

    name: str
    text: str
    facts: dict[str, Any]
    problem: Failure | None = None


def register(commands: Commands) -> None:
    """Add the command `doctor`."""
    parser = commands.add_parser("doctor", help=_("check whether this machine can run the models"))
    parser.add_argument("--json", action="store_true", help=_("print JSON, for programs"))
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Print what was found; raise the first problem that keeps the default model from running."""
    models: list[Diagnosis] = []
    lacking: list[Diagnosis] = []
    engine: Backend | None = None
    try:
        known = mounted.load(models_folder())
    except Failure as failure:
        lacking.append(Diagnosis("catalog", "", {}, failure))
    else:
        engine = engines.find(known.find(None).engine)
        models = [_model(model, known, models_folder()) for model in known.models]
        lacking += [each for each in models if each.name == known.default]
        models += [_refused(*each) for each in known.refused.items()]
    machines = [_program(engine), _cpu(engine), _threads(), _memory(), _scratch()]
    needed = [*machines, *lacking]
    if arguments.json:
        report = {each.name: _json(each) for each in machines}
        print(json.dumps({**report, "models": [_json(each) for each in models]}, indent=2))
    else:
        print(table.columns([_row(each) for each in (*machines, *models)]))
    for each in needed:
        if each.problem:
            raise each.problem


def _program(engine: Backend | None) -> Diagnosis:
    facts = {"llmdeploy": entrypoint.__version__}
    if engine:
        name, version = engine.version()
        facts[name] = version
    return Diagnosis("versions", ", ".join(f"{name} {facts[name]}" for name in facts), facts)


def _cpu(engine: Backend | None) -> Diagnosis:
    processor = machine.cpu()
    facts = {"model": processor.model, "flags": sorted(processor.flags)}
    try:
        kernels = engine.kernels() if engine else None
    except Failure as problem:
        return Diagnosis("cpu", processor.model, {**facts, "kernels": None}, problem)
    text = _("{model}, kernels for {kernels}") if kernels else "{model}"
    return Diagnosis(
        "cpu", text.format(model=processor.model, kernels=kernels), {**facts, "kernels": kernels}
    )


def _threads() -> Diagnosis:
    count = machine.threads()
    return Diagnosis("threads", str(count), {"count": count})


def _memory() -> Diagnosis:
    memory = machine.memory()
    if memory.available is None:
        text = _("unknown, so a model that does not fit cannot be refused")
    elif memory.limit is None:
        text = _("{total}, {available} free")
    else:
        text = _("{total}, this container {limit}, {available} free")
    sizes = {name: machine.size(amount) for name, amount in dataclasses.asdict(memory).items()}
    return Diagnosis("memory", text.format(**sizes), dataclasses.asdict(memory))


def _scratch() -> Diagnosis:
    try:
        folder = machine.require_scratch()
    except Failure as problem:
        return Diagnosis("scratch", "", {"path": None, "free": 0}, problem)
    free = shutil.disk_usage(folder).free
    text = _("{path}, {size} free").format(path=folder, size=machine.size(free))
    return Diagnosis("scratch", text, {"path": str(folder), "free": free})


def _model(model: Model, known: Catalog, folder: Path) -> Diagnosis:
    checks = {
        "fits": lambda: machine.require_memory(model, known),
        "intact": lambda: weights.require_content(model, folder / model.name),
    }
    problems = {name: _problem(check) for name, check in checks.items()}
    facts = {
        "name": model.name,
        "default": model.name == known.default,
        "memory": model.memory,
        **{name: problem is None for name, problem in problems.items()},
    }
    text = _("needs {size}, files as built")
    if mounted.unknown(model):
        text = _("needs {size}, a mounted file whose hash is unknown")
        facts["intact"] = None
    text = text.format(size=machine.size(model.memory))
    return Diagnosis(model.name, text, facts, next(filter(None, problems.values()), None))


def _refused(name: str, problem: Failure) -> Diagnosis:
    facts = {"name": name, "default": False, "memory": None, "fits": False, "intact": False}
    return Diagnosis(name, "", facts, problem)


def _problem(check: Callable[[], None]) -> Failure | None:
    try:
        check()
    except Failure as problem:
        return problem
    return None


def _row(diagnosis: Diagnosis) -> tuple[str, str, str]:
    if diagnosis.problem:
        return "!!", diagnosis.name, diagnosis.problem.what
    return "ok", diagnosis.name, diagnosis.text


def _json(diagnosis: Diagnosis) -> dict[str, Any]:
    problem = diagnosis.problem
    description = problem and {
        "code": problem.code,
        "what": problem.what,
        "why": problem.why,
        "next": problem.next,
    }
    return {**diagnosis.facts, "problem": description}
