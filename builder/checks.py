"""`./llmdeploy test`: every linter and every test, in one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.environment import condaenv, lock
from builder.image import daemon
from builder.settings import ROOT, Settings
from builder.stage import report
from builder.stage.run import attach
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

BIN = Path(sys.executable).parent
PAGES = sorted(str(page) for pattern in ("README*.md", "docs/*.md") for page in ROOT.glob(pattern))
WORKFLOWS = sorted(map(str, (ROOT / ".github/workflows").glob("*.yml")))

LINTERS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports", "--no-cache", "--no-logo"),
    ("hadolint", "docker/Dockerfile"),
    ("cog", "--check", "-P", "-I", "docs", *PAGES),
    ("actionlint", "-shellcheck", str(BIN / "shellcheck"), *WORKFLOWS),
    ("zizmor", "--offline", "--quiet", ".github", ".pre-commit-config.yaml"),
    (
        "shellcheck",
        "llmdeploy",
        ".ci/run",
        "builder/launch/alibaba/vm/prepare.sh",
        "builder/launch/export/load.sh",
    ),
)


def run_all(settings: Settings, *, fast: bool, docker: bool) -> None:
    """Run linters, lock check and tests; raise CommandFailed naming all that failed."""
    os.chdir(ROOT)
    lock.check(settings)
    failed = [argv[0] for argv in LINTERS if _linter(argv) != 0]
    if docker and not fast:
        with report.step(_("Container engine")):
            daemon.ensure(settings)
    if not fast:  # a test would keep to itself what that is doing, for minutes
        condaenv.build(settings, "auto")
    failed += [
        f"pytest {selection[0]}"
        for selection in _selections(fast=fast, docker=docker)
        if attach([sys.executable, "-m", "pytest", *selection]) != 0
    ]
    if failed:
        raise CommandFailed(_("These checks failed: {names}.").format(names=", ".join(failed)))


def _linter(argv: Sequence[str]) -> int:
    report.say(" ".join(argv))
    return attach([BIN / argv[0], *argv[1:]])


def _selections(*, fast: bool, docker: bool) -> Iterator[tuple[str, ...]]:
    yield "tests/unit", "--numprocesses=auto"  # they wait more than they compute
    if not fast:
        yield "tests", "--ignore=tests/unit", *([] if docker else ["--no-docker"])
