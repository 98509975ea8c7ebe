"""`llmdeploy [COMMAND]`: the edge of the program, where failures become messages and exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from argparse import SUPPRESS, Namespace
from types import FrameType

import entrypoint
from entrypoint import battery, bench, chat, compare, doctor, models, notebook, serve
from entrypoint.arguments import Commands, Parser
from entrypoint.common.errors import Failure
from entrypoint.common.language import _
from entrypoint.common.visible import say

# A mode is a module with `register(commands)`, which sets `run`: a function of the parsed
# arguments. Its heavy imports wait until `run`, so that --help is instant.
MODES = (chat, battery, compare, serve, bench, notebook, models, doctor)


def main() -> int:
    """Run the program; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # whatever the locale: answers are Chinese
    # As the first process of a container we would otherwise not get these signals at all.
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGHUP, _leave)
    sys.unraisablehook = _insist
    try:
        arguments = _parser().parse_args(_words(sys.argv[1:]))
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `llmdeploy models | head -1`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    except Failure as failure:
        return _report(failure)
    except Exception as error:  # noqa: BLE001 (a bug, and still no traceback for users)
        return _report(
            Failure(
                _("Unexpected error: {error}").format(error=repr(error)),
                next=_("Run the same command with --debug and report what it prints."),
            )
        )
    return 0


def _report(failure: Failure) -> int:
    """Tell the user, in the `except` that caught it; return the exit code."""
    if "--debug" in sys.argv:
        traceback.print_exc()
    say(f"llmdeploy: {failure}")
    return failure.code


def _parser() -> Parser:
    parser = Parser(
        prog="llmdeploy",
        description=_("Talks with a language model on this machine's CPU; needs no network."),
        epilog=_("Without a command: chat."),
    )
    debug = _("show where in the program an error came from")
    parser.add_argument(
        "--version", action="version", version=_version(), help=_("print the version")
    )
    parser.add_argument("--debug", action="store_true", help=debug)
    commands: Commands = parser.add_subparsers(metavar="COMMAND", title=_("commands"))
    for mode in MODES:
        mode.register(commands)
    commands.add_parser("version", help=_("print the version")).set_defaults(run=_print_version)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", default=SUPPRESS, help=debug)
    return parser


def _words(typed: list[str]) -> list[str]:
    """Put in the command `chat` where none was typed."""
    first = next((word for word in typed if word != "--debug"), "-")
    if not first.startswith("-") or first in {"-h", "--help", "--version"}:
        return typed
    return ["chat", *typed]


def _version() -> str:
    return f"llmdeploy {entrypoint.__version__}"


def _print_version(_arguments: Namespace) -> None:
    print(_version())


def _leave(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that the engine is stopped; 143 is what the world expects after SIGTERM."""
    sys.exit(128 + number)


def _insist(lost: sys.UnraisableHookArgs) -> None:
    """Leave a moment later where a signal came during a finalizer, which keeps what is raised."""
    if not isinstance(lost.exc_value, SystemExit):
        sys.__unraisablehook__(lost)
        return
    code = lost.exc_value.code
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(code))
    signal.setitimer(signal.ITIMER_REAL, 0.01)  # not at once: that would be lost in this hook


if __name__ == "__main__":
    sys.exit(main())
