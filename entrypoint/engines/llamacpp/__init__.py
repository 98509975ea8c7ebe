"""The engine `llamacpp`: llama.cpp's own server, which repacks the weights for the CPU at hand."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final

from entrypoint.common import machine
from entrypoint.common.catalog import Model
from entrypoint.common.errors import NotSupported
from entrypoint.common.language import _
from entrypoint.engines import AnswerStream, Line, Options, Prompt, Texts, Usage, llamaserver
from entrypoint.engines.controls import Controls
from entrypoint.engines.llamacpp.cpu import chosen
from entrypoint.engines.llamacpp.vectors import BATCH, Vectors
from entrypoint.engines.llamaserver import LlamaServer
from entrypoint.engines.vocabulary import control_words, infilling

__all__ = ["ENVIRONMENT", "FOLLOWS", "LlamaCpp", "command", "kernels", "load", "version"]

PACKAGE = "llmdeploy_llamacpp"
FOLLOWS: Final = (*llamaserver.FOLLOWS, "suffix")
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

    def _load(self, model: Model, folder: Path) -> Controls:
        controls = super()._load(model, folder)
        self._vectors = Vectors(controls, self._send)
        self._infilling = infilling(control_words(folder / model.files[0].path))
        return controls

    def vectors(self, texts: Texts) -> AnswerStream:
        """Tell the vectors of texts; see `entrypoint.engines.Embedder`."""
        line = Line()
        return AnswerStream(self._content.guard(self._vectors.of(texts, line)), line)

    def _pieces(
        self, prompt: Prompt, options: Options, line: Line
    ) -> Generator[str | Usage, None, None]:
        if options.suffix and isinstance(prompt, str):
            prompt = self._infilled(prompt, options.suffix)
        yield from super()._pieces(prompt, options, line)

    def _infilled(self, prompt: str, suffix: str) -> str:
        """Return the raw text that asks for what lies between two; raise NotSupported."""
        if self._infilling is None:
            raise NotSupported(
                _("The model does not know how to fill a gap in a text."), option="suffix"
            )
        before, behind, between = self._infilling
        return f"{before}{prompt}{behind}{suffix}{between}"


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
        "--batch-size": BATCH,
        # Read, not mapped: repacking copies the weights, and a mapped file would stay beside its
        # copy. Mapping is 0.15 s faster for 0.36 GB, and takes 0.19 GB more.
        "--load-mode": "none",
        "--cache-ram": 0,  # its default saves old prompts in up to 8 GiB
        # The vector of a text is what the model has in mind at its end. Chats go past it.
        "--pooling": "last",
        "--log-verbosity": 2,
    }
    if model.chat_template:
        options["--chat-template"] = model.chat_template
    flags = (
        *("--no-warmup", "--offline", "--no-ui", "--no-slots", "--metrics"),
        *("--skip-chat-parsing", "--no-prefill-assistant", "--embeddings"),
    )
    values = [str(word) for option in options.items() for word in option]
    return [str(program("llama-server")), *values, "--fit", "off", *flags]
