"""The forge runs what a person types, and nothing else of ours."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke import Collection

import tasks
from builder.settings import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
RELEASE = ROOT / ".github/workflows/release.yml"
COMMIT = re.compile(r"uses: actions/[a-z-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$")


def jobs(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return dict(read["jobs"])


def typed(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_workflow_and_the_gate_run_the_command_of_the_readme() -> None:
    lines = typed(jobs(ROOT / ".github/workflows/test.yml")["test"])
    assert lines[-1] == "./llmdeploy test"
    assert all(line.startswith("sudo sysctl ") for line in lines[:-1]), "a setting of the machine"
    assert "exec ./llmdeploy test\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_the_quick_checks_come_first_on_every_python_that_is_promised() -> None:
    read = jobs(ROOT / ".github/workflows/test.yml")
    assert typed(read["fast"]) == ["./llmdeploy test --fast"]
    assert read["fast"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert read["test"]["needs"] == "fast"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_commit_and_no_job_but_a_release_may_write(
    path: Path,
) -> None:
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "uses:" in line]
    assert lines
    assert [line for line in lines if not COMMIT.search(line)] == []
    assert yaml.safe_load(text)["permissions"] == {}
    allowed = {"contents": "read"}
    if path == RELEASE:
        allowed = {"contents": "write", "packages": "write"}
    for job in jobs(path).values():
        assert job["permissions"] == allowed


def test_a_release_is_a_tag_that_our_own_tasks_build_sign_verify_and_export() -> None:
    assert yaml.safe_load(RELEASE.read_text(encoding="utf-8"))[True] == {"push": {"tags": ["v*"]}}
    lines = typed(jobs(RELEASE)["image"])
    ours = [line.split()[1:] for line in lines if line.startswith("./llmdeploy")]
    assert [words[0] for words in ours] == ["lock", "build-image", "push", "verify", "export"]
    known = {context.name: context for context in Collection.from_module(tasks).to_contexts()}
    for name, *words in ours:
        assert {word for word in words if word.startswith("--")} <= known[name].flags.keys()


@pytest.mark.parametrize(
    "path", [each for each in WORKFLOWS if each != RELEASE], ids=lambda path: path.stem
)
def test_every_workflow_runs_weekly(path: Path) -> None:
    on = yaml.safe_load(path.read_text(encoding="utf-8"))[True]  # YAML 1.1 reads `on` so
    [schedule] = on["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])
