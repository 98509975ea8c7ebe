"""The image as a user runs it: offline, read-only, without privileges."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pexpect
import pytest

from builder.image import HARDENED
from builder.settings import Settings
from docker import DockerClient
from tests.images import CONFINED, EVERY_IMAGE, wait_for

Run = Callable[..., CompletedProcess[str]]
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SMALL = ("--model", "smollm2-135m")
STEADY = ("--temperature", "0", "--seed", "1")


@EVERY_IMAGE
def test_any_user_gets_a_chinese_answer_offline(run: Run) -> None:
    stranger = ["--user", "12345:54321"]
    done = run("chat", "--max-tokens", "40", flags=stranger, text="请介绍同济大学。\n")
    assert done.returncode == 0, done.stderr
    assert CHINESE.search(done.stdout)
    assert "arn" not in done.stderr, "a warning"


@EVERY_IMAGE
def test_two_transcripts_of_the_same_questions_are_the_same(run: Run) -> None:
    questions = "你好\n1+1等于几？\n"
    first, second = (run("chat", *STEADY, "--max-tokens", "24", text=questions) for _ in "ab")
    assert first.returncode == 0
    assert first.stdout == second.stdout
    assert len(first.stdout.strip().splitlines()) >= 2


@EVERY_IMAGE
def test_the_program_is_not_root_and_there_is_no_shell(run: Run) -> None:
    python = ["--entrypoint", "/opt/llmdeploy/bin/python3"]
    done = run("-c", "import os; print(os.getuid(), os.getgid())", flags=python)
    assert done.stdout == "10001 10001\n"
    for shell in ("sh", "bash", "busybox"):
        assert run("-c", "true", flags=["--entrypoint", shell]).returncode == 127


@EVERY_IMAGE
def test_the_default_command_is_chat(run: Run) -> None:
    assert run(text="").returncode == 0


@EVERY_IMAGE
def test_threads_follow_the_cpu_quota(run: Run) -> None:
    report = json.loads(run("doctor", "--json", flags=["--cpus", "1"]).stdout)
    assert report["threads"]["count"] == 1


@EVERY_IMAGE
def test_too_little_memory_is_told_before_loading(run: Run) -> None:
    done = run("chat", flags=["-m", "256m"], text="你好\n")
    assert done.returncode == 12
    assert "qwen2.5-coder-0.5b" in done.stderr
    assert done.stdout == ""


def test_a_mounted_file_answers_without_a_build(run: Run, built: Settings) -> None:
    weights = built.ready_dir / "smollm2-135m/model.gguf"
    mount = ["-v", f"{weights}:/models/my.gguf:ro"]
    done = run("chat", "--model", "my", flags=mount, text="Say hello.\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    listed = run("models", flags=mount)
    assert "my is a mounted file; its hash is unknown." in listed.stdout


@EVERY_IMAGE
def test_a_truncated_model_is_told_before_loading(
    run: Run, derive: Callable[[str], str], tmp_path: Path, built: Settings
) -> None:
    (weights,) = (built.ready_dir / "smollm2-135m").glob("model.[gs]*")
    with weights.open("rb") as whole:
        (tmp_path / "cut").write_bytes(whole.read(1 << 20))
    cut = derive(f"COPY cut /models/smollm2-135m/{weights.name}")
    done = run("chat", *SMALL, name=cut, text="Hello\n")
    assert done.returncode == 13
    assert "smollm2-135m" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def background(engine: DockerClient, built: Settings) -> Iterator[str]:
    """Return the id of a chat that waits for its first question."""
    container = engine.containers.run(
        built.image_name,
        ["chat", *SMALL],
        detach=True,
        stdin_open=True,
        network_mode="none",
        healthcheck={"interval": 1_000_000_000},
        **CONFINED,
    )
    yield str(container.id)
    container.remove(force=True)


@EVERY_IMAGE
def test_docker_stop_ends_an_answer_at_once_with_the_code_of_sigterm(
    engine: DockerClient, background: str
) -> None:
    container = engine.containers.get(background)
    typed: Any = container.attach_socket(params={"stdin": 1, "stream": 1})
    with closing(typed), closing(typed._sock) as keyboard:
        keyboard.sendall(b"Write a long story about the sea.\n")
        # Hung up earlier, the engine may drop what it has not handed on yet.
        wait_for(lambda: container.logs(stderr=False))
    container.stop(timeout=10)  # then the engine kills it, which would be code 137
    assert container.wait()["StatusCode"] == 143


def test_its_health_is_that_of_the_engine_in_it(engine: DockerClient, background: str) -> None:
    container = engine.containers.get(background)
    wait_for(lambda: "llama-server" in str(container.top()))
    wait_for(lambda: health(container)["Status"] == "healthy")
    kill = (
        "import os, pathlib\n"
        "for comm in pathlib.Path('/proc').glob('[0-9]*/comm'):\n"
        "    if comm.read_text() == 'llama-server\\n': os.kill(int(comm.parent.name), 9)"
    )
    container.exec_run(["/opt/llmdeploy/bin/python3", "-c", kill])
    wait_for(lambda: health(container)["Status"] == "unhealthy")


def health(container: Any) -> dict[str, Any]:
    container.reload()
    state: dict[str, Any] = container.attrs["State"]["Health"]
    return state


@pytest.fixture
def terminal(built: Settings) -> Iterator[pexpect.spawn[str]]:
    """Return a chat in a pseudo-terminal, at its first prompt."""
    command = ["run", "--rm", "-it", *HARDENED, built.image_name, "chat", *STEADY]
    child = pexpect.spawn("docker", command, encoding="utf-8", timeout=120, dimensions=(40, 100))
    child.expect_exact(">>>")
    yield child
    child.close(force=True)


def test_a_person_stops_an_answer_gets_another_and_leaves(terminal: pexpect.spawn[str]) -> None:
    terminal.sendline("请介绍同济大学。")  # which it would do without an end
    terminal.expect("大学[^>]*大学[^>]*大学")  # the echo of the question, and the answer
    terminal.sendintr()
    terminal.expect_exact(">>>")

    terminal.sendline("1+1等于几？")
    terminal.expect("(等于|=) ?2")
    terminal.expect_exact(">>>")

    terminal.sendline("/show")
    terminal.expect_exact("qwen2.5-coder-0.5b")
    terminal.expect_exact(">>>")
    terminal.sendline("/hlep")
    terminal.expect_exact("/help")
    terminal.expect_exact(">>>")

    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0
