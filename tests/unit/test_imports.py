"""What the build side imports is among what its launcher installs."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from builder.settings import ROOT

# Folders and modules whose tasks have more installed than env/host.lock; the launcher says which.
CLOUD = ("builder/launch/alibaba", "builder/launch/platforms")
TEST = ("builder/bench", "builder/clients", "builder/checks.py")
# Programs that another Python runs, which has packages of its own.
ELSEWHERE = "builder/inside"
OWNERS = packages_distributions()


def locked(*names: str) -> set[str]:
    """Return the distributions in these locks, by their normalized names."""
    texts = [(ROOT / f"env/{name}.lock").read_text(encoding="utf-8") for name in names]
    found = re.findall(r"^([\w.-]+)==", "\n".join(texts), re.MULTILINE)
    return {normal(name) for name in found}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def strangers(path: Path) -> Iterator[str]:
    """Yield the packages that a module imports anywhere, but ours and Python's own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top not in {*sys.stdlib_module_names, "builder", "entrypoint", "tasks"}:
                yield top


def modules() -> Iterator[str]:
    yield "tasks.py"
    for folder in ("builder", "entrypoint/common"):
        for path in (ROOT / folder).rglob("*.py"):
            if ROOT / ELSEWHERE not in path.parents:
                yield str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", sorted(modules()))
def test_whatever_a_module_imports_is_installed_for_its_tasks(module: str) -> None:
    locks = ["host"]
    if module.startswith(CLOUD + TEST):
        locks.append("cloud")
    if module.startswith(TEST):
        locks.append("test")
    there = locked(*locks)
    for name in set(strangers(ROOT / module)):
        owners = {normal(each) for each in OWNERS.get(name, [name])}
        assert owners & there, f"{name} is in none of: {locks}"
