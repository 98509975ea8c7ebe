"""What goes wrong around a real server: wrong words, a killed engine, a full disk, SIGTERM."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import requests

from builder.settings import ROOT
from tests.build.serve.conftest import Start, running
from tests.served import until

Run = Callable[..., "CompletedProcess[str]"]
LONG: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Write a very long story."}],
    "stream": True,
    "temperature": 1.5,
}


def ask(url: str, **more: Any) -> requests.Response:
    """Begin a streamed answer; it has begun when this returns."""
    answer = requests.post(
        f"{url}/v1/chat/completions", json={**LONG, **more}, stream=True, timeout=120
    )
    assert answer.ok, answer.text
    return answer


def engine_of(pid: int) -> int:
    """Return the process of the engine that a server has started."""
    children = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    (child,) = " ".join(children).split()
    return int(child)


def test_an_engine_killed_in_mid_answer_costs_that_answer_only(start_each: Start) -> None:
    with running(start_each, "--parallel", "2", "--context", "1024") as server:
        with ask(server.url) as answer:
            lines = answer.iter_lines()
            next(lines)
            os.kill(engine_of(server.program.pid), signal.SIGKILL)
            *_, error, done = [json.loads(line[6:]) if line.startswith(b"data: {") else line
                               for line in lines if line]  # fmt: skip
        assert error["error"]["code"] == "engine_failed"
        assert done == b"data: [DONE]"
        server.wait_for("model loaded", 2)
        with ask(server.url, max_tokens=4) as answer:
            assert answer.content.endswith(b"data: [DONE]\n\n")


def test_an_engine_stopped_in_mid_answer_is_replaced_and_ready_tells_the_truth(
    start_each: Start,
) -> None:
    with running(start_each, "--parallel", "2", "--context", "1024") as server:
        with ask(server.url) as answer:
            lines = answer.iter_lines()
            next(lines)
            stopped = engine_of(server.program.pid)
            os.kill(stopped, signal.SIGSTOP)
            until(lambda: requests.get(f"{server.url}/ready", timeout=20).status_code == 503)
            *_, error, done = [line for line in lines if line]
        assert json.loads(error[6:])["error"]["code"] == "engine_failed"
        assert done == b"data: [DONE]"
        server.wait_for("model loaded", 2)
        assert not Path(f"/proc/{stopped}").exists()
        with ask(server.url, max_tokens=4) as answer:
            assert answer.content.endswith(b"data: [DONE]\n\n")


def test_an_engine_has_no_key_in_its_environment(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMDEPLOY_API_KEY", "sesame")
    with running(start, "--host", "127.0.0.1", "--context", "1024") as server:
        environment = Path(f"/proc/{engine_of(server.program.pid)}/environ").read_bytes()
    assert b"HOME=" in environment
    assert b"sesame" not in environment


def test_beyond_the_queue_a_request_is_refused_until_somebody_hangs_up(start_each: Start) -> None:
    words = ("--parallel", "1", "--queue", "1", "--context", "1024")
    with running(start_each, *words) as server, ThreadPoolExecutor(1) as pool:

        def told(name: str) -> float:
            metrics = requests.get(f"{server.url}/metrics", timeout=20).text
            (value,) = re.findall(rf"^llmdeploy_{name}{{.*}} (.*)$", metrics, re.MULTILINE)
            return float(value)

        with ask(server.url):
            waiting = pool.submit(ask, server.url, max_tokens=4)
            until(lambda: told("queue") == 1)
            refused = requests.post(f"{server.url}/v1/chat/completions", json=LONG, timeout=120)
            assert refused.status_code == 429
            assert int(refused.headers["Retry-After"]) >= 1
        with waiting.result() as answer:
            assert answer.content.endswith(b"data: [DONE]\n\n")
        until(lambda: told("running") == 0)


def test_sigterm_lets_an_answer_end_and_means_success(start_each: Start) -> None:
    with running(start_each, "--parallel", "2", "--context", "1024", "--drain", "60") as server:
        with ask(server.url, max_tokens=24) as answer:
            server.program.terminate()
            assert answer.content.endswith(b"data: [DONE]\n\n")
            assert b"error" not in answer.content
        assert server.program.wait(60) == 0


def test_sigterm_while_the_model_is_loaded_ends_it_too(start_each: Start) -> None:
    with start_each("serve", "--model", "smollm2-135m", "--port", "0") as program:
        assert program.stderr
        program.stderr.readline()
        program.terminate()
        assert program.wait(60) in {0, 143}


def test_a_log_that_cannot_be_written_keeps_nobody_from_an_answer(
    unpacked: Path, models_dir: Path
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    words = ["-m", "entrypoint", "serve", "--model", "smollm2-135m", "--port", f"{port}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LLMDEPLOY_MODELS": str(models_dir)}

    def ready() -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{port}/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    with (
        Path("/dev/full").open("w", encoding="utf-8") as full,
        subprocess.Popen([unpacked / "bin/python3", *words], env=env, stderr=full) as program,
    ):
        until(ready)
        with ask(f"http://127.0.0.1:{port}", max_tokens=4) as answer:
            assert answer.content.endswith(b"data: [DONE]\n\n")
        program.terminate()
        assert program.wait(60) == 0


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_reason(
    run: Run, models_dir: Path, tmp_path: Path
) -> None:
    shutil.copy(models_dir / "catalog.json", tmp_path)
    done = run("serve", "--model", "smollm2-135m", "--port", "0", models=tmp_path)
    assert done.returncode == 13
    assert "smollm2-135m" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--host", "0.0.0.0"], 2, "--insecure"),
        (["--port", "70000"], 2, "65535"),
        (["--parallel", "0"], 2, "256"),
        (["--model", "nobody"], 3, "nobody"),
        (["--api-key-file", "/nowhere/keys"], 4, "/nowhere/keys"),
        (["--parallel", "256", "--context", "1000000"], 12, "--parallel"),
        (["--host", "203.0.113.9", "--insecure"], 22, "203.0.113.9"),
    ],
)
def test_wrong_words_are_told_with_their_exit_code(
    run: Run, words: list[str], code: int, told: str
) -> None:
    done = run("serve", *words)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_told(run: Run) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = str(listener.getsockname()[1])
        done = run("serve", "--port", port)
    assert done.returncode == 22
    assert port in done.stderr
