"""`bench --fresh`: from nothing to the first answer, once all made here, once from a mirror.

Both begin as a copy of this checkout with default settings, whose cache is empty, and do what a
person types. Docker's own cache stays: it knows layers by their content, which is the same.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

from builder.bench import figures
from builder.settings import ROOT, Settings
from builder.stage import report, scratch
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

MODEL: Final = "smollm2-135m"
QUESTION: Final = "Hi\n"
SETTINGS: Final = 'image = "llmdeploy-fresh"\n'  # not to take the place of the person's own
DESCRIPTION: Final = 'name = "fresh"\n'
LEFT: Final = (".*", "dist", "__pycache__", "llmdeploy.toml", "deploy.toml")
STAGE: Final = "==> "
END: Final = "    took "  # the last line of a stage


@dataclass(frozen=True)
class Start:
    """Seconds that `up` took: for each stage by its title, and in all to the first letter."""

    stages: Mapping[str, float]
    total: float


def run_all(settings: Settings) -> None:
    """Print the seconds of both ways, stage by stage; raise CommandFailed if one does not answer.

    Takes as long as compiling does, and 3 GB of disk meanwhile.
    """
    with scratch.folder(settings.dist_dir / "bench" / "fresh") as work:
        builds, downloads, folder = work / "builds", work / "downloads", work / "mirror"
        shutil.copytree(ROOT, builds, ignore=shutil.ignore_patterns(*LEFT))
        (builds / "llmdeploy.toml").write_text(SETTINGS)
        (builds / "deploy.toml").write_text(DESCRIPTION)
        with report.step(_("From nothing to the first answer, all made here")):
            first = start(builds, {"LLMDEPLOY_MIRROR": ""})
        for words in (["lock", "--built"], ["export", "--mirror", "--output", folder]):
            run(["./llmdeploy", *words], cwd=builds, env=_variables(builds))
        shutil.copytree(builds, downloads, ignore=shutil.ignore_patterns(".venv", "dist", "cache"))
        with (
            report.step(_("From nothing to the first answer, from a mirror")),
            _served(folder) as address,
        ):
            delivered = start(downloads, {"LLMDEPLOY_MIRROR": address})
    print(table(first, delivered))


def start(checkout: Path, variables: Mapping[str, str]) -> Start:
    """Time `up` in a checkout until the first letter of an answer; raise CommandFailed."""
    question = checkout / "question"
    question.write_text(QUESTION)
    lines: list[tuple[float, str]] = []
    began = time.monotonic()
    with (
        question.open("rb") as asked,
        subprocess.Popen(
            ["./llmdeploy", "up", MODEL],
            cwd=checkout,
            env={**os.environ, **_variables(checkout), **variables},
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
    ):

        def follow() -> None:
            for line in process.stderr or ():
                lines.append((time.monotonic() - began, line.decode(errors="replace").rstrip()))
                report.say(lines[-1][1])

        follower = threading.Thread(target=follow)
        follower.start()
        answered = process.stdout.read(1) if process.stdout else b""
        total = time.monotonic() - began
        process.terminate()
        follower.join()
    if not answered:
        raise CommandFailed(
            _("{task} gave no answer.").format(task=f"up {MODEL}"),
            "\n  ".join(line for _moment, line in lines[-10:]),
        )
    return Start(dict(_stages(lines, total)), total)


def table(made: Start, delivered: Start) -> str:
    """Return a Markdown table of both, and how many times faster the second was."""
    titles = dict.fromkeys([*made.stages, *delivered.stages])
    rows = [
        *((title, made.stages.get(title), delivered.stages.get(title)) for title in titles),
        (_("in all, to the first letter of the answer"), made.total, delivered.total),
    ]
    heads = [_("seconds"), _("all made here"), _("from a mirror"), _("ratio")]
    return figures.markdown(heads, [[row[0], *_cells(*row[1:])] for row in rows])


def _cells(made: float | None, delivered: float | None) -> list[str]:
    both = made is not None and delivered is not None and delivered > 0
    return [
        *("-" if each is None else f"{each:.1f}" for each in (made, delivered)),
        f"{(made or 0) / (delivered or 1):.1f}" if both else "-",
    ]


def _stages(lines: list[tuple[float, str]], total: float) -> Iterator[tuple[str, float]]:
    """Yield each stage with its seconds; one that does not tell its end lasts until the next."""
    title, since = "", 0.0
    for moment, line in lines:
        if moment > total:
            break
        if title and line.startswith((STAGE, END)):
            yield title, moment - since
            title, since = "", moment
        if line.startswith(STAGE):
            title, since = line.removeprefix(STAGE), moment
    yield _("the answer's first letter"), total - since


def _variables(checkout: Path) -> dict[str, str]:
    """Return what keeps a checkout from finding what this machine has kept."""
    cache = checkout / "cache"
    return {
        "LLMDEPLOY_LANG": "en",  # the lines of which the stages are read
        "LLMDEPLOY_CACHE": str(cache),
        "PIP_CACHE_DIR": str(cache / "pip"),
    }


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yield its address."""
    handler = functools.partial(_Silent, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Say nothing."""
