"""The mode `notebook`: JupyterLab with the kernel `itrex` and the tutorial as a notebook.

Only the image of the engine itrex has Jupyter. As on PAI-DSW, the work folder is /mnt/workspace
where that is mounted.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import socket
import sys
from argparse import Namespace
from pathlib import Path
from typing import Final
from urllib.parse import quote

from entrypoint.arguments import Commands, between
from entrypoint.common import machine
from entrypoint.common.errors import AddressInUse, StageMissing, UsageFailure
from entrypoint.common.files import writing
from entrypoint.common.language import _

WORKSPACE: Final = Path("/mnt/workspace")
TUTORIAL: Final = Path(__file__).with_name("tutorial.ipynb")
KERNEL: Final = "itrex"
VARIABLE: Final = "JUPYTER_TOKEN"


def register(commands: Commands) -> None:
    """Add the command `notebook`."""
    parser = commands.add_parser(
        "notebook",
        help=_("work on the tutorial in JupyterLab"),
        description=_(
            "Opens JupyterLab in {workspace} where that is mounted, else in a temporary folder."
            " Whoever shows the token may run any program there; {variable} sets it, else it is a"
            " new one each time."
        ).format(workspace=WORKSPACE, variable=VARIABLE),
    )
    parser.add_argument(
        "--port",
        type=between(int, 1, 65535),
        default=8888,
        metavar="N",
        help=_("where to listen (default {default})").format(default=8888),
    )
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> None:
    """Become JupyterLab.

    Raises StageMissing without it, UsageFailure for an empty token, AddressInUse, and NotWritable
    or DiskFull for the work folder.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise StageMissing(
            _("Jupyter is not installed beside this Python."),
            next=_("Use the image that this makes: ./llmdeploy build-image --engine itrex"),
        )
    token = os.environ.setdefault(VARIABLE, secrets.token_hex(24))
    if not token:
        raise UsageFailure(
            _("A notebook without a token is refused."),
            _("Whoever reaches its port could run any program."),
            _("Set {variable} to a word, or leave it out for a new one each time.").format(
                variable=VARIABLE
            ),
        )
    require_port(arguments.port)
    work = prepare()
    address = f"http://localhost:{arguments.port}/lab/tree/{TUTORIAL.name}?token={quote(token)}"
    print(_("open {address}").format(address=address), file=sys.stderr, flush=True)
    options = {
        "ServerApp.ip": "0.0.0.0",  # noqa: S104 - the container's; -p decides who reaches it
        "ServerApp.port": arguments.port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": work,
        "ServerApp.open_browser": False,
        "ServerApp.terminals_enabled": False,  # there is no shell
        "ServerApp.answer_yes": True,  # to whether Ctrl-C was meant
        "ServerApp.log_level": "WARN",
        "MultiKernelManager.default_kernel_name": KERNEL,
        # Nothing is asked of the network.
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *words])  # noqa: S606


def require_port(port: int) -> None:
    """Raise AddressInUse if nobody can listen on this port."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise AddressInUse(
            _("The port {port} cannot be used.").format(port=port),
            error.strerror or str(error),
            _("Choose another with --port, or end what listens there."),
        ) from None


def prepare() -> Path:
    """Return the work folder with the tutorial in it; what somebody changed there stays.

    Raises NotWritable or DiskFull.
    """
    work = WORKSPACE if WORKSPACE.is_dir() else machine.require_scratch() / "workspace"
    target = work / TUTORIAL.name
    with writing(target):
        work.mkdir(exist_ok=True)
        if not target.exists():
            shutil.copyfile(TUTORIAL, target)
    return work
