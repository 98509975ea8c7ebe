"""The engine `openvino`: OpenVINO GenAI's scheduler, which computes many answers in one pass.

It works in a child process: a step of the library holds Python's lock for as long as it computes,
and so its crash becomes an error message of ours. Each request has a socket of its own, handed over
to the child; closing it stops the computation.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entrypoint.common import machine
from entrypoint.common.catalog import Model
from entrypoint.common.errors import (
    Failure,
    MessageTooLong,
    NotSupported,
    StageMissing,
    UnsupportedCpu,
)
from entrypoint.common.language import _
from entrypoint.engines import (
    AnswerStream,
    HungUp,
    Line,
    Message,
    Options,
    Prompt,
    Usage,
    require,
    weights,
)
from entrypoint.engines.child import Child
from entrypoint.engines.pulse import MOMENT, Pulse

SAMPLING = {  # of Options, and what the library calls it
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
FOLLOWS = tuple(SAMPLING)
SERVER = "entrypoint.engines.openvino.server"
LIBRARY = "openvino_genai"
PATIENCE = 60.0  # seconds without a sign of life: a step reads up to 256 tokens of a prompt
CAPABILITIES = (
    "import openvino as o; print(*o.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES'))"
)


class OpenVino:
    """OpenVINO GenAI with one model; see `entrypoint.engines.Engine`."""

    def __init__(
        self, model: Model, folder: Path, *, context: int | None = None, parallel: int = 1
    ) -> None:
        weights.require_files(model, folder)
        _require_library()
        self._content = weights.Content(model, folder)
        self.context = min(context or model.context, model.context)
        self._door, theirs = socket.socketpair()
        plan = {
            "folder": str((folder / model.files[0].path).parent),
            "context": self.context,
            "parallel": parallel,
            "threads": machine.threads(),
            "template": model.chat_template,
            "stop": model.stop,
        }
        try:
            with theirs:
                argv = [sys.executable, "-P", "-m", SERVER, str(theirs.fileno()), json.dumps(plan)]
                self._child = Child(argv, env=_environment(), handed=[theirs.fileno()])
            self._wait(model, folder)
            self._pulse = Pulse(self._child, self._beat, PATIENCE)
        except BaseException:
            self.close()
            raise

    def stream(self, prompt: Prompt, options: Options) -> AnswerStream:
        """Answer a conversation, or go on with a raw text."""
        line = Line()
        return AnswerStream(self._content.guard(self._ask(prompt, options, line)), line)

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length in tokens of the prompt that these messages make."""
        with closing(self._send({"count": messages}, Line())) as replies:
            count: int = next(replies)
        return count

    def alive(self) -> bool:
        """Tell whether the child runs, and its loop goes round."""
        return self._pulse.beats()

    def close(self) -> None:
        """Free the model; safe to call twice."""
        if child := getattr(self, "_child", None):
            child.stop()
        self._door.close()

    def _beat(self) -> None:
        """Wait for a sign of the loop that computes, which gives one after each step."""
        mine, theirs = socket.socketpair()
        with mine:
            mine.settimeout(MOMENT)
            with theirs:
                socket.send_fds(self._door, [b"+"], [theirs.fileno()])
            mine.sendall(b'{"count": "?"}\n')
            if not mine.recv(1):
                raise ConnectionError

    def _wait(self, model: Model, folder: Path) -> None:
        """Wait until the child has loaded the model."""
        if not self._door.recv(1):
            weights.require_content(model, folder)  # a damaged file is the likeliest reason
            raise self._child.death()

    def _ask(
        self, prompt: Prompt, options: Options, line: Line
    ) -> Generator[str | Usage, None, None]:
        # A schema that it cannot follow would bring down all answers under way.
        require("openvino", prompt, options, FOLLOWS)
        request = {"prompt": prompt, "options": asdict(options)}
        with closing(self._send(request, line)) as replies:
            for piece in replies:
                if isinstance(piece, dict):
                    yield Usage(**piece["usage"])
                    return
                yield piece

    def _send(self, request: Mapping[str, Any], line: Line) -> Generator[Any, None, None]:
        """Yield what the child replies, until closed."""
        mine, theirs = socket.socketpair()
        line.take(mine)
        with mine, mine.makefile("rb") as replies:
            try:
                with theirs:
                    socket.send_fds(self._door, [b"+"], [theirs.fileno()])
                mine.sendall(json.dumps(request).encode() + b"\n")
                for each in replies:
                    reply = json.loads(each)
                    if isinstance(reply, dict) and "refused" in reply:
                        raise _refusal(**reply["refused"])
                    yield reply
            except OSError:
                pass  # it was not only the last line that did not come
        raise HungUp if line.hung_up else self._child.death()


load = OpenVino


def version() -> tuple[str, str]:
    """Return the library's name and version, "" without it."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return "OpenVINO GenAI", importlib.metadata.version("openvino-genai")
    return "OpenVINO GenAI", ""


def kernels() -> str:
    """Return the kinds of numbers that the library computes with here, such as "FP32 INT8".

    Raises StageMissing without it, UnsupportedCpu if it does not run.
    """
    _require_library()
    argv = [sys.executable, "-P", "-c", CAPABILITIES]
    process = subprocess.run(argv, env=_environment(), capture_output=True, text=True, check=False)
    if process.returncode:
        raise UnsupportedCpu(
            _("This CPU lacks instructions that the inference engine needs."),
            process.stderr.strip(),
            _("An x86-64 processor is needed."),
        )
    return process.stdout.strip()


def _refusal(*, reason: str = "", tokens: int = 0, context: int = 0) -> Failure:
    if tokens:
        return MessageTooLong(
            _("The messages have {tokens} tokens; the model's context has {context}.").format(
                tokens=tokens, context=context
            ),
            next=_("Use a shorter message."),
        )
    return NotSupported(_("The inference engine refused a request: {reason}").format(reason=reason))


def _require_library() -> None:
    if importlib.util.find_spec(LIBRARY) is None:
        raise StageMissing(
            _("The inference engine is not installed beside this Python."),
            next=_("Use the image, or the environment that this makes: ./llmdeploy build-env"),
        )


def _environment() -> dict[str, str]:
    """Return an environment in which a child finds the modules that this process finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
