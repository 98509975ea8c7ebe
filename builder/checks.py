"""`./llmdeploy test`: every linter and every test, in one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
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
    failures = [argv[0] for argv in LINTERS if _linter(argv) != 0]
    if not fast:
        _prepare(settings, docker=docker)
    failures += _failed(_selections(fast=fast, docker=docker))
    _require(failures)


def run_slow(settings: Settings, *, docker: bool) -> None:
    """Run the tests that `run_all` leaves out, as each takes minutes; raise CommandFailed."""
    os.chdir(ROOT)
    _prepare(settings, docker=docker)
    _require(_failed([("tests", "-m", "slow", *_without(docker=docker))]))


def _prepare(settings: Settings, *, docker: bool) -> None:
    if docker:
        with report.step(_("Container engine")):
            daemon.ensure(settings)
    condaenv.build(settings, "auto")  # a test would keep to itself what that is doing, for minutes


def _failed(selections: Iterable[tuple[str, ...]]) -> list[str]:
    """Run pytest on each selection; return the names of those that failed."""
    return [
        f"pytest {selection[0]}"
        for selection in selections
        if attach([sys.executable, "-m", "pytest", *selection]) != 0
    ]


def _require(failures: Sequence[str]) -> None:
    if failures:
        raise CommandFailed(_("These checks failed: {names}.").format(names=", ".join(failures)))


def _linter(argv: Sequence[str]) -> int:
    report.say(" ".join(argv))
    return attach([BIN / argv[0], *argv[1:]])


def _selections(*, fast: bool, docker: bool) -> Iterator[tuple[str, ...]]:
    yield "tests/unit", "--numprocesses=auto"  # they wait more than they compute
    if not fast:
        yield "tests", "--ignore=tests/unit", "-m", "not slow", *_without(docker=docker)


def _without(*, docker: bool) -> tuple[str, ...]:
    return () if docker else ("--no-docker",)
