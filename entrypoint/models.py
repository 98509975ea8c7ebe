"""The mode `models`: what the catalogue has, and what of it fits this machine."""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace

from entrypoint import mounted
from entrypoint.arguments import Commands, models_folder
from entrypoint.common import machine, table
from entrypoint.common.language import _
from entrypoint.common.visible import visible


def register(commands: Commands) -> None:
    """Add the command `models`."""
    parser = commands.add_parser("models", help=_("list the models that are here"))
    parser.add_argument("--json", action="store_true", help=_("print JSON, for programs"))
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Print the catalogue, the default model first marked with a star."""
    known = mounted.load(models_folder())
    available = machine.memory().available
    if arguments.json:
        entries = [
            {
                **dataclasses.asdict(model),
                "default": model.name == known.default,
                "fits": None if available is None else model.memory <= available,
            }
            for model in known.models
        ]
        print(json.dumps(entries, ensure_ascii=False, indent=2))
        return
    header = (
        "",
        _("name"),
        _("model"),
        _("weights"),
        _("size"),
        _("context"),
        _("memory"),
        _("languages"),
        _("licence"),
        _("fits here"),
    )
    rows = [
        (
            "*" if model.name == known.default else "",
            model.name,
            model.display_name,
            model.quantization,
            machine.size(sum(file.size for file in model.files)),
            str(model.context),
            machine.size(model.memory),
            " ".join(model.languages),
            model.license,
            _fits(model.memory, available),
        )
        for model in known.models
    ]
    print(table.columns([header, *rows]))
    for model in filter(mounted.unknown, known.models):
        print(_("{name} is a mounted file; its hash is unknown.").format(name=model.name))
    for failure in known.refused.values():
        print(visible(failure.what))


def _fits(needed: int, available: int | None) -> str:
    if available is None:
        return _("unknown")
    return _("yes") if needed <= available else _("no")
