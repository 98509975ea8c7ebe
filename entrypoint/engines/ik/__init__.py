"""The engine `ik`: the server of ik_llama.cpp, a fork of llama.cpp with CPU kernels of its own.

Its weights lie in the file as its kernels want them and are mapped: nothing is repacked at start,
and containers that have the same layer share the pages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final

from entrypoint.common import gguf, machine
from entrypoint.common.catalog import ENDLESS, Model
from entrypoint.common.errors import Failure, NotSupported
from entrypoint.common.language import _
from entrypoint.engines import Line, Options, Prompt, Usage, llamaserver
from entrypoint.engines.ik.cpu import chosen
from entrypoint.engines.llamaserver import PENALTIES, LlamaServer

__all__ = ["FOLLOWS", "Ik", "command", "kernels", "load", "version"]

PACKAGE: Final = "llmdeploy_ik"
FOLLOWS: Final = tuple(set(llamaserver.FOLLOWS) - {"echo"})
HEADS: Final = frozenset({64, 128})  # sizes of a head that env/ik/ has kernels of attention for
SAMPLERS: Final = ("top_k", "top_p", "min_p", "temperature")
TOO_LONG: Final = re.compile(r"context (\d+) < (\d+)")  # of env/ik/CMakeLists.txt


class Ik(LlamaServer):
    """ik_llama.cpp's server with one model; see `entrypoint.engines.Engine`."""

    chats = False  # it would take thoughts and calls of tools out of the text

    def _command(self, model: Model, folder: Path, *, context: int, parallel: int) -> list[str]:
        return command(model, folder, self._socket, context=context, parallel=parallel)

    def _environment(self) -> Mapping[str, str]:
        return {**llamaserver.ENVIRONMENT, **os.environ, "LD_LIBRARY_PATH": os.fspath(_libraries())}

    def _pieces(
        self, prompt: Prompt, options: Options, line: Line
    ) -> Generator[str | Usage, None, None]:
        # Its server cannot end a thought, and scores what was forced as if the model had liked it.
        for name, asked in (
            ("think", options.think not in {None, 0, ENDLESS}),
            ("echo", options.echo),
            ("suffix", options.suffix),
        ):
            if asked:
                raise NotSupported(
                    _("The engine {engine} does not follow: {names}.").format(
                        engine="ik", names=name
                    ),
                    option=name,
                )
        yield from super()._pieces(prompt, options, line)

    def _body(self, prompt: Prompt, options: Options) -> dict[str, Any]:
        """Return a request with what its server forgets: else it chooses as for the one before.

        And what is punished is the last token alone, unless it is told where to begin.
        """
        body = {"samplers": SAMPLERS, **super()._body(prompt, options)}
        if PENALTIES & body.keys():
            body["penalty_prompt"] = prompt
        return body

    def _told(self, event: dict[str, Any]) -> dict[str, Any]:
        usage = event.pop("usage", None)  # each event has one, and only the last is meant
        if any(choice["finish_reason"] for choice in event.get("choices", ())):
            timings = event["timings"]
            timings["cache_n"] = usage["prompt_tokens"] - timings["prompt_n"]
            event["usage"] = usage
        return event

    def _refusal(self, error: dict[str, Any]) -> Failure:
        if long := TOO_LONG.fullmatch(error.get("message", "")):
            error = {
                "type": "exceed_context_size_error",
                "n_ctx": long[1],
                "n_prompt_tokens": long[2],
            }
        return super()._refusal(error)


load = Ik


def version() -> tuple[str, str]:
    """Return the name and version of what computes, "" where it is not installed."""
    return "ik_llama.cpp", llamaserver.version("llmdeploy-ik")


def kernels() -> str:
    """Return the level of the library that is taken here, "avx512" or "avx2".

    Raises UnsupportedCpu if there is none for this CPU, StageMissing without the engine.
    """
    return _libraries().name


def program(name: str) -> Path:
    """Return the path of a program of the engine's wheel; raise StageMissing without it."""
    return llamaserver.program(PACKAGE, name)


def command(model: Model, folder: Path, address: Path, *, context: int, parallel: int) -> list[str]:
    """Return the server's command line; each of the `parallel` slots has `context` tokens."""
    llamaserver.require_short(address)
    weights = folder / model.files[0].path
    options = {
        "--model": weights,
        "--host": address,
        "--threads": machine.threads(),
        "--threads-http": parallel + 4,
        "--parallel": parallel,
        "--ctx-size": context * parallel,
        "--batch-size": 512,  # between two batches it looks who hung up
        "--flash-attn": "on" if _head(weights) in HEADS else "off",
        "--cache-ram": 0,
        "--ctx-checkpoints": 0,
        "--webui": "none",
        "--reasoning-format": "none",
    }
    if model.chat_template:
        options["--chat-template"] = model.chat_template
    flags = (
        *("--jinja", "--no-warmup", "--no-slots", "--metrics", "--no-context-shift"),
        "--log-disable",
    )
    values = [str(word) for option in options.items() for word in option]
    return [str(program("llama-server")), *values, *flags]


def _libraries() -> Path:
    """Return the folder of the library for this CPU."""
    return program(chosen(machine.cpu()))


def _head(weights: Path) -> int:
    """Return the size of a head of attention, 0 for a model that has none."""
    header = gguf.read(weights)
    count = header.get("attention.head_count")
    heads = max(count) if isinstance(count, list) else count
    return int(header.get("attention.key_length", header.get("embedding_length") // (heads or 1)))
