"""The tasks launch, status and teardown, as far as they need no platform."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from builder.launch import description, platforms, service, targets
from builder.launch.deployment import Deployment
from builder.settings import ROOT, Settings
from entrypoint.common.errors import ConfigFailure, NotEnoughMemory, UsageFailure

CATALOG = {
    "schema": 1,
    "default": "small",
    "models": [
        {
            "name": "small", "display_name": "Small", "engine": "llamacpp", "quantization": "Q4_0",
            "context": 8192, "memory": 700 << 20, "memory_each": 100 << 20,
            "languages": ["zh"], "license": "MIT", "source": "hub",
            "revision": "1", "chat_template": "", "stop": [], "files": [],
        }
    ],
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = Settings(dist=str(tmp_path / "dist"))
    settings.ready_dir.mkdir(parents=True)
    (settings.ready_dir / "catalog.json").write_text(json.dumps(CATALOG))
    return settings


@pytest.fixture
def small(deployment: Deployment) -> Deployment:
    return replace(deployment, model="", registry="", image="small")


def llmdeploy(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "builder", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
    )


def test_what_would_be_applied_is_printed(
    settings: Settings, small: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    targets.show(settings, small, "compose")
    printed = capsys.readouterr().out
    assert printed == platforms.find("compose").render(small, "small")["compose.yaml"]


@pytest.mark.parametrize(
    "target", [name for name in platforms.names() if platforms.find(name).TABLE.pulls]
)
def test_the_example_as_it_is_shows_what_would_be_and_what_is_missing(
    settings: Settings, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    described = description.load(ROOT / "deploy.example.toml", target)
    targets.show(settings, described, target)
    shown = capsys.readouterr()
    assert targets.UNSET in shown.out
    assert "Its name is shown as a placeholder" in shown.err
    assert "set in deploy.toml what the example leaves open: " in shown.err
    assert ("API keys" in shown.err) == (target in {"swarm", "k8s"})
    with pytest.raises(ConfigFailure, match="still has what the example leaves open: "):
        targets.apply(settings, described, target)


def test_a_table_that_is_missing_is_told(settings: Settings, deployment: Deployment) -> None:
    with pytest.raises(ConfigFailure, match=r"no table \[ecs\]") as caught:
        targets.apply(settings, deployment, "ecs")
    assert "deploy.example.toml" in caught.value.next


def test_files_are_written_and_others_are_kept(
    settings: Settings, small: Deployment, tmp_path: Path
) -> None:
    targets.write(settings, small, "compose", tmp_path / "out")
    targets.write(settings, small, "compose", tmp_path / "out")
    written = tmp_path / "out/compose.yaml"
    assert "small" in written.read_text()
    written.write_text("mine")
    with pytest.raises(UsageFailure, match="different content"):
        targets.write(settings, small, "compose", tmp_path / "out")
    assert written.read_text() == "mine"


def test_a_replica_too_small_for_its_model_is_refused_early(
    settings: Settings, small: Deployment
) -> None:
    targets.show(settings, replace(small, memory=1000), "compose")
    with pytest.raises(NotEnoughMemory, match=r"small needs 1000 MiB.* a replica 999"):
        targets.show(settings, replace(small, memory=999), "compose")


def test_a_mistyped_platform_gets_a_suggestion() -> None:
    done = llmdeploy("launch", "compsoe", "--file", "deploy.example.toml")
    assert done.returncode == 2
    assert "Did you mean compose?" in done.stderr
    assert "Traceback" not in done.stderr


def test_options_that_exclude_each_other() -> None:
    done = llmdeploy("launch", "compose", "--dry-run", "--apply")
    assert done.returncode == 2
    assert "--dry-run, --apply" in done.stderr


def test_a_missing_description() -> None:
    done = llmdeploy("status", "compose", "--file", "nowhere.toml")
    assert done.returncode == 4
    assert "nowhere.toml does not exist" in done.stderr


def test_keys_that_are_missing_or_empty(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for _attempt in range(2):
        with pytest.raises(ConfigFailure, match="missing or empty") as caught:
            service.read_keys(replace(deployment, keys=str(path)))
        assert "openssl rand" in caught.value.next
        path.write_text("\n")
    path.write_text("secret\n")
    assert service.read_keys(replace(deployment, keys=str(path))) == "secret\n"
