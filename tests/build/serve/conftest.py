"""`llmdeploy serve` with a real model, as a process of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.served import served

__all__ = ["served"]

Start = Callable[..., "Popen[str]"]
KEY = "sesame"


@dataclass
class Process:
    """A server, and what it logged so far."""

    program: Popen[str]
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        place = self.wait_for("listening")
        return f"http://{place['host']}:{place['port']}"

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """Return the entry of the log that tells of an event for the `count`th time."""
        while True:
            found = [entry for entry in self.log if entry["event"] == event]
            if len(found) >= count:
                return found[count - 1]
            assert self.program.stderr
            line = self.program.stderr.readline()
            assert line, f"it ended before {event!r}: {self.log}"
            self.log.append(json.loads(line))

    def read_on(self) -> None:
        """Read the rest of the log, so that the server never waits for us."""
        assert self.program.stderr
        for line in self.program.stderr:
            self.log.append(json.loads(line))


@contextmanager
def running(start: Start, *words: str | Path) -> Iterator[Process]:
    """Run `llmdeploy serve` on any free port until the block ends."""
    with start("serve", "--model", "smollm2-135m", "--port", "0", *words) as program:
        process = Process(program)
        try:
            process.wait_for("model loaded")
            yield process
        finally:
            program.terminate()


@pytest.fixture(scope="module", params=["start", "start_openvino"], ids=["llamacpp", "openvino"])
def start_each(request: pytest.FixtureRequest) -> Start:
    """Return a function that starts `llmdeploy WORDS`, with one engine after the other."""
    found: Start = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def api(start_each: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """Return a server that wants KEY."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{KEY}\n")
    words = ("--api-key-file", keys, "--host", "127.0.0.1", "--parallel", "2", "--context", "1024")
    with running(start_each, *words) as process:
        reader = threading.Thread(target=process.read_on)
        reader.start()
        try:
            yield process
        finally:
            process.program.terminate()
            reader.join()  # the log ends with the server, and is closed after that
