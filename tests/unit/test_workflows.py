"""The forge runs what a person types, and nothing else of ours."""

import yaml

from builder.settings import ROOT


def test_the_workflow_and_the_gate_run_the_command_of_the_readme() -> None:
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(text)["jobs"]["test"]["steps"]
    typed = [step["run"] for step in steps if "run" in step]
    assert typed[-1] == "./llmdeploy test"
    assert all(line.startswith("sudo sysctl ") for line in typed[:-1]), "a setting of the machine"
    assert "exec ./llmdeploy test\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")
