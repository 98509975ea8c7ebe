"""`up`: from nothing to the chat prompt. The one flow that calls the stages in turn."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from builder import image, variants
from builder.image import daemon
from builder.settings import ROOT, Settings
from builder.stage import report
from builder.stage.run import become
from entrypoint.common import machine
from entrypoint.common.errors import NoContainerEngine
from entrypoint.common.language import _, language


@dataclass(frozen=True)
class Program:
    """The program without a container: its environment's Python, and the variables it needs."""

    python: Path
    env: Mapping[str, str]

    @property
    def argv(self) -> Sequence[str | Path]:
        """The command line that its commands and options follow."""
        return (self.python, "-m", "entrypoint")


def up(settings: Settings, name: str = "") -> NoReturn:
    """Make whatever is missing or out of date, then become the chat with the model `name`.

    Without a name it is one that is ready, else the best that fits this machine. Raises what the
    stages raise. Without a container engine the chat runs on the host.
    """
    with report.step(_("Container engine")):
        try:
            client = daemon.ensure(settings)
            report.say(_("version {version} answers").format(version=client.version()["Version"]))
            contained = True
        except NoContainerEngine as missing:
            report.say(str(missing))
            report.say(_("so the same chat will run on this machine without a container"))
            contained = False
    name = name or choose(settings, image.models(settings) if contained else ())
    require(name)
    prepare(settings, [name])
    if not contained:
        program = on_host(settings)
        become([*program.argv, "chat", "--model", name], env=program.env)
    image.build(settings, image.with_model(settings, name))
    terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    become(command(settings.image_name, language(), "--model", name, terminal=terminal))


def choose(settings: Settings, baked: Sequence[str]) -> str:
    """Return the model to take where none is named; `baked` ones are in the image already."""
    from builder.models import choice, intents

    with report.step(_("Choosing a model")):
        known, available = intents.load(), machine.memory().available
        if ready := choice.ready(settings.ready_dir, known, available, baked):
            report.say(
                _("{name} is ready; for others see: ./llmdeploy doctor").format(name=ready[0])
            )
            return ready[0]
        if settings.engine != variants.DEFAULT:  # the estimates are of llama.cpp
            return known.default
        return choice.best(known, available)


def require(name: str) -> None:
    """Raise NotEnoughMemory before anything is fetched if this machine cannot hold the model."""
    from builder.models import choice, intents

    choice.require(intents.load(), name, machine.memory().available)


def prepare(settings: Settings, names: Sequence[str]) -> None:
    """Make what an image with these models is built of: environment, weights, catalogue."""
    from builder import delivery
    from builder.environment import condaenv
    from builder.models import fetch
    from builder.quantizers import quantize

    delivery.environment(settings)
    condaenv.build(settings, "auto")
    if missing := delivery.weights(settings, names):
        fetch.fetch(settings, missing)
    quantize.quantize(settings, names)


def command(name: str, spoken: str, *words: str, terminal: bool) -> Sequence[str]:
    """Return the command line of a hardened container that chats in the language `spoken`.

    Without a terminal its three standard streams stay apart, and each line read is a turn.
    """
    streams = "-it" if terminal else "-i"
    return [
        "docker", "run", "--rm", streams, *image.HARDENED,
        f"--env=LLMDEPLOY_LANG={spoken}", name, "chat", *words,
    ]  # fmt: skip


def on_host(settings: Settings) -> Program:
    """Return the program outside a container, its environment unpacked if it is not yet."""
    from builder.environment import tarball

    with report.step(_("Unpacking the environment")):
        unpacked = tarball.unpacked(settings)
    return Program(
        unpacked / "bin/python3",
        {"PYTHONPATH": str(ROOT), "LLMDEPLOY_MODELS": str(settings.ready_dir)},
    )
