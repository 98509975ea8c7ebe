"""The bounds that keep one client from taking what belongs to all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Limits:
    """`timeout` and `drain` are in seconds; `max_tokens` None means up to the context."""

    parallel: int = 4
    queue: int = 64
    max_tokens: int | None = None
    timeout: int = 600
    drain: int = 8  # `docker stop` kills after 10

    # What the command line may set, from and to.
    BOUNDS: ClassVar[dict[str, tuple[int, int]]] = {
        "parallel": (1, 256),
        "queue": (0, 10_000),
        "max_tokens": (1, 1_000_000),
        "timeout": (1, 86_400),
        "drain": (0, 3600),
    }


# Beyond these no request of a well-behaved client goes.
BODY = 4 << 20  # bytes
MESSAGES = 4096  # of a conversation: what a template takes for them grows with their square
SCHEMA = 16 << 10  # bytes of a JSON Schema: each token of its answer is held against all of it
CHOICES = 16  # answers to one request: each takes a place of its own
INPUTS = 2048  # texts that a request may want vectors of: OpenAI's own bound
TOOLS = 128  # functions that a request may offer
HEAD = 32 << 10  # bytes of a request's first line and headers
PATIENCE = 10.0  # seconds for a whole head, and again for a whole body
STALL = 60.0  # seconds in which a client must take something of its answer
