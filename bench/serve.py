#!/usr/bin/env python3
"""Measure `llmdeploy serve` beside llama.cpp's own server; run with the environment's Python.

Both have the same model file, the same number of places, and take turns. Then ours alone is kept
busy for a while by clients of whom some hang up and some talk nonsense. Prints one JSON object.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import load

from entrypoint.arguments import models_folder
from entrypoint.common import catalog
from entrypoint.engines import llamacpp

PLAN = json.loads(sys.argv[1])  # builder.bench.serve.PLAN
MALFORMED = (b"{", b"[]", b'{"messages": 1}', b'{"messages": [], "n": 7}', b"\xff\xfe")


def main() -> None:
    """Measure what the plan asks for."""
    folder = models_folder()
    model = catalog.load(folder).find(PLAN["model"])
    with ExitStack() as stack:
        ours = stack.enter_context(_ours(model.name))
        native = stack.enter_context(_native(model, folder))
        servers = {"llmdeploy": ours, "llama.cpp": native}
        found: dict[str, dict[str, list[float]]] = {name: {} for name in servers}
        for _port, _pid in servers.values():
            _load(_port, model.name, 4, 8)
        for _round in range(PLAN["rounds"]):
            for clients in PLAN["levels"]:
                for name, (port, _pid) in servers.items():
                    for figure, value in _load(port, model.name, clients, PLAN["tokens"]).items():
                        found[name].setdefault(f"{figure}-{clients}", []).append(value)
        for name, (_port, pid) in servers.items():
            found[name]["memory"] = [_memory(pid)]
        soak = _soak(*ours, model.name) if PLAN["soak"] else None
    print(json.dumps({"servers": found, "soak": soak}))


def _load(port: int, model: str, clients: int, tokens: int) -> dict[str, float]:
    """Return what so many clients got, each with two questions."""
    asked = [
        load.Exchange(load.chat(model, f"Story {number}: tell of the sea.", tokens, seed=number))
        for number in range(2 * clients)
    ]
    begun = time.monotonic()
    ended = list(load.run(port, clients, asked))
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


def _soak(port: int, pid: int, model: str) -> dict[str, Any]:
    """Return what happened while clients asked, hung up and talked nonsense.

    Whoever asks gets a number that the answer must have: a wrong one would be somebody else's.
    """
    dice = random.Random(1)  # noqa: S311 (the same every time)
    counts = {"right": 0, "wrong": 0, "aborted": 0, "malformed": 0, "refused": 0}
    begun, settled = time.monotonic(), 0.0

    def exchanges() -> Iterator[load.Exchange]:
        while time.monotonic() - begun < PLAN["soak"]:
            match dice.choices(("nonsense", "hang up", "ask"), (10, 15, 75))[0]:
                case "nonsense":
                    yield load.Exchange(dice.choice(MALFORMED))
                case "hang up":
                    question = load.chat(model, "Tell a long story.", 200)
                    yield load.Exchange(question, patience=dice.randrange(1, 4000))
                case _:
                    number = dice.randrange(10**6, 10**7)
                    schema = {"const": f"number {number}"}
                    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
                    text = f"Say number {number}."
                    yield load.Exchange(load.chat(model, text, 40, response_format=form))

    for each in load.run(port, PLAN["clients"], exchanges()):
        if isinstance(each.body, bytes):
            counts["malformed" if each.status == http.HTTPStatus.BAD_REQUEST else "wrong"] += 1
        elif each.patience is not None:
            counts["aborted"] += 1
        elif each.status != http.HTTPStatus.OK:
            counts["refused"] += 1
        else:
            number = each.body["messages"][0]["content"].split()[-1].rstrip(".")
            counts["right" if each.text == f'"number {number}"' else "wrong"] += 1
        if not settled and time.monotonic() - begun > PLAN["soak"] / 10:
            settled = _memory(pid)
    return {
        **counts,
        "seconds": time.monotonic() - begun,
        "settled": settled,
        "memory": _memory(pid),
    }


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
            while not _answers(port, path):
                if server.poll() is not None:
                    sys.exit(f"{argv[0]} ended with exit code {server.returncode}")
                time.sleep(0.1)
            yield server.pid
        finally:
            server.terminate()


def _answers(port: int, path: str) -> bool:
    with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port)) as peer:
        peer.request("GET", path)
        return peer.getresponse().status == http.HTTPStatus.OK
    return False


def _free() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def _memory(pid: int) -> float:
    """Return what a process and its children have in memory, in MiB."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [pid, *(int(child) for path in children for child in path.read_text().split())]
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
