"""`up` as a person or a pipe uses it, on a machine where everything has been built."""

import re
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

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
