"""Clients that people use, unmodified; `./llmdeploy clients` tries them all."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from builder import clients
from tests.build.serve.conftest import KEY, Process, Start

MODEL = "qwen2.5-coder-0.5b"  # its template knows tools


@pytest.fixture(scope="module")
def base(start: Start) -> Iterator[str]:
    """Return the address of a server of a model that can call tools."""
    words = ("serve", "--model", MODEL, "--port", "0", "--parallel", "1", "--context", "1024")
    with start(*words, "--host", "127.0.0.1") as program:
        process = Process(program)
        process.wait_for("model loaded")
        reader = threading.Thread(target=process.read_on)
        reader.start()
        try:
            yield f"{process.url}/v1"
        finally:
            program.terminate()
            reader.join()


@pytest.mark.parametrize("name", ["pydantic_ai_python", "llm_python"])
def test_what_a_client_tries_works(name: str, base: str) -> None:
    told = {"OPENAI_BASE_URL": base, "OPENAI_API_KEY": KEY, "MODEL": MODEL}
    attempts = clients.attempt(
        [sys.executable, clients.PROGRAMS / f"{name}.py"], {**clients.OFFLINE, **told}
    )
    assert [each for each in attempts if each.error] == []
    assert len(attempts) == 4
