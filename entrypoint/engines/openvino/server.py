"""What runs in the child of the engine `openvino`: the scheduler, and the requests that feed it.

A request comes as a socket, over the `door`. One line of JSON on it asks, and lines of JSON reply:
a text as it comes, then {"usage": ...}; a number where tokens are counted; or {"refused": ...}.
"""

from __future__ import annotations

import json
import math
import secrets
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from entrypoint.engines import NEUTRAL, Options, Prompt, Tokens, Usage
from entrypoint.engines.controls import Controls
from entrypoint.engines.openvino import SAMPLING
from entrypoint.engines.text import TEMPLATES, cut

BLOCK: Final = 32  # tokens in a block of the CPU's key-value cache
# What ends an answer besides the one end token that the model names, as in llama.cpp.
ENDS: Final = ("<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|end|>")
HALF: Final = "\N{REPLACEMENT CHARACTER}"  # what the bytes of half a character are decoded to


class Call:
    """A request under way: its socket, and the replies that could not be sent yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        with connection.makefile("rb") as lines:
            line = lines.readline()  # cut short if the asker was interrupted
        self.request: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
        self._unsent = b""

    def reply(self, value: Any) -> None:
        """Send a line, as much of it as can be sent now."""
        self._unsent += json.dumps(value).encode() + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Send what is left; return whether nothing is. Who reads slowly holds up nobody."""
        try:
            self._unsent = self._unsent[self.connection.send(self._unsent, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return False
        except OSError:  # nobody reads any more: the selector tells that too
            self._unsent = b""
        return not self._unsent


class Job:
    """One answer to compute: what comes of it, and what it took."""

    def __init__(self, call: Call, prompt: Any, options: Options) -> None:
        self.call, self.prompt, self.options = call, prompt, options
        self.tokens: list[int] = []
        self.undecoded: list[int] = []
        self.length = False  # whether it ended for want of room
        self.stopped = False  # whether a stop word came
        self._held = ""

    def begin(self, handle: Any, cached: int) -> None:
        """Note that it is being computed from now on."""
        self.handle, self._cached, self._began = handle, cached, time.monotonic()

    def read(self) -> bool:
        """Take the tokens that came; return whether these were the last."""
        while self.handle.can_read():
            for output in self.handle.read().values():
                self._last = time.monotonic()
                if not self.tokens:
                    self._first = self._last
                self.tokens += output.generated_ids
                self.undecoded += output.generated_ids
                self.length = output.finish_reason.name == "LENGTH"
        status = self.handle.get_status().name
        if status == "IGNORED":
            raise MemoryError("the key-value cache is too small")  # it was made for this context
        return bool(status == "FINISHED")

    def show(self, text: str, stop: Sequence[str], *, last: bool) -> None:
        """Reply with what can be shown, now that the undecoded tokens give `text`."""
        if text.endswith(HALF) and not last:
            return
        self.undecoded = []
        shown, self._held, self.stopped = cut(self._held + text, (*stop, *self.options.stop))
        if last:
            shown += self._held
        if shown:
            self.call.reply(shown)

    def usage(self) -> Usage:
        """Return what it took."""
        steps, seconds = len(self.tokens) - 1, self._last - self._first
        return Usage(
            prompt_tokens=self.prompt.size,
            cached_tokens=self._cached,
            completion_tokens=len(self.tokens),
            first_token=self._first - self._began,
            rate=steps / seconds if steps else 0.0,
            finish_reason="length" if self.length and not self.stopped else "stop",
        )


class Prefixes:
    """What the library keeps of earlier sequences, which it does not tell: their beginnings.

    It finds a block of the cache by all tokens up to the block's end; the last block of a sequence
    may end early.
    """

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._known: set[int] = set()

    def add(self, tokens: Sequence[int]) -> None:
        """Note a sequence whose tokens were computed."""
        ends = (*range(BLOCK, len(tokens), BLOCK), len(tokens))
        new = {hash(tuple(tokens[:end])) for end in ends}
        if len(self._known | new) > self._blocks:
            self._known.clear()  # others were pushed out, and which is not told
        self._known |= new

    def longest(self, tokens: Sequence[int]) -> int:
        """Return how many tokens of a prompt are not computed again; the last one always is."""
        whole = 0
        while whole < len(tokens) and hash(tuple(tokens[: whole + BLOCK])) in self._known:
            whole += BLOCK
        ends = range(min(whole + BLOCK, len(tokens)), whole, -1)
        lengths = (end for end in ends if hash(tuple(tokens[:end])) in self._known)
        return min(next(lengths, whole), len(tokens) - 1)


class InferenceServer:
    """The library with one model, and all that is asked of it."""

    def __init__(
        self,
        door: socket.socket,
        *,
        folder: str,
        context: int,
        parallel: int,
        threads: int,
        template: str,
        stop: Sequence[str],
    ) -> None:
        import openvino_genai

        self._door, self._context, self._parallel, self._stop = door, context, parallel, stop
        self._tokenizer = openvino_genai.Tokenizer(f"{folder}/tokenizer")
        if template:
            self._tokenizer.set_chat_template(TEMPLATES.get(template, template))
        self._controls = Controls(_control_words(self._tokenizer))
        self._encode([{"role": "user", "content": "?"}])  # what is no template fails now
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs = parallel
        scheduler.num_kv_blocks = parallel * (math.ceil(context / BLOCK) + 1)
        scheduler.enable_prefix_caching = True
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            folder,
            self._tokenizer,
            scheduler,
            "CPU",
            INFERENCE_NUM_THREADS=threads,
            sampler_num_threads=threads,
            ENABLE_CPU_PINNING=False,  # else all containers would share the first cores
        )
        self._prefixes = Prefixes(scheduler.num_kv_blocks)
        words = map(self._encode, (*ENDS, *stop))
        self._ends = {int(tokens.data[0][0]) for tokens in words if tokens.size == 1}
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._begun = 0

    def run(self) -> None:
        """Answer until the door is closed."""
        with selectors.DefaultSelector() as self._calls:
            self._calls.register(self._door, selectors.EVENT_READ)
            self._door.sendall(b"!")
            while self._hear():
                while self._waiting and len(self._running) < self._parallel:
                    self._begin(self._waiting.popleft())
                if self._pipeline.has_non_finished_requests():
                    self._pipeline.step()
                    self._show()

    def _hear(self) -> bool:
        """Take requests, if need be wait for one; return False when the door is closed."""
        busy = self._waiting or self._pipeline.has_non_finished_requests()
        for key, events in self._calls.select(0 if busy else None):
            if key.data is None:
                _byte, handed, _flags, _address = socket.recv_fds(self._door, 1, 1)
                if not handed:
                    return False
                self._open(Call(socket.socket(fileno=handed[0])))
            elif events & selectors.EVENT_READ:  # nobody says a second thing: it was closed
                self._close(key.data)
            else:
                self._flush(key.data)
        return True

    def _open(self, call: Call) -> None:
        self._calls.register(call.connection, selectors.EVENT_READ, call)
        try:
            if "count" in call.request:
                call.reply(self._encode(call.request["count"]).size)
            if "prompt" not in call.request:
                return
            prompt = self._encode(call.request["prompt"])
        except RuntimeError as error:  # the model's template has no place for such a message
            call.reply({"refused": {"reason": str(error)}})
            return
        if prompt.size >= self._context:
            call.reply({"refused": {"tokens": prompt.size, "context": self._context}})
            return
        self._waiting.append(Job(call, prompt, Options(**call.request["options"])))

    def _close(self, call: Call) -> None:
        """Drop what is computed for a call that nobody listens to any more."""
        self._calls.unregister(call.connection)
        call.connection.close()
        self._waiting = deque(job for job in self._waiting if job.call is not call)
        for job in [job for job in self._running if job.call is call]:
            job.handle.cancel()  # the next step drops it
            self._running.remove(job)

    def _begin(self, job: Job) -> None:
        config, options = self._pipeline.get_config(), job.options
        room = self._context - job.prompt.size
        config.max_new_tokens = min(options.max_tokens or room, room)
        config.stop_token_ids |= self._ends
        for name, theirs in SAMPLING.items():
            if (value := getattr(options, name)) not in (None, NEUTRAL[name]):
                setattr(config, theirs, value)
        if options.temperature:
            config.do_sample = True
            config.temperature, config.top_p = options.temperature, options.top_p
            config.rng_seed = secrets.randbits(32) if options.seed is None else options.seed
        self._begun += 1
        cached = self._prefixes.longest(job.prompt.data[0].tolist())
        job.begin(self._pipeline.add_request(self._begun, job.prompt, config), cached)
        self._running.append(job)

    def _show(self) -> None:
        """Reply with what a step brought."""
        ended = [job.read() for job in self._running]
        texts = self._tokenizer.decode([job.undecoded for job in self._running])
        for job, text, last in zip(self._running.copy(), texts, ended, strict=True):
            job.show(text, self._stop, last=last)
            if last or job.stopped:
                job.handle.cancel()
                job.call.reply({"usage": asdict(job.usage())})
                self._running.remove(job)
                # The last token was chosen, but not computed with.
                self._prefixes.add([*job.prompt.data[0].tolist(), *job.tokens[:-1]])
            self._flush(job.call)

    def _flush(self, call: Call) -> None:
        """Send what is left for a call; hear when more can be sent."""
        events = 0 if call.flush() else selectors.EVENT_WRITE
        self._calls.modify(call.connection, selectors.EVENT_READ | events, call)

    def _encode(self, prompt: Prompt) -> Any:
        """Return the tokens of a conversation, or of a raw text, as a tensor of one row."""
        text: Any = prompt
        if not isinstance(prompt, str | Tokens):
            broken = self._controls.broken(prompt)
            text = self._tokenizer.apply_chat_template(broken, add_generation_prompt=True)
        parts = [
            self._tokenizer.encode(piece, add_special_tokens=False).input_ids
            for piece in self._controls.pieces(text)
        ]
        return parts[0] if len(parts) == 1 else _joined(parts)


def _control_words(tokenizer: Any) -> list[str]:
    """Return the words of a vocabulary that the library leaves out where it shows an answer."""
    numbers = {word: [n] for word, n in tokenizer.get_vocab().items() if word[:1] in {b"<", b"["}}
    shown = tokenizer.decode(list(numbers.values()))
    pairs = zip(numbers, shown, strict=True)
    return [word.decode(errors="replace") for word, text in pairs if not text]


def _joined(parts: Sequence[Any]) -> Any:
    """Return tensors of one row as one."""
    import numpy as np
    import openvino

    return openvino.Tensor(np.concatenate([part.data for part in parts], axis=1))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as the_door:
        InferenceServer(the_door, **json.loads(sys.argv[2])).run()
