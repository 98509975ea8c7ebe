"""Vectors of texts, as OpenAI's API has them."""

from __future__ import annotations

import math
from array import array
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from entrypoint.common.language import _
from entrypoint.engines import Texts, Usage
from entrypoint.serve import wire
from entrypoint.serve.limits import INPUTS, Limits
from entrypoint.serve.problems import Problem
from entrypoint.serve.replies import ComputedReply
from entrypoint.serve.service import Service


class EmbeddingsRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST /v1/embeddings."""

    input: wire.Prompt
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: wire.Count | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        """Refuse a mixture of texts and tokens, and too many of them."""
        _texts = self.texts

    @property
    def texts(self) -> Texts:
        """The texts that vectors are made of."""
        return Texts(wire.raw(self.input, "input", INPUTS))


class Embedding(Struct):
    """The vector of one text: numbers, or the base64 of them as 32-bit floats."""

    embedding: list[float] | str
    index: int
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(Struct):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct):
    """Answer of POST /v1/embeddings."""

    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


class EmbeddingsReply(ComputedReply):
    """Answer of /v1/embeddings: all texts are one question, which takes one place."""

    asks = "input"

    def __init__(self, service: Service, request: EmbeddingsRequest, limits: Limits) -> None:
        super().__init__(service, [(request.texts, service.default)], limits.timeout)
        self._request = request

    def whole(self, texts: Sequence[str], usages: Sequence[Usage]) -> EmbeddingList:
        """Return the vectors."""
        (lines,), (usage,) = texts, usages
        data = [Embedding(self._told(line), index) for index, line in enumerate(lines.split())]
        cost = EmbeddingUsage(usage.prompt_tokens, usage.prompt_tokens)
        return EmbeddingList(data, self.service.model.name, cost)

    def _told(self, line: str) -> list[float] | str:
        vector = array("f", b64decode(line))
        if self._request.dimensions:
            vector = _shortened(vector, self._request.dimensions)
        if self._request.encoding_format == "base64":
            return b64encode(vector.tobytes()).decode()
        return vector.tolist()


def _shortened(vector: array[float], dimensions: int) -> array[float]:
    """Return the first numbers of a vector, as one of length 1; raise Problem for too many."""
    if dimensions > len(vector):
        raise Problem(
            400,
            _("The model's vectors have {count} dimensions.").format(count=len(vector)),
            code="unsupported_value",
            param="dimensions",
        )
    length = math.hypot(*vector[:dimensions]) or 1.0
    return array("f", (number / length for number in vector[:dimensions]))
