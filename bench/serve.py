#!/usr/bin/env python3
"""Measure `llmdeploy serve` beside llama.cpp's own server; run with the environment's Python.

Both have the same model file, the same number of places, and take turns. Then ours alone has a busy
time (soak.py). Prints one JSON object.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median, quantiles

import load
from soak import Soak, answers, memory

from entrypoint.arguments import models_folder
from entrypoint.common import catalog
from entrypoint.engines import llamacpp

PLAN = json.loads(sys.argv[1])  # builder.bench.serve.PLAN


def main() -> None:
    """Measure what the plan asks for."""
    folder = models_folder()
    model = catalog.load(folder).find(PLAN["model"])
    with ExitStack() as stack:
        ours = stack.enter_context(_ours(model.name))
        native = stack.enter_context(_native(model, folder))
        servers = {"llmdeploy": ours, "llama.cpp": native}
        figures: dict[str, dict[str, list[float]]] = {name: {} for name in servers}
        for _port, _pid in servers.values():
            _load(_port, model.name, 4, 8)
        for _round in range(PLAN["rounds"]):
            for clients in PLAN["levels"]:
                for name, (port, _pid) in servers.items():
                    for figure, value in _load(port, model.name, clients, PLAN["tokens"]).items():
                        figures[name].setdefault(f"{figure}-{clients}", []).append(value)
        for name, (_port, pid) in servers.items():
            figures[name]["memory"] = [memory(pid)]
        busy = Soak(*ours, model.name, PLAN["soak"]).run(PLAN["clients"])
    print(json.dumps({"servers": figures, "soak": busy}))


def _load(port: int, model: str, clients: int, tokens: int) -> dict[str, float]:
    """Return what so many clients got, each with two questions."""
    exchanges = [
        load.Exchange(load.chat(model, f"Story {number}: tell of the sea.", tokens, seed=number))
        for number in range(2 * clients)
    ]
    begun = time.monotonic()
    ended = list(load.run(port, clients, exchanges))
    seconds = time.monotonic() - begun
    firsts = sorted(each.first for each in ended)
    tokens_made = sum(each.tokens for each in ended)
    return {
        "rate": tokens_made / seconds,
        "requests": len(ended) / seconds,
        "first": median(firsts),
        "first99": quantiles(firsts, n=100, method="inclusive")[98],
        "token": 1000 * median(_per_token(each) for each in ended),
    }


def _per_token(exchange: load.Exchange) -> float:
    steps = exchange.tokens - 1
    return (exchange.ended - exchange.begun - exchange.first) / max(1, steps)


@contextmanager
def _ours(model: str) -> Iterator[tuple[int, int]]:
    """Yield port and process of our server."""
    port = _free()
    words = {"port": port, "model": model, "parallel": PLAN["parallel"], "context": PLAN["context"]}
    argv = [str(word) for name, value in words.items() for word in (f"--{name}", value)]
    with _running([sys.executable, "-m", "entrypoint", "serve", *argv], port, "/ready") as pid:
        yield port, pid


@contextmanager
def _native(model: catalog.Model, folder: Path) -> Iterator[tuple[int, int]]:
    """Yield port and process of llama.cpp's server, with the options that our engine gives it."""
    port = _free()
    argv = llamacpp.command(
        model,
        folder / model.name,
        Path("127.0.0.1"),
        context=PLAN["context"],
        parallel=PLAN["parallel"],
    )
    with _running([*argv, "--port", str(port)], port, "/health") as pid:
        yield port, pid


@contextmanager
def _running(argv: list[str], port: int, path: str) -> Iterator[int]:
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while not answers(port, path):
                if server.poll() is not None:
                    sys.exit(f"{argv[0]} ended with exit code {server.returncode}")
                time.sleep(0.1)
            yield server.pid
        finally:
            server.terminate()


def _free() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
