"""The mode `serve`: answers over HTTP as OpenAI's API does, with a page to chat on.

`run` is the flow. Inside: `wire` has the shapes of requests and answers, `service` the model with
its queue, `app` the routes, `server` the sockets and signals.
"""

from __future__ import annotations

import os
from argparse import ArgumentTypeError, Namespace
from pathlib import Path
from urllib.parse import urlsplit

from entrypoint import mounted
from entrypoint.arguments import Commands, between, models_folder
from entrypoint.common import machine
from entrypoint.common.errors import UsageFailure
from entrypoint.common.language import _
from entrypoint.serve.limits import Limits

DEFAULTS = Limits()
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 (only with a key, or when told to)
VARIABLE = "LLMDEPLOY_API_KEY"


def register(commands: Commands) -> None:
    """Add the command `serve`."""
    parser = commands.add_parser(
        "serve",
        help=_("answer over HTTP as OpenAI's API does, with a page to chat on"),
        description=_(
            "Serves /v1/chat/completions, /v1/completions, /v1/models, /health, /ready, /metrics,"
            " /docs and a chat page at /. Clients must show a key from --api-key-file or"
            " {variable}; without any, only this machine is served unless --insecure is given."
        ).format(variable=VARIABLE),
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help=_("which model; repeat it for several (default: the catalogue's)"),
    )
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME",
        help=_("a further name of the first model, for clients that insist; * for any; repeatable"),
    )
    parser.add_argument(
        "--system",
        default="",
        metavar="TEXT",
        help=_("begins each conversation that has no system message of its own"),
    )
    parser.add_argument(
        "--allow-origin",
        type=origin,
        action="append",
        default=[],
        metavar="URL",
        help=_("a site whose pages may ask from a browser (CORS), such as http://localhost:3000"),
    )
    parser.add_argument(
        "--host",
        help=_("address to listen on (default: {all} with a key, else {loopback})").format(
            all=EVERYWHERE, loopback=LOOPBACK
        ),
    )
    parser.add_argument(
        "--port", type=between(int, 0, 65535), default=8000, metavar="N", help=_("0: any free one")
    )
    parser.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=_("keys that clients may show, one a line; read again when it changes"),
    )
    parser.add_argument(
        "--insecure", action="store_true", help=_("serve other machines without a key too")
    )
    parser.add_argument(
        "--open-metrics", action="store_true", help=_("let /metrics be read without a key")
    )
    parser.add_argument(
        "--metrics-alias",
        choices=["vllm"],
        default="",
        help=_("expose the metrics under this server's names too, for tools that read those"),
    )
    parser.add_argument(
        "--context",
        type=between(int, 256, 1_000_000),
        metavar="N",
        help=_("tokens of a conversation and its answer (default: the model's)"),
    )
    helps = {
        "parallel": _("answers computed at once (default {default})"),
        "queue": _("requests that may wait for their turn (default {default})"),
        "max_tokens": _("token limit of an answer (default: up to the context)"),
        "timeout": _("time limit of a request in seconds, including waiting (default {default})"),
        "drain": _("seconds that answers may take to end after SIGTERM (default {default})"),
    }
    for name, bounds in Limits.BOUNDS.items():
        default = getattr(DEFAULTS, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=between(int, *bounds),
            default=default,
            metavar="N",
            help=helps[name].format(default=default),
        )
    parser.set_defaults(run=run)


def origin(text: str) -> str:
    """Return the origin that browsers send for a site; raise ArgumentTypeError for what is none."""
    site = urlsplit(text)
    if site.scheme not in {"http", "https"} or not site.netloc or site.path.strip("/"):
        raise ArgumentTypeError(
            _("{text} is not an origin, such as https://host").format(text=text)
        )
    return f"{site.scheme}://{site.netloc}".lower()


def run(arguments: Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises what loading a model raises, UsageFailure for an address that needs a key, ConfigFailure
    for a file without keys, AddressInUse if nobody can listen there.
    """
    from entrypoint.serve import journal, server
    from entrypoint.serve.front import Front
    from entrypoint.serve.keys import Keys
    from entrypoint.serve.service import Service

    models = mounted.load(models_folder())
    served = list(dict.fromkeys(models.find(name) for name in arguments.model or [None]))
    # Out of the environment, so that no engine's process has it in its own.
    keys = Keys(os.environ.pop(VARIABLE, ""), arguments.api_key_file)
    host = arguments.host or (EVERYWHERE if keys or arguments.insecure else LOOPBACK)
    if not (keys or arguments.insecure or server.is_loopback(host)):
        raise UsageFailure(
            _("Serving {host} without a key would let everybody in.").format(host=host),
            next=_("Give --api-key-file or {variable}, or say --insecure.").format(
                variable=VARIABLE
            ),
        )
    if not (keys or arguments.host or arguments.insecure):
        hint = _(
            "Only this machine is served; for `docker run -p`, give a key with {variable} or"
            " --api-key-file, or say --insecure."
        )
        journal.write("no key", "warning", hint=hint.format(variable=VARIABLE))
    limits = Limits(**{name: getattr(arguments, name) for name in Limits.BOUNDS})
    memory = 0
    for model in served:
        room = {"parallel": limits.parallel, "context": arguments.context}
        machine.require_memory(model, models, **room, beside=memory)
        memory += machine.need(model, **room)
    services = [Service(model, models_folder(), limits, arguments.context) for model in served]
    front = Front(
        tuple(arguments.alias),
        tuple(arguments.allow_origin),
        arguments.system,
        any_name=arguments.insecure,
        open_metrics=arguments.open_metrics,
        metrics_alias=arguments.metrics_alias,
    )
    server.serve(services, keys, limits, front, host=host, port=arguments.port)
