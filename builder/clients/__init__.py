"""`clients`: real clients, unmodified, at a real server; what each tries, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from builder import up
from builder.clients import environments
from builder.settings import ROOT, Settings
from builder.stage import report
from builder.stage.run import run
from entrypoint import __version__
from entrypoint.common import catalog
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

PROGRAMS: Final = ROOT / "bench" / "clients"
RECORD: Final = ROOT / "docs" / "clients.json"
KEY: Final = "sesame"
PATIENCE: Final = 300  # seconds for the model to be loaded
WORKS: Final = "✓"
SHOWN: Final = 200  # characters of what a client says when it fails
# Programs of bench/clients/, by the lock of the environment in which they run.
PYTHON: Final[Mapping[Path, Sequence[str]]] = {
    environments.NEWEST: (
        *("openai_python", "langchain_python", "litellm_python", "pydantic_ai_python"),
        *("llm_python", "lm_eval_python", "inspect_python"),
    ),
    environments.OLDER: ("llama_index_python", "instructor_python"),
}
NODE: Final = ("openai_npm", "ai_npm")
# What the clients would ask of others than the server.
OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DO_NOT_TRACK": "1",
    "LANGSMITH_TRACING": "false",
    "NO_PROXY": "127.0.0.1",
}


@dataclass(frozen=True)
class Attempt:
    """What a client tried; `error` is how it failed, empty if it works."""

    client: str
    version: str
    tried: str
    error: str


def run_all(settings: Settings, model: str, *, record: bool) -> None:
    """Print the table of what each client tried, and keep it for the documentation if told to.

    Raises CommandFailed if something does not work, UnknownModel, StageMissing, or what making the
    environments raises.
    """
    with report.step(_("Environments of the clients")):
        pythons = {each: environments.python(settings, each) for each in PYTHON}
        modules = environments.node(settings)
    program = up.on_host(settings)
    entry = catalog.load(settings.ready_dir).find(model or None)
    weights = settings.ready_dir / entry.name / entry.files[0].path
    attempts: list[Attempt] = []
    with report.step(_("Asking {name}").format(name=entry.name)), serving(program, entry) as base:
        address = {"OPENAI_BASE_URL": base, "OPENAI_API_KEY": KEY, "MODEL": entry.name}
        env = {**OFFLINE, **address, "WEIGHTS": str(weights)}
        for lock, names in PYTHON.items():
            for name in names:
                attempts += attempt([pythons[lock], PROGRAMS / f"{name}.py"], env)
        for name in NODE:
            attempts += attempt(["node", _beside(modules, name)], env)
    print(table(attempts))
    if record:
        _keep(attempts, entry.name)
    if failed := [f"{each.client}: {each.tried}" for each in attempts if each.error]:
        raise CommandFailed(_("These do not work: {names}.").format(names=", ".join(failed)))


def attempt(argv: Sequence[str | Path], env: Mapping[str, str]) -> list[Attempt]:
    """Let a program ask a server; one that ends early is told as an attempt too."""
    name = Path(argv[-1]).stem
    report.say(name)
    try:
        lines = run(argv, env=env).splitlines()
    except CommandFailed as failure:
        return [Attempt(name, "", "", failure.why.strip().rpartition("\n")[2] or failure.what)]
    # What else a client prints is not for us.
    records = [Attempt(**json.loads(line)) for line in lines if line.startswith('{"client":')]
    return records or [Attempt(name, "", "", _("It tried nothing."))]


def table(attempts: Sequence[Attempt]) -> str:
    """Return what was tried as a Markdown table."""
    heads = (_("client"), _("version"), _("tried"), _("how it ends"))
    rows = [
        (each.client, each.version, f"`{each.tried}`", _cell(each.error) or WORKS)
        for each in attempts
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * 4, *rows))


@contextmanager
def serving(program: up.Program, model: catalog.Model) -> Iterator[str]:
    """Yield the address of the API of a server with this model.

    Raises CommandFailed if it ends early or does not load the model in time.
    """
    words = ("serve", "--model", model.name, "--host", "127.0.0.1", "--port", "0")
    with tempfile.NamedTemporaryFile() as log:
        server = subprocess.Popen(
            [*program.argv, *words, "--context", "4096", "--parallel", "2"],
            env={**os.environ, **program.env, "LLMDEPLOY_API_KEY": KEY},
            stderr=log,
        )
        try:
            port = _wait(server, Path(log.name))
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()
            server.wait()


def _wait(server: subprocess.Popen[bytes], log: Path) -> int:
    """Return the port of a server whose model is loaded, as its log tells."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        whole = log.read_text(encoding="utf-8").rpartition("\n")[0]
        entries = {entry["event"]: entry for entry in map(json.loads, whole.splitlines())}
        if "model loaded" in entries:
            return int(entries["listening"]["port"])
        time.sleep(0.2)
    raise CommandFailed(_("The server does not come up."), log.read_text(encoding="utf-8"))


def _beside(modules: Path, name: str) -> Path:
    """Copy a program to where node finds its packages, and return it."""
    for path in ("attempts.mjs", f"{name}.mjs"):
        (modules / path).write_bytes((PROGRAMS / path).read_bytes())
    return modules / f"{name}.mjs"


def _keep(attempts: Sequence[Attempt], model: str) -> None:
    day = datetime.now(UTC).date().isoformat()
    head = {"day": day, "version": __version__, "model": model}
    content = {**head, "attempts": [asdict(each) for each in attempts]}
    text = json.dumps(content, ensure_ascii=False, indent=1)
    RECORD.write_text(f"{text}\n", encoding="utf-8")


def _cell(text: str) -> str:
    """Return a text as it fits into a cell of a table."""
    return " ".join(text.split())[:SHOWN].replace("|", "\\|")
