"""`kernel`: an environment becomes a kernel of Jupyter, as in the last step of the tutorial."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from builder.stage import report
from builder.stage.run import run
from entrypoint.common.errors import StageMissing, UsageFailure
from entrypoint.common.language import _

# Where Jupyter would put a kernel of that name: asked of the environment's own.
WHERE = """
import sys
from jupyter_client.kernelspec import KernelSpecManager
name, user, prefix = sys.argv[1:]
print(KernelSpecManager()._get_destination_dir(name, user == "user", prefix or None))
"""


def register(
    environment: Path, name: str, *, user: bool = False, prefix: Path | None = None
) -> None:
    """Let Jupyter offer the Python of `environment` as the kernel `name`.

    For all users of this machine, or for this one, or below `prefix`. Raises StageMissing if there
    is no such environment, UsageFailure if the name is another environment's, CommandFailed.
    """
    if user and prefix:
        raise UsageFailure(_("Name one place for the kernel: either --user or --prefix DIR."))
    python = environment.resolve() / "bin" / "python"
    if not python.exists():
        raise StageMissing(
            _("There is no environment in {path}.").format(path=environment),
            next=_("Restore it first: ./llmdeploy unpack-env FILE --dest {path}").format(
                path=environment
            ),
        )
    below = str(prefix.resolve()) if prefix else ""
    where = run([python, "-c", WHERE, name, "user" if user else "", below]).strip()
    spec = Path(where) / "kernel.json"
    if spec.exists():
        registered = json.loads(spec.read_text(encoding="utf-8"))["argv"][0]
        if registered == str(python):
            report.say(_("nothing changed"))
            return
        raise UsageFailure(
            _("The kernel {name} is registered already, for another Python.").format(name=name),
            _("{spec} names {python}.").format(spec=spec, python=registered),
            _("Remove that folder, or choose another --name."),
        )
    place = ["--user"] if user else ["--prefix", below] if below else []
    words = ["install", "--name", name, "--display-name", name, *place]
    with TemporaryDirectory() as temporary:  # ipykernel leaves a folder there
        run([python, "-m", "ipykernel", *words], env={"TMPDIR": temporary})
    report.say(_("{spec} names {python}.").format(spec=spec, python=python))
