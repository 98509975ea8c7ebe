"""The engine `llamacpp`: llama.cpp's own server, which repacks the weights for the CPU at hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from entrypoint.common import machine
from entrypoint.common.catalog import Model
from entrypoint.engines import llamaserver
from entrypoint.engines.llamacpp.cpu import chosen
from entrypoint.engines.llamaserver import FOLLOWS, LlamaServer

__all__ = ["ENVIRONMENT", "FOLLOWS", "LlamaCpp", "command", "kernels", "load", "version"]

PACKAGE = "llmdeploy_llamacpp"
ENVIRONMENT = {
    **llamaserver.ENVIRONMENT,
    # Each token reads all weights. In pages of 2 MiB, which most systems give to those only who
    # ask, that is 4 % faster, and so is loading, for 16 MiB of memory.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class LlamaCpp(LlamaServer):
    """llama-server with one model; see `entrypoint.engines.Engine`."""

    def _command(self, model: Model, folder: Path, *, context: int, parallel: int) -> list[str]:
        return command(model, folder, self._socket, context=context, parallel=parallel)

    def _environment(self) -> Mapping[str, str]:
        return {**ENVIRONMENT, **os.environ}


load = LlamaCpp


def version() -> tuple[str, str]:
    """Return llama.cpp's name and version."""
    return "llama.cpp", llamaserver.version("llmdeploy-llamacpp")


def kernels() -> str:
    """Return the instruction set that llama-server takes, such as "zen4"."""
    return chosen(program("llama-server"))


def program(name: str) -> Path:
    """Return the path of a program of the engine's wheel; raise StageMissing without it."""
    return llamaserver.program(PACKAGE, name)


def command(model: Model, folder: Path, address: Path, *, context: int, parallel: int) -> list[str]:
    """Return the server's command line; each of the `parallel` slots has `context` tokens."""
    llamaserver.require_short(address)
    options = {
        "--model": folder / model.files[0].path,
        "--host": address,
        "--threads": machine.threads(),
        "--threads-http": parallel + 4,  # its default grows with the host's cores
        "--parallel": parallel,
        "--ctx-size": context * parallel,
        # Between two batches it looks who hung up, and computes for the others. Its default, four
        # times as long, is no faster.
        "--batch-size": 512,
        # Read, not mapped: repacking copies the weights, and a mapped file would stay beside its
        # copy. Mapping is 0.15 s faster for 0.36 GB, and takes 0.19 GB more.
        "--load-mode": "none",
        "--cache-ram": 0,  # its default saves old prompts in up to 8 GiB
        "--log-verbosity": 2,
    }
    if model.chat_template:
        options["--chat-template"] = model.chat_template
    flags = (
        *("--no-warmup", "--offline", "--no-ui", "--no-slots", "--metrics"),
        *("--skip-chat-parsing", "--no-prefill-assistant"),
    )
    values = [str(word) for option in options.items() for word in option]
    return [str(program("llama-server")), *values, "--fit", "off", *flags]
