"""The engine `itrex`: Intel Extension for Transformers, the tutorial's own, on saved INT4 weights.

It computes in this process. The extension loads the model and computes its layers; the tokens are
chosen here, so that an answer can be sampled, stopped and gone on with as in every other engine.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from entrypoint.common import machine
from entrypoint.common.catalog import Model
from entrypoint.common.errors import (
    EngineCrashed,
    MessageTooLong,
    StageMissing,
    UnsupportedCpu,
)
from entrypoint.common.files import writing
from entrypoint.common.language import _
from entrypoint.engines import (
    AnswerStream,
    HungUp,
    Line,
    Message,
    Options,
    Prompt,
    Tokens,
    Usage,
    require,
    weights,
)
from entrypoint.engines.controls import Controls
from entrypoint.engines.text import TEMPLATES, cut

if TYPE_CHECKING:
    import torch

PACKAGE: Final = "intel_extension_for_transformers"
PYTHON: Final = (3, 11)
INSTRUCTIONS: Final = ("amx_int8", "avx512_vnni", "avx_vnni", "avx2")  # the best first
FOLLOWS: Final = ()  # of Options beyond PLAIN: none
TORCH: Final = "2.3.0"  # the extension was compiled against it: others lack symbols
BATCH: Final = 256  # tokens of a prompt that are computed at once
# Which dimension of a layer's keys and values counts the tokens; by model_type, else AXIS.
AXES: Final = {"chatglm": 0, "qwen": 1}
AXIS: Final = 2


@dataclass
class _State:
    """What was computed: the tokens, and the keys and values of every layer for them."""

    ids: list[int] = field(default_factory=list)
    past: Any = None


class Itrex:
    """A model in this process; see `entrypoint.engines.Engine`."""

    def __init__(
        self, model: Model, folder: Path, *, context: int | None = None, parallel: int = 1
    ) -> None:
        kernels()
        # Before anything of it is run: a checkpoint may bring code of its own.
        weights.require_content(model, folder)
        self.context = min(context or model.context, model.context)
        self._parallel = parallel
        self._stop = list(model.stop)
        self._template = TEMPLATES.get(model.chat_template, model.chat_template) or None
        self._kept = _State()
        # Of several threads one computes at a time: they share the cores, the state that the last
        # answer left, and a mask that grows.
        self._computing = threading.Lock()
        self._model: Any = None
        self._tokenizer: Any = None
        scratch = machine.require_scratch()
        with writing(scratch):
            self._home = Path(tempfile.mkdtemp(prefix="llmdeploy-", dir=scratch))
        try:
            self._load(folder)
        except Exception as error:
            self.close()
            raise EngineCrashed(
                _("{name} cannot be loaded.").format(name=model.name), repr(error)
            ) from error
        except BaseException:
            self.close()
            raise

    def stream(self, prompt: Prompt, options: Options) -> AnswerStream:
        """Answer a conversation, or go on with a raw text."""
        line = Line()
        return AnswerStream(self._pieces(prompt, options, line), line)

    def _pieces(
        self, prompt: Prompt, options: Options, line: Line
    ) -> Generator[str | Usage, None, None]:
        begun = time.monotonic()
        require("itrex", prompt, options, FOLLOWS)
        tokens = self._tokens(prompt)
        if len(tokens) >= self.context:
            raise MessageTooLong(
                _("The messages have {tokens} tokens; the model's context has {context}.").format(
                    tokens=len(tokens), context=self.context
                ),
                next=_("Use a shorter message."),
            )
        with self._computing:
            kept, self._kept = self._kept, _State()
        state = self._settled(prompt, line) if options.temperature == 0 else kept
        self._crop(state, tokens[:-1])
        cached = len(state.ids)
        room = self.context - len(tokens)
        text = _Text(self._decode, [*self._stop, *options.stop])
        times: list[float] = []
        ended = False
        try:
            for token in self._choose(
                state, tokens, options, min(room, options.max_tokens or room), line
            ):
                times.append(time.monotonic())
                if token not in self._ends and (piece := text.push(token)):
                    yield piece
                if ended := token in self._ends or text.ended:
                    break
            if piece := text.rest():
                yield piece
        finally:
            self._kept = state
        steps = len(times) - 1  # the first token comes out of the prompt
        yield Usage(
            prompt_tokens=len(tokens),
            cached_tokens=cached,
            completion_tokens=len(times),
            first_token=times[0] - begun,
            rate=steps / (times[-1] - times[0]) if steps else 0.0,
            finish_reason="stop" if ended else "length",
        )

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Return the length in tokens of the prompt that these messages make."""
        return len(self._tokens(messages))

    def alive(self) -> bool:
        """Tell whether the model is loaded: it cannot die alone."""
        return self._model is not None

    def close(self) -> None:
        """Free the model; safe to call twice."""
        self._model = self._tokenizer = None
        self._kept = _State()
        shutil.rmtree(self._home, ignore_errors=True)

    def _load(self, folder: Path) -> None:
        """Load the model with what the stack prints sent to standard error, and less of it."""
        threads = machine.threads()
        os.environ["OMP_NUM_THREADS"] = str(threads)  # QBits reads it when it is imported
        os.environ["HF_MODULES_CACHE"] = str(self._home)  # a checkpoint's code is copied there
        os.environ["HF_HUB_OFFLINE"] = "1"
        warnings.filterwarnings("ignore")
        logging.disable(logging.WARNING)
        with redirect_stdout(sys.stderr):
            import torch
            from intel_extension_for_transformers.transformers import AutoModelForCausalLM
            from transformers import AutoConfig, AutoTokenizer

            torch.set_num_threads(threads)
            config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
            if config.model_type == "llama":
                # See _widen; where positions are scaled, this number belongs to the scale.
                config.max_position_embeddings = self.context if config.rope_scaling else BATCH
            self._axis = AXES.get(config.model_type, AXIS)
            self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
            self._model = AutoModelForCausalLM.from_pretrained(
                folder, config=config, use_neural_speed=False, trust_remote_code=True
            ).eval()
        # The C library would keep what loading freed: up to 0.2 GB, another amount each time.
        ctypes.CDLL(None).malloc_trim(0)
        self._torch = torch
        self._special = _special(self._tokenizer)
        # Scores are padded to a round number; Qwen's tokenizer panics at what has no text.
        self._known = max(len(self._tokenizer), 1 + max(self._special.values(), default=0))
        self._controls = Controls(self._special)
        self._ends = self._end_tokens()
        self._tokens([{"role": "user", "content": "?"}])  # a template with a mistake fails now

    def _end_tokens(self) -> set[int]:
        """Return the tokens that end an answer: the model's own, and stop words that are tokens."""
        tokens = self._model.generation_config.eos_token_id
        ends = {self._tokenizer.eos_token_id, *(tokens if isinstance(tokens, list) else [tokens])}
        ends |= {self._special.get(word) for word in self._stop}
        return {token for token in ends if token is not None}

    def _tokens(self, prompt: Prompt, *, question: bool = True) -> list[int]:
        """Return the tokens of a prompt; with `question`, those that begin an answer too."""
        text = prompt
        if not isinstance(prompt, str | Tokens):
            text = self._tokenizer.apply_chat_template(
                self._controls.broken(prompt),
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=question,
            )
        return [token for part in self._parts(str(text)) for token in self._encode(part)]

    def _parts(self, text: str) -> Iterator[str]:
        """Yield special tokens and what is between them: not every tokenizer looks for them."""
        names = "|".join(map(re.escape, self._special))
        for piece in self._controls.pieces(text):
            yield from filter(None, re.split(f"({names})", piece) if names else [piece])

    def _encode(self, part: str) -> list[int]:
        if part in self._special:
            return [self._special[part]]
        inner: Any = getattr(self._tokenizer, "tokenizer", None)
        if hasattr(inner, "special_tokens"):  # ChatGLM's, which itself would add a beginning
            return list(inner.encode(part))
        return list(self._tokenizer(part, add_special_tokens=False).input_ids)

    def _decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def _settled(self, prompt: Prompt, line: Line) -> _State:
        """Return the state at the end of what was said before, whatever was computed meanwhile.

        Tokens computed together differ in their last bits from tokens computed one by one, and at
        temperature 0 an answer must not depend on what the cache holds.
        """
        state = _State()
        if not isinstance(prompt, str | Tokens) and len(prompt) > 1:
            self._compute(state, self._tokens(prompt[:-1], question=False), line)
        return state

    def _crop(self, state: _State, prompt: Sequence[int]) -> None:
        """Forget what is not the beginning of `prompt`."""
        same = 0
        for old, new in zip(state.ids, prompt, strict=False):
            if old != new:
                break
            same += 1
        state.ids = state.ids[:same]
        state.past = (
            tuple(tuple(each.narrow(self._axis, 0, same) for each in layer) for layer in state.past)
            if same
            else None
        )

    def _choose(
        self, state: _State, prompt: Sequence[int], options: Options, limit: int, line: Line
    ) -> Iterator[int]:
        """Yield up to `limit` tokens that go on after `prompt`, of which `state` has a part."""
        random = self._torch.Generator()
        random.manual_seed(random.seed() if options.seed is None else options.seed)
        scores = self._compute(state, prompt[len(state.ids) :], line)
        for step in range(limit):
            token = self._sample(scores, options, random)
            yield token
            if step + 1 < limit:
                scores = self._compute(state, [token], line)

    def _compute(self, state: _State, tokens: Sequence[int], line: Line) -> torch.Tensor:
        """Add tokens to the state, until the line is hung up; return the next token's scores."""
        torch = self._torch
        scores = torch.empty(0)
        with torch.inference_mode():
            for start in range(0, len(tokens), BATCH):
                if line.hung_up:
                    raise HungUp
                batch = list(tokens[start : start + BATCH])
                place = len(state.ids)
                with self._computing:
                    self._widen(place + len(batch))
                    output = self._model(
                        input_ids=torch.tensor([batch]),
                        position_ids=torch.arange(place, place + len(batch))[None],
                        past_key_values=state.past,
                        use_cache=True,
                        return_dict=True,
                    )
                state.past = output.past_key_values
                state.ids = state.ids + batch
                scores = output.logits[0, -1, : self._known].float()
        return scores

    def _widen(self, length: int) -> None:
        """Let Llama's mask have room for so many tokens.

        transformers 4.38 makes one for the whole context, and turns all of it into 32-bit numbers
        for every token: a quarter of a GB for 8192 tokens.
        """
        mask = getattr(getattr(self._model, "model", None), "causal_mask", None)
        if mask is not None and len(mask) < length:
            size = length + BATCH
            self._model.model.causal_mask = self._torch.ones(size, size).bool().triu(1)

    def _sample(self, scores: torch.Tensor, options: Options, random: torch.Generator) -> int:
        torch = self._torch
        if options.temperature == 0:
            return int(scores.argmax())
        chances, order = (scores / options.temperature).softmax(-1).sort(descending=True)
        before = chances.cumsum(-1) - chances
        chances[before >= options.top_p] = 0  # the first one always stays
        return int(order[torch.multinomial(chances, 1, generator=random)])


