"""The mode `chat`: a conversation on the terminal, or one turn per line of standard input."""

from __future__ import annotations

from argparse import Namespace

from entrypoint.arguments import Commands, add_sampling
from entrypoint.engines import Options
from entrypoint.language import _


def register(commands: Commands) -> None:
    """Add the command `chat`."""
    parser = commands.add_parser("chat", help=_("talk with a model"))
    parser.add_argument("--model", metavar="NAME", help=_("which model (default: the catalogue's)"))
    add_sampling(parser, Options())
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Chat until standard input ends."""
    raise NotImplementedError(arguments)
