"""`up` as a person or a pipe uses it, on a machine where everything has been built."""

import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from builder.settings import ROOT, Settings
from tests import hub as hubs
from tests.hub import REPOSITORY, REVISION, Hub

Task = Callable[..., CompletedProcess[str]]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


@pytest.mark.usefixtures("image")
def test_a_line_on_standard_input_is_answered_on_standard_output_alone(task: Task) -> None:
    done = task("up", "qwen2.5-coder-0.5b", text="请用一句话介绍同济大学。\n")
    assert done.returncode == 0, done.stderr
    assert CHINESE.search(done.stdout)
    assert "==>" not in done.stdout
    assert done.stderr.count("nothing changed") >= 2, "environment and image"


@pytest.mark.usefixtures("image")
def test_the_exit_code_and_the_language_pass_through(task: Task) -> None:
    done = task("up", "qwen2.5-coder-0.5b", text="\udcff\n", LLMDEPLOY_LANG="zh")
    assert done.returncode == 15
    assert CHINESE.search(done.stderr)


@pytest.mark.usefixtures("image")
def test_without_an_engine_the_same_chat_runs_on_the_host(task: Task) -> None:
    done = task(
        "up", "qwen2.5-coder-0.5b", text="你好\n", DOCKER_HOST="unix:///nowhere/docker.sock"
    )
    assert done.returncode == 0, done.stderr
    assert "without a container" in done.stderr
    assert CHINESE.search(done.stdout)


@pytest.mark.slow
def test_an_address_of_a_hub_is_all_that_it_takes(
    task: Task, settings: Settings, checkout: Path
) -> None:
    """The real SDK of ModelScope fetches from a loopback what nobody has described."""
    weights = (settings.ready_dir / "smollm2-135m/model.gguf").read_bytes()
    (checkout / "dist/models").unlink()  # it has its own, as a catalogue is written there
    with hubs.serve(Hub({"tiny-Q4_0.gguf": weights})) as hub:
        done = task(
            *("up", f"modelscope:{REPOSITORY}@{REVISION}:Q4_0"),
            cwd=checkout,
            text="Say hello.\n",
            MODELSCOPE_ENDPOINT=hub.url,
            HOME=str(checkout),
            LLMDEPLOY_CACHE=str(settings.cache_dir),
        )
    assert done.returncode == 0, done.stderr
    told = re.sub(r"(?m)^    took .* s\n", "", done.stderr)
    told = re.sub("version .* answers", "version 28.5.2 answers", told)
    for page in ("models.md", "models.zh.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        [shown] = re.findall(r"(?s)\$ \./llmdeploy up modelscope:owner.*?\n(.*?)```", text)
        assert told.replace("llmdeploy-checkout", "llmdeploy").startswith(shown)
    assert done.stdout.strip()
    assert "==>" not in done.stdout
    assert sorted(path.name for path in checkout.glob("dist/image/llamacpp/roots/model-*")) == [
        "model-model"
    ]