class _Text:
    """The text of an answer: whole characters only, and nothing from a stop word on."""

    def __init__(self, decode: Any, stop: Sequence[str]) -> None:
        self._decode, self._stop = decode, stop
        self._ids: list[int] = []
        self._start = self._read = 0
        self._held = ""
        self.ended = False

    def push(self, token: int) -> str:
        """Add a token; return the text that is certain now."""
        self._ids.append(token)
        before = self._decode(self._ids[self._start : self._read])
        now = self._decode(self._ids[self._start :])
        if now.endswith("\ufffd"):  # the rest of the character is still to come
            return ""
        self._start, self._read = self._read, len(self._ids)
        shown, self._held, self.ended = cut(self._held + now[len(before) :], self._stop)
        return shown

    def rest(self) -> str:
        """Return what was held back, since nothing follows."""
        rest, self._held = self._held, ""
        return rest


load = Itrex


def version() -> tuple[str, str]:
    """Return the extension's name and version, "" without it."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return "ITREX", importlib.metadata.version(PACKAGE)
    return "ITREX", ""


def kernels() -> str:
    """Return the best instructions that the extension's QBits computes with on this CPU.

    Raises UnsupportedCpu if it has not even the least of them, StageMissing without the stack.
    """
    require_stack()
    flags = machine.cpu().flags
    for name in INSTRUCTIONS:
        if name in flags:
            return name
    raise UnsupportedCpu(
        _("This CPU lacks instructions that the inference engine needs."),
        next=_("See what it has with: llmdeploy doctor"),
    )


def require_stack() -> None:
    """Raise StageMissing if this Python, its torch or the extension are not those that fit."""
    advice = _("Use the image, or the environment that this makes: ./llmdeploy build-env itrex")
    if sys.version_info[:2] != PYTHON:
        raise StageMissing(
            _("ITREX runs on Python {wanted} only, and this is {found}.").format(
                wanted=".".join(map(str, PYTHON)), found=".".join(map(str, sys.version_info[:3]))
            ),
            next=advice,
        )
    try:
        importlib.metadata.version(PACKAGE)
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise StageMissing(
            _("The inference engine is not installed beside this Python."), next=advice
        ) from None
    if version.partition("+")[0] != TORCH:
        raise StageMissing(
            _("ITREX fits torch {wanted} only, and this is {found}.").format(
                wanted=TORCH, found=version
            ),
            _("It was compiled against that one; with another, symbols are missing."),
            advice,
        )


def _special(tokenizer: Any) -> dict[str, int]:
    """Return the special tokens of a tokenizer by their text."""
    inner = getattr(tokenizer, "tokenizer", None)
    if known := getattr(inner, "special_tokens", None):  # ChatGLM
        return dict(known)
    if known := getattr(tokenizer, "special_tokens", None):  # Qwen
        return dict(known)
    return {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
