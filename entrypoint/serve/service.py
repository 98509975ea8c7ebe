"""One model that answers many: its engine, the queue before it, and the way of the pieces.

An engine's answers are generators that block, so each runs in a thread of its own, one for each
place that the engine has. Their pieces cross to the event loop together: however many come while
the loop is busy, it is woken once.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import entrypoint
from entrypoint.common.catalog import Model
from entrypoint.common.errors import DamagedModel, NotSupported
from entrypoint.common.language import _
from entrypoint.engines import (
    AnswerStream,
    Embedder,
    Engine,
    Options,
    Prompt,
    Texts,
    Usage,
    advised,
    joined,
    open_engine,
)
from entrypoint.serve import journal, metrics, problems
from entrypoint.serve.limits import Limits

PULSE = 1.0  # seconds between two looks whether the engine is alive
Piece: TypeAlias = str | Usage | Exception


class Answering:
    """One answer on its way; it belongs to the event loop, but for `stopped`.

    Iterating yields the text that came since the last step. `usage` is there at the end.
    """

    def __init__(self, prompt: Prompt | Texts, options: Options) -> None:
        self.prompt, self.options = prompt, options
        self.began = time.monotonic()
        self.first: float | None = None  # seconds from the request to the first piece
        self.usage: Usage | None = None
        self.stopped = False
        self.pieces: AnswerStream | None = None  # as soon as the engine has been asked
        self._texts: list[str] = []
        self._failure: Exception | None = None
        self._ended = False
        self._news = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield text as it comes; raise what the engine raised, or what `stop` was given."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._texts:
                text, self._texts = joined(self._texts), []
                yield text
            if self._ended:
                if self._failure:
                    raise self._failure
                return

    def begin(self, engine: Engine) -> AnswerStream:
        """Ask an engine for it; raise NotSupported for vectors from one that makes none."""
        if not isinstance(self.prompt, Texts):
            return engine.stream(self.prompt, self.options)
        if isinstance(engine, Embedder):
            return engine.vectors(self.prompt)
        raise NotSupported(
            _("The model's engine cannot compute vectors of texts."), option="embeddings"
        )

    def take(self, piece: Piece) -> None:
        """Add a piece; a Usage or a failure is the last one."""
        if self._ended:
            return
        if isinstance(piece, str):
            self.first = self.first or time.monotonic() - self.began
            self._texts.append(piece)
        elif isinstance(piece, Usage):
            self.usage, self._ended = piece, True
        else:
            self._failure, self._ended = piece, True
        self._news.set()

    def stop(self, reason: Exception) -> None:
        """End it now, and what is computed for it."""
        self.stopped = True
        if self.pieces and not self._ended:
            self.pieces.hang_up()
        self.take(reason)


class Service:
    """A model and those who ask it; everything but the threads' functions runs on the loop.

    `failure` is why the model cannot be loaded.
    """

    def __init__(self, model: Model, folder: Path, limits: Limits, context: int | None) -> None:
        self.model = model
        self.failure: Exception | None = None
        hashes = [file.sha256 or file for file in model.files]
        what = (entrypoint.__version__, model.engine, model.sampling, model.think, hashes)
        # Whatever decides what a seed leads to.
        self.fingerprint = f"fp_{hashlib.sha256(repr(what).encode()).hexdigest()[:10]}"
        self.default = advised(model, Options())  # what a request that says nothing gets
        self._folder, self._limits, self._context = folder, limits, context
        self._engine: Engine | None = None
        self._running: set[Answering] = set()
        self._waiting: deque[Answering] = deque()
        self._seconds = 1.0  # what an answer took lately
        self._workers = ThreadPoolExecutor(limits.parallel, f"{model.name}-answer")
        self._closing = threading.Event()
        self._posted: deque[tuple[Answering, Piece]] = deque()
        self._woken = False
        metrics.running.labels(model.name).set_function(lambda: len(self._running))
        metrics.waiting.labels(model.name).set_function(lambda: len(self._waiting))
        metrics.ready.labels(model.name).set_function(lambda: self._engine is not None)

    def look(self) -> str:
        """Tell whether the model is "ready", or "loading": for the first time, or once more."""
        return "ready" if (engine := self._engine) and engine.alive() else "loading"

    @property
    def context(self) -> int:
        """Tokens of a conversation with its answer."""
        return self._engine.context if self._engine else self._context or self.model.context

    def start(self, give_up: Callable[[], None]) -> None:
        """Begin to load the model; `give_up` is called when that cannot be done."""
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        # The kernel kills an engine's process when the thread that started it ends: this one stays.
        self._keeper = threading.Thread(target=self._keep, name=self.model.name, daemon=True)
        self._keeper.start()

    def stop(self) -> None:
        """Stop every answer."""
        for answering in (*self._waiting, *self._running):
            answering.stop(problems.leaving())
        self._waiting.clear()

    async def close(self) -> None:
        """Free the model; one that is still being loaded goes with the process."""
        self.stop()
        self._closing.set()
        await asyncio.to_thread(self._keeper.join, 2 * PULSE)
        self._workers.shutdown(wait=False, cancel_futures=True)

    def ask(self, prompt: Prompt | Texts, options: Options) -> Answering:
        """Queue a question; raise a Problem if the queue is full or the model not loaded."""
        if self._engine is None:
            raise problems.loading(self.model.name)
        answering = Answering(prompt, options)
        if len(self._running) < self._limits.parallel:
            self._begin(self._engine, answering)
        elif len(self._waiting) < self._limits.queue:
            self._waiting.append(answering)
        else:
            rounds = (len(self._waiting) + 1) / self._limits.parallel
            raise problems.busy(max(1, round(self._seconds * rounds)))
        return answering

    def leave(self, answering: Answering, reason: Exception) -> None:
        """Stop an answer that nobody wants any more."""
        answering.stop(reason)
        if answering in self._waiting:
            self._waiting.remove(answering)

    def _begin(self, engine: Engine, answering: Answering) -> None:
        metrics.queued.labels(self.model.name).observe(time.monotonic() - answering.began)
        self._running.add(answering)
        self._workers.submit(self._answer, engine, answering)

    def _next(self, answering: Answering, seconds: float) -> None:
        """Give the place of an answer that ended to the one that waits longest."""
        self._running.discard(answering)
        self._seconds += (seconds - self._seconds) / 8
        self._fill()

    def _fill(self) -> None:
        while self._engine and self._waiting and len(self._running) < self._limits.parallel:
            self._begin(self._engine, self._waiting.popleft())

    def _loaded(self, engine: Engine | None) -> None:
        """Take note of a new engine, or of the loss of one."""
        self._engine = engine
        if engine:
            metrics.loads.labels(self.model.name).inc()
            journal.write("model loaded", model=self.model.name)
            self._fill()
        else:
            journal.write("engine lost", "error", model=self.model.name)

    def _failed(self, failure: Exception) -> None:
        self.failure = failure
        self._give_up()

    def _deliver(self) -> None:
        """Hand out what the threads posted."""
        self._woken = False
        while self._posted:
            answering, piece = self._posted.popleft()
            answering.take(piece)

    # What follows runs in threads.

    def _keep(self) -> None:
        """Load the engine, and again when it died; close it when the service ends."""
        tell = self._loop.call_soon_threadsafe
        while not self._closing.is_set():
            try:
                engine = open_engine(
                    self.model,
                    self._folder,
                    context=self._context,
                    parallel=self._limits.parallel,
                )
            except Exception as failure:  # noqa: BLE001 (it is raised again by who waits for us)
                tell(self._failed, failure)
                return
            with closing(engine):
                tell(self._loaded, engine)
                while engine.alive() and not self._closing.wait(PULSE):
                    pass
                if not self._closing.is_set():
                    tell(self._loaded, None)

    def _answer(self, engine: Engine, answering: Answering) -> None:
        """Compute one answer."""
        begun = time.monotonic()
        try:
            with closing(answering.begin(engine)) as pieces:
                answering.pieces = pieces  # who stops it from now on hangs up
                if not answering.stopped:
                    for piece in pieces:
                        self._post(answering, piece)
        except Exception as failure:  # noqa: BLE001 (it is raised again by who waits for it)
            self._post(answering, failure)
            if isinstance(failure, DamagedModel):  # no answer of it will count
                self._loop.call_soon_threadsafe(self._failed, failure)
        finally:
            seconds = time.monotonic() - begun
            self._loop.call_soon_threadsafe(self._next, answering, seconds)

    def _post(self, answering: Answering, piece: Piece) -> None:
        """Let the loop have a piece; wake it unless it has been woken and did not look yet."""
        self._posted.append((answering, piece))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._deliver)
